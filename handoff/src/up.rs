//! Starting roots, and swapping what runs for what was handed over since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootbuild_cache::Store;
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::{self, Lease, Published, running};
use rootbuild_roots::units::{self, Changes, Directories, Lifted, Snapshot};
use tokio::sync::Notify;

use crate::error::HandoffError;
use crate::follow::{Failure, Follower, Told, Watched};
use crate::manager::{Job, Manager, Signals};
use crate::mounts::mounted;
use crate::status::Active;
use crate::{journal, pending};

/// How many lines of a failing unit's log are shown.
const LOG_LINES: usize = 12;

/// A root that is to run.
#[derive(Debug, Clone)]
pub struct Handed {
    /// Its name.
    pub name: String,
    /// Its units.
    pub lifted: Lifted,
    /// The checkout that they are to run in.
    pub published: Published,
    /// Roots that are up before it starts.
    pub after: Vec<String>,
    /// Roots without which it isn't started.
    pub requires: Vec<String>,
    /// How long each unit may take to become ready.
    pub ready_timeout: Duration,
}

/// How to go about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Roots come up at the host's boot from now on.
    pub enable: bool,
    /// What doesn't come up goes back to what ran before.
    pub rollback: bool,
    /// What runs as it should is restarted all the same.
    pub restart: bool,
}

/// What is done with a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it runs as it should.
    Nothing,
    /// It is started, or what of it isn't up.
    Start,
    /// What runs of it is restarted in another checkout, or with other units.
    Swap,
}

/// How a root stands in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All of it is up.
    Up,
    /// Some of it isn't.
    Failed,
    /// It didn't come up, and runs as before.
    RolledBack,
    /// Nothing was done, since a root that it requires isn't up.
    Skipped,
}

/// What came of a root.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Action,
    /// How it stands.
    pub state: State,
    /// The number of the checkout that runs.
    pub number: u64,
    /// Units that were restarted.
    pub restarted: Vec<String>,
    /// What didn't come up.
    pub failures: Vec<Failure>,
    /// Seconds from the first thing asked of systemd for it to the last answer.
    pub seconds: f64,
}

/// A root, and what is found out about it.
struct Work {
    handed: Handed,
    directories: Directories,
    changes: Changes,
    /// Units that are to be restarted though they don't hang on the mount.
    changed: BTreeSet<String>,
    action: Action,
    /// Whether another checkout is mounted.
    remount: bool,
    /// What ran before.
    before: Option<(Published, Snapshot)>,
    /// A provision beside us makes its next checkouts of others.
    _leases: Vec<Lease>,
}

/// Everything that [`up`] works with.
struct Host<'a> {
    store: &'a Store,
    manager: &'a Manager,
    signals: Signals,
    stop: Arc<Notify>,
    told: &'a mut (dyn FnMut(Told) + Send),
}

