//! One run: sandbox and Ansible side by side, from their start to their end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rootbuild_roots::Cancel;
use rootbuild_roots::sandbox::{Bind, Console, Running, Sandbox, SandboxSpec, Tail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::failure::complaint;
use super::scratch::{Listener, Scratch};
use super::tell::{self, Account};
use super::{Outcome, PlaybookRun, RunError, Services, controller, hosts};
use crate::event::RunEvent;

/// Where the agent is seen in the root.
const AGENT: &str = "/run/rootbuild/agent";

/// Where its socket is.
const SOCKETS: &str = "/run/rootbuild/socket";

/// Where payloads of earlier runs are.
const PAYLOADS: &str = "/run/rootbuild/payloads";

/// What the sandbox's first process ends with when the root has no Python.
const NO_PYTHON: i32 = 3;

/// How much of Ansible's standard error is kept for an error message, in bytes.
const KEPT: usize = 64 << 10;

/// How long a sandbox may say nothing before it is ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// One run and where its events go.
pub(super) struct Session<'a> {
    pub(super) run: &'a PlaybookRun,
    pub(super) scratch: &'a Scratch,
    pub(super) cancel: &'a Cancel,
    pub(super) events: &'a (dyn Fn(RunEvent) + Sync),
}

/// What Ansible left.
struct Ended {
    status: ExitStatus,
    stderr: String,
    account: Account,
}

impl Session<'_> {
    /// Runs it.
    pub(super) fn run(&self, sandbox: &dyn Sandbox) -> Result<Outcome, RunError> {
        let listener = self.scratch.listen("events.sock")?;
        let mut running = match sandbox.start(&self.spec(), self.cancel) {
            Ok(running) => running,
            Err(error) => {
                self.cancel.check()?;
                return Err(error.into());
            }
        };
        let (stdout, tail) = (running.take_stdout(), running.stderr_tail());
        let (send_ready, ready) = channel();
        // Lives as long as the sandbox.
        let watcher = thread::spawn(move || watch(stdout, &send_ready));
        let late = AtomicBool::new(false);
        let (said, too_late) = (|| tail.to_string(), &late);
        let wait = move || {
            wait(&ready, PATIENCE, said).unwrap_or_else(|| {
                too_late.store(true, Ordering::Relaxed);
                false
            })
        };
        let ended = self.ansible(&listener, wait);
        let stopped = self.stop(running, &tail);
        let _ = watcher.join();
        self.cancel.check()?;
        if late.into_inner() {
            let (root, seconds) = (self.run.root_name.clone(), PATIENCE.as_secs());
            return Err(RunError::NotReady { root, seconds, tail: tail.to_string() });
        }
        // A sandbox that was lost explains whatever else went wrong.
        stopped?;
        self.judge(ended?)
    }

    /// The sandbox: the agent's files read-only, its socket's directory, nothing else of ours.
    fn spec(&self) -> SandboxSpec {
        let run = self.run;
        let bind = |source, target: &str, read_only| Bind { source, target: target.into(), read_only };
        let age = if is_old(&run.toolchain.version) { "old" } else { "new" };
        let script = format!("{AGENT}/start.sh");
        let socket = format!("{SOCKETS}/agent.sock");
        let mut binds = vec![
            bind(self.scratch.runtime.agent(), AGENT, true),
            bind(self.scratch.sockets(), SOCKETS, false),
        ];
        // What earlier runs have sent is learnt while Ansible starts.
        if let Some(payloads) = controller::payloads(run).filter(|dir| dir.is_dir()) {
            binds.push(bind(payloads, PAYLOADS, true));
        }
        SandboxSpec {
            name: format!("rootbuild-{}-{}", run.root_name, std::process::id()),
            root: run.root.clone(),
            writable: true,
            argv: ["/bin/sh", &script, &socket, age].map(Into::into).to_vec(),
            env: Vec::new(),
            binds,
            network: run.network,
            hostname: run.host.clone(),
            boot: run.boot,
            console: Console::Pipe,
            chdir: None,
        }
    }

    /// Runs Ansible to its end, while listening to it.
    fn ansible(&self, listener: &Listener, ready: impl FnOnce() -> bool + Send) -> Result<Ended, RunError> {
        let log = Scratch::log(&self.run.log)?;
        let mut command = controller::playbook(self.run, self.scratch);
        controller::wire(&mut command, log);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|source| RunError::Start { program, source })?;
        let group = Pid::from_child(&child);
        let _killer = self.cancel.on_cancel(move || {
            let _ = kill_process_group(group, Signal::KILL);
        });
        let stderr = child.stderr.take();
        thread::scope(|scope| {
            let account = scope.spawn(move || self.account(listener, ready));
            let said = scope.spawn(move || self.keep(stderr));
            let status = self.wait(&mut child);
            // If Ansible never connected, nobody will.
            listener.wake();
            let lost = || RunError::io("read", &self.run.log)(io::Error::other("a thread panicked"));
            let account = account.join().map_err(|_| lost())?;
            let stderr = said.join().map_err(|_| lost())?;
            Ok(Ended { status: status?, stderr, account })
        })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, RunError> {
        child.wait().map_err(|source| RunError::Start { program: "ansible-playbook".to_owned(), source })
    }

    fn account(&self, listener: &Listener, ready: impl FnOnce() -> bool) -> Account {
        let Ok(stream) = listener.accept() else { return Account::default() };
        tell::listen(stream, &self.run.project.dir, &self.run.host, ready, self.events)
    }

    /// Writes Ansible's standard error to the log, and keeps its end.
    fn keep(&self, stderr: Option<ChildStderr>) -> String {
        let mut kept = Vec::new();
        let (Some(stderr), Ok(mut log)) = (stderr, Scratch::log(&self.run.log)) else { return String::new() };
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let _ = log.write_all(&line);
            kept.append(&mut line);
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    }

    /// Ends the sandbox; an error if it hadn't lived until now.
    fn stop(&self, running: Running, tail: &Tail) -> Result<(), RunError> {
        let code = running.stop();
        let tail = tail.to_string();
        if !tail.is_empty()
            && let Ok(mut log) = Scratch::log(&self.run.log)
        {
            let _ = writeln!(log, "the sandbox said:\n{tail}");
        }
        let root = self.run.root_name.clone();
        match code? {
            0 => Ok(()),
            NO_PYTHON => Err(RunError::NoPython { root }),
            code => Err(RunError::SandboxEnded { root, code, tail }),
        }
    }

    /// What the run came to.
    fn judge(&self, ended: Ended) -> Result<Outcome, RunError> {
        let Ended { status, stderr, account } = ended;
        if !status.success() || account.refused.is_some() {
            let failed = account.failed.filter(|_| account.ended);
            return Err(match account.refused.or(failed) {
                Some(failed) => RunError::TaskFailed {
                    task: failed.task,
                    source_line: failed.source_line,
                    detail: failed.detail,
                },
                None => {
                    let message = complaint(&stderr);
                    if hosts::is_unknown(&message) {
                        hosts::unknown(self.run, self.scratch)
                    } else if message.is_empty() {
                        RunError::Ansible { message: format!("it ended with {status}") }
                    } else {
                        RunError::Ansible { message }
                    }
                }
            });
        }
        if !account.begun || !account.ended {
            return Err(RunError::Silent);
        }
        if account.matched == 0 {
            return Err(RunError::NoPlayMatched {
                playbook: self.run.playbook.clone(),
                host: self.run.host.clone(),
                plays: account.plays,
            });
        }
        if self.run.services == Services::Fail && !account.deferred.is_empty() {
            let root = self.run.root_name.clone();
            return Err(RunError::ServicesNotAllowed { root, services: account.deferred });
        }
        Ok(Outcome { tasks: account.tasks, changed: account.changed, deferred: account.deferred })
    }
}

