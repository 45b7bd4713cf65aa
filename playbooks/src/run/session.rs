//! One run: Ansible, who answers it, and who listens to it, side by side from start to end.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rootbuild_cache::Store;
use rootbuild_roots::Wait;
use rootbuild_roots::base::repos::Repos;
use rootbuild_roots::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process_group};

use super::failure::complaint;
use super::scratch::{Listener, Scratch};
use super::tell::{self, Account};
use super::{Outcome, PlaybookRun, RunError, RunFailed, Services, controller, environment, hosts};
use crate::event::RunEvent;
use crate::inputs;
use crate::replay::{Broker, Lost, Maker};
use crate::trace::{Trace, Tracing, Untraced};

/// How much of Ansible's standard error is kept for an error message, in bytes.
const KEPT: usize = 64 << 10;

/// One run and where its events go.
pub(super) struct Session<'a> {
    pub(super) run: &'a PlaybookRun,
    pub(super) store: &'a Store,
    pub(super) sandbox: &'a dyn Sandbox,
    pub(super) scratch: &'a Scratch,
    pub(super) wait: Wait<'a>,
    pub(super) events: &'a (dyn Fn(RunEvent) + Sync),
}

/// How a run that didn't fail ended.
pub(super) enum Verdict {
    /// It succeeded.
    Done(Box<Outcome>),
    /// It has to begin again, without journals.
    Again(String),
}

/// What Ansible left.
struct Ended {
    status: ExitStatus,
    stderr: String,
    account: Account,
    trace: Option<Result<Trace, Untraced>>,
}

/// What a run that succeeded told, and what it read.
type Judged = (Account, Option<Result<Trace, Untraced>>);

/// Ends Ansible, once there is one.
#[derive(Default)]
struct Killer {
    group: Mutex<(Option<Pid>, bool)>,
}

