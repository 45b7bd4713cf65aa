//! What changes while a run goes on, and what its requests do to it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::base::repos::Fetched;
use rootbuild_roots::working::Snapshot;

use super::agent::Ended;
use super::ahead::Ahead;
use super::answer::{Answer, LONGEST};
use super::journal::{Checkpoint, Entry, Known, Reply};
use super::live::{Live, Lost};
use super::names::Names;
use super::request::{Identity, Request};
use super::{Diverged, Replay, checkpoint, seal, state};

/// So much work takes longer than making a root, in milliseconds.
const FAR_BEHIND: u64 = 500;

/// So many names of one state are tried.
const MOST_NAMES: usize = 8;

/// A request that a journal has answered, and that the root doesn't know of yet.
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) identity: Identity,
    pub(super) reply: Reply,
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
    /// Other states of the journals in which the root is the same, as far as that is known.
    pub(super) same: Vec<Digest>,
    /// The newest state whose checkpoint is on the path.
    pub(super) found: Option<Digest>,
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
    pub(super) asked: HashMap<(Digest, Digest), u64>,
    /// What journals answered since the anchor; since it was in step, where there is a root.
    pub(super) pending: Vec<Pending>,
    pub(super) live: Option<Live>,
    /// Roots that were left too far behind.
    pub(super) retired: Vec<Live>,
    /// Checkpoints made in this run, not durable yet.
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) ahead: Ahead,
    /// Requests that are in the root just now.
    pub(super) under_way: u64,
    /// How many tasks have begun.
    pub(super) tasks: u64,
    pub(super) task: Task,
    /// How much of the path there was when the task began.
    pub(super) mark: usize,
    /// The same, of the last task that failed.
    pub(super) failed: Option<usize>,
    /// Requests of this task that the root answered, and that journals answered.
    pub(super) task_counts: (u64, u64),
    /// Time in the root since the last checkpoint.
    pub(super) since: Duration,
    /// The same, since the root was last looked at.
    pub(super) unseen: Duration,
    pub(super) snapshot_cost: Duration,
    pub(super) counts: Replay,
    /// Why nothing can be done any more.
    pub(super) fatal: Option<Lost>,
    /// What was fetched from repositories, in this run and those that journals are of.
    pub(super) fetched: BTreeSet<Fetched>,
    /// Why the run has to begin again, without journals.
    pub(super) again: Option<String>,
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
    pub(super) fn keep_fetched(&mut self, identity: &Identity, fetched: &[Fetched]) {
        if let (false, Ok(list)) = (fetched.is_empty(), serde_json::to_vec(fetched)) {
            self.path.push(Entry::Fetched { state: self.state, request: identity.digest, list });
        }
    }

    pub(super) fn give_back(&mut self, agent: super::agent::Agent) {
        if let Some(live) = &mut self.live {
            live.give_back(agent);
        }
    }

    /// The frames of the answer that a journal has; else the request.
    pub(super) fn replay(
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
            self.same.clear();
        }
        // A checkpoint may have been made in the state in which the run began, after requests that only looked.
        if self.found != Some(self.state) {
            self.pass_checkpoint(store);
        }
        Ok(frames)
    }

    /// How often a request was asked in a state so far.
    pub(super) fn times(&self, state: &Digest, request: &Digest) -> u64 {
        self.asked.get(&(*state, *request)).copied().unwrap_or_default()
    }

    /// Notes where what is known was left first.
    pub(super) fn diverge(&mut self, request: &Request) {
        if !self.known.is_empty() && self.counts.diverged.is_none() {
            self.counts.diverged = Some(Diverged {
                task: self.task.name.clone(),
                source: self.task.source.clone(),
                why: request.what().to_owned(),
            });
        }
    }

    /// The root was looked at here: so were other states, in which it was the same.
    pub(super) fn is_found(&mut self, checkpoint: Checkpoint) {
        let (canonical, before) = (checkpoint.canonical, self.state);
        if checkpoint.renames {
            self.state = canonical;
        }
        self.path.push(Entry::Checkpoint { state: before, checkpoint });
        let others = [&before, &canonical].into_iter().chain(self.known.same(&canonical));
        let mut same: Vec<_> = others.filter(|same| **same != self.state).copied().collect();
        same.dedup();
        same.truncate(MOST_NAMES);
        self.same = same;
        self.found = Some(self.state);
    }

    /// If a checkpoint is known at this state and no root is there, one can be made from it.
    pub(super) fn pass_checkpoint(&mut self, store: &Store) {
        let Some(checkpoint) = self.known.checkpoint(&self.state).cloned() else { return };
        self.is_found(checkpoint.clone());
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
    pub(super) fn look(&mut self) -> bool {
        // Within the life of a temporary directory no look tells anything: making and removing it are changes anyhow.
        let belongs = self.names.has_directory();
        self.live.as_mut().is_some_and(|live| {
            let is_worth_it = !belongs && live.fingerprint.is_some();
            live.is_seen &= is_worth_it;
            is_worth_it && checkpoint::look(live)
        })
    }

    pub(super) fn record(&mut self, identity: &Identity, answer: &Answer, pure: bool, took: Duration) {
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
            self.same.clear();
        }
    }

    /// Sends a request to the root that a journal has answered already.
    pub(super) fn resend(&mut self, request: &Request) -> Option<Answer> {
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
