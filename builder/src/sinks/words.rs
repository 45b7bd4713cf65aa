//! The words that both terminal sinks use.

use rootbuild_cache::Digest;

use crate::event::{Event, LayerStatus};

/// Seconds for people: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are small and positive"
    )]
    let whole = seconds.round() as u64;
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if whole < 60 {
        format!("{whole} s")
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// How a layer came, with what ran and what a journal answered: `cached`, `replayed: 34 tasks in 0.9 s`,
/// `built: 34 tasks in 12 s`, `built: 3 tasks ran, 31 replayed in 1.4 s`.
pub(crate) fn layer(status: LayerStatus, tasks: u64, replayed: u64, took: f64) -> String {
    let took = seconds(took);
    let tasks_in_words = |number: u64| format!("{number} task{}", if number == 1 { "" } else { "s" });
    match (status, tasks, replayed) {
        (LayerStatus::Cached, ..) => "cached".into(),
        (LayerStatus::Replayed, _, replayed) => format!("replayed: {} in {took}", tasks_in_words(replayed)),
        (LayerStatus::Built, 0, 0) => format!("built in {took}"),
        (LayerStatus::Built, tasks, 0) => format!("built: {} in {took}", tasks_in_words(tasks)),
        (LayerStatus::Built, tasks, replayed) => {
            format!("built: {} ran, {replayed} replayed in {took}", tasks_in_words(tasks))
        }
    }
}

/// What is said of a layer that is there; of one that was simply found only if asked to.
pub(super) fn layer_finished(event: &Event, verbose: bool) -> Option<String> {
    let Event::LayerFinished { step, status, tasks, tasks_replayed, verified, seconds, .. } = event else {
        return None;
    };
    if *status == LayerStatus::Cached && !verified && !verbose {
        return None;
    }
    let verified = if *verified { "; the same when run whole" } else { "" };
    Some(format!("{step}: {}{verified}", layer(*status, *tasks, *tasks_replayed, *seconds)))
}

/// The last word on a root.
pub(super) fn root(tree: &Digest, path: &std::path::Path, changed: bool) -> String {
    let state = if changed { "updated" } else { "unchanged" };
    format!("{state}  b3:{}  {}", tree.short(), path.display())
}

/// A unit as its root calls it: `nginx.service` for `rootbuild-web-nginx.service`.
pub(crate) fn unit<'a>(root: &str, unit: &'a str) -> &'a str {
    let own = unit.strip_prefix("rootbuild-").and_then(|rest| rest.strip_prefix(root));
    own.and_then(|rest| rest.strip_prefix('-')).unwrap_or(unit)
}

/// The last word on the units of a root.
pub(super) fn settled(action: &str, state: &str, restarted: usize, took: f64) -> String {
    let took = seconds(took);
    match (state, action) {
        ("up", "nothing") => "up already".to_owned(),
        ("up", "swap") => format!("up: {} restarted in {took}", crate::render::count(restarted, "unit")),
        ("up", _) => format!("up in {took}"),
        ("rolled-back", _) => "not up: it runs as before".to_owned(),
        ("down", _) => format!("down in {took}"),
        ("skipped", _) => "not started: a root that it requires isn't up".to_owned(),
        _ => "not up".to_owned(),
    }
}

/// What Ctrl-C gets as an answer.
pub(super) const STOPPING: &str = "stopping; once more to stop at once";

/// The last word on a root that couldn't be made.
pub(super) fn failed(step: Option<&str>, stopped: bool) -> String {
    let state = if stopped { "stopped" } else { "failed" };
    step.map_or_else(|| state.to_owned(), |step| format!("{step}: {state}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_short_and_never_vague() {
        let texts = [0.04, 0.96, 9.9, 9.96, 59.4, 59.6, 185.0].map(super::seconds);
        assert_eq!(texts, ["0.0 s", "1.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s"]);
    }
}
