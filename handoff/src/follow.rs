//! Following what systemd does with what it was asked for, until all of it is settled.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbuild_roots::Cancelled;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::error::HandoffError;
use crate::manager::{Job, Manager, Signal, Signals};
use crate::status::{Active, UnitStatus};

/// How long a service that can't say that it is ready has to live before it counts as ready.
const SETTLE: Duration = Duration::from_secs(1);

/// How often a service may have to be started again before it counts as failed.
const RESTARTS: u32 = 2;

/// Something that happened, for who looks on.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Work on a root begins.
    Root {
        /// The root.
        root: String,
        /// What is done with it.
        action: crate::Action,
        /// Its units that are waited for.
        units: Vec<String>,
    },
    /// A unit is in another state.
    Unit {
        /// The root.
        root: String,
        /// The unit, as the host calls it.
        unit: String,
        /// How it is.
        active: Active,
        /// More exactly, in systemd's words.
        sub: String,
        /// What it says of itself.
        text: String,
    },
    /// Something that somebody should see.
    Warning {
        /// The root.
        root: String,
        /// What.
        text: String,
    },
    /// A unit doesn't come up.
    Failed {
        /// The root.
        root: String,
        /// Which, and why.
        failure: Failure,
    },
    /// A root goes back to what ran before.
    RollingBack {
        /// The root.
        root: String,
        /// The number of the checkout that it goes back to.
        to: u64,
    },
    /// A root is settled.
    Done(crate::Outcome),
}

/// A unit that doesn't come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The unit, as the host calls it.
    pub unit: String,
    /// Why, in a few words.
    pub reason: String,
    /// What the journal knows its last start by; empty where it never started, or started again and again.
    pub invocation: String,
    /// The last lines that it logged.
    pub log: Vec<String>,
}

/// A root whose units are followed.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub root: String,
    /// Units that have to come up.
    pub wanted: BTreeSet<String>,
    /// Others of the root's: those have to come up that are active when it begins.
    pub others: BTreeSet<String>,
    /// How long a unit may take to become ready.
    pub ready: Duration,
}

struct Seen {
    root: usize,
    status: UnitStatus,
    wanted: bool,
    jobs: HashSet<Job>,
    /// Where it is on its way to, and since when.
    moving: Option<(Active, Instant)>,
    restarts_before: u32,
    /// How its last job ended, if that wasn't well.
    job: Option<String>,
    given_up: Option<String>,
    told: (Active, String, String),
}

/// Follows units of some roots.
pub(crate) struct Follower<'a> {
    manager: &'a Manager,
    signals: &'a mut Signals,
    roots: Vec<Watched>,
    units: BTreeMap<String, Seen>,
    stop: &'a Arc<Notify>,
    told: &'a mut (dyn FnMut(Told) + Send),
}

impl<'a> Follower<'a> {
    /// Looks how the units are before anything is asked for.
    pub(crate) async fn new(
        manager: &'a Manager,
        signals: &'a mut Signals,
        roots: Vec<Watched>,
        stop: &'a Arc<Notify>,
        told: &'a mut (dyn FnMut(Told) + Send),
    ) -> Result<Self, HandoffError> {
        let mut units = BTreeMap::new();
        for (index, watched) in roots.iter().enumerate() {
            for unit in watched.wanted.union(&watched.others) {
                let status = manager.unit(unit).await?;
                let wanted = watched.wanted.contains(unit) || status.active == Active::Active;
                let seen = Seen {
                    root: index,
                    wanted,
                    jobs: HashSet::new(),
                    moving: None,
                    restarts_before: status.restarts,
                    job: None,
                    given_up: None,
                    told: (status.active, status.sub.clone(), status.text.clone()),
                    status,
                };
                units.insert(unit.clone(), seen);
            }
        }
        Ok(Self { manager, signals, roots, units, stop, told })
    }

    /// Those of the units that are active.
    pub(crate) fn active(&self) -> impl Iterator<Item = &str> {
        let is = |seen: &&Seen| matches!(seen.status.active, Active::Active | Active::Activating);
        self.units.values().filter(is).map(|seen| seen.status.name.as_str())
    }

