//! The broker: one run's requests, the journals, and the root when it is needed.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rootbuild_cache::Digest;
use rootbuild_roots::base::repos::Fetched;
use rootbuild_roots::working::WorkingRoot;

use super::agent::Ended;
use super::ahead::Ahead;
use super::answer::Answer;
use super::inner::{Anchor, Inner, Pending, Task};
use super::journal::{Entry, Journals, Known};
use super::live::{Live, Lost, Maker};
use super::names::Names;
use super::request::Request;
use super::wire::Kind;
use super::{Replay, checkpoint, seal, state};
use crate::run::{RunError, is_old};

/// How long jobs are waited for that run once more, and how often they are asked for.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(100);

/// Speaks with Ansible for a run.
pub(crate) struct Broker<'a> {
    pub(super) maker: &'a Maker<'a>,
    journals: Journals,
    /// Where Ansible keeps temporary files of its own.
    own_files: &'a Path,
    /// Ends Ansible.
    kill: &'a (dyn Fn() + Sync),
    inner: Mutex<Inner>,
    /// Whoever makes roots ahead is to do something, or has done it.
    pub(super) turn: Condvar,
    pub(super) clients: Mutex<HashMap<u64, UnixStream>>,
}

/// What a run came to.
pub(crate) struct Finished {
    /// The layer's tree, if it was asked for.
    pub(crate) tree: Option<Digest>,
    /// The root of a run that failed.
    pub(crate) working: Option<Box<WorkingRoot>>,
    pub(crate) counts: Replay,
}

/// A request can't be answered.
pub(super) struct Refused;

