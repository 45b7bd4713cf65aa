//! One ordered stream of events: the terminal, `--events` and the logs are sinks of it.

use std::path::{Path, PathBuf};

use rootbuild_cache::Digest;
use rootbuild_playbooks::event::TaskStatus;
use serde::{Deserialize, Serialize, Serializer};

/// The version of the events' JSON form; raised when a field changes its meaning or goes.
pub const EVENT_VERSION: u32 = 1;

/// How a layer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerStatus {
    /// A record held: nothing ran.
    Cached,
    /// The step's playbook ran, and everything that it asked of the root was answered by a journal.
    Replayed,
    /// The step ran.
    Built,
}

/// Something that happened while provisioning.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Work on these roots begins.
    Started {
        /// The roots, in the order in which they are shown.
        roots: Vec<String>,
    },
    /// A root is looked at; `steps` names its layers from the base up.
    RootStarted {
        /// The root.
        root: String,
        /// Its steps.
        steps: Vec<String>,
    },
    /// A layer has to be built, and building begins.
    LayerStarted {
        /// The root.
        root: String,
        /// The step.
        step: String,
        /// Where it stands among the root's steps, from 0.
        index: usize,
        /// The log that its output goes to.
        #[serde(serialize_with = "lossy")]
        log: PathBuf,
    },
    /// A layer is being built by somebody else, who is waited for.
    Waiting {
        /// The root.
        root: String,
        /// The step.
        step: String,
        /// Where it stands among the root's steps, from 0.
        index: usize,
        /// Who builds it: "pid 4711", "root `hgweb0`".
        holder: String,
    },
    /// What a step is doing, in a few words.
    Phase {
        /// The root.
        root: String,
        /// What.
        text: String,
    },
    /// How far the phase is.
    Progress {
        /// The root.
        root: String,
        /// Done so far.
        done: u64,
        /// Of how many.
        total: u64,
        /// Whether these are bytes.
        bytes: bool,
    },
    /// A line of a tool's output.
    Line {
        /// The root.
        root: String,
        /// The line.
        text: String,
    },
    /// A task starts.
    Task {
        /// The root.
        root: String,
        /// Its name.
        name: String,
        /// Where it is written.
        source: String,
    },
    /// A task ended.
    TaskEnded {
        /// The root.
        root: String,
        /// Its name.
        name: String,
        /// Where it is written.
        source: String,
        /// How it ended.
        status: TaskStatus,
        /// Whether a journal answered for the root.
        replayed: bool,
        /// Seconds it took.
        seconds: f64,
        /// What it said, if it failed.
        detail: Option<String>,
    },
    /// A service that a playbook wanted running was left to its unit.
    ServiceDeferred {
        /// The root.
        root: String,
        /// The service.
        service: String,
        /// The state it was to have.
        state: String,
    },
    /// Something a person should see.
    Warning {
        /// The root.
        root: String,
        /// What.
        text: String,
    },
    /// A layer is there.
    LayerFinished {
        /// The root.
        root: String,
        /// The step.
        step: String,
        /// Where it stands among the root's steps, from 0.
        index: usize,
        /// How it came.
        status: LayerStatus,
        /// Its tree.
        tree: Digest,
        /// Tasks that ran in the root.
        tasks: u64,
        /// Tasks that a journal answered.
        tasks_replayed: u64,
        /// Whether its playbook was run whole as well, and gave the same tree.
        verified: bool,
        /// Seconds it took.
        seconds: f64,
    },
    /// A root is ready.
    RootFinished {
        /// The root.
        root: String,
        /// Its tree.
        tree: Digest,
        /// Where it is.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// Whether the path shows another tree than before.
        changed: bool,
        /// Seconds it took.
        seconds: f64,
    },
    /// A root couldn't be made.
    RootFailed {
        /// The root.
        root: String,
        /// The step that failed, if it was one.
        step: Option<String>,
        /// Why.
        message: String,
        /// Whether it isn't the root's own fault: the command was stopped.
        stopped: bool,
        /// The log to read, if there is one.
        #[serde(serialize_with = "lossy_option")]
        log: Option<PathBuf>,
    },
    /// Units of a root are waited for.
    UnitsStarted {
        /// The root.
        root: String,
        /// What is done with it: `start`, `swap`, `nothing`.
        action: &'static str,
        /// The units, as the host calls them.
        units: Vec<String>,
    },
    /// A unit is in another state.
    UnitChanged {
        /// The root.
        root: String,
        /// The unit, as the host calls it.
        unit: String,
        /// `active`, `activating`, `deactivating`, `failed`, `inactive`.
        active: &'static str,
        /// More exactly, in systemd's words.
        sub: String,
        /// What it says of itself.
        text: String,
    },
    /// A unit doesn't come up.
    UnitFailed {
        /// The root.
        root: String,
        /// The unit, as the host calls it.
        unit: String,
        /// Why.
        reason: String,
        /// What it logged last.
        log: Vec<String>,
    },
    /// A root goes back to what ran before.
    RollingBack {
        /// The root.
        root: String,
        /// The number of the checkout that it goes back to.
        to: u64,
    },
    /// What was asked of a root's units is settled.
    UnitsSettled {
        /// The root.
        root: String,
        /// What was done with it: as above, or `stop`.
        action: &'static str,
        /// How it stands: `up`, `failed`, `rolled-back`, `skipped`, `down`.
        state: &'static str,
        /// The number of the checkout that runs; 0 where none does.
        checkout: u64,
        /// Units that were restarted.
        restarted: Vec<String>,
        /// Seconds it took.
        seconds: f64,
    },
    /// A signal asked the command to stop, and it does.
    Stopping {
        /// The signal's number.
        signal: i32,
    },
    /// All is done.
    Finished {
        /// Seconds it took.
        seconds: f64,
    },
}

impl Event {
    /// The root that the event is about.
    #[must_use]
    pub fn root(&self) -> Option<&str> {
        match self {
            Self::Started { .. } | Self::Stopping { .. } | Self::Finished { .. } => None,
            Self::RootStarted { root, .. }
            | Self::LayerStarted { root, .. }
            | Self::Waiting { root, .. }
            | Self::Phase { root, .. }
            | Self::Progress { root, .. }
            | Self::Line { root, .. }
            | Self::Task { root, .. }
            | Self::TaskEnded { root, .. }
            | Self::ServiceDeferred { root, .. }
            | Self::Warning { root, .. }
            | Self::LayerFinished { root, .. }
            | Self::RootFinished { root, .. }
            | Self::UnitsStarted { root, .. }
            | Self::UnitChanged { root, .. }
            | Self::UnitFailed { root, .. }
            | Self::RollingBack { root, .. }
            | Self::UnitsSettled { root, .. }
            | Self::RootFailed { root, .. } => Some(root),
        }
    }
}

/// A path as JSON can hold it: what isn't UTF-8 is replaced.
pub(crate) fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// Somewhere events go. Sinks only look: nothing they do changes what is built.
pub trait EventSink: Send + Sync {
    /// Takes an event. Called from any thread, one at a time per root in the order of happening.
    fn event(&self, event: &Event);
}

/// Several sinks as one.
#[derive(Default)]
pub struct Fanout(pub Vec<Box<dyn EventSink>>);

impl EventSink for Fanout {
    fn event(&self, event: &Event) {
        for sink in &self.0 {
            sink.event(event);
        }
    }
}
