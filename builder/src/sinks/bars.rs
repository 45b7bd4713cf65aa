//! Progress bars on a terminal: a line per root that is being worked on, finished things above.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rootbuild_playbooks::event::TaskStatus;

use super::words;
use crate::event::{Event, EventSink, LayerStatus};

/// How often spinners turn.
const TICK: Duration = Duration::from_millis(120);

struct Line {
    bar: ProgressBar,
    steps: usize,
    at: String,
    tasks: u64,
}

/// A line per root.
pub struct Bars {
    all: MultiProgress,
    verbose: bool,
    width: usize,
    lines: Mutex<HashMap<String, Line>>,
}

impl Bars {
    /// Bars on stderr for roots whose longest name has `width` characters.
    #[must_use]
    pub fn new(verbose: bool, width: usize) -> Self {
        Self { all: MultiProgress::new(), verbose, width, lines: Mutex::default() }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, root: &str, text: &str) {
        let _ = self.all.println(format!("{root:width$}  {text}", width = self.width));
    }

    fn update(&self, root: &str, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines().get_mut(root) {
            change(line);
        }
    }

    fn finish(&self, root: &str) {
        if let Some(line) = self.lines().remove(root) {
            line.bar.finish_and_clear();
            self.all.remove(&line.bar);
        }
    }
}

impl EventSink for Bars {
    fn event(&self, event: &Event) {
        match event {
            Event::RootStarted { root, steps } => {
                let bar = self.all.add(ProgressBar::new_spinner());
                let template = format!(
                    "{{spinner:.cyan}} {{prefix:.bold:{}}}  {{wide_msg}} {{elapsed:.dim}}",
                    self.width
                );
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    bar.set_style(style);
                }
                bar.set_prefix(root.clone());
                bar.enable_steady_tick(TICK);
                let line = Line { bar, steps: steps.len(), at: String::new(), tasks: 0 };
                self.lines().insert(root.clone(), line);
            }
            Event::LayerStarted { root, step, index, .. } => self.update(root, |line| {
                line.at = format!("[{}/{}] {step}", index + 1, line.steps);
                line.tasks = 0;
                line.bar.set_message(line.at.clone());
            }),
            Event::Waiting { root, step, index, holder } => self.update(root, |line| {
                line.bar.set_message(format!("[{}/{}] {step}: waiting for {holder}", index + 1, line.steps));
            }),
            Event::Phase { root, text } => {
                self.update(root, |line| line.bar.set_message(format!("{} {text}", line.at)));
            }
            Event::Progress { root, done, total, bytes } => self.update(root, |line| {
                let text = if *bytes {
                    format!("{} / {}", indicatif::HumanBytes(*done), indicatif::HumanBytes(*total))
                } else {
                    format!("{done} / {total}")
                };
                line.bar.set_message(format!("{} {text}", line.at));
            }),
            Event::Task { root, name, source } => {
                if self.verbose {
                    self.say(root, &format!("task {name} ({source})"));
                }
                self.update(root, |line| {
                    line.tasks += 1;
                    line.bar.set_message(format!("{} task {}: {name}", line.at, line.tasks));
                });
            }
            Event::TaskEnded { root, name, source, status, .. } => {
                // It may yet be rescued: a failure that counts is told when the root has failed.
                if self.verbose && matches!(status, TaskStatus::Failed | TaskStatus::Unreachable) {
                    self.say(root, &format!("failed: {name} ({source})"));
                }
            }
            Event::ServiceDeferred { root, service, state } if self.verbose => {
                self.say(root, &format!("service `{service}`: `{state}` is left to its unit"));
            }
            Event::Warning { root, text } => self.say(root, &format!("warning: {text}")),
            Event::LayerFinished { root, step, status, tasks, seconds, .. } => {
                if *status == LayerStatus::Built || self.verbose {
                    self.say(root, &format!("{step}: {}", words::layer(*status, *tasks, *seconds)));
                }
            }
            Event::RootFinished { root, tree, path, changed, .. } => {
                self.finish(root);
                self.say(root, &words::root(tree, path, *changed));
            }
            Event::RootFailed { root, .. } => self.finish(root),
            Event::Finished { .. } => {
                // Roots that were only built because others stand on them are never "finished".
                let left: Vec<String> = self.lines().keys().cloned().collect();
                for root in left {
                    self.finish(&root);
                }
            }
            Event::Started { .. } | Event::Line { .. } | Event::ServiceDeferred { .. } => {}
        }
    }
}