    /// Waits until these jobs have ended and every unit is settled. Gives what failed, by root.
    pub(crate) async fn settle(&mut self, jobs: Vec<Job>) -> Result<Vec<Vec<Failure>>, HandoffError> {
        let mut waiting: HashSet<Job> = jobs.into_iter().collect();
        let mut looked = false;
        let mut quiet = Instant::now();
        loop {
            let now = Instant::now();
            self.give_up(now);
            if waiting.is_empty() && !looked {
                // What was pushed is told by now; this is for what came before we listened.
                looked = true;
                self.look().await?;
                continue;
            }
            let wake = self.wake(now);
            if wake.is_none() && waiting.is_empty() {
                break;
            }
            // Should nothing at all happen, and nothing be about to, what is waited for doesn't come.
            let longest = self.roots.iter().map(|it| it.ready).max().unwrap_or_default();
            let about = self.units.values().any(|seen| seen.moving.is_some() && seen.given_up.is_none());
            let silence = quiet.max(if about { now } else { quiet }) + longest;
            if now >= silence {
                waiting.clear();
                self.give_up_all();
                continue;
            }
            let wake = wake.flatten().map_or(silence, |at| at.min(silence));
            tokio::select! {
                biased;
                signal = self.signals.next() => {
                    quiet = Instant::now();
                    self.take(signal?, &mut waiting);
                }
                () = sleep_until(wake.into()) => {}
                () = self.stop.notified() => return Err(Cancelled.into()),
            }
            if self.only_lost(&waiting) {
                waiting.clear();
            }
        }
        Ok(self.failures())
    }

    /// Whether all that is still waited for hangs on units that were given up.
    fn only_lost(&self, waiting: &HashSet<Job>) -> bool {
        !waiting.is_empty()
            && self.units.values().any(|seen| seen.given_up.is_some())
            && self
                .units
                .values()
                .all(|seen| seen.given_up.is_some() || seen.moving.is_none() && !seen.status.is_restarting())
    }

    async fn look(&mut self) -> Result<(), HandoffError> {
        for (name, seen) in &mut self.units {
            seen.status = self.manager.unit(name).await?;
            moved(seen);
        }
        Ok(())
    }

    fn take(&mut self, signal: Signal, waiting: &mut HashSet<Job>) {
        match signal {
            Signal::JobNew { job, unit } => {
                if let Some(seen) = self.units.get_mut(&unit) {
                    seen.job = None;
                    seen.jobs.insert(job);
                }
            }
            Signal::JobRemoved { job, unit, result } => {
                waiting.remove(&job);
                if let Some(seen) = self.units.get_mut(&unit) {
                    seen.jobs.remove(&job);
                    // What was canceled was asked for otherwise.
                    let good = matches!(result.as_str(), "done" | "skipped" | "canceled");
                    seen.job = (!good).then_some(result);
                }
            }
            Signal::Changed { unit, properties } => {
                let Some(seen) = self.units.get_mut(&unit) else { return };
                seen.status.update(&properties);
                moved(seen);
                let now = (seen.status.active, seen.status.sub.clone(), seen.status.text.clone());
                if seen.told != now {
                    let root = self.roots[seen.root].root.clone();
                    seen.told.clone_from(&now);
                    (self.told)(Told::Unit { root, unit, active: now.0, sub: now.1, text: now.2 });
                }
            }
        }
    }

    /// What takes too long, or fails again and again, isn't waited for any more.
    fn give_up(&mut self, now: Instant) {
        for seen in self.units.values_mut().filter(|seen| seen.wanted && seen.given_up.is_none()) {
            let ready = self.roots[seen.root].ready;
            let again = seen.status.restarts.saturating_sub(seen.restarts_before);
            // How long a unit may take to stop is between it and systemd.
            if seen.moving.is_some_and(|(to, since)| to == Active::Activating && now >= since + ready) {
                seen.given_up = Some(format!("not ready within {} s", ready.as_secs_f64()));
            } else if again >= RESTARTS && seen.status.active != Active::Active {
                seen.given_up = Some(format!("fails again and again: {}", why(&seen.status)));
            }
        }
    }

