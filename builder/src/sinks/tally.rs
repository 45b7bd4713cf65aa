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
    cached: usize,
}

impl Tally {
    /// Counts an event; with the last one of a provision of several roots comes the summary.
    pub(super) fn add(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Started { roots } => *self = Self { roots: roots.len(), ..Self::default() },
            Event::LayerFinished { status: LayerStatus::Built, .. } => self.built += 1,
            Event::LayerFinished { status: LayerStatus::Cached, .. } => self.cached += 1,
            Event::RootFinished { changed: true, .. } => self.updated += 1,
            Event::RootFinished { changed: false, .. } => self.unchanged += 1,
            Event::RootFailed { stopped: true, .. } => self.stopped += 1,
            Event::RootFailed { stopped: false, .. } => self.failed += 1,
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
        ]);
        let layers = if self.built == 0 {
            "nothing was built".to_owned()
        } else {
            let cached = list(&[(self.cached, "cached")]);
            let built = format!("{} built", count(self.built, "layer"));
            if cached.is_empty() { built } else { format!("{built}, {cached}") }
        };
        format!("{} in {}: {roots}; {layers}", count(self.roots, "root"), words::seconds(seconds))
    }
}

/// What there is any of.
fn list(parts: &[(usize, &str)]) -> String {
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    parts.join(", ")
}
