//! Plain lines on stderr, for pipes, CI and logs.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use rootbuild_playbooks::event::TaskStatus;

use super::tally::Tally;
use super::words;
use crate::event::{Event, EventSink};
use crate::render::clean;

/// Writes a line per thing that a person would want to know.
pub struct Plain {
    verbose: bool,
    tally: Mutex<Tally>,
}

impl Plain {
    /// Lines on stderr, with `verbose` task by task.
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self { verbose, tally: Mutex::default() }
    }

    /// The lines for an event.
    pub(super) fn lines(&self, event: &Event) -> impl Iterator<Item = String> {
        let summary = self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(event);
        self.line(event).into_iter().chain(summary).map(|line| clean(&line))
    }

    /// The line for an event, if it deserves one.
    fn line(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::LayerStarted { root, step, .. } => format!("{root}: {step}: building"),
            // That roots of one command wait for each other is no news.
            Event::Waiting { root, step, holder, .. } if self.verbose || holder.starts_with("pid") => {
                format!("{root}: {step}: waiting for {holder}")
            }
            Event::LayerFinished { root, .. } => {
                return words::layer_finished(event, self.verbose).map(|text| format!("{root}: {text}"));
            }
            Event::Phase { root, text } if self.verbose => format!("{root}: {text}"),
            Event::Task { root, name, source } if self.verbose => format!("{root}: task {name} ({source})"),
            // It may yet be rescued: a failure that counts is told when the root has failed.
            Event::TaskEnded { root, name, status, source, .. } if self.verbose => match status {
                TaskStatus::Failed => format!("{root}: failed: {name} ({source})"),
                TaskStatus::Unreachable => format!("{root}: unreachable: {name} ({source})"),
                _ => return None,
            },
            Event::ServiceDeferred { root, service, state } if self.verbose => {
                format!("{root}: service `{service}`: `{state}` is left to its unit")
            }
            Event::Warning { root, text } => format!("{root}: warning: {text}"),
            Event::RootFinished { root, tree, path, changed, .. } => {
                format!("{root}: {}", words::root(tree, path, *changed))
            }
            Event::RootFailed { root, step, stopped, .. } => {
                format!("{root}: {}", words::failed(step.as_deref(), *stopped))
            }
            Event::UnitChanged { root, unit, active, sub, text } if self.verbose => {
                let text = if text.is_empty() { String::new() } else { format!(": {text}") };
                format!("{root}: {} is {active} ({sub}){text}", words::unit(root, unit))
            }
            Event::UnitFailed { root, unit, reason, .. } => {
                format!("{root}: {}: {reason}", words::unit(root, unit))
            }
            Event::RollingBack { root, .. } => format!("{root}: going back to what ran before"),
            Event::UnitsSettled { root, action, state, restarted, seconds, .. } => {
                format!("{root}: {}", words::settled(action, state, restarted.len(), *seconds))
            }
            Event::Stopping { .. } => words::STOPPING.to_owned(),
            _ => return None,
        })
    }
}

impl EventSink for Plain {
    fn event(&self, event: &Event) {
        for line in self.lines(event) {
            // That stderr is gone is no reason to stop a build.
            let _ = writeln!(anstream::stderr(), "{line}");
        }
    }
}
