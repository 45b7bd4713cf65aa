//! Trees in the store.

mod over;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::lease::Gate;
use crate::objects::by_digest;
use crate::store::{Store, make_directory};
use crate::tree::{Kind, Tree};

impl Store {
    /// Stores a tree and returns its digest; durable when this returns. Objects that wait for
    /// [`Store::sync`] are synced first.
    ///
    /// Of two trees with equal digests, which can differ in modification times only, the first stays.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest> {
        self.put(tree, None)
    }

    /// [`Store::put_tree`], for a tree that differs little from `near`, which is in the store: where it pays,
    /// only what differs is written. Such a tree can't be read without what it is stored over, see
    /// [`Store::tree_base`].
    pub fn put_tree_like(&self, tree: &Tree, near: &Tree) -> Result<Digest> {
        self.put(tree, Some(near))
    }

    fn put(&self, tree: &Tree, near: Option<&Tree>) -> Result<Digest> {
        self.writable()?;
        if self.has_pending() {
            self.sync()?;
        }
        let digest = tree.digest();
        self.hold_tree(&digest)?;
        let path = self.tree_path(&digest);
        // Looking is cheap, and what is damaged is written anew.
        if self.holds_tree(&digest) {
            return Ok(digest);
        }
        // Nothing that it names, nor what it is stored over, is collected from here to where it says so itself.
        let _gate = Gate::shared(self)?;
        self.secure(objects(tree))?;
        self.publish(&self.encode(tree, near), &path, true)?;
        Ok(digest)
    }

    /// Loads a tree. What isn't undamaged and the tree of that digest is an error; but a whole file is believed
    /// what it says of its directories' digests.
    ///
    /// From then on it isn't collected while this process lives.
    pub fn tree(&self, digest: &Digest) -> Result<Tree> {
        self.hold_tree(digest)?;
        self.peek_tree(digest)
    }

    /// Keeps a tree, of which this process has just written the stored form, until somebody takes it or another is
    /// kept: reading it again takes longer than most of what is done with it.
    pub fn keep_in_hand(&self, tree: Tree) {
        *self.in_hand().lock().unwrap_or_else(PoisonError::into_inner) = Some(tree);
    }

    /// What [`Store::tree`] loads, without that where it is in hand.
    pub fn tree_in_hand(&self, digest: &Digest) -> Result<Tree> {
        let mut hand = self.in_hand().lock().unwrap_or_else(PoisonError::into_inner);
        let found = hand.take_if(|tree| tree.digest() == *digest);
        drop(hand);
        match found {
            Some(tree) => {
                self.hold_tree(digest)?;
                Ok(tree)
            }
            None => self.tree(digest),
        }
    }

    /// Loads a tree that may go any time: for who collects.
    pub(crate) fn peek_tree(&self, digest: &Digest) -> Result<Tree> {
        self.load(digest, Tree::decode_own)
    }

    /// Loads a tree that may go any time, and computes all its digests anew.
    pub fn checked_tree(&self, digest: &Digest) -> Result<Tree> {
        self.load(digest, Tree::decode)
    }

    /// Whether the tree is there. If so, it isn't collected while this process lives.
    #[must_use]
    pub fn has_tree(&self, digest: &Digest) -> bool {
        self.hold_tree(digest).is_ok() && self.tree_is_there(digest)
    }

    fn tree_path(&self, digest: &Digest) -> PathBuf {
        by_digest(&self.dir().join("trees"), digest)
    }

    /// Writes a file that everybody may read: written and synced elsewhere, then renamed to `path`,
    /// whose directory is made if need be, all of it durable. Unless `replace`, fails with
    /// `AlreadyExists` where there is something.
    pub(crate) fn publish(&self, bytes: &[u8], path: &Path, replace: bool) -> Result<()> {
        let temporary = self.temporary_path()?;
        let published = durable::write_new(&temporary, bytes, 0o644)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("write", &temporary))
            .and_then(|()| {
                let dir = durable::parent(path);
                // The directory's own name must be as durable as the names in it.
                if make_directory(dir, 0o755)? {
                    durable::fsync_dir(durable::parent(dir))?;
                }
                let rename = if replace {
                    fs::rename(&temporary, path)
                } else {
                    durable::rename_noreplace(&temporary, path)
                };
                rename.map_err(Error::io("write", path))?;
                durable::fsync_dir(dir)
            });
        if published.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        published
    }
}

/// The objects that a tree names.
pub(crate) fn objects(tree: &Tree) -> impl Iterator<Item = &Digest> {
    tree.entries().iter().filter_map(|entry| match &entry.kind {
        Kind::File { object, .. } => Some(object),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
