//! A directory becomes a tree.

use std::path::Path;

use rootbuild_cache::{Store, Tree};

use crate::cancel::Cancel;

/// A directory couldn't be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    // further variants: Io { action, path, source }, Unsupported…, Cancelled
}

/// Captures everything below `root` by a full scan; file contents go to the store. Loses nothing of
/// DESIGN §7's list; sockets are left out.
pub fn capture_directory(store: &Store, root: &Path, cancel: &Cancel) -> Result<Tree, CaptureError> {
    let _ = (store, root, cancel);
    unimplemented!()
}

/// Captures the upper side of an overlay whose lower side is `lower`: whiteouts, opaque
/// directories, redirects and overlay's own attributes are understood; O(changes) in file work.
pub fn capture_overlay(
    store: &Store,
    lower: &Tree,
    upper: &Path,
    cancel: &Cancel,
) -> Result<Tree, CaptureError> {
    let _ = (store, lower, upper, cancel);
    unimplemented!()
}
