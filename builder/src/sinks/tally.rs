//! What a provision came to, in one line.

use super::words;
use crate::event::{Event, LayerStatus};
use crate::render::count;

/// Counts events.
#[derive(Debug, Default)]
pub(super) struct Tally {
    roots: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
    stopped: usize,
    built: usize,
    replayed: usize,
    cached: usize,
    /// How roots stand whose units were started or stopped.
    up: usize,
    down: usize,
    not_up: usize,
}

impl Tally {
    /// Counts an event; with the last one of a provision of several roots comes the summary.
    pub(super) fn add(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Started { roots } => *self = Self { roots: roots.len(), ..Self::default() },
            Event::LayerFinished { status: LayerStatus::Built, .. } => self.built += 1,
            Event::LayerFinished { status: LayerStatus::Replayed, .. } => self.replayed += 1,
            Event::LayerFinished { status: LayerStatus::Cached, .. } => self.cached += 1,
            Event::RootFinished { changed: true, .. } => self.updated += 1,
            Event::RootFinished { changed: false, .. } => self.unchanged += 1,
            Event::RootFailed { stopped: true, .. } => self.stopped += 1,
            Event::RootFailed { stopped: false, .. } => self.failed += 1,
            Event::UnitsSettled { state: "up", .. } => self.up += 1,
            Event::UnitsSettled { state: "down", .. } => self.down += 1,
            Event::UnitsSettled { .. } => self.not_up += 1,
            Event::Finished { seconds } if self.roots > 1 => return Some(self.summary(*seconds)),
            _ => {}
        }
        None
    }

    /// `7 roots in 12 s: 6 updated, 1 failed; 8 layers built, 5 cached`
    fn summary(&self, seconds: f64) -> String {
        let roots = list(&[
            (self.updated, "updated"),
            (self.unchanged, "unchanged"),
            (self.failed, "failed"),
            (self.stopped, "stopped"),
            (self.up, "up"),
            (self.not_up, "not up"),
            (self.down, "down"),
        ]);
        if self.up + self.down + self.not_up > 0 {
            return format!("{} in {}: {roots}", count(self.roots, "root"), words::seconds(seconds));
        }
        // The first that there is any of says what is counted: "8 layers built, 5 cached".
        let came = [(self.built, "built"), (self.replayed, "replayed")];
        let layers = match came.iter().position(|(number, _)| *number > 0) {
            None => "nothing was built".to_owned(),
            Some(first) => {
                let (number, how) = came[first];
                let rest: Vec<_> =
                    came[first + 1..].iter().copied().chain([(self.cached, "cached")]).collect();
                let rest = list(&rest);
                let rest = if rest.is_empty() { rest } else { format!(", {rest}") };
                format!("{} {how}{rest}", count(number, "layer"))
            }
        };
        format!("{} in {}: {roots}; {layers}", count(self.roots, "root"), words::seconds(seconds))
    }
}

/// What there is any of.
fn list(parts: &[(usize, &str)]) -> String {
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    parts.join(", ")
}