impl Killer {
    fn set(&self, group: Option<Pid>) {
        let mut this = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        this.0 = group;
        if let (Some(group), true) = *this {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn kill(&self) {
        let mut this = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        this.1 = true;
        if let Some(group) = this.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Session<'_> {
    /// Runs it; journals are asked only if `replay` says so.
    pub(super) fn run(&self, replay: bool) -> Result<Verdict, RunFailed> {
        let events = self.scratch.listen("events.sock")?;
        let requests = self.scratch.listen("agent.sock")?;
        let maker = Maker {
            run: self.run,
            store: self.store,
            sandbox: self.sandbox,
            wait: self.wait,
            agent: self.scratch.runtime.agent(),
            payloads: controller::payloads(self.run),
            scratch: self.scratch.dir().to_owned(),
            made: AtomicU32::new(0),
            repos: self
                .run
                .repos
                .clone()
                .map(|repos| Repos::new(repos, self.store.dir(), self.scratch.dir())),
        };
        let killer = Killer::default();
        let kill = || killer.kill();
        let warn = |text| (self.events)(RunEvent::Warning { text });
        let own_files = self.scratch.path("tmp");
        let broker = Broker::new(&maker, replay, &own_files, &kill, &warn)?;
        let (spool, closing) = (self.scratch.path("spool"), AtomicBool::new(false));
        let ended = thread::scope(|scope| {
            scope.spawn(|| broker.serve(&requests, &spool, &closing));
            // What is needed in any case is made while Ansible starts.
            scope.spawn(|| {
                broker.prepare();
                broker.ahead();
            });
            let ended = self.ansible(&events, &broker, &killer);
            closing.store(true, Ordering::SeqCst);
            requests.wake();
            broker.stop_ahead();
            ended
        });
        if let Some(why) = broker.again() {
            return Ok(Verdict::Again(why));
        }
        let verdict = self.wait.cancel.check().map_err(RunError::from).and_then(|()| self.judge(ended?));
        let keep = verdict.as_ref().err().is_some_and(RunError::leaves_something);
        if verdict.is_ok() {
            (self.events)(RunEvent::Phase { text: "capturing".to_owned() });
        }
        let finished = broker.finish(verdict.is_ok(), keep);
        if let Some(why) = broker.again() {
            return Ok(Verdict::Again(why));
        }
        self.wait.cancel.check().map_err(RunError::from)?;
        let finished = match finished {
            Ok(finished) => finished,
            // A sandbox that was lost explains whatever else went wrong.
            Err(Lost { error, working }) => return Err(RunFailed { error, root: working }),
        };
        let fetched = broker.fetched();
        for text in maker.repos.iter().flat_map(Repos::take_problems) {
            (self.events)(RunEvent::Warning { text });
        }
        match (verdict, finished.tree) {
            (Ok((account, trace)), Some(tree)) => Ok(Verdict::Done(Box::new(Outcome {
                tree,
                tasks: account.tasks,
                tasks_run: account.tasks - account.replayed,
                tasks_replayed: account.replayed,
                changed: account.changed,
                deferred: account.deferred,
                replay: finished.counts,
                fetched,
                trace,
            }))),
            (Ok(_), None) => Err(RunError::Silent.into()),
            (Err(error), _) => Err(RunFailed { error, root: finished.working }),
        }
    }

    /// Runs Ansible to its end, while listening to it.
    fn ansible(&self, listener: &Listener, broker: &Broker<'_>, killer: &Killer) -> Result<Ended, RunError> {
        let log = Scratch::log(&self.run.log)?;
        let mut command = controller::playbook(self.run, self.scratch);
        controller::wire(&mut command, log);
        let program = command.get_program().to_string_lossy().into_owned();
        let tracing = self.tracing(&mut command)?;
        let task = tracing.as_ref().map(Tracing::task).unwrap_or_default();
        let mut child = command.spawn().map_err(|source| RunError::Start { program, source })?;
        let group = Pid::from_child(&child);
        killer.set(Some(group));
        let _killer = self.wait.cancel.on_cancel(move || {
            let _ = kill_process_group(group, Signal::KILL);
        });
        let stderr = child.stderr.take();
        thread::scope(|scope| {
            let account = scope.spawn(move || self.account(listener, broker, &task));
            let said = scope.spawn(move || self.keep(stderr));
            let status = self.wait(&mut child);
            // Its number may be another's from now on.
            killer.set(None);
            // If Ansible never connected, nobody will.
            listener.wake();
            let lost = || RunError::io("read", &self.run.log)(io::Error::other("a thread panicked"));
            let account = account.join().map_err(|_| lost())?;
            let stderr = said.join().map_err(|_| lost())?;
            let trace = tracing.map(|tracing| self.traced(tracing));
            Ok(Ended { status: status?, stderr, account, trace })
        })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, RunError> {
        child.wait().map_err(|source| RunError::Start { program: "ansible-playbook".to_owned(), source })
    }

    fn account(&self, listener: &Listener, broker: &Broker<'_>, task: &AtomicU32) -> Account {
        let Ok(stream) = listener.accept() else { return Account::default() };
        let events = |event| {
            if matches!(event, RunEvent::Task { .. }) {
                task.fetch_add(1, Ordering::Relaxed);
            }
            (self.events)(event);
        };
        tell::listen(stream, &self.run.project.dir, &self.run.host, broker, &events)
    }

    /// Lets the command be traced, if there is what it needs.
    fn tracing(&self, command: &mut Command) -> Result<Option<Tracing>, RunError> {
        if self.run.launcher.is_none() {
            return Ok(None);
        }
        let python = self.run.toolchain.python();
        let own =
            [self.store.dir(), &self.run.toolchain.dir, &self.run.cache, self.scratch.dir(), &self.run.log];
        let scope = inputs::scope(&self.run.project, &self.run.playbook, &python, own)
            .about(command.get_args().skip_while(|argument| **argument != *python));
        let failed = RunError::io("trace", &self.run.playbook);
        let mut tracing = Tracing::new(scope, Arc::default()).map_err(failed)?;
        tracing.attach(command);
        Ok(Some(tracing))
    }

    /// What was traced, and what Ansible told of what can't be.
    fn traced(&self, tracing: Tracing) -> Result<Trace, Untraced> {
        let mut trace = tracing.finish()?;
        trace.interpreter = Some(self.run.toolchain.python());
        match environment::used(&self.scratch.environment_used()) {
            Ok(used) => trace.environment = used.into_iter().collect(),
            Err(error) => trace.gaps.push(format!("the environment's use isn't known: {error}")),
        }
        Ok(trace)
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

    /// What the run came to.
    fn judge(&self, ended: Ended) -> Result<Judged, RunError> {
        let Ended { status, stderr, account, trace } = ended;
        // Whatever happened, it didn't happen to the root's host.
        if account.begun
            && account.tasks == 0
            && let Some(error) = hosts::group(self.run, self.scratch)
        {
            return Err(error);
        }
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
        Ok((account, trace))
    }
}