    fn give_up_all(&mut self) {
        for seen in self.units.values_mut().filter(|seen| seen.given_up.is_none()) {
            if !seen.jobs.is_empty() && seen.wanted && seen.status.active != Active::Active {
                seen.given_up = Some("never started: what it waits for doesn't come".to_owned());
            }
            seen.jobs.clear();
        }
    }

    /// `None`: everything is settled. Else when to look again at the latest, if that can be said.
    fn wake(&self, now: Instant) -> Option<Option<Instant>> {
        let mut wake: Option<Option<Instant>> = None;
        let mut note = |at: Option<Instant>| {
            let so_far = wake.flatten();
            wake = Some(match (so_far, at) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            });
        };
        for seen in self.units.values().filter(|seen| seen.wanted && seen.given_up.is_none()) {
            if let Some((to, since)) = seen.moving {
                note((to == Active::Activating).then(|| since + self.roots[seen.root].ready));
            } else if !seen.jobs.is_empty() {
                note(None);
            } else if seen.status.active == Active::Active && seen.status.is_vague() {
                let age = Duration::from_micros(monotonic().saturating_sub(seen.status.since_monotonic));
                if age < SETTLE {
                    note(Some(now + (SETTLE - age)));
                }
            }
        }
        wake
    }

    fn failures(&self) -> Vec<Vec<Failure>> {
        let mut failures = vec![Vec::new(); self.roots.len()];
        for seen in self.units.values().filter(|seen| seen.wanted) {
            let status = &seen.status;
            let reason = match (&seen.given_up, &seen.job) {
                (Some(reason), _) => reason.clone(),
                _ if status.active == Active::Failed => why(status),
                _ if status.load == "not-found" || status.load == "bad-setting" => {
                    format!("systemd can't load it ({})", status.load)
                }
                (None, Some(job)) if status.active != Active::Active => match job.as_str() {
                    "dependency" => "what it needs didn't come up".to_owned(),
                    "assert" => "an `Assert…=` of it doesn't hold".to_owned(),
                    _ => why(status),
                },
                _ => continue,
            };
            // What is starting again hasn't said yet why it failed; the starts before it have.
            let again = status.restarts > seen.restarts_before;
            let invocation = if again { String::new() } else { status.invocation.clone() };
            failures[seen.root].push(Failure {
                unit: status.name.clone(),
                reason,
                invocation,
                log: Vec::new(),
            });
        }
        for (failures, watched) in failures.iter_mut().zip(&self.roots) {
            // That the whole isn't up says nothing new.
            let is_part = |it: &Failure| it.unit != format!("rootbuild-{}.target", watched.root);
            if failures.iter().any(is_part) {
                failures.retain(is_part);
            }
        }
        failures
    }
}

/// Keeps in mind since when a unit is on its way.
fn moved(seen: &mut Seen) {
    let active = seen.status.active;
    seen.moving = match (active, seen.moving) {
        (Active::Activating | Active::Deactivating, Some((to, since))) if to == active => Some((to, since)),
        (Active::Activating | Active::Deactivating, _) => Some((active, Instant::now())),
        _ => None,
    };
}

/// Why a unit failed, in a few words.
fn why(status: &UnitStatus) -> String {
    match status.result.as_str() {
        "exit-code" => format!("exited with {}", status.exit),
        "signal" | "core-dump" => format!("killed by signal {}", status.exit),
        "timeout" => "not ready in the time that the unit allows".to_owned(),
        "start-limit-hit" => "started too often, and failed each time".to_owned(),
        "protocol" => "doesn't do what its `Type=` promises".to_owned(),
        "resources" => "it lacks something that it needs (see its log)".to_owned(),
        "oom-kill" => "killed for want of memory".to_owned(),
        "" | "success" => "it didn't come up".to_owned(),
        other => other.to_owned(),
    }
}

/// The clock that always goes forward, in microseconds.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