/// Says whether the sandbox became ready, then reads on so that it is never held up. Of what comes
/// only the first few bytes count: anything in the root could write there.
fn watch(stdout: Option<ChildStdout>, ready: &Sender<bool>) {
    let Some(stdout) = stdout else { return };
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    let read = reader.by_ref().take(64).read_line(&mut line);
    let _ = ready.send(read.is_ok() && line == "READY\n");
    let _ = io::copy(&mut reader, &mut io::sink());
}

/// Whether the sandbox is ready; nothing if it neither says so nor anything else for too long.
fn wait(ready: &Receiver<bool>, patience: Duration, said: impl Fn() -> String) -> Option<bool> {
    let mut before = said();
    loop {
        match ready.recv_timeout(patience) {
            Ok(ready) => return Some(ready),
            Err(RecvTimeoutError::Disconnected) => return Some(false),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = said();
        if now == before {
            return None;
        }
        before = now;
    }
}

/// Whether this ansible-core chooses interpreters by the distribution, as those up to 2.16 do.
fn is_old(version: &str) -> bool {
    let minor = version.strip_prefix("2.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor <= 16)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_sandbox_is_waited_for_while_it_says_something() {
        let patience = Duration::from_millis(5);
        let (sender, ready) = channel();
        let said = Cell::new(0);
        let speak = || {
            said.set((said.get() + 1).min(4));
            said.get().to_string()
        };
        assert_eq!(wait(&ready, patience, speak), None);
        assert_eq!(said.get(), 4);
        sender.send(true).unwrap();
        assert_eq!(wait(&ready, patience, String::new), Some(true));
        drop(sender);
        assert_eq!(wait(&ready, patience, String::new), Some(false));
    }
}