impl<'a> Broker<'a> {
    /// A broker for a run on `parent`. With `ask` the journals are asked; with and without, this
    /// run's is written.
    pub(crate) fn new(
        maker: &'a Maker<'a>,
        ask: bool,
        own_files: &'a Path,
        kill: &'a (dyn Fn() + Sync),
        warn: &dyn Fn(String),
    ) -> Result<Self, RunError> {
        let run = maker.run;
        let age = if is_old(&run.toolchain.version) { "old" } else { "new" };
        let sandbox = state::sandbox(run, age);
        let initial = state::initial(&run.parent, &sandbox);
        let home = maker.store.dir().join("replays");
        let journals =
            Journals::of(maker.store, &initial).map_err(RunError::io("use the journals in", &home))?;
        let known = if ask { journals.known(warn) } else { Known::default() };
        let inner = Inner {
            state: initial,
            same: Vec::new(),
            found: None,
            sandbox,
            known,
            path: Vec::new(),
            is_new: false,
            names: Names::default(),
            anchor: Anchor { tree: run.parent, volatile: None },
            asked: HashMap::new(),
            pending: Vec::new(),
            live: None,
            retired: Vec::new(),
            snapshots: Vec::new(),
            ahead: Ahead::of(run.expected.as_ref()),
            under_way: 0,
            tasks: 0,
            task: Task::default(),
            mark: 0,
            failed: None,
            task_counts: (0, 0),
            since: Duration::ZERO,
            unseen: Duration::ZERO,
            snapshot_cost: Duration::ZERO,
            counts: Replay::default(),
            fatal: None,
            fetched: BTreeSet::new(),
            again: None,
        };
        Ok(Self {
            maker,
            journals,
            own_files,
            kill,
            inner: Mutex::new(inner),
            turn: Condvar::new(),
            clients: Mutex::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the root if it is clear that it will be needed; whether all is well.
    pub(crate) fn prepare(&self) -> bool {
        let mut inner = self.lock();
        !inner.known.is_empty() || self.be_live(&mut inner).is_ok()
    }

    /// A task begins; everything of the one before is done.
    pub(crate) fn begins(&self, task: Task) {
        let mut inner = self.lock();
        if inner.in_step() && inner.under_way == 0 {
            let role_ends = inner.task.role != task.role;
            checkpoint::consider(self, &mut inner, role_ends);
        }
        inner.names.forget_directories();
        inner.mark = inner.path.len();
        inner.task_counts = (0, 0);
        inner.tasks += 1;
        let before = mem::replace(&mut inner.task, task);
        self.look_ahead(&mut inner, &before);
    }

    /// A task has ended; whether the root had no part in it.
    pub(crate) fn ended(&self, failed: bool) -> bool {
        let mut inner = self.lock();
        if failed {
            inner.failed = Some(inner.mark);
        }
        match inner.task_counts {
            // A root that was made ahead has no part in anything yet.
            (0, 0) => !inner.in_step() || !inner.known.is_empty() && inner.counts.live == 0,
            (live, _) => live == 0,
        }
    }

    /// Why the run has to begin again without journals, if it has to.
    pub(crate) fn again(&self) -> Option<String> {
        self.lock().again.clone()
    }

    /// Answers a request. The answer's frames, unless they were sent to `client` already.
    pub(super) fn request(&self, request: Request, client: &UnixStream) -> Result<Option<Vec<u8>>, Refused> {
        let mut inner = self.lock();
        if inner.fatal.is_some() || inner.again.is_some() {
            return Err(Refused);
        }
        if inner.under_way > 0 {
            inner.end("two requests at once");
        }
        let tracked = inner.counts.journal_ended.is_none();
        let state = inner.state;
        inner.names.see_files(self.own_files);
        // Another run may have come to the same on another way, and have gone on.
        let same = if tracked { inner.same.clone() } else { Vec::new() };
        let original = (!same.is_empty()).then(|| (request.twin(), inner.names.clone()));
        let request = request.canonical(&mut inner.names, tracked.then_some(&state));
        let identify = |inner: &Inner, request: &Request, state: &Digest| {
            request.identity(&self.journals.secret, state, |request| inner.times(state, request))
        };
        let identity = match tracked.then(|| identify(&inner, &request, &state)).transpose() {
            Ok(identity) => identity,
            Err(_) => {
                inner.end("a request that couldn't be kept");
                None
            }
        };
        let request = match &identity {
            Some(identity) => match inner.replay(request, identity, state, self.maker.store) {
                Ok(frames) => return Ok(Some(frames)),
                Err(request) => request,
            },
            None => request,
        };
        for same in same {
            let Some((Some(original), names)) = &original else { break };
            let Some(twin) = original.twin() else { break };
            let learnt = mem::replace(&mut inner.names, names.clone());
            let twin = twin.canonical(&mut inner.names, Some(&same));
            if let Ok(identity) = identify(&inner, &twin, &same)
                && let Ok(frames) = inner.replay(twin, &identity, same, self.maker.store)
            {
                return Ok(Some(frames));
            }
            inner.names = learnt;
        }
        if identity.is_some() {
            inner.diverge(&request);
        }
        inner.under_way += 1;
        inner = self.settled(inner);
        inner.under_way -= 1;
        self.be_live(&mut inner)?;
        let agent = inner.live.as_mut().and_then(|live| live.agent().ok());
        let (Some(mut agent), Ok(head)) = (agent, request.head(&inner.names)) else {
            inner.end("the agent couldn't be reached");
            return Err(Refused);
        };
        let data = request.data(&inner.names);
        inner.under_way += 1;
        drop(inner);

        let began = Instant::now();
        let result = agent.ask(head, data, Some(client));
        let took = began.elapsed();

        let mut inner = self.lock();
        inner.under_way -= 1;
        inner.counts.live += 1;
        inner.task_counts.0 += 1;
        inner.since += took;
        inner.unseen += took;
        let answer = match result {
            Err(error) => {
                tracing::debug!(%error, "a request was given up");
                inner.end("a request was given up");
                return Err(Refused);
            }
            Ok(Ended::Streamed) => {
                inner.end("an answer was too long to be kept");
                inner.give_back(agent);
                return Ok(None);
            }
            Ok(Ended::Answer(answer)) => answer,
        };
        let answer = answer.canonical(&request, &mut inner.names);
        inner.give_back(agent);
        // Ansible goes on while the root is looked at; its next request waits for the lock. If it is gone, that
        // shows when it is listened to.
        let mut client = client;
        let _ = client.write_all(&answer.send(&request, &inner.names));
        let fetched = self.maker.fetched();
        // Who only looks changes nothing, whatever else goes on.
        let pure = request.kind == Kind::Get || inner.look() || request.is_poll();
        if let Some(identity) = identity.filter(|_| inner.counts.journal_ended.is_none()) {
            inner.keep_fetched(&identity, &fetched);
            inner.record(&identity, &answer, pure, took);
        }
        inner.fetched.extend(fetched);
        Ok(None)
    }

    /// Makes the root, or brings it up to date.
    pub(super) fn be_live(&self, inner: &mut Inner) -> Result<(), Refused> {
        if inner.fatal.is_some() || inner.again.is_some() {
            return Err(Refused);
        }
        if inner.live.is_none() {
            match self.make(inner.anchor) {
                Ok(live) => inner.live = Some(live),
                // Whatever is wrong with a checkpoint, the parent can still be had.
                Err(lost)
                    if inner.anchor.tree != self.maker.run.parent
                        && self.maker.wait.cancel.check().is_ok() =>
                {
                    return self.begin_again(inner, format!("a checkpoint can't be used: {}", lost.error));
                }
                Err(lost) => {
                    inner.fatal = Some(lost);
                    (self.kill)();
                    return Err(Refused);
                }
            }
        }
        for Pending { request, identity, reply } in mem::take(&mut inner.pending) {
            let before = seal::open(&identity.seal, &reply.sealed).and_then(|bytes| Answer::decode(&bytes));
            let is_poll = request.is_poll();
            inner.counts.resent += 1;
            let mut now = inner.resend(&request);
            let late = Instant::now() + PATIENCE;
            while is_poll && now.as_ref().is_some_and(|now| !now.is_finished()) && Instant::now() < late {
                std::thread::sleep(POLL);
                self.maker.wait.cancel.check().map_err(|_| Refused)?;
                now = inner.resend(&request);
            }
            match (before, now) {
                (Some(before), Some(now)) if now.agrees(&before) => {}
                _ => return self.begin_again(inner, "a request ended otherwise than before".to_owned()),
            }
        }
        if let Some(live) = inner.live.as_mut().filter(|live| !live.is_seen) {
            checkpoint::look(live);
        }
        Ok(())
    }

    /// A root at an anchor.
    pub(super) fn make(&self, anchor: Anchor) -> Result<Live, Lost> {
        let home = self.maker.store.dir();
        let volatile = anchor.volatile.map(|digest| checkpoint::volatile(self.maker.store, &digest));
        let volatile = volatile.transpose().map_err(RunError::io("read a checkpoint in", home))?;
        let parent = self.maker.run.parent;
        let near = (anchor.tree != parent).then_some(&parent);
        self.maker.make(&anchor.tree, near, volatile.as_deref())
    }

    /// Gives up this run: the next one asks no journal.
    fn begin_again(&self, inner: &mut Inner, why: String) -> Result<(), Refused> {
        inner.again = Some(why);
        (self.kill)();
        Err(Refused)
    }

    /// What was fetched from repositories for what is in the root.
    pub(crate) fn fetched(&self) -> Vec<Fetched> {
        let mut inner = self.lock();
        inner.fetched.extend(self.maker.fetched());
        inner.fetched.iter().cloned().collect()
    }

    /// Ends the run: with its tree if it was a success, with its root if not and `keep` says so.
    pub(crate) fn finish(&self, success: bool, keep: bool) -> Result<Finished, Lost> {
        let mut inner = self.settled(self.lock());
        let finished = self.close(&mut inner, success, keep);
        let (live, retired) = (inner.live.take(), mem::take(&mut inner.retired));
        for live in live.into_iter().chain(retired) {
            // Of no more use. How it ends is of no interest.
            let _ = self.maker.stop(live);
        }
        let finished = finished?;
        if inner.again.is_none() && finished.working.as_ref().is_none_or(|_| !success) {
            if !success {
                let mark = inner.failed.unwrap_or(inner.mark);
                inner.path.truncate(mark);
            }
            if let Err(error) = self.keep(&mut inner) {
                tracing::warn!(%error, "the journal can't be kept");
            }
        }
        Ok(finished)
    }

    fn close(&self, inner: &mut Inner, success: bool, keep: bool) -> Result<Finished, Lost> {
        let counts = |inner: &Inner| inner.counts.clone();
        if let Some(lost) = inner.fatal.take() {
            return Err(lost);
        }
        if !success {
            let working = if keep && self.be_live(inner).is_ok() {
                match inner.live.take() {
                    Some(live) => match self.maker.stop(live) {
                        Ok(working) => Some(Box::new(working)),
                        Err(lost) => return Err(lost),
                    },
                    None => None,
                }
            } else {
                None
            };
            if let Some(lost) = inner.fatal.take() {
                return Err(lost);
            }
            return Ok(Finished { tree: None, working, counts: counts(inner) });
        }
        let tracked = inner.counts.journal_ended.is_none();
        let ends = std::iter::once(&inner.state).chain(&inner.same);
        let end = ends.filter_map(|state| inner.known.end(state)).find(|_| tracked);
        if let Some(tree) = end.copied().filter(|tree| self.maker.store.has_tree(tree)) {
            inner.path.push(Entry::End { state: inner.state, tree });
            return Ok(Finished { tree: Some(tree), working: None, counts: counts(inner) });
        }
        if self.be_live(inner).is_err() {
            return match inner.fatal.take() {
                Some(lost) => Err(lost),
                None => Ok(Finished { tree: None, working: None, counts: counts(inner) }),
            };
        }
        let Some(live) = inner.live.take() else { return Err(RunError::Silent.into()) };
        let working = self.maker.stop(live)?;
        let tree = working.finish(self.maker.store, self.maker.wait.cancel).map_err(RunError::from)?;
        if tracked {
            inner.path.push(Entry::End { state: inner.state, tree });
            inner.is_new = true;
        }
        Ok(Finished { tree: Some(tree), working: None, counts: counts(inner) })
    }

    /// Writes the journal, after everything that it names.
    fn keep(&self, inner: &mut Inner) -> Result<(), RunError> {
        if !inner.is_new || inner.path.is_empty() {
            return Ok(());
        }
        checkpoint::keep(self.maker.store, &mem::take(&mut inner.snapshots))?;
        let home = self.maker.store.dir().join("replays");
        self.journals.add(&inner.path).map_err(RunError::io("write a journal in", &home))
    }
}
