//! A finished root is handed over: `<store>/roots/<name>`, a link that is swapped by rename.

use std::path::PathBuf;

use rootbuild_cache::{Digest, Store};

use crate::cancel::Cancel;

/// A root couldn't be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    // further variants
}

/// A root as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// The tree that was checked out.
    pub tree: Digest,
    /// `<store>/roots/<name>`, the link that users follow.
    pub path: PathBuf,
    /// The directory the link points at.
    pub checkout: PathBuf,
    /// When it was published, RFC 3339 in UTC.
    pub created: String,
}

/// Makes `tree` the current checkout of the root `name`. Returns it and whether anything changed;
/// nothing is touched when the tree is current already and its directory stands.
pub fn publish(
    store: &Store,
    name: &str,
    tree: &Digest,
    cancel: &Cancel,
) -> Result<(Published, bool), PublishError> {
    let _ = (store, name, tree, cancel);
    unimplemented!()
}

/// The root `name` as it stands, `None` when it was never published.
pub fn current(store: &Store, name: &str) -> Result<Option<Published>, PublishError> {
    let _ = (store, name);
    unimplemented!()
}
