//! Everything that a program and all that it starts read, list or look for in vain.
//!
//! A seccomp filter stops each system call that takes a name until rootbuild has looked at what the name
//! stands for at that moment; then the call goes on by itself. No process that descends from the
//! traced one gets away: not by forking, not as a static binary, not in a namespace of its own. What can't be
//! understood (another root directory, a program of another architecture) is a *gap*, after which a
//! trace proves nothing.
//!
//! The traced program starts through a small one of ours, a [`Launcher`], which installs the filter,
//! hands the listening end over, and becomes the program. Not defended against is a program that wants to
//! hide what it reads (by changing a name in memory between our look and the kernel's).

mod calls;
mod enter;
mod look;
mod memory;
mod notes;
mod processes;
mod scope;
mod watch;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::{self, JoinHandle};

use rootbuild_cache::Digest;

pub use enter::enter;
pub(crate) use look::{Content, Listing, Look, Stamp, Target, list, look, target};
pub(crate) use notes::Use;
pub use scope::Scope;

/// The program that installs the filter and becomes what it is to start: it gets `arguments`, then the
/// command to start. It calls [`enter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// An absolute path.
    pub program: PathBuf,
    /// What comes before the command.
    pub arguments: Vec<OsString>,
}

/// Why something was not traced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Untraced {
    /// What stood in the way.
    pub why: String,
}

impl Untraced {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// What was traced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// Each thing used, in the order of first uses.
    pub(crate) uses: Vec<Use>,
    /// Where it connected to, outside of what it was told to leave out: what came from there isn't known.
    pub connections: Vec<String>,
    /// Why the trace may miss something; empty for one that is whole.
    pub gaps: Vec<String>,
    /// How many system calls were stopped.
    pub calls: u64,
    /// Variables of the caller's environment that were asked for, with the SHA-256 of their values. Not traced
    /// but told.
    pub environment: Vec<(String, Option<Digest>)>,
    /// The Python that ran Ansible, if it is known.
    pub interpreter: Option<PathBuf>,
}

/// A command being traced.
#[derive(Debug)]
pub struct Tracing {
    child: Option<OwnedFd>,
    task: Arc<AtomicU32>,
    /// Hung up to end the watch.
    stop: UnixStream,
    watcher: JoinHandle<Result<Trace, Untraced>>,
}

impl Tracing {
    /// Gets ready to trace one command. `task` is the number of what it is doing, kept up to date by
    /// the caller; each use remembers the one that was current.
    pub fn new(scope: Scope, task: Arc<AtomicU32>) -> io::Result<Self> {
        let (ours, child) = UnixStream::pair()?;
        let (stop, stopped) = UnixStream::pair()?;
        let current = Arc::clone(&task);
        let watcher = thread::Builder::new()
            .name("tracer".to_owned())
            .spawn(move || watch::watch(&ours, &stopped, scope, &current))?;
        Ok(Self { child: Some(child.into()), task, stop, watcher })
    }

    /// The counter that the uses' numbers come from.
    #[must_use]
    pub fn task(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.task)
    }

    /// Lets `command`, which starts a [`Launcher`] sooner or later, reach us: by its standard input,
    /// which the program itself will find empty. To be called once, before the command is started.
    pub fn attach(&mut self, command: &mut Command) {
        if let Some(child) = self.child.take() {
            command.stdin(Stdio::from(child));
        }
    }

    /// What was traced, once the command has ended. A process that it has left behind goes on untraced.
    pub fn finish(self) -> Result<Trace, Untraced> {
        let Self { child, stop, watcher, .. } = self;
        drop(child);
        drop(stop);
        watcher.join().unwrap_or_else(|_| Err(Untraced::new("the tracer panicked")))
    }
}

/// Whether this process can trace: tried with a program that does nothing.
pub fn possible(launcher: &Launcher) -> Result<(), Untraced> {
    let failed = |error: io::Error| Untraced::new(format!("`{}`: {error}", launcher.program.display()));
    let mut tracing = Tracing::new(Scope::default(), Arc::default()).map_err(failed)?;
    let mut command = Command::new(&launcher.program);
    command.args(&launcher.arguments).arg("/bin/true").stdout(Stdio::null()).stderr(Stdio::null());
    tracing.attach(&mut command);
    let ended = command.status();
    drop(command);
    let trace = tracing.finish();
    let status = ended.map_err(failed)?;
    trace.and_then(|trace| match trace.gaps.into_iter().next() {
        Some(gap) => Err(Untraced::new(gap)),
        None if !status.success() => Err(Untraced::new(format!("a traced program ended with {status}"))),
        None => Ok(()),
    })
}
