//! What the commands that hand roots to systemd have in common.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rootbuild_cache::{Holder, Lock, Store};
use rootbuild_handoff::{Action, Failure, Handed, HandoffError, Manager, Options, Outcome, State, Told};
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::Published;
use rootbuild_roots::units::{Host, InstallError, Level};
use serde_json::{Value, json};

use super::{Global, events, out};
use crate::definition::{Definition, Root};
use crate::event::{Event, EventSink};
use crate::render::Report;
use crate::sinks::words;
use crate::{exit, signals};

/// What everything that changes what runs on this host holds.
const LOCK: &str = "handoff";

/// How long to wait for others.
#[derive(Debug, Args)]
pub struct Patience {
    /// How long to wait for another rootbuild that starts or stops roots, in seconds [default: for ever]
    #[arg(long, value_name = "SECONDS", env = "ROOTBUILD_LOCK_TIMEOUT")]
    pub lock_timeout: Option<u64>,
}

/// A definition and its store, for a command that needs both.
pub(super) struct Project {
    pub definition: Definition,
    pub store: Store,
}

impl Project {
    /// Opens both. Looking for roots makes no store.
    pub(super) fn open(global: &Global, command: &str) -> Result<Self, Report> {
        let definition = global.definition()?;
        super::require_root(command)?;
        if global.store_read_only()?.is_none() {
            return Err(Report::failed("nothing is provisioned yet").hint("run `rootbuild provision`"));
        }
        let store = global.store()?;
        Ok(Self { definition, store })
    }

    /// Keeps others from starting and stopping roots meanwhile.
    pub(super) fn lock(&self, global: &Global, patience: &Patience, purpose: &str) -> Result<Lock, Report> {
        let told = |holder: &Holder| {
            if !global.quiet {
                let _ = writeln!(anstream::stderr(), "waiting for {holder}");
            }
        };
        let timeout = patience.lock_timeout.map(Duration::from_secs);
        Ok(self.store.lock_for(LOCK, purpose, timeout, &told, &|| false)?)
    }

    /// A root with its units, ready to be handed over. What isn't as in the root is told.
    pub(super) fn handed(
        &self,
        global: &Global,
        root: &Root,
        published: Published,
        host: Host,
    ) -> Result<Handed, Report> {
        let published = published.to_run(&self.store);
        let lifted = crate::units::lift(&self.store, &self.definition, root, &published, host)?;
        let warnings = lifted.reports.iter().filter(|it| it.level == Level::Warning);
        if global.verbose > 0 && !global.quiet {
            for warning in warnings {
                let _ = writeln!(anstream::stderr(), "{}: warning: {warning}", root.name);
            }
        }
        Ok(Handed {
            name: root.name.clone(),
            lifted,
            published,
            after: root.run.units.after.clone(),
            requires: root.run.units.requires.clone(),
            ready_timeout: root.run.ready_timeout,
        })
    }
}

/// These roots and those that they require, each after those that it starts after.
pub(super) fn in_order<'a>(definition: &'a Definition, names: &[&str]) -> Vec<&'a Root> {
    fn visit<'a>(
        definition: &'a Definition,
        name: &str,
        wanted: &BTreeSet<String>,
        done: &mut BTreeSet<String>,
        order: &mut Vec<&'a Root>,
    ) {
        let Some(root) = definition.root(name) else { return };
        if !wanted.contains(name) || !done.insert(name.to_owned()) {
            return;
        }
        for before in root.run.units.after.iter().chain(&root.run.units.requires) {
            visit(definition, before, wanted, done, order);
        }
        order.push(root);
    }
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut left: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = left.pop() {
        if let Some(root) = definition.root(&name)
            && wanted.insert(name)
        {
            left.extend(root.run.units.requires.iter().cloned());
        }
    }
    let (mut done, mut order) = (BTreeSet::new(), Vec::new());
    for root in &definition.roots {
        visit(definition, &root.name, &wanted, &mut done, &mut order);
    }
    order
}

/// [`in_order`], without those that weren't named.
pub(super) fn only_in_order<'a>(
    definition: &'a Definition,
    names: &'a [&str],
) -> impl Iterator<Item = &'a Root> {
    in_order(definition, names).into_iter().filter(|root| names.contains(&root.name.as_str()))
}

/// That a root doesn't run, which has to.
pub(super) fn not_running(name: &str) -> Report {
    Report::failed(format!("root `{name}` doesn't run")).hint(format!("`rootbuild up {name}` starts it"))
}

/// Runs something that talks to systemd to its end. A signal ends the waiting; what systemd was asked for goes on.
pub(super) fn run<T, F: Future<Output = Result<T, HandoffError>>>(
    sink: &Arc<dyn EventSink>,
    work: impl FnOnce(Cancel) -> F,
) -> Result<T, Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::failed("can't start the runtime").caused_by(&error))?;
    let cancel = Cancel::new();
    let (result, signal) = runtime.block_on(async {
        let signals = signals::watch(&cancel, sink);
        let result = work(cancel.clone()).await;
        (result, signals.received())
    });
    runtime.shutdown_background();
    if let Some(signal) = signal {
        return Err(Report::interrupted(signal));
    }
    Ok(result?)
}

