//! Names for what a root is at a point of a run.
//!
//! The first state is the parent's tree and everything of the sandbox that can be seen from inside. Each
//! request leads to the state H(state, request), unless it left the root as it was. At a checkpoint
//! the root is looked at: states in which the same was found are one, whatever their names. At the end of a
//! role, where all runs look, the state is called by what was found. Elsewhere it keeps its name, so that runs
//! know each other again wherever they looked.

use rootbuild_cache::{Digest, KeyHasher};

use crate::run::PlaybookRun;

/// Raised when what replaying means changes: names, states, what a journal leaves out.
const REPLAY_VERSION: u32 = 2;

/// What of the sandbox can be seen from inside.
pub(super) fn sandbox(run: &PlaybookRun, agent: &str) -> Digest {
    let mut hasher = KeyHasher::new("replay sandbox", REPLAY_VERSION);
    hasher
        .text("host", &run.host)
        .text("network", run.network.name())
        .text("boot", if run.boot { "yes" } else { "no" })
        .text("agent", agent)
        .number("protocol", super::wire::PROTOCOL);
    if let Some(repos) = &run.repos {
        hasher.list("repos", repos.urls.iter().map(String::as_bytes));
    }
    hasher.finish()
}

/// The state in which a run begins.
pub(super) fn initial(parent: &Digest, sandbox: &Digest) -> Digest {
    KeyHasher::new("replay begins", REPLAY_VERSION)
        .digest("parent", parent)
        .digest("sandbox", sandbox)
        .finish()
}

/// The state after a request that may have changed something.
pub(super) fn after(state: &Digest, request: &Digest) -> Digest {
    KeyHasher::new("replay request", REPLAY_VERSION)
        .digest("state", state)
        .digest("request", request)
        .finish()
}

/// A request that was asked some times before in the same state.
pub(super) fn repeated(request: &Digest, times: u64) -> Digest {
    KeyHasher::new("replay repeated", REPLAY_VERSION)
        .digest("request", request)
        .number("times", times)
        .finish()
}

/// What a root was found to be.
pub(super) fn checkpoint(tree: &Digest, volatile: Option<&str>, sandbox: &Digest) -> Digest {
    KeyHasher::new("replay checkpoint", REPLAY_VERSION)
        .digest("tree", tree)
        .text("volatile", volatile.unwrap_or_default())
        .digest("sandbox", sandbox)
        .finish()
}
