//! A root that really is there, with a sandbox and the agent in it.

use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Wait;
use rootbuild_roots::base::repos::{Fetched, Repos, Serving};
use rootbuild_roots::sandbox::{Bind, Console, Running, Sandbox, SandboxSpec, Tail};
use rootbuild_roots::working::{Fingerprint, RootMount, WorkingRoot};

use super::agent::{self, Agent};
use super::answer::Watched;
use crate::run::{PlaybookRun, RunError, is_old};

/// Where the agent is seen in the root.
const AGENT: &str = "/run/rootbuild/agent";

/// Where its socket is.
const SOCKETS: &str = "/run/rootbuild/socket";

/// Where payloads of earlier runs are.
const PAYLOADS: &str = "/run/rootbuild/payloads";

/// The socket's name.
const SOCKET: &str = "agent.sock";

/// What tells the agent of a proxy.
const PROXY: &str = "ROOTBUILD_PROXY";

/// What tells it of hosts that are not asked through that.
const NO_PROXY: &str = "ROOTBUILD_NO_PROXY";

/// What the sandbox's first process ends with when the root has no Python.
const NO_PYTHON: i32 = 3;

/// How long a sandbox may say nothing before it is ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// What roots of a run are made with.
pub(crate) struct Maker<'a> {
    pub(crate) run: &'a PlaybookRun,
    pub(crate) store: &'a Store,
    pub(crate) sandbox: &'a dyn Sandbox,
    pub(crate) wait: Wait<'a>,
    /// The agent's files.
    pub(crate) agent: PathBuf,
    /// What earlier runs have sent, to be learnt while Ansible starts.
    pub(crate) payloads: Option<PathBuf>,
    /// A private directory, for sockets.
    pub(crate) scratch: PathBuf,
    /// How many roots were made.
    pub(crate) made: AtomicU32,
    /// What is served in the sandboxes.
    pub(crate) repos: Option<Repos>,
}

/// A root with a sandbox that is up.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) working: WorkingRoot,
    running: Running,
    watcher: JoinHandle<()>,
    tail: Tail,
    sockets: OwnedFd,
    /// A connection that nobody uses now.
    idle: Option<Agent>,
    /// Serves repositories in it.
    repos: Option<Serving>,
    /// What the volatile directories were in the beginning.
    pub(super) pristine: Option<String>,
    /// What the agent told last.
    pub(super) watched: Watched,
    /// Whether that was after the last request.
    pub(super) is_seen: bool,
    /// The root as it was then, where that is known.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// A sandbox that ended otherwise than it should, and its root.
pub(crate) struct Lost {
    pub(crate) error: RunError,
    pub(crate) working: Option<Box<WorkingRoot>>,
}

impl From<RunError> for Lost {
    fn from(error: RunError) -> Self {
        Self { error, working: None }
    }
}

