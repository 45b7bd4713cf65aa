//! A step's root at a point in between: as a tree, while it is mounted and nobody writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rootbuild_cache::{Digest, Store, Tree};

use super::{Side, WorkingError, WorkingRoot};
use crate::cancel::Cancel;
use crate::capture::{self, Known, UpperSide};
use crate::fd;

/// What earlier snapshots of a root found out.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: Known,
    last: Option<Snapshot>,
}

impl Memory {
    pub(super) fn of(known: Known) -> Self {
        Self { known, last: None }
    }
}

/// A step's root as it was at one point, nothing scrubbed. Cheap to clone and small: what it holds is what
/// differs from the tree that the step stands on.
#[derive(Debug, Clone)]
pub struct Snapshot {
    digest: Digest,
    upper: Arc<UpperSide>,
    lower: Arc<Tree>,
}

impl Snapshot {
    /// Names the tree.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The tree, put together anew with each call (milliseconds). Its contents are in the store that the
    /// snapshot was taken with, durable only after [`Store::sync`].
    pub fn tree(&self) -> Result<Tree, WorkingError> {
        Ok(self.upper.merge(&self.lower)?.tree)
    }

    /// Stores the tree, durably. Contents that wait for [`Store::sync`] are synced first: where several
    /// snapshots are kept, the first pays for all.
    pub fn keep(&self, store: &Store) -> Result<Digest, WorkingError> {
        // What is there is durable, and its contents were before it.
        if store.has_tree(&self.digest) && store.holds_tree(&self.digest) {
            return Ok(self.digest);
        }
        Ok(store.put_tree_like(&self.tree()?, &self.lower)?)
    }
}

impl WorkingRoot {
    /// The root as it stands, while it is mounted; nobody may write in it meanwhile. New contents are put
    /// into the store, to be made durable later. Files that are as the last snapshot found them aren't
    /// read again.
    ///
    /// `None` where the root is a plain directory: that would have to be scanned whole.
    pub fn snapshot(&self, store: &Store, cancel: &Cancel) -> Result<Option<Snapshot>, WorkingError> {
        cancel.check()?;
        let Side::Overlay { upper, tree, .. } = &self.side else { return Ok(None) };
        let mut memory = lock(&self.memory);
        let scanned = capture::scan_upper(store, upper, &mut memory.known, cancel)?;
        fd::settle(upper, memory.known.newest());
        if let Some(last) = memory.last.as_ref().filter(|last| last.upper.is_same(&scanned)) {
            return Ok(Some(last.clone()));
        }
        let digest = scanned.digest(tree)?;
        let snapshot = Snapshot { digest, upper: Arc::new(scanned), lower: Arc::clone(tree) };
        memory.last = Some(snapshot.clone());
        Ok(Some(snapshot))
    }

    /// What snapshots found out, for the last capture.
    pub(super) fn take_known(&self) -> Known {
        std::mem::take(&mut lock(&self.memory).known)
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
