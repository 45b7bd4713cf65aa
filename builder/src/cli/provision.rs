//! `rootbuild provision`: build roots, as far as they aren't cached, and hand them over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rootbuild_cache::{Limit, Store};
use rootbuild_roots::working;
use serde_json::{Value, json};

use super::forcing::Forcing;
use super::mirror::Mirroring;
use super::{Global, building, trace};
use crate::engine::{Options, RootFailure, RootReport, step};
use crate::generation;
use crate::render::Report;

/// Arguments of `rootbuild provision`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to provision [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// How many steps may work at the same time [default: the number of processors]
    #[arg(short, long, value_name = "N", env = "ROOTBUILD_JOBS")]
    pub jobs: Option<usize>,

    /// Refuse bases whose exact packages aren't locked, instead of writing missing locks
    #[arg(long, env = "ROOTBUILD_LOCKED", value_parser = clap::builder::FalseyValueParser::new())]
    pub locked: bool,

    /// How long to wait for a layer that another rootbuild is building, in seconds [default: for ever]
    #[arg(long, value_name = "SECONDS", env = "ROOTBUILD_LOCK_TIMEOUT")]
    pub lock_timeout: Option<u64>,

    /// What is built whatever is known of it.
    #[command(flatten)]
    pub forcing: Forcing,

    /// Run playbooks whole in the root, even where a journal could answer
    #[arg(long, env = "ROOTBUILD_NO_REPLAY", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_replay: bool,

    /// Run every playbook whole as well, even if its layer is cached, and fail if that gives another tree
    #[arg(long, env = "ROOTBUILD_VERIFY_REPLAY", value_parser = clap::builder::FalseyValueParser::new())]
    pub verify_replay: bool,

    /// Use no network for bases and ansible-core: what isn't in the store is told
    #[arg(long, env = "ROOTBUILD_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,

    /// Allow a root more (or less) of something than `[limits]` in the definition says
    #[arg(long = "limit", value_name = "NAME=VALUE", env = "ROOTBUILD_LIMITS", value_delimiter = ',', value_parser = limit)]
    pub limits: Vec<(Limit, u64)>,

    /// Where bases come from.
    #[command(flatten)]
    pub mirror: Mirroring,
}

/// `file_size=70G`
fn limit(text: &str) -> Result<(Limit, u64), String> {
    let known = || Limit::all().map(Limit::name).collect::<Vec<_>>().join(", ");
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, as in `file_size=70G`")?;
    let limit = Limit::named(name.trim()).ok_or_else(|| format!("limits are {}", known()))?;
    let value = limit.parse(value.trim()).map_err(|expected| format!("`{name}` must be {expected}"))?;
    Ok((limit, value))
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let start = Instant::now();
    let definition = global.definition()?;
    let names: Vec<String> =
        super::asked_for(&definition, &arguments.roots)?.into_iter().map(|root| root.name.clone()).collect();
    let forced = arguments.forcing.resolve(&definition, &arguments.roots)?;
    if arguments.locked {
        super::lock::require(&definition, &names)?;
    }
    super::require_root("rootbuild provision")?;
    let given = arguments.limits.iter().copied();
    let limits = given.fold(definition.limits, |limits, (limit, value)| limits.with(limit, value));
    let store = global.store()?.with_limits(limits);
    // Nothing that is found from here on is collected.
    store.begin_lease()?;
    super::owned(&store, &definition, &names)?;
    let options = Options {
        jobs: arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from)),
        lock_timeout: arguments.lock_timeout.map(Duration::from_secs),
        verbosity: global.verbose.saturating_sub(1),
        forced,
        no_replay: arguments.no_replay,
        verify_replay: arguments.verify_replay,
        offline: arguments.offline,
        mirror: arguments.mirror.mirror.clone(),
        outputs: step::own_outputs().into_iter().chain(global.events.as_deref().and_then(absolute)).collect(),
        launcher: trace::launcher(),
        hand_over: true,
    };
    let definition = Arc::new(definition);
    let ran = building::run(global, &definition, &store, &names, options, |engine| {
        let names = &names;
        async move { engine.provision(names).await }
    })?;
    let outcomes = &ran.outcome;
    let done: Vec<&RootReport> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    let failed: Vec<&RootFailure> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let recorded = generation::record(&store, &definition.path, &done);
    tidy(&store, &failed);
    if global.json {
        super::out::json(&result(&done, &failed, start.elapsed()))?;
    }
    ran.stopped(&store, &failed)?;
    // What failed is told even if it can't be written down.
    let code = building::report(&failed, &definition)?;
    recorded?;
    Ok(code)
}

fn absolute(path: &Path) -> Option<PathBuf> {
    std::path::absolute(path).ok()
}

/// Kept directories that no project's newest generation stands on are let go. What failed keeps its own, for
/// the next try.
fn tidy(store: &Store, failed: &[&RootFailure]) {
    if !failed.is_empty() {
        return;
    }
    if let Err(error) = working::prune_lowers(store, &generation::layer_trees(store)) {
        tracing::warn!("can't tidy the store: {error}");
    }
}

/// The object that `--json` prints.
fn result(done: &[&RootReport], failed: &[&RootFailure], took: Duration) -> Value {
    let roots: Vec<Value> = done
        .iter()
        .map(|root| {
            let layers: Vec<Value> = root
                .layers
                .iter()
                .map(|layer| {
                    json!({
                        "step": layer.step,
                        "status": layer.status,
                        "tasks_replayed": layer.tasks_replayed,
                        "tasks_run": layer.tasks_run,
                        "verified": layer.verified,
                        "seconds": layer.seconds,
                        "tree": layer.record.tree,
                    })
                })
                .collect();
            json!({
                "name": root.name,
                "tree": root.tree,
                "path": root.path.to_string_lossy(),
                "changed": root.changed,
                "layers": layers,
            })
        })
        .collect();
    let mut object = json!({ "roots": roots, "seconds": took.as_secs_f64() });
    if !failed.is_empty() {
        let failed: Vec<Value> = failed
            .iter()
            .map(|failure| {
                json!({
                    "name": failure.root,
                    "step": failure.step,
                    "error": failure.error.to_string(),
                    "log": failure.log.as_ref().map(|log| log.to_string_lossy()),
                })
            })
            .collect();
        object["failed"] = Value::Array(failed);
    }
    object
}
