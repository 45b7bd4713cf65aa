//! Running things in a root: a [`SandboxSpec`] is pure data, [`Nspawn`] starts it.
//!
//! # What holds
//! - The sandbox has its own mount, process, network (unless [`Network::Host`]), IPC and UTS
//!   namespaces and a control group of its own. No mount is made in the host's namespace.
//! - It dies with the process that started it, however that dies: the whole sandbox is a process
//!   namespace whose first process is killed by the kernel with its starter.
//! - Nothing is left in the root but what the payload wrote (and empty mount points, for binds whose
//!   target isn't there already: put them below `/run`).
//!
//! # How it is started
//! `setpriv` (die with the starter) → `guard.sh` (enter the control group) → `unshare` (namespaces) →
//! `enter.sh` (mounts) → `systemd-nspawn` → the payload, as process 1 of the root.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cancel::{Cancel, Cancelled};
use crate::working::RootMount;

mod boot;
mod cgroup;
mod command;
mod nspawn;
mod resolv;
mod running;
mod tail;

pub use nspawn::Nspawn;
pub use running::Running;
pub use tail::Tail;

/// What network the sandbox sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// Loopback only, and on it the declared repositories: see [`crate::base::repos`].
    Repos,
    /// The host's network and a copy of its resolv.conf.
    Host,
}

impl Network {
    /// Its name, as definitions and keys have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Repos => "repos",
            Self::Host => "host",
        }
    }
}

/// A host path shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the root, absolute. Where it isn't there, a mount point is made and stays in the root, so
    /// this is best below `/run`.
    pub target: PathBuf,
    /// Whether it can't be written from inside.
    pub read_only: bool,
}

/// How the sandbox's terminal is wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// stdin, stdout and stderr are pipes held by us. The payload ends when stdin closes.
    Pipe,
    /// The caller's terminal (or its pipes) is handed through: for `rootbuild shell`.
    Inherit,
}

/// Everything about one sandbox. The nspawn command line is a pure function of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// A name for people and for nspawn's machine name; made unique by the caller.
    pub name: String,
    /// The root.
    pub root: RootMount,
    /// Whether the root can be written. With `false` changes fail (`/tmp` and `/run` are private then).
    pub writable: bool,
    /// What runs, an absolute path in the root first. With `boot`, systemd runs it as a service.
    pub argv: Vec<OsString>,
    /// Environment of what runs. Nothing of the caller's environment is added.
    pub env: Vec<(String, String)>,
    /// Host paths shown inside.
    pub binds: Vec<Bind>,
    /// Network.
    pub network: Network,
    /// Host name inside.
    pub hostname: String,
    /// Boot systemd as PID 1 and run `argv` as a service of it ([`Console::Pipe`] only). It starts once
    /// the root's `basic.target` and D-Bus are up, its streams are pipes of ours as without booting, and
    /// when it ends the root is shut down cleanly before [`Running`] says so.
    pub boot: bool,
    /// Terminal.
    pub console: Console,
    /// Working directory inside, absolute.
    pub chdir: Option<PathBuf>,
}

/// A sandbox couldn't be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The caller isn't root.
    #[error("running things in a root needs root privileges")]
    NotRoot,
    /// A tool of the host is missing.
    #[error("`{program}` isn't installed on this host")]
    NotFound {
        /// The tool.
        program: &'static str,
        /// The Debian package it comes in.
        package: &'static str,
    },
    /// systemd-nspawn is too old.
    #[error("systemd-nspawn is version {found}, at least {needed} is needed")]
    TooOld {
        /// The host's version.
        found: u32,
        /// The first version that will do.
        needed: u32,
    },
    /// The specification makes no sense.
    #[error("bad sandbox specification: {0}")]
    Spec(String),
    /// The first process couldn't be started.
    #[error("can't start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// An operating-system call failed on a path.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The sandbox couldn't be set up: the payload never ran.
    #[error("can't set up the sandbox `{name}`\n{tail}")]
    Setup {
        /// The sandbox's name.
        name: String,
        /// The last lines on stderr.
        tail: String,
    },
    /// It was killed, or its end couldn't be seen.
    #[error("the sandbox `{name}` died ({status})\n{tail}")]
    Died {
        /// The sandbox's name.
        name: String,
        /// How.
        status: String,
        /// The last lines on stderr.
        tail: String,
    },
    /// The payload was asked to end, and didn't.
    #[error("the sandbox `{name}` didn't end within {seconds} s and was killed\n{tail}")]
    Stuck {
        /// The sandbox's name.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// The last lines on stderr.
        tail: String,
    },
    /// The work was cancelled; everything in the sandbox was killed.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl SandboxError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => Some("run it as root, e.g. with `sudo`".to_owned()),
            Self::NotFound { package, .. } => Some(format!("apt-get install {package}")),
            Self::TooOld { .. } => Some("upgrade the package systemd-container".to_owned()),
            _ => None,
        }
    }
}

/// Starts sandboxes.
pub trait Sandbox: Send + Sync {
    /// Starts one; returns as soon as the process runs (what "ready" means is the payload's affair).
    fn start(&self, spec: &SandboxSpec, cancel: &Cancel) -> Result<Running, SandboxError>;
}