impl Maker<'_> {
    /// Makes a root that is `tree` and what `volatile` holds, near the tree `near` if one is given.
    pub(super) fn make(
        &self,
        tree: &Digest,
        near: Option<&Digest>,
        volatile: Option<&[u8]>,
    ) -> Result<Live, Lost> {
        let working = match near {
            Some(near) => WorkingRoot::on_near(self.store, tree, near, self.wait),
            None => WorkingRoot::on(self.store, tree, self.wait),
        };
        let working = working.map_err(RunError::from)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let sockets = self.scratch.join(format!("socket-{number}"));
        let made = DirBuilder::new().mode(0o700).create(&sockets);
        made.map_err(RunError::io("make", &sockets))?;
        let through = agent::directory(&sockets).map_err(RunError::io("open", &sockets))?;
        let spec = self.spec(number, working.mount(), sockets);
        let mut running = match self.sandbox.start(&spec, self.wait.cancel) {
            Ok(running) => running,
            Err(error) => {
                self.wait.cancel.check().map_err(RunError::from)?;
                return Err(RunError::from(error).into());
            }
        };
        let (stdout, tail) = (running.take_stdout(), running.stderr_tail());
        let (send_ready, ready) = channel();
        // Lives as long as the sandbox.
        let watcher = thread::spawn(move || watch(stdout, &send_ready));
        let ready = wait(&ready, PATIENCE, || tail.to_string());
        let mut live = Live {
            working,
            running,
            watcher,
            tail,
            sockets: through,
            idle: None,
            repos: None,
            pristine: None,
            watched: Watched { strays: Some(0), volatile: None },
            is_seen: true,
            fingerprint: None,
        };
        if ready != Some(true) {
            let late = RunError::NotReady {
                root: self.run.root_name.clone(),
                seconds: PATIENCE.as_secs(),
                tail: live.tail.to_string(),
            };
            let said = live.tail.to_string();
            let working = match self.stop(live) {
                Err(lost) if ready.is_some() => return Err(lost),
                Err(lost) => lost.working,
                Ok(working) => Some(Box::new(working)),
            };
            let gone = RunError::SandboxEnded { root: self.run.root_name.clone(), code: 0, tail: said };
            return Err(Lost { error: if ready.is_none() { late } else { gone }, working });
        }
        match self.greet(&mut live, volatile) {
            Ok(()) => Ok(live),
            Err(error) => {
                let error = RunError::io("talk to the agent through", &self.scratch)(error);
                Err(match self.stop(live) {
                    Ok(working) => Lost { error, working: Some(Box::new(working)) },
                    Err(lost) => lost,
                })
            }
        }
    }

    fn greet(&self, live: &mut Live, volatile: Option<&[u8]>) -> io::Result<()> {
        let mut agent = live.agent()?;
        // Nothing of the root's has run yet that could have taken the agent's place.
        live.repos = match &self.repos {
            Some(repos) => Some(repos.serve_beside(agent.peer()?)?),
            None => None,
        };
        live.pristine = agent.pristine.clone();
        live.watched.volatile = match volatile {
            Some(image) => agent.restore(image)?,
            None => agent.pristine.clone(),
        };
        live.idle = Some(agent);
        live.fingerprint = live.working.fingerprint(usize::MAX).ok().flatten();
        Ok(())
    }

    /// What was fetched in sandboxes since this was last asked.
    pub(super) fn fetched(&self) -> Vec<Fetched> {
        self.repos.as_ref().map(Repos::take_fetched).unwrap_or_default()
    }

    /// The sandbox: the agent's files read-only, its socket's directory, nothing else of ours.
    fn spec(&self, number: u32, root: RootMount, sockets: PathBuf) -> SandboxSpec {
        let run = self.run;
        let bind = |source, target: &str, read_only| Bind { source, target: target.into(), read_only };
        let age = if is_old(&run.toolchain.version) { "old" } else { "new" };
        let script = format!("{AGENT}/start.sh");
        let socket = format!("{SOCKETS}/{SOCKET}");
        let mut binds = vec![bind(self.agent.clone(), AGENT, true), bind(sockets, SOCKETS, false)];
        if let Some(payloads) = self.payloads.clone().filter(|dir| dir.is_dir()) {
            binds.push(bind(payloads, PAYLOADS, true));
        }
        SandboxSpec {
            name: format!("rootbuild-{}-{}-{number}", run.root_name, std::process::id()),
            root,
            writable: true,
            argv: ["/bin/sh", &script, &socket, age].map(Into::into).to_vec(),
            env: self
                .repos
                .iter()
                .flat_map(|repos| [(PROXY.to_owned(), Repos::proxy()), (NO_PROXY.to_owned(), repos.direct())])
                .collect(),
            binds,
            network: run.network,
            hostname: run.host.clone(),
            boot: run.boot,
            console: Console::Pipe,
            chdir: None,
        }
    }

    /// Ends the sandbox; an error if it hadn't lived until now.
    pub(super) fn stop(&self, live: Live) -> Result<WorkingRoot, Lost> {
        let Live { working, running, watcher, tail, idle, repos, .. } = live;
        drop(idle);
        drop(repos);
        let code = running.stop();
        let _ = watcher.join();
        let tail = tail.to_string();
        if !tail.is_empty()
            && let Ok(mut log) = crate::run::log(&self.run.log)
        {
            let _ = writeln!(log, "the sandbox said:\n{tail}");
        }
        let root = self.run.root_name.clone();
        let error = match code {
            Ok(0) => return Ok(working),
            Ok(NO_PYTHON) => RunError::NoPython { root },
            Ok(code) => RunError::SandboxEnded { root, code, tail },
            Err(error) => error.into(),
        };
        Err(Lost { error, working: Some(Box::new(working)) })
    }
}

impl Live {
    /// A connection to the agent; to be given back by [`Self::give_back`] after a complete answer.
    pub(super) fn agent(&mut self) -> io::Result<Agent> {
        self.idle.take().map_or_else(|| Agent::connect(&self.sockets, SOCKET), Ok)
    }

    pub(super) fn give_back(&mut self, agent: Agent) {
        self.idle = Some(agent);
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
