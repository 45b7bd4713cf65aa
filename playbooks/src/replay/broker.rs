//! The broker: one run's requests, the journals, and the root when it is needed.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::base::repos::Fetched;
use rootbuild_roots::working::{Snapshot, WorkingRoot};

use super::agent::Ended;
use super::ahead::Ahead;
use super::answer::{Answer, LONGEST};
use super::journal::{Entry, Journals, Known, Reply};
use super::live::{Live, Lost, Maker};
use super::names::Names;
use super::request::{Identity, Request};
use super::wire::Kind;
use super::{Diverged, Replay, checkpoint, seal, state};
use crate::run::{RunError, is_old};

/// So much work takes longer than making a root, in milliseconds.
const FAR_BEHIND: u64 = 500;

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

/// A request that a journal has answered, and that the root doesn't know of yet.
struct Pending {
    request: Request,
    identity: Identity,
    reply: Reply,
}

/// Where a root can be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    pub(super) tree: Digest,
    pub(super) volatile: Option<Digest>,
}

/// The task that runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) role: Option<String>,
}

/// What changes while a run goes on.
pub(super) struct Inner {
    /// What the root is now, by the requests.
    pub(super) state: Digest,
    /// What the state was called before a checkpoint gave it another name.
    pub(super) before: Option<Digest>,
    /// What of the sandbox can be seen from inside.
    pub(super) sandbox: Digest,
    pub(super) known: Known,
    /// Everything of this run, for its journal.
    pub(super) path: Vec<Entry>,
    /// Whether there is something in it that no journal has.
    pub(super) is_new: bool,
    pub(super) names: Names,
    /// The newest state that a root can be made in.
    pub(super) anchor: Anchor,
    /// How often each request was asked in each state.
    asked: HashMap<(Digest, Digest), u64>,
    /// What journals answered since the anchor; since it was in step, where there is a root.
    pending: Vec<Pending>,
    pub(super) live: Option<Live>,
    /// Roots that were left too far behind.
    retired: Vec<Live>,
    /// Checkpoints made in this run, not durable yet.
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) ahead: Ahead,
    /// Requests that are in the root just now.
    under_way: u64,
    /// How many tasks have begun.
    pub(super) tasks: u64,
    pub(super) task: Task,
    /// How much of the path there was when the task began.
    mark: usize,
    /// The same, of the last task that failed.
    failed: Option<usize>,
    /// Requests of this task that the root answered, and that journals answered.
    task_counts: (u64, u64),
    /// Time in the root since the last checkpoint.
    pub(super) since: Duration,
    /// The same, since the root was last looked at.
    pub(super) unseen: Duration,
    pub(super) snapshot_cost: Duration,
    pub(super) counts: Replay,
    /// Why nothing can be done any more.
    pub(super) fatal: Option<Lost>,
    /// What was fetched from repositories, in this run and those that journals are of.
    fetched: BTreeSet<Fetched>,
    /// Why the run has to begin again, without journals.
    pub(super) again: Option<String>,
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
            before: None,
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
        // What was asked before a checkpoint was made is known by the state's older name.
        let twin = inner.before.filter(|_| tracked).and_then(|before| Some((before, request.twin()?)));
        let names = twin.is_some().then(|| inner.names.clone());
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
        if let (Some((before, twin)), Some(names)) = (twin, names) {
            let learnt = mem::replace(&mut inner.names, names);
            let twin = twin.canonical(&mut inner.names, Some(&before));
            if let Ok(identity) = identify(&inner, &twin, &before)
                && let Ok(frames) = inner.replay(twin, &identity, before, self.maker.store)
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
            checkpoint::is_pure(live);
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
        let ends = [Some(inner.state), inner.before].into_iter().flatten();
        let end = ends.filter_map(|state| inner.known.end(&state)).find(|_| tracked);
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

impl Inner {
    /// Whether there is a root, and it is what Ansible believes.
    pub(super) fn in_step(&self) -> bool {
        self.live.is_some() && self.pending.is_empty() && self.again.is_none() && self.fatal.is_none()
    }

    /// From here on nothing can be replayed. What came before can.
    pub(super) fn end(&mut self, why: &str) {
        if self.counts.journal_ended.is_none() {
            self.counts.journal_ended = Some(why.to_owned());
        }
    }

    /// Has the journal tell what a request fetched.
    fn keep_fetched(&mut self, identity: &Identity, fetched: &[Fetched]) {
        if let (false, Ok(list)) = (fetched.is_empty(), serde_json::to_vec(fetched)) {
            self.path.push(Entry::Fetched { state: self.state, request: identity.digest, list });
        }
    }

    fn give_back(&mut self, agent: super::agent::Agent) {
        if let Some(live) = &mut self.live {
            live.give_back(agent);
        }
    }

    /// The frames of the answer that a journal has; else the request.
    fn replay(
        &mut self,
        request: Request,
        identity: &Identity,
        state: Digest,
        store: &Store,
    ) -> Result<Vec<u8>, Request> {
        let found = self.known.reply(&state, &identity.digest).and_then(|reply| {
            let bytes = seal::open(&identity.seal, &reply.sealed)?;
            Some((reply.clone(), Answer::decode(&bytes)?))
        });
        let Some((reply, answer)) = found else { return Err(request) };
        *self.asked.entry((state, identity.request)).or_default() += 1;
        self.counts.answered += 1;
        self.task_counts.1 += 1;
        let frames = answer.send(&request, &self.names);
        if let Some(list) = self.known.fetched(&state, &identity.digest).map(<[u8]>::to_vec) {
            self.fetched.extend(serde_json::from_slice::<Vec<Fetched>>(&list).unwrap_or_default());
            self.path.push(Entry::Fetched { state, request: identity.digest, list });
        }
        let entry = Entry::Request { state, request: identity.digest, reply: reply.clone() };
        self.path.push(entry);
        let (next, changes) = (reply.next, reply.next != state);
        // That a job has ended is waited for in a root that comes later.
        if changes || request.is_poll() && answer.is_finished() {
            self.pending.push(Pending { request, identity: identity.clone(), reply });
        }
        if changes {
            self.state = next;
            self.before = None;
        }
        // A checkpoint may have been made in the state in which the run began, after requests that only looked.
        if self.before.is_none() {
            self.pass_checkpoint(store);
        }
        Ok(frames)
    }

    /// How often a request was asked in a state so far.
    fn times(&self, state: &Digest, request: &Digest) -> u64 {
        self.asked.get(&(*state, *request)).copied().unwrap_or_default()
    }

    /// Notes where what is known was left first.
    fn diverge(&mut self, request: &Request) {
        if !self.known.is_empty() && self.counts.diverged.is_none() {
            self.counts.diverged = Some(Diverged {
                task: self.task.name.clone(),
                source: self.task.source.clone(),
                why: request.what().to_owned(),
            });
        }
    }

    /// If a checkpoint is known at this state, it is the state; without a root, one can be made there.
    fn pass_checkpoint(&mut self, store: &Store) {
        let Some(checkpoint) = self.known.checkpoint(&self.state).cloned() else { return };
        self.path.push(Entry::Checkpoint { state: self.state, checkpoint: checkpoint.clone() });
        self.before = Some(mem::replace(&mut self.state, checkpoint.canonical));
        // A root that isn't far behind is brought up to date faster than another one is made.
        let behind: u64 = self.pending.iter().map(|it| u64::from(it.reply.millis)).sum();
        let moves = !self.ahead.is_making() && (self.live.is_none() || behind > FAR_BEHIND);
        if moves && store.has_tree(&checkpoint.tree) {
            self.retired.extend(self.live.take());
            self.anchor = Anchor { tree: checkpoint.tree, volatile: checkpoint.volatile };
            self.pending.clear();
        }
    }

    /// Looks at the root after a request, unless it isn't worth it; whether it is known that the request left the
    /// root as it was.
    fn look(&mut self) -> bool {
        // Those between the making and the removal of a temporary directory belong together: no request that
        // changed in one run but not in another is answered by a journal after them.
        let belongs = self.names.has_directory();
        self.live.as_mut().is_some_and(|live| {
            let is_worth_it = !belongs && live.fingerprint.is_some();
            live.is_seen &= is_worth_it;
            is_worth_it && checkpoint::is_pure(live)
        })
    }

    fn record(&mut self, identity: &Identity, answer: &Answer, pure: bool, took: Duration) {
        let bytes = answer.encode();
        if bytes.len() > LONGEST {
            return self.end("an answer was too long to be kept");
        }
        let Some(sealed) = seal::seal(&identity.seal, &bytes) else {
            return self.end("an answer that can't be kept");
        };
        *self.asked.entry((self.state, identity.request)).or_default() += 1;
        let next = if pure { self.state } else { state::after(&self.state, &identity.digest) };
        let millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let reply = Reply { next, millis, sealed };
        self.path.push(Entry::Request { state: self.state, request: identity.digest, reply });
        self.is_new = true;
        if next != self.state {
            self.state = next;
            self.before = None;
        }
    }

    /// Sends a request to the root that a journal has answered already.
    fn resend(&mut self, request: &Request) -> Option<Answer> {
        let head = request.head(&self.names).ok()?;
        let live = self.live.as_mut()?;
        let mut agent = live.agent().ok()?;
        let ended = agent.ask(head, request.data(&self.names), None).ok()?;
        live.is_seen = false;
        live.give_back(agent);
        let Ended::Answer(answer) = ended else { return None };
        let answer = answer.canonical(request, &mut self.names);
        Some(answer)
    }
}