/// Brings roots up and tells what came of it.
pub(super) fn bring(
    global: &Global,
    project: &Project,
    roots: Vec<Handed>,
    options: Options,
) -> Result<u8, Report> {
    let start = Instant::now();
    let names: Vec<String> = roots.iter().map(|root| root.name.clone()).collect();
    let trees: Vec<_> = roots.iter().map(|root| (root.name.clone(), root.published.clone())).collect();
    let sink = events::sinks(global, &names.iter().map(String::as_str).collect::<Vec<_>>(), Vec::new())?;
    sink.event(&Event::Started { roots: names });
    let telling = Arc::clone(&sink);
    let outcomes = run(&sink, |cancel| async move {
        let manager = Manager::system().await?;
        let mut told = move |it: Told| telling.event(&event(it));
        rootbuild_handoff::up((&project.store, &manager), roots, options, &cancel, &mut told).await
    });
    let seconds = start.elapsed().as_secs_f64();
    sink.event(&Event::Finished { seconds });
    let outcomes = outcomes?;
    if global.json {
        let roots: Vec<Value> = outcomes
            .iter()
            .map(|it| {
                let tree = trees
                    .iter()
                    .find(|(name, published)| *name == it.name && published.number() == it.number);
                let tree = tree.map(|(_, published)| published.tree);
                let tree = tree.or_else(|| running_tree(&project.store, &it.name));
                json!({
                    "name": it.name,
                    "state": state(it.state),
                    "action": action(it.action),
                    "tree": tree,
                    "checkout": it.number,
                    "restarted": it.restarted,
                    "failures": it.failures.iter().map(failure).collect::<Vec<_>>(),
                    "seconds": it.seconds,
                })
            })
            .collect();
        out::json(&json!({ "roots": roots, "seconds": seconds }))?;
    }
    let reports: Vec<Report> = outcomes.iter().flat_map(reports).collect();
    if reports.is_empty() { Ok(exit::OK) } else { Err(Report::several(reports)) }
}

/// The tree of what runs of a root.
pub(super) fn running_tree(store: &Store, name: &str) -> Option<rootbuild_cache::Digest> {
    rootbuild_roots::publish::running::running(store, name).ok().flatten().map(|it| it.tree)
}

fn failure(failure: &Failure) -> Value {
    json!({ "unit": failure.unit, "reason": failure.reason, "log": failure.log })
}

/// What is wrong with a root in the end.
fn reports(outcome: &Outcome) -> Vec<Report> {
    let name = &outcome.name;
    if outcome.state == State::Skipped {
        let report =
            Report::failed(format!("root `{name}` wasn't started: a root that it requires isn't up"));
        return vec![report];
    }
    let failures = outcome.failures.iter().map(|failure| {
        let unit = words::unit(name, &failure.unit);
        let report = Report::failed(format!("`{unit}` of root `{name}` isn't up: {}", failure.reason))
            .output(failure.log.join("\n"));
        if outcome.state == State::RolledBack {
            report.hint(format!(
                "`{name}` runs as before; with `--no-rollback` it stays as it is, to be looked at"
            ))
        } else {
            report.hint(format!("`rootbuild logs {name}` has more of what it said"))
        }
    });
    failures.collect()
}

pub(super) fn action(action: Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Start => "start",
        Action::Swap => "swap",
    }
}

pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Failed => "failed",
        State::RolledBack => "rolled-back",
        State::Skipped => "skipped",
    }
}

/// What the hand-off tells, as an event.
pub(super) fn event(told: Told) -> Event {
    match told {
        Told::Root { root, action: what, units } => Event::UnitsStarted { root, action: action(what), units },
        Told::Unit { root, unit, active, sub, text } => {
            Event::UnitChanged { root, unit, active: active.name(), sub, text }
        }
        Told::Failed { root, failure } => {
            let Failure { unit, reason, log, .. } = failure;
            Event::UnitFailed { root, unit, reason, log }
        }
        Told::Warning { root, text } => Event::Warning { root, text },
        Told::RollingBack { root, to } => Event::RollingBack { root, to },
        Told::Done(outcome) => Event::UnitsSettled {
            action: action(outcome.action),
            state: state(outcome.state),
            root: outcome.name,
            checkout: outcome.number,
            restarted: outcome.restarted,
            seconds: outcome.seconds,
        },
    }
}

impl From<HandoffError> for Report {
    fn from(error: HandoffError) -> Self {
        let hint = error.hint();
        let report = match error {
            HandoffError::Publish(error) => return error.into(),
            HandoffError::Install(error) => return error.into(),
            HandoffError::Cancelled(_) => Self::new(exit::INTERRUPTED, error.to_string()),
            error => {
                let report = Self::failed(error.to_string());
                match std::error::Error::source(&error) {
                    Some(source) => report.caused_by(source),
                    None => report,
                }
            }
        };
        match hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    }
}

impl From<InstallError> for Report {
    fn from(error: InstallError) -> Self {
        let report = Self::failed(error.to_string());
        match (&error, std::error::Error::source(&error)) {
            (InstallError::Taken { .. }, _) => report.hint("move it away, or rename the root"),
            (InstallError::OtherDefinition { root }, _) => {
                report.hint(format!("take that down first (`rootbuild down {root}`), or rename one of them"))
            }
            (_, Some(source)) => report.caused_by(source),
            _ => report,
        }
    }
}