/// Brings roots up, or to what was handed over last. Roots are given in an order in which they can start. What runs
/// as it should isn't touched. Only one process may be at it at a time.
///
/// # Errors
/// systemd can't be reached or refuses, or files can't be written. That a unit doesn't come up is no error but
/// an [`Outcome`].
pub async fn up(
    (store, manager): (&Store, &Manager),
    roots: Vec<Handed>,
    options: Options,
    cancel: &Cancel,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<Vec<Outcome>, HandoffError> {
    let stop = Arc::new(Notify::new());
    let notify = Arc::clone(&stop);
    let _guard = cancel.on_cancel(move || notify.notify_one());
    let signals = manager.subscribe().await?;
    let mut host = Host { store, manager, signals, stop, told };
    let mut works = Vec::new();
    for handed in roots {
        works.push(host.look(handed, options).await?);
    }
    cancel.check()?;
    let mut reload = false;
    for work in &works {
        reload |= host.install(work)?;
    }
    if reload {
        manager.reload().await?;
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    // Starting waits for others by itself; a swap is over before the next begins that comes after it, and who
    // requires another isn't started for nothing.
    let apart = |work: &Work| {
        work.action == Action::Swap || work.action == Action::Start && !work.handed.requires.is_empty()
    };
    let apart = works.iter().any(apart);
    for level in levels(works, apart) {
        let (ready, lost): (Vec<Work>, Vec<Work>) = level.into_iter().partition(|work| {
            let is_up = |name: &String| {
                outcomes
                    .iter()
                    .all(|it| it.name != *name || matches!(it.state, State::Up | State::RolledBack))
            };
            work.action == Action::Nothing || work.handed.requires.iter().all(is_up)
        });
        for work in lost {
            outcomes.push(host.skip(work));
        }
        let done = host.bring(ready, options).await?;
        outcomes.extend(done);
    }
    if options.enable {
        for outcome in &outcomes {
            manager.enable(&format!("rootbuild-{}.target", outcome.name), true).await?;
        }
    }
    Ok(outcomes)
}

/// Roots that are done together: all at once, or each after those that it comes after.
fn levels(works: Vec<Work>, apart: bool) -> Vec<Vec<Work>> {
    if !apart {
        return vec![works];
    }
    let mut level_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut levels: Vec<Vec<Work>> = Vec::new();
    for work in works {
        let before = work.handed.after.iter().chain(&work.handed.requires);
        let level = before.filter_map(|name| level_of.get(name)).max().map_or(0, |level| level + 1);
        level_of.insert(work.handed.name.clone(), level);
        if levels.len() <= level {
            levels.resize_with(level + 1, Vec::new);
        }
        levels[level].push(work);
    }
    levels
}

/// Kinds of units that are restarted when their text changed.
fn is_restarted(unit: &str) -> bool {
    ![".slice", ".target"].iter().any(|kind| unit.ends_with(kind)) && !unit.contains("@.")
}

impl Host<'_> {
    /// What is to be done with a root.
    async fn look(&mut self, handed: Handed, options: Options) -> Result<Work, HandoffError> {
        let name = handed.name.clone();
        let lasting = Directories::for_good();
        let installed = lasting.state.join(format!("{name}.json")).exists();
        let directories = if options.enable || installed { lasting } else { Directories::until_boot() };
        // What systemd runs it by just now, wherever that is to be.
        let there = [directories.clone(), Directories::until_boot()];
        let is_in = |it: &&Directories| it.state.join(format!("{name}.json")).exists();
        let changes =
            units::compare(there.iter().find(is_in).unwrap_or(&directories), &name, &handed.lifted)?;
        let root = self.manager.unit(&handed.lifted.root_unit).await?;
        let mounted = mounted(&name).filter(|_| root.active == Active::Active);
        let other = |number| number != Some(handed.published.number());
        let remount = mounted.is_some_and(|it| options.restart || other(it.number));
        let begun = pending::read(&name);
        let mut changed: BTreeSet<String> = begun.iter().flatten().cloned().collect();
        changed.extend(changes.changed.iter().cloned());
        changed.retain(|unit| is_restarted(unit) && !changes.removed.contains(unit));
        let target = self.manager.unit(&handed.lifted.target).await?;
        let mut whole = target.active == Active::Active && mounted.is_some();
        for unit in &handed.lifted.started {
            let status = self.manager.unit(unit).await?;
            // What ran to its end isn't run again.
            let ended = status.kind == "oneshot" && status.result == "success" || status.unmet;
            whole &= status.active == Active::Active || status.active == Active::Inactive && ended;
        }
        let differs = changes.any() || changes.users || begun.is_some();
        let action = match mounted {
            Some(_) if remount || differs => Action::Swap,
            Some(_) if whole => Action::Nothing,
            _ => Action::Start,
        };
        let before = match (mounted.and_then(|it| it.number), action) {
            (Some(number), Action::Swap) => {
                let published = running::generation(self.store, &name, number)?;
                let mut snapshot = None;
                for directories in &there {
                    snapshot = snapshot.or(units::snapshot(directories, &name)?);
                }
                published.map(|it| it.to_run(self.store)).zip(snapshot)
            }
            _ => None,
        };
        let mut leases = vec![publish::lease(self.store, &handed.published)?];
        if let Some((published, _)) = &before {
            leases.push(publish::lease(self.store, published)?);
        }
        Ok(Work { handed, directories, changes, changed, action, remount, before, _leases: leases })
    }

    /// Puts units where systemd finds them; whether it has to look.
    fn install(&mut self, work: &Work) -> Result<bool, HandoffError> {
        let (name, lifted) = (&work.handed.name, &work.handed.lifted);
        if work.action != Action::Nothing {
            // From here on the next `up` knows what is left to be done.
            pending::write(name, &work.changed)?;
            running::run(self.store, &work.handed.published)?;
        }
        let passing = Directories::until_boot();
        let mut reload = pending::read(name).is_some_and(|it| !it.is_empty());
        if work.directories != passing && passing.state.join(format!("{name}.json")).exists() {
            reload |= units::uninstall(&passing, name)?.any();
        }
        // What others are called is told even if nothing else is to be done.
        let changes = units::install(&work.directories, name, lifted)?;
        if !changes.taken.is_empty() {
            let text =
                format!("this host calls another {}: its own `/etc/hosts` says so", changes.taken.join(", "));
            (self.told)(Told::Warning { root: name.clone(), text });
        }
        Ok(reload | changes.any())
    }

    fn skip(&mut self, work: Work) -> Outcome {
        let outcome = Outcome {
            name: work.handed.name,
            action: work.action,
            state: State::Skipped,
            number: work.handed.published.number(),
            restarted: Vec::new(),
            failures: Vec::new(),
            seconds: 0.0,
        };
        (self.told)(Told::Done(outcome.clone()));
        outcome
    }

    /// Brings roots up that wait for none that comes later.
    async fn bring(&mut self, works: Vec<Work>, options: Options) -> Result<Vec<Outcome>, HandoffError> {
        let start = Instant::now();
        let mut watched = Vec::new();
        for work in &works {
            let watch = watch(&work.handed);
            (self.told)(Told::Root {
                root: work.handed.name.clone(),
                action: work.action,
                units: watch.wanted.iter().cloned().collect(),
            });
            watched.push(watch);
        }
        let mut follower =
            Follower::new(self.manager, &mut self.signals, watched, &self.stop, &mut *self.told).await?;
        let active: BTreeSet<String> = follower.active().map(str::to_owned).collect();
        let mut jobs = Vec::new();
        let mut restarted = Vec::new();
        for work in &works {
            let units: BTreeSet<&String> = work.changed.iter().filter(|it| active.contains(*it)).collect();
            jobs.extend(ask(self.manager, work, &units).await?);
            let hang_on: Vec<String> = if work.action == Action::Swap && work.remount {
                let services = work.handed.lifted.files.iter().map(|file| file.name.as_str());
                services
                    .filter(|it| active.contains(*it) && it.ends_with(".service"))
                    .filter(|it| *it != work.handed.lifted.root_unit)
                    .map(str::to_owned)
                    .collect()
            } else {
                units.into_iter().cloned().collect()
            };
            restarted.push(if work.action == Action::Swap { hang_on } else { Vec::new() });
        }
        let mut failures = follower.settle(jobs).await?;
        tell_failures(&works, &mut failures, self.told).await;
        let mut outcomes = Vec::new();
        for ((work, failures), restarted) in works.into_iter().zip(failures).zip(restarted) {
            let mut outcome = Outcome {
                name: work.handed.name.clone(),
                action: work.action,
                state: if failures.is_empty() { State::Up } else { State::Failed },
                number: work.handed.published.number(),
                restarted,
                failures,
                seconds: 0.0,
            };
            if outcome.state == State::Failed && options.rollback {
                self.roll_back(&work, &mut outcome).await?;
            }
            pending::clear(&work.handed.name);
            outcome.seconds = start.elapsed().as_secs_f64();
            (self.told)(Told::Done(outcome.clone()));
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Goes back to what ran before, if anything did.
    async fn roll_back(&mut self, work: &Work, outcome: &mut Outcome) -> Result<(), HandoffError> {
        let Some((published, snapshot)) = &work.before else { return Ok(()) };
        let name = &work.handed.name;
        (self.told)(Told::RollingBack { root: name.clone(), to: published.number() });
        running::run(self.store, published)?;
        let changes = units::restore(&work.directories, name, snapshot, &work.handed.lifted.names)?;
        if changes.any() {
            self.manager.reload().await?;
        }
        let wanted: BTreeSet<String> = snapshot.units().map(str::to_owned).collect();
        let there = self.manager.loaded(&wanted.iter().map(|it| glob(it)).collect::<Vec<_>>()).await?;
        let mut watch = watch(&work.handed);
        watch.wanted.retain(|unit| wanted.contains(unit));
        watch.others = wanted.into_iter().filter(|unit| !unit.contains("@.")).collect();
        let mut follower =
            Follower::new(self.manager, &mut self.signals, vec![watch], &self.stop, &mut *self.told).await?;
        let changed: BTreeSet<String> =
            changes.changed.iter().filter(|it| is_restarted(it) && there.contains(it)).cloned().collect();
        // Anything may be half up: all of it starts from the mount on.
        let back = Work {
            handed: Handed { published: published.clone(), ..work.handed.clone() },
            directories: work.directories.clone(),
            changed: changed.clone(),
            changes,
            action: Action::Swap,
            remount: true,
            before: None,
            _leases: Vec::new(),
        };
        let jobs = ask(self.manager, &back, &changed.iter().collect()).await?;
        let mut failures = follower.settle(jobs).await?;
        tell_failures(std::slice::from_ref(&back), &mut failures, self.told).await;
        outcome.number = published.number();
        let failures: Vec<Failure> = failures.into_iter().flatten().collect();
        if failures.is_empty() {
            outcome.state = State::RolledBack;
        }
        Ok(())
    }
}

/// What of a root is to be followed.
fn watch(handed: &Handed) -> Watched {
    let lifted = &handed.lifted;
    let mut wanted: BTreeSet<String> = lifted.started.iter().cloned().collect();
    wanted.extend([lifted.root_unit.clone(), lifted.target.clone()]);
    let names = lifted.files.iter().map(|file| &file.name);
    // What of ours the target wants besides: the network, and ports of the host.
    let (network, port) =
        (format!("rootbuild-{}-net.service", handed.name), format!("rootbuild-{}--port-", handed.name));
    let is_own = |it: &&String| **it == network || it.starts_with(&port) && it.ends_with(".socket");
    wanted.extend(names.clone().filter(is_own).cloned());
    let others = names.filter(|it| !it.contains('/') && !it.contains("@.") && !it.ends_with(".slice"));
    let others = others.filter(|it| !wanted.contains(*it)).cloned().collect();
    Watched { root: handed.name.clone(), wanted, others, ready: handed.ready_timeout }
}

/// Asks systemd for what is to be done with a root.
async fn ask(manager: &Manager, work: &Work, changed: &BTreeSet<&String>) -> Result<Vec<Job>, HandoffError> {
    let lifted = &work.handed.lifted;
    let mut jobs = Vec::new();
    if work.action == Action::Nothing {
        return Ok(jobs);
    }
    // What was started too often, and failed, would not be started again.
    for file in lifted.files.iter().filter(|file| !file.name.contains('/') && !file.name.contains("@.")) {
        manager.reset_failed(&file.name).await;
    }
    if work.action == Action::Swap {
        if work.remount {
            // With it goes, in one transaction, whatever of the root is active and needs it.
            jobs.push(manager.restart(&lifted.root_unit).await?);
        }
        for unit in changed {
            jobs.push(manager.restart(unit).await?);
            // A socket can't be opened anew while its service has it.
            if let Some(stem) = unit.strip_suffix(".socket") {
                let service = format!("{stem}.service");
                if manager.unit(&service).await?.active == Active::Active {
                    jobs.push(manager.restart(&service).await?);
                }
            }
        }
        for unit in &work.changes.removed {
            // One that isn't active may be gone by now.
            if manager.unit(unit).await?.active != Active::Inactive
                && let Ok(job) = manager.stop(unit).await
            {
                jobs.push(job);
            }
        }
    }
    jobs.push(manager.start(&lifted.target).await?);
    Ok(jobs)
}

/// Tells what failed, with what it logged last.
async fn tell_failures(works: &[Work], failures: &mut [Vec<Failure>], told: &mut (dyn FnMut(Told) + Send)) {
    for (work, failures) in works.iter().zip(failures) {
        for failure in failures {
            let (unit, invocation) = (failure.unit.clone(), failure.invocation.clone());
            let read = move || journal::last_lines(&unit, &invocation, LOG_LINES);
            failure.log = tokio::task::spawn_blocking(read).await.unwrap_or_default();
            told(Told::Failed { root: work.handed.name.clone(), failure: failure.clone() });
        }
    }
}

/// A unit's name as a pattern that only it matches, or those made of the template.
pub(crate) fn glob(unit: &str) -> String {
    let escaped: String =
        unit.chars().flat_map(|c| if "\\*?[".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    escaped.replacen("@.", "@*.", 1)
}
