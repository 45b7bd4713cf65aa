//! Trees in the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::objects::by_digest;
use crate::store::{Store, make_directory};
use crate::tree::{DecodeError, TREE_VERSION, Tree};

impl Store {
    /// Stores a tree and returns its digest; durable when this returns. Objects that wait for
    /// [`Store::sync`] are synced first.
    ///
    /// Of two trees with equal digests, which can differ in modification times only, the first stays.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest> {
        self.writable()?;
        if self.has_pending() {
            self.sync()?;
        }
        let digest = tree.digest();
        let path = self.tree_path(&digest);
        // Loading it is cheap, and mends what was damaged.
        if load(&path, &digest).is_ok() {
            return Ok(digest);
        }
        self.publish(&tree.encode(), &path, true)?;
        Ok(digest)
    }

    /// Loads a tree and checks it against its digest.
    pub fn tree(&self, digest: &Digest) -> Result<Tree> {
        load(&self.tree_path(digest), digest)
    }

    /// Whether the tree is there.
    #[must_use]
    pub fn has_tree(&self, digest: &Digest) -> bool {
        self.tree_path(digest).exists()
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

fn load(path: &Path, digest: &Digest) -> Result<Tree> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { what: format!("tree {digest}") },
        _ => Error::io("read", path)(error),
    })?;
    let damaged = |what: String| Error::Damaged { what, path: path.to_owned() };
    let tree = Tree::decode(&bytes).map_err(|error| match error {
        DecodeError::Version { found } => {
            Error::Format { path: path.to_owned(), found: found.to_string(), known: TREE_VERSION }
        }
        other => damaged(other.to_string()),
    })?;
    if tree.digest() != *digest {
        return Err(damaged(format!("the tree {}", tree.digest())));
    }
    Ok(tree)
}

#[cfg(test)]
mod tests;
