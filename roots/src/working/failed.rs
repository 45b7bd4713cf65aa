//! Roots of failed steps: `<store>/failed/<name>/`, with `root` or `upper`, and `failed.json`, which
//! names the tree that an upper side lies over.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use rootbuild_cache::{Digest, Store, durable};

use super::{RootMount, Side, WorkingError, failed, lowers};
use crate::cancel::Cancel;
use crate::publish::check_name;

/// Held while a failed root is put away, and while lower directories are removed: between the two a
/// failed root would lose what it stands on.
pub(super) const LOCK: &str = "lowers";

/// `failed.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    /// The tree that `upper` lies over; none for a plain root.
    parent: Option<Digest>,
}

fn home(store: &Store) -> PathBuf {
    store.dir().join("failed")
}

pub(super) fn keep(store: &Store, name: &str, side: &Side, staging: &Path) -> Result<PathBuf, WorkingError> {
    check_name(name)?;
    let dir = staging.join("failed");
    DirBuilder::new().mode(0o700).create(&dir).map_err(failed("make", &dir))?;
    let (parent, (from, to)) = match side {
        Side::Plain { root, .. } => (None, (root, "root")),
        Side::Overlay { upper, parent, .. } => (Some(*parent), (upper, "upper")),
    };
    durable::rename(from, &dir.join(to))?;
    let text = serde_json::to_vec(&Failed { parent }).map_err(|error| failed("write", &dir)(error.into()))?;
    durable::write_atomic(&dir.join("failed.json"), &text, 0o644)?;
    let home = home(store);
    DirBuilder::new().mode(0o700).recursive(true).create(&home).map_err(failed("make", &home))?;
    let to = home.join(name);
    let _lock = store.lock_for(LOCK, "keeping a failed root", None, &|_| (), &|| false)?;
    set_aside(&to, &staging.join("older"))?;
    durable::rename_new(&dir, &to)?;
    Ok(to)
}

/// Moves an older failed root away, to go with the staging directory.
fn set_aside(from: &Path, to: &Path) -> Result<(), WorkingError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", from)(error)),
        _ => Ok(()),
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn read(dir: &Path) -> Result<Option<Failed>, WorkingError> {
    let path = dir.join("failed.json");
    match fs::read(&path) {
        Ok(text) => {
            let read = serde_json::from_slice(&text).map_err(|error| failed("read", &path)(error.into()))?;
            Ok(Some(read))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// The trees that failed roots lie over.
pub(super) fn parents(store: &Store) -> Result<Vec<Digest>, WorkingError> {
    let home = home(store);
    let listed = match fs::read_dir(&home) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", &home)(error)),
    };
    let mut parents = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed("read", &home))?;
        parents.extend(read(&entry.path())?.and_then(|it| it.parent));
    }
    Ok(parents)
}

/// The mount of a failed root kept by [`WorkingRoot::keep_failed`](super::WorkingRoot::keep_failed),
/// writable (changes are kept there); `None` when there is none.
///
/// It stays as long as no other failed root takes its place and nobody drops it.
pub fn failed_root(store: &Store, name: &str) -> Result<Option<RootMount>, WorkingError> {
    check_name(name)?;
    let dir = home(store).join(name);
    let Some(Failed { parent }) = read(&dir)? else { return Ok(None) };
    let Some(parent) = parent else { return Ok(Some(RootMount::Plain(dir.join("root")))) };
    let tree = store.tree(&parent)?;
    // A work directory that a volatile mount left is refused by the next mount: each gets a new one.
    let work = dir.join("work");
    if is_there(&work) {
        let staging = store.staging("work")?;
        set_aside(&work, &staging.path().join("older"))?;
        staging.remove()?;
    }
    DirBuilder::new().mode(0o700).create(&work).map_err(failed("make", &work))?;
    // No lock needs to outlive this: what a failed root stands on is never pruned.
    let chain = lowers::chain_or_checkout(store, &parent, &tree, &Cancel::new())?;
    Ok(Some(RootMount::Overlay { lowers: chain.directories.clone(), upper: dir.join("upper"), work }))
}

/// Forgets the failed root of `name`, if there is one.
pub fn drop_failed(store: &Store, name: &str) -> Result<(), WorkingError> {
    check_name(name)?;
    let dir = home(store).join(name);
    if !is_there(&dir) {
        return Ok(());
    }
    let staging = store.staging("failed")?;
    set_aside(&dir, &staging.path().join("root"))?;
    Ok(staging.remove()?)
}
