//! A sandbox that runs: its streams, its end, and killing everything inside.

use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroup::Cgroup;
use super::resolv::MountPoint;
use super::{SandboxError, Tail};
use crate::cancel::{Cancel, OnCancel};
use crate::process::each_line;
use crate::unsynced;

/// How long a payload may take to end once its stdin is closed.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// What `enter.sh` and `guard.sh` exit with when the payload never ran.
const SETUP_FAILED: i32 = 125;

/// What `enter.sh` starts its own messages with.
const SETUP_PREFIX: &str = "rootbuild-sandbox: ";

/// What is to be cleaned up once nothing runs any more.
#[derive(Debug)]
pub(super) struct Clean {
    pub(super) mount_point: MountPoint,
    pub(super) cgroup: Cgroup,
}

/// A running sandbox. Dropping it kills everything inside.
#[derive(Debug)]
pub struct Running {
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    tail: Tail,
    outer: Outer,
    ended: Receiver<io::Result<ExitStatus>>,
    threads: Vec<JoinHandle<()>>,
    alive: bool,
    cancel: Cancel,
    _on_cancel: OnCancel,
    clean: Option<Clean>,
}

/// What the keeper thread hands over once the process runs.
struct Started {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    outer: Outer,
}

impl Running {
    pub(super) fn start(
        name: String,
        command: Command,
        clean: Clean,
        unsynced: bool,
        cancel: &Cancel,
    ) -> Result<Self, SandboxError> {
        let program = "setpriv";
        let failed = |source| SandboxError::Start { program: program.to_owned(), source };
        let (send_started, started) = channel();
        let (send_ended, ended) = channel();
        // The kernel kills the sandbox with the *thread* that started it, so that must be one that
        // lives as long as the sandbox does.
        let keeper = thread::Builder::new().name(format!("sandbox {name}")).spawn(move || {
            if unsynced {
                unsynced::no_more();
            }
            match spawn(command) {
                Ok((mut child, started)) => {
                    let _ = send_started.send(Ok(started));
                    let _ = send_ended.send(child.wait());
                }
                Err(source) => drop(send_started.send(Err(source))),
            };
        });
        let mut threads = vec![keeper.map_err(failed)?];
        let lost = || failed(io::Error::other("its keeper is gone"));
        let Started { stdin, stdout, stderr, outer } = started.recv().map_err(|_| lost())?.map_err(failed)?;
        let tail = Tail::default();
        if let Some(stderr) = stderr {
            let tail = tail.clone();
            threads.push(thread::spawn(move || each_line(stderr, &|line| tail.push(line))));
        }
        let killer = outer.clone();
        let on_cancel = cancel.on_cancel(move || killer.kill());
        Ok(Self {
            name,
            stdin,
            stdout,
            tail,
            outer,
            ended,
            threads,
            alive: true,
            cancel: cancel.clone(),
            _on_cancel: on_cancel,
            clean: Some(clean),
        })
    }

    /// The payload's stdout ([`super::Console::Pipe`] only, once).
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The last lines on stderr, growing while the sandbox runs; to be kept for an error message.
    #[must_use]
    pub fn stderr_tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Closes stdin (which asks the payload to end), waits, and gives its exit code
    /// (128 + signal when it was killed). stderr's last lines are in the error.
    pub fn stop(mut self) -> Result<i32, SandboxError> {
        drop(self.stdin.take());
        self.outcome(Some(STOP_LIMIT))
    }

    /// Waits for the payload to end by itself; its exit code as with [`Self::stop`].
    pub fn wait(mut self) -> Result<i32, SandboxError> {
        self.outcome(None)
    }

    fn outcome(&mut self, limit: Option<Duration>) -> Result<i32, SandboxError> {
        if let Some(mut stdout) = self.stdout.take() {
            // Nobody reads it: the payload must not be stopped by a full pipe.
            self.threads.push(thread::spawn(move || drop(io::copy(&mut stdout, &mut io::sink()))));
        }
        let ended = match limit {
            None => self.ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(limit) => self.ended.recv_timeout(limit),
        };
        if matches!(ended, Err(RecvTimeoutError::Timeout)) {
            self.end();
            return Err(SandboxError::Stuck {
                name: self.name.clone(),
                seconds: limit.unwrap_or_default().as_secs(),
                tail: self.tail.to_string(),
            });
        }
        self.alive = false;
        self.end();
        self.cancel.check()?;
        let (name, tail) = (self.name.clone(), self.tail.to_string());
        match ended {
            Ok(Ok(status)) => match code(status) {
                SETUP_FAILED if tail.contains(SETUP_PREFIX) => Err(SandboxError::Setup { name, tail }),
                code => Ok(code),
            },
            Ok(Err(error)) => Err(SandboxError::Died { name, status: error.to_string(), tail }),
            Err(_) => Err(SandboxError::Died { name, status: "its keeper is gone".to_owned(), tail }),
        }
    }

    /// Kills what still runs, waits until nothing does, and cleans up. Idempotent.
    fn end(&mut self) {
        drop(self.stdin.take());
        if self.alive {
            self.outer.kill();
            let _ = self.ended.recv();
            self.alive = false;
        }
        drop(self.stdout.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(Clean { mount_point, cgroup }) = self.clean.take() {
            drop(mount_point);
            drop(cgroup);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(mut command: Command) -> io::Result<(Child, Started)> {
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let outer = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Outer { pid, fd: Arc::new(fd) },
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.into());
        }
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok((child, Started { stdin, stdout, stderr, outer }))
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The outermost process (`unshare`, in the end), which waits for the process namespace's first one.
#[derive(Debug, Clone)]
struct Outer {
    pid: Pid,
    fd: Arc<OwnedFd>,
}

impl Outer {
    /// Kills the first process of the sandbox's process namespace, with which the kernel kills all
    /// others; the outer process ends when all of them are gone. Before there is a namespace, the
    /// outer process itself is killed (and takes one that is just being made with it).
    fn kill(&self) {
        let inner: Vec<OwnedFd> =
            self.children().into_iter().filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).collect();
        // Only now is it sure that the pids just opened were its children: it lived all the while.
        if self.has_ended() {
            return;
        }
        if inner.is_empty() {
            let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        }
        for fd in inner {
            let _ = pidfd_send_signal(fd, Signal::KILL);
        }
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.pid.as_raw_nonzero();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
    }
}
