//! Running one playbook against one root.

mod controller;
mod environment;
mod error;
mod failure;
mod hosts;
mod scratch;
mod session;
mod tell;

use std::path::PathBuf;

use rootbuild_roots::Cancel;
use rootbuild_roots::sandbox::{Network, Sandbox};
use rootbuild_roots::working::RootMount;

use crate::event::RunEvent;
use crate::inputs::Project;
use crate::toolchain::Toolchain;

pub use error::RunError;

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
    /// The root, writable.
    pub root: RootMount,
    /// A private directory, on the store's file system, for sockets and files of this run.
    pub scratch: PathBuf,
    /// A directory shared by runs, for caches that are safe to lose (AnsiballZ zips).
    pub cache: PathBuf,
    /// Network in the sandbox.
    pub network: Network,
    /// Boot systemd in the sandbox.
    pub boot: bool,
    /// Policy for `state: started`.
    pub services: Services,
    /// The log file; everything that Ansible and the sandbox say is appended.
    pub log: PathBuf,
    /// How many `-v` Ansible gets.
    pub verbosity: u8,
}

/// What came out of a run that succeeded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Task results on the root's host, skipped ones not counted.
    pub tasks: u64,
    /// Of these, how many changed something.
    pub changed: u64,
    /// Services left to the unit: name and state.
    pub deferred: Vec<(String, String)>,
}

/// Runs the playbook in a sandbox over the root, from start to the sandbox's clean end.
pub fn run(
    run: &PlaybookRun,
    sandbox: &dyn Sandbox,
    cancel: &Cancel,
    events: &(dyn Fn(RunEvent) + Sync),
) -> Result<Outcome, RunError> {
    cancel.check()?;
    let scratch = scratch::Scratch::prepare(run)?;
    session::Session { run, scratch: &scratch, cancel, events }.run(sandbox)
}
