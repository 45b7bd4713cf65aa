//! Roots of failed steps: `<store>/failed/<name>/`, with `root` or `upper`, and `failed.json`, which
//! names the tree that an upper side lies over, and the definition that it belongs to. Who works in
//! one, replaces or removes it holds the lock of its name.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use rootbuild_cache::{Digest, Error, Lock, Store, durable};

use super::{RootMount, Side, WorkingError, failed, lowers};
use crate::cancel::Cancel;
use crate::publish::{check_name, is_others};
use crate::wait::Wait;

/// Held while a failed root is put away, and while lower directories are removed: between the two a
/// failed root would lose what it stands on.
pub(super) const LOCK: &str = "lowers";

/// `failed.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    /// The tree that `upper` lies over; none for a plain root.
    pub(super) parent: Option<Digest>,
    /// The definition that it belongs to.
    definition: Option<PathBuf>,
}

impl Failed {
    fn is_of(&self, definition: &Path) -> bool {
        !self.definition.as_ref().is_some_and(|owner| is_others(owner, definition))
    }
}

/// A failed root to look around in. As long as it lives nobody else gets it, replaces or removes it.
#[derive(Debug)]
pub struct FailedRoot {
    mount: RootMount,
    _lock: Lock,
}

impl FailedRoot {
    /// How it is mounted: writable, changes are kept.
    #[must_use]
    pub fn mount(&self) -> &RootMount {
        &self.mount
    }
}

/// The lock of the failed root of `name`, unless another holds it: that isn't waited for, since people
/// look around for hours.
pub(super) fn lock(store: &Store, name: &str, purpose: &str) -> Result<Lock, WorkingError> {
    match store.lock_for(&format!("failed-{name}"), purpose, Some(Duration::ZERO), &|_| (), &|| false) {
        Err(Error::LockTimeout { holder, .. }) => {
            Err(WorkingError::InUse { name: name.to_owned(), holder: holder.pid })
        }
        done => Ok(done?),
    }
}

fn home(store: &Store) -> PathBuf {
    store.dir().join("failed")
}

pub(super) fn keep(
    store: &Store,
    name: &str,
    definition: &Path,
    side: &Side,
    staging: &Path,
) -> Result<PathBuf, WorkingError> {
    check_name(name)?;
    let _ours = lock(store, name, "keeping a failed root")?;
    let to = home(store).join(name);
    if let Ok(Some(Failed { definition: Some(owner), .. })) = read(&to)
        && is_others(&owner, definition)
    {
        return Err(WorkingError::Owned { name: name.to_owned(), owner });
    }
    let dir = staging.join("failed");
    DirBuilder::new().mode(0o700).create(&dir).map_err(failed("make", &dir))?;
    let (parent, (from, place)) = match side {
        Side::Plain { root, .. } => (None, (root, "root")),
        Side::Overlay { upper, parent, .. } => (Some(*parent), (upper, "upper")),
    };
    durable::rename(from, &dir.join(place))?;
    // JSON can't hold any path: one that it can't is one that isn't there.
    let definition = Some(PathBuf::from(definition.to_string_lossy().into_owned()));
    let text = serde_json::to_vec(&Failed { parent, definition })
        .map_err(|error| failed("write", &dir)(error.into()))?;
    durable::write_atomic(&dir.join("failed.json"), &text, 0o644)?;
    let home = home(store);
    DirBuilder::new().mode(0o700).recursive(true).create(&home).map_err(failed("make", &home))?;
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

pub(super) fn read(dir: &Path) -> Result<Option<Failed>, WorkingError> {
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

/// Whether a failed root of `name` that belongs to `definition` is kept. Looks, and does nothing.
#[must_use]
pub fn failed_exists(store: &Store, name: &str, definition: &Path) -> bool {
    check_name(name).is_ok()
        && read(&home(store).join(name)).is_ok_and(|it| it.is_some_and(|it| it.is_of(definition)))
}

/// The failed root kept by [`WorkingRoot::keep_failed`](super::WorkingRoot::keep_failed); `None` when
/// there is none that belongs to `definition`. [`WorkingError::InUse`] while another looks around in it.
pub fn failed_root(store: &Store, name: &str, definition: &Path) -> Result<Option<FailedRoot>, WorkingError> {
    if !failed_exists(store, name, definition) {
        return Ok(None);
    }
    let lock = lock(store, name, "looking around in a failed root")?;
    let dir = home(store).join(name);
    let Some(Failed { parent, .. }) = read(&dir)?.filter(|it| it.is_of(definition)) else { return Ok(None) };
    let Some(parent) = parent else {
        return Ok(Some(FailedRoot { mount: RootMount::Plain(dir.join("root")), _lock: lock }));
    };
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
    let chain = lowers::chain_or_checkout(store, &parent, &tree, Wait::from(&Cancel::new()))?;
    let mount = RootMount::Overlay { lowers: chain.directories.clone(), upper: dir.join("upper"), work };
    Ok(Some(FailedRoot { mount, _lock: lock }))
}

/// Forgets the failed root of `name`, if there is one that belongs to `definition`. `false` where
/// somebody looks around in it: then it stays.
pub fn drop_failed(store: &Store, name: &str, definition: &Path) -> Result<bool, WorkingError> {
    check_name(name)?;
    let dir = home(store).join(name);
    if !is_there(&dir) {
        return Ok(true);
    }
    let _lock = match lock(store, name, "removing a failed root") {
        Err(WorkingError::InUse { .. }) => return Ok(false),
        done => done?,
    };
    // One that can't be read goes too.
    if let Ok(Some(failed)) = read(&dir)
        && !failed.is_of(definition)
    {
        return Ok(true);
    }
    let staging = store.staging("failed")?;
    set_aside(&dir, &staging.path().join("root"))?;
    staging.remove()?;
    Ok(true)
}
