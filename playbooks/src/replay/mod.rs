//! Between Ansible and the root: what was asked before is answered by a journal, and the root is only
//! made when something new is asked.
//!
//! ```text
//! connection plugin ──requests──► Broker ──► journals            (as long as they know the answer)
//!                                       └──► Live: root, sandbox, agent
//! ```
//!
//! Ansible itself always runs: it computes templates, registers, conditions and lookups anew. All that it
//! does to a root goes through its connection, so a run is known by its requests. A journal maps a
//! *state* (what the root is, [`state`]) and a request to the answer and the next state. When a
//! request is new, a root is made in the newest state that can be had (the parent, or a checkpoint),
//! the requests since then are sent to it once more, and it takes over. That they end as they did
//! before is checked: if they don't, the whole run begins again without journals.

mod agent;
mod ahead;
mod answer;
mod broker;
mod checkpoint;
#[doc(hidden)]
pub mod fuzz;
mod inner;
mod journal;
pub use journal::{check, holdings};
mod live;
mod names;
mod payload;
mod request;
mod seal;
mod serve;
mod state;
mod wire;

pub(crate) use broker::Broker;
pub(crate) use inner::Task;
pub(crate) use live::{Lost, Maker};

use serde::{Deserialize, Serialize};

/// Where a run first asked what no journal knew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// The task's name.
    pub task: String,
    /// `file:line` of the task.
    pub source: String,
    /// What was new.
    pub why: String,
}

/// How much of a run was answered by journals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replay {
    /// Requests that a journal answered.
    pub answered: u64,
    /// Requests that a root answered.
    pub live: u64,
    /// Requests that were answered by a journal, and then sent to a root to bring it up to date.
    pub resent: u64,
    /// Checkpoints that were made.
    pub checkpoints: u64,
    /// Where the run first left what journals know, if there were any.
    pub diverged: Option<Diverged>,
    /// Why the rest of the run can't be replayed.
    pub journal_ended: Option<String>,
}

impl Replay {
    /// Whether no root had a part in the run.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.live == 0 && self.resent == 0 && self.answered > 0
    }
}
