//! Collecting what nobody needs: a pure [plan](plan), then a sweep.
//!
//! Who knows what is in the store says two things. [`Need`]s keep trees, whatever the policy: standing
//! roots, pins, generations to go back to. [`Item`]s are what may go: records, journals, lower directories.
//! An item that stays keeps its trees too. Trees that nothing keeps go, and objects that no tree names.
//!
//! Safe beside running commands: what they have found is in their leases, and what is taken away is
//! set aside until they have ended (see [`crate::lease`]). Items go first, then trees, then objects: so
//! that whatever dies when, nothing names what isn't there.

mod ledger;
mod plan;
mod records;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::digest::Digest;
use crate::usage::Usage;

pub use plan::{Candidate, Decision, plan};
pub use records::{Layers, record_items};
pub(crate) use records::{digests, names};
pub use sweep::{Collection, Telling, collect};

/// What unused things may at most be old, unless the policy says otherwise.
pub const DEFAULT_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The kinds of things in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Contents of files.
    Objects,
    /// Listings of roots.
    Trees,
    /// What steps read, and what they gave.
    Records,
    /// Roots as directories.
    Checkouts,
    /// Directories that steps stand on.
    Lowers,
    /// Files that checkouts share.
    Links,
    /// Downloads.
    Packages,
    /// Journals of playbooks.
    Replays,
    /// Installed ansible-core.
    Toolchains,
    /// What tools said.
    Logs,
    /// Roots of failed builds.
    Failed,
    /// What repairs moved away.
    Quarantine,
    /// Work in progress, and what is being deleted.
    Staging,
    /// All else: descriptions, locks, Ansible's own home.
    Other,
}

impl Class {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 14] = [
        Self::Objects,
        Self::Trees,
        Self::Records,
        Self::Checkouts,
        Self::Lowers,
        Self::Links,
        Self::Packages,
        Self::Replays,
        Self::Toolchains,
        Self::Logs,
        Self::Failed,
        Self::Quarantine,
        Self::Staging,
        Self::Other,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Trees => "trees",
            Self::Records => "records",
            Self::Checkouts => "checkouts",
            Self::Lowers => "lowers",
            Self::Links => "links",
            Self::Packages => "packages",
            Self::Replays => "replays",
            Self::Toolchains => "toolchains",
            Self::Logs => "logs",
            Self::Failed => "failed",
            Self::Quarantine => "quarantine",
            Self::Staging => "staging",
            Self::Other => "other",
        }
    }

    /// The class of what is in a directory of the store.
    #[must_use]
    pub fn of_directory(name: &str) -> Self {
        match name {
            "layers" => Self::Records,
            "condemned" => Self::Staging,
            name => Self::ALL.into_iter().find(|class| class.name() == name).unwrap_or(Self::Other),
        }
    }
}

/// Something that keeps a tree, whatever the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The tree.
    pub tree: Digest,
    /// What needs it, for people ("root `web`").
    pub why: String,
}

/// How an item stands, before ages and sizes are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Something needs it, or uses it just now.
    Needed(String),
    /// It may be of use, and can be made again.
    Cached,
    /// It is of no use: why.
    Useless(String),
}

/// An error of who removes an item.
pub type ItemError = Box<dyn std::error::Error + Send + Sync>;

/// Moves an item, if it isn't in use now, into the directory that is named, which is on the same file system and will
/// be deleted; whether it did.
pub type Remove<'a> = Box<dyn FnOnce(&Path) -> Result<bool, ItemError> + Send + 'a>;

/// Something that may go.
pub struct Item<'a> {
    /// What kind of thing it is.
    pub class: Class,
    /// What it is called, for people.
    pub name: String,
    /// The trees that it keeps.
    pub trees: Vec<Digest>,
    /// The objects that it keeps beside those of its trees.
    pub objects: Vec<Digest>,
    /// What it takes itself.
    pub usage: Usage,
    /// When it was of use last.
    pub last_used: SystemTime,
    /// How long it takes to have it again, in seconds.
    pub seconds: f64,
    /// How it stands.
    pub standing: Standing,
    /// Takes it away.
    pub remove: Remove<'a>,
}

/// What may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Items that weren't used for longer go.
    pub max_age: Option<Duration>,
    /// Items go, the cheapest first, until the store takes no more than this, in bytes.
    pub max_size: Option<u64>,
}

impl Policy {
    /// The policy of who names neither: what hasn't been used for [`DEFAULT_AGE`] goes.
    #[must_use]
    pub fn new(max_age: Option<Duration>, max_size: Option<u64>) -> Self {
        let default = max_size.is_none().then_some(DEFAULT_AGE);
        Self { max_age: max_age.or(default), max_size }
    }
}

/// Why something stays or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "lowercase")]
pub enum Why {
    /// It stays: something needs it.
    Needed(String),
    /// It stays: it was used lately.
    Young,
    /// It stays: there is room.
    Fits,
    /// It goes: it wasn't used for long.
    Old,
    /// It goes: the store is to be smaller.
    Budget,
    /// It goes: it is of no use.
    Useless(String),
}

impl Why {
    /// Whether it goes.
    #[must_use]
    pub fn goes(&self) -> bool {
        matches!(self, Self::Old | Self::Budget | Self::Useless(_))
    }
}

/// What became, or will become, of an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// What kind of thing.
    pub class: Class,
    /// What it is called.
    pub name: String,
    /// Whether it goes.
    pub goes: bool,
    /// Why.
    pub why: Why,
    /// What it takes itself.
    pub usage: Usage,
    /// How long ago it was used, in seconds.
    pub unused: u64,
}

/// How much of a class stays and goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What stays, as far as it was looked at.
    pub kept: Usage,
    /// What goes.
    pub freed: Usage,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// By class.
    pub classes: BTreeMap<Class, Share>,
    /// Each item.
    pub items: Vec<Told>,
    /// How much of what goes is only set aside until the commands end that run beside, in bytes.
    pub waiting: u64,
    /// What the store takes afterwards, in bytes, where a budget asked for it.
    pub left: Option<u64>,
}

impl Outcome {
    /// What goes in all.
    #[must_use]
    pub fn freed(&self) -> Usage {
        self.classes.values().map(|share| share.freed).sum()
    }
}

#[cfg(test)]
mod tests;
