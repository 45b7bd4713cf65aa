//! A tree becomes a directory.

use std::path::Path;

use rootbuild_cache::{Store, Tree};

use crate::cancel::Cancel;

/// A tree couldn't be checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    // further variants
}

/// Writes `tree` into `target`, which must be an existing empty directory (its own metadata is set
/// too). Every inode is private to the checkout: reflinked where the file system can, else copied.
pub fn checkout(store: &Store, tree: &Tree, target: &Path, cancel: &Cancel) -> Result<(), CheckoutError> {
    let _ = (store, tree, target, cancel);
    unimplemented!()
}
