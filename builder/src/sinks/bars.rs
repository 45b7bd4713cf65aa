//! Progress bars on a terminal: a line per root that is being worked on, finished things above.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rootbuild_playbooks::event::TaskStatus;

use super::tally::Tally;
use super::words;
use crate::event::{Event, EventSink};
use crate::render::clean;

/// How often spinners turn.
const TICK: Duration = Duration::from_millis(120);

struct Line {
    bar: ProgressBar,
    steps: usize,
    at: String,
    tasks: u64,
    /// Units that were told of, and whether they are up.
    units: HashMap<String, bool>,
}

/// A line per root.
pub struct Bars {
    all: MultiProgress,
    verbose: bool,
    width: usize,
    tick: Option<Duration>,
    tally: Mutex<Tally>,
    lines: Mutex<HashMap<String, Line>>,
}

impl Bars {
    /// Bars on stderr for roots whose longest name has `width` characters.
    #[must_use]
    pub fn new(verbose: bool, width: usize) -> Self {
        Self::on(ProgressDrawTarget::stderr(), Some(TICK), verbose, width)
    }

    /// Bars somewhere else; without a tick they move only with events.
    pub(super) fn on(
        target: ProgressDrawTarget,
        tick: Option<Duration>,
        verbose: bool,
        width: usize,
    ) -> Self {
        let all = MultiProgress::with_draw_target(target);
        Self { all, verbose, width, tick, tally: Mutex::default(), lines: Mutex::default() }
    }

    /// Draws every bar again, whatever was drawn last.
    #[cfg(test)]
    pub(super) fn redraw(&self) {
        self.lines().values().for_each(|line| line.bar.tick());
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, root: &str, text: &str) {
        self.print(&format!("{root:width$}  {text}", width = self.width));
    }

    fn print(&self, line: &str) {
        for line in clean(line).lines() {
            let _ = self.all.println(line);
        }
    }

    /// A line for a root.
    fn begin(&self, root: &str, steps: usize) {
        let bar = self.all.add(ProgressBar::new_spinner());
        let template =
            format!("{{spinner:.cyan}} {{prefix:{}.bold}}  {{wide_msg}} {{elapsed:.dim}}", self.width);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(root.to_owned());
        if let Some(tick) = self.tick {
            bar.enable_steady_tick(tick);
        }
        let line = Line { bar, steps, at: String::new(), tasks: 0, units: HashMap::new() };
        self.lines().insert(root.to_owned(), line);
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

impl Line {
    /// Shows what is being done, behind where the root is.
    fn show(&self, text: &str) {
        self.bar.set_message(clean(&format!("{}{text}", self.at)).replace('\n', " "));
    }
}

impl EventSink for Bars {
    fn event(&self, event: &Event) {
        let summary = self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(event);
        match event {
            Event::RootStarted { root, steps } => self.begin(root, steps.len()),
            Event::UnitsStarted { root, units, .. } => self.begin(root, units.len()),
            Event::UnitChanged { root, unit, active, sub, text } => self.update(root, |line| {
                line.units.insert(unit.clone(), *active == "active");
                let up = line.units.values().filter(|up| **up).count();
                line.at = format!("[{up}/{}] ", line.steps.max(line.units.len()));
                line.show(&format!("{} {sub} {text}", words::unit(root, unit)));
            }),
            Event::UnitFailed { root, unit, reason, .. } => {
                self.say(root, &format!("{}: {reason}", words::unit(root, unit)));
            }
            Event::RollingBack { root, .. } => self.say(root, "going back to what ran before"),
            Event::UnitsSettled { root, action, state, restarted, seconds, .. } => {
                self.finish(root);
                self.say(root, &words::settled(action, state, restarted.len(), *seconds));
            }
            Event::LayerStarted { root, step, index, .. } => self.update(root, |line| {
                line.at = format!("[{}/{}] {step}  ", index + 1, line.steps);
                line.tasks = 0;
                line.show("");
            }),
            Event::Waiting { root, step, index, holder } => self.update(root, |line| {
                line.at = format!("[{}/{}] {step}  ", index + 1, line.steps);
                line.show(&format!("waiting for {holder}"));
            }),
            Event::Phase { root, text } => {
                self.update(root, |line| line.show(text));
            }
            Event::Progress { root, done, total, bytes } => self.update(root, |line| {
                let text = if *bytes {
                    format!("{} / {}", indicatif::HumanBytes(*done), indicatif::HumanBytes(*total))
                } else {
                    format!("{done} / {total}")
                };
                line.show(&text);
            }),
            Event::Task { root, name, source } => {
                if self.verbose {
                    self.say(root, &format!("task {name} ({source})"));
                }
                self.update(root, |line| {
                    line.tasks += 1;
                    line.show(&format!("task {}: {name}", line.tasks));
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
            Event::LayerFinished { root, .. } => {
                self.update(root, |line| line.at.clear());
                if let Some(text) = words::layer_finished(event, self.verbose) {
                    self.say(root, &text);
                }
            }
            Event::RootFinished { root, tree, path, changed, .. } => {
                self.finish(root);
                self.say(root, &words::root(tree, path, *changed));
            }
            Event::RootFailed { root, step, stopped, .. } => {
                self.finish(root);
                self.say(root, &words::failed(step.as_deref(), *stopped));
            }
            Event::Stopping { .. } => self.print(words::STOPPING),
            Event::Finished { .. } => {
                // Roots that were only built because others stand on them are never "finished".
                let left: Vec<String> = self.lines().keys().cloned().collect();
                for root in left {
                    self.finish(&root);
                }
            }
            Event::Started { .. } | Event::Line { .. } | Event::ServiceDeferred { .. } => {}
        }
        if let Some(summary) = summary {
            self.print(&summary);
        }
        if matches!(event, Event::Finished { .. }) && self.tick.is_some() {
            // Lines printed beside bars are filled up to the edge and not ended: what is printed next
            // would follow on the same line.
            let _ = writeln!(std::io::stderr());
        }
    }
}
