//! Running things in a root: a [`SandboxSpec`] is pure data, [`Nspawn`] starts it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ChildStdout;

use crate::cancel::Cancel;
use crate::working::RootMount;

/// Whether the sandbox sees the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// The host's network and a copy of its resolv.conf.
    Host,
}

/// A host path shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the root, absolute.
    pub target: PathBuf,
    /// Whether it can be written from inside.
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
    /// Whether the root can be written. With `false` changes fail.
    pub writable: bool,
    /// What runs, an absolute path in the root first. Ignored with `boot` (systemd runs then).
    pub argv: Vec<OsString>,
    /// Environment of what runs.
    pub env: Vec<(String, String)>,
    /// Host paths shown inside.
    pub binds: Vec<Bind>,
    /// Network.
    pub network: Network,
    /// Host name inside.
    pub hostname: String,
    /// Boot systemd as PID 1 and run `argv` as a service of it.
    pub boot: bool,
    /// Terminal.
    pub console: Console,
    /// Working directory inside, absolute.
    pub chdir: Option<PathBuf>,
}

/// A sandbox couldn't be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    // variants by the implementation: NotFound (nspawn missing), NotRoot, Start, Io, Died{status, tail}, Cancelled
}

/// Starts sandboxes.
pub trait Sandbox: Send + Sync {
    /// Starts one; returns as soon as the process runs (what "ready" means is the payload's affair).
    fn start(&self, spec: &SandboxSpec, cancel: &Cancel) -> Result<Running, SandboxError>;
}

/// systemd-nspawn, in a mount namespace of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nspawn;

impl Sandbox for Nspawn {
    fn start(&self, spec: &SandboxSpec, cancel: &Cancel) -> Result<Running, SandboxError> {
        let _ = (spec, cancel);
        unimplemented!()
    }
}

/// A running sandbox. Dropping it kills everything inside.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// The payload's stdout ([`Console::Pipe`] only, once).
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        unimplemented!()
    }

    /// Closes stdin (which asks the payload to end), waits, and gives its exit code
    /// (128 + signal when it was killed). stderr's last lines are in the error.
    pub fn stop(self) -> Result<i32, SandboxError> {
        unimplemented!()
    }

    /// Waits for the payload to end by itself.
    pub fn wait(self) -> Result<i32, SandboxError> {
        unimplemented!()
    }
}
