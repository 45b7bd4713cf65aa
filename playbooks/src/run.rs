//! Running one playbook against one root.

mod controller;
mod environment;
mod error;
mod failure;
mod hosts;
mod scratch;
mod session;
mod tell;

use std::fs::File;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Wait;
use rootbuild_roots::base::repos::{Declared, Fetched};
use rootbuild_roots::sandbox::{Network, Sandbox};
use rootbuild_roots::working::WorkingRoot;

use crate::event::RunEvent;
use crate::inputs::Project;
use crate::replay::Replay;
use crate::toolchain::Toolchain;
use crate::trace::{Launcher, Trace, Untraced};

pub use error::RunError;
pub(crate) use scratch::Listener;

/// The semantic version of a playbook step: bumped when the same inputs would give another tree.
pub const STEP_VERSION: u32 = 1;

/// What `state: started` means in a root that isn't booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Services {
    /// Recorded and reported, left to the unit.
    #[default]
    Defer,
    /// The step fails.
    Fail,
}

/// One playbook run.
#[derive(Debug, Clone)]
pub struct PlaybookRun {
    /// The root's name (for the sandbox's name and messages).
    pub root_name: String,
    /// The project.
    pub project: Project,
    /// The playbook, absolute.
    pub playbook: PathBuf,
    /// The inventory host that the root stands for.
    pub host: String,
    /// Extra vars, a JSON object.
    pub vars: serde_json::Value,
    /// ansible-core.
    pub toolchain: Toolchain,
    /// The tree that it runs on.
    pub parent: Digest,
    /// Whether journals of earlier runs are asked. This run's own is kept in any case.
    pub replay: bool,
    /// Where the run will leave what journals know, if that is known: a root is made ahead then.
    pub expected: Option<Expected>,
    /// A directory shared by runs, for caches that are safe to lose (AnsiballZ zips).
    pub cache: PathBuf,
    /// Network in the sandbox.
    pub network: Network,
    /// What is served there with [`Network::Repos`].
    pub repos: Option<Declared>,
    /// Boot systemd in the sandbox.
    pub boot: bool,
    /// Policy for `state: started`.
    pub services: Services,
    /// The log file; everything that Ansible and the sandbox say is appended.
    pub log: PathBuf,
    /// How many `-v` Ansible gets.
    pub verbosity: u8,
    /// What lets Ansible be traced; without it nothing is known of what it reads.
    pub launcher: Option<Launcher>,
}

/// Where a run is expected to do something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// In the task of this number, from 1, as tasks begin.
    Task(u64),
    /// Somewhere in this role.
    Role(String),
}

/// What came out of a run that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The root's tree.
    pub tree: Digest,
    /// Task results on the root's host, skipped ones not counted.
    pub tasks: u64,
    /// Of these, those that the root had a part in just now.
    pub tasks_run: u64,
    /// Of these, those that journals answered for.
    pub tasks_replayed: u64,
    /// How many tasks changed something.
    pub changed: u64,
    /// Services left to the unit: name and state.
    pub deferred: Vec<(String, String)>,
    /// How much of it journals knew.
    pub replay: Replay,
    /// What was fetched from declared repositories, by whichever run did what is in the root.
    pub fetched: Vec<Fetched>,
    /// What Ansible and all that it started read, if there was a launcher.
    pub trace: Option<Result<Trace, Untraced>>,
}

/// A run that failed, and what it left.
#[derive(Debug)]
pub struct RunFailed {
    /// Why.
    pub error: RunError,
    /// The root as it was then, if it can be had and is worth a look.
    pub root: Option<Box<WorkingRoot>>,
}

impl<E: Into<RunError>> From<E> for RunFailed {
    fn from(error: E) -> Self {
        Self { error: error.into(), root: None }
    }
}

/// Runs the playbook on `run.parent`, from start to the captured tree. The root and its sandbox are
/// made when they are needed: when a task asks something that no journal of an earlier run knows.
pub fn run(
    run: &PlaybookRun,
    store: &Store,
    sandbox: &dyn Sandbox,
    wait: Wait<'_>,
    events: &(dyn Fn(RunEvent) + Sync),
) -> Result<Outcome, RunFailed> {
    wait.cancel.check().map_err(RunError::from)?;
    let staging = store.staging("run").map_err(rootbuild_roots::working::WorkingError::from)?;
    let mut replay = run.replay;
    loop {
        let scratch = scratch::Scratch::prepare(run, staging.path())?;
        let session = session::Session { run, store, sandbox, scratch: &scratch, wait, events };
        match session.run(replay)? {
            session::Verdict::Done(outcome) => return Ok(*outcome),
            session::Verdict::Again(why) => {
                let text = format!("what earlier runs know can't be used, so all of it runs: {why}");
                events(RunEvent::Warning { text });
                replay = false;
            }
        }
    }
}

/// Opens the log for appending.
pub(crate) fn log(path: &Path) -> Result<File, RunError> {
    scratch::Scratch::log(path)
}

/// Whether this ansible-core chooses interpreters by the distribution, as those up to 2.16 do.
pub(crate) fn is_old(version: &str) -> bool {
    let minor = version.strip_prefix("2.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor <= 16)
}
