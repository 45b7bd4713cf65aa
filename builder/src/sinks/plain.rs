//! Plain lines on stderr, for pipes, CI and logs.

use rootbuild_playbooks::event::TaskStatus;

use super::words;
use crate::event::{Event, EventSink, LayerStatus};

/// Writes a line per thing that a person would want to know.
pub struct Plain {
    /// Task by task (`-v`).
    pub verbose: bool,
}

impl Plain {
    /// The line for an event, if it deserves one.
    fn line(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::LayerStarted { root, step, .. } => format!("{root}: {step}: building"),
            // That roots of one command wait for each other is no news.
            Event::Waiting { root, step, holder, .. } if self.verbose || holder.starts_with("pid") => {
                format!("{root}: {step}: waiting for {holder}")
            }
            Event::LayerFinished { root, step, status, tasks, seconds, .. } => {
                if *status == LayerStatus::Cached && !self.verbose {
                    return None;
                }
                format!("{root}: {step}: {}", words::layer(*status, *tasks, *seconds))
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
            Event::RootFailed { root, step, .. } => match step {
                Some(step) => format!("{root}: {step}: failed"),
                None => format!("{root}: failed"),
            },
            _ => return None,
        })
    }
}

impl EventSink for Plain {
    fn event(&self, event: &Event) {
        if let Some(line) = self.line(event) {
            anstream::eprintln!("{line}");
        }
    }
}
