//! The writable root of a step: it shares no inode with the store, and what changed is found fast.

use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Staging, Store};

use crate::cancel::Cancel;

/// How the sandbox sees a step's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootMount {
    /// A plain directory, private to the step.
    Plain(PathBuf),
    /// An overlay, mounted in the sandbox's own mount namespace (so no mount outlives it).
    Overlay {
        /// Read-only lower directories, topmost first.
        lowers: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// overlayfs's work directory, beside `upper`.
        work: PathBuf,
    },
}

/// A step's root couldn't be prepared or captured.
#[derive(Debug, thiserror::Error)]
pub enum WorkingError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    // further variants: Capture, Checkout, Io, Cancelled
}

/// The writable root of a step, in staging until it is kept.
#[derive(Debug)]
pub struct WorkingRoot {
    _staging: Staging,
}

impl WorkingRoot {
    /// An empty directory for a base to be installed into.
    pub fn empty(store: &Store) -> Result<Self, WorkingError> {
        let _ = store;
        unimplemented!()
    }

    /// A writable view of `parent`: an overlay over kept lower directories (checked out first if
    /// they are gone) where the kernel and file system allow it, else a private checkout.
    pub fn on(store: &Store, parent: &Digest, cancel: &Cancel) -> Result<Self, WorkingError> {
        let _ = (store, parent, cancel);
        unimplemented!()
    }

    /// How the sandbox is to mount it.
    #[must_use]
    pub fn mount(&self) -> RootMount {
        unimplemented!()
    }

    /// A private directory of this step beside the root, for sockets and agent files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        unimplemented!()
    }

    /// Scrubs, captures and stores the tree (durable afterwards), and keeps the directory as a lower
    /// one for the steps that come after. The sandbox must be down.
    pub fn finish(self, store: &Store, cancel: &Cancel) -> Result<Digest, WorkingError> {
        let _ = (store, cancel);
        unimplemented!()
    }

    /// Keeps the root of a failed step under `<store>/failed/<name>`, replacing an older one.
    pub fn keep_failed(self, store: &Store, name: &str) -> Result<PathBuf, WorkingError> {
        let _ = (store, name);
        unimplemented!()
    }
}

/// The mount of a failed root kept by [`WorkingRoot::keep_failed`], writable (changes are kept
/// there); `None` when there is none.
pub fn failed_root(store: &Store, name: &str) -> Result<Option<RootMount>, WorkingError> {
    let _ = (store, name);
    unimplemented!()
}

/// Forgets the failed root of `name`, if there is one.
pub fn drop_failed(store: &Store, name: &str) -> Result<(), WorkingError> {
    let _ = (store, name);
    unimplemented!()
}

/// Removes kept lower directories that no tree in `keep` needs and nobody uses now.
pub fn prune_lowers(store: &Store, keep: &[Digest]) -> Result<(), WorkingError> {
    let _ = (store, keep);
    unimplemented!()
}
