//! Directories kept as lower sides: `<store>/lowers/<tree>/`, for each tree either or both of
//!
//! - `full`: the tree as a directory;
//! - `delta/root` with `delta/lower.json`: an upper side, and the tree that it lies over.
//!
//! Each of the two appears by one rename when it is whole and on disk. Who uses one holds a shared
//! kernel lock on `<store>/lowers/<tree>`; who removes one holds the exclusive lock, and moves it
//! away first. They are a cache: whatever is missing is checked out again.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use rootbuild_cache::{Digest, Store, Tree, durable};

use super::{WorkingError, failed, make_dir};
use crate::checkout::checkout;
use crate::wait::Wait;

/// With so many layers the next step gets a full checkout: each lookup asks every layer.
const LONGEST_CHAIN: usize = 20;

/// `lower.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Lower {
    /// The tree that `root` lies over.
    parent: Digest,
}

/// Lower directories that together are a tree, held by locks.
#[derive(Debug)]
pub(super) struct Chain {
    /// Topmost first.
    pub directories: Vec<PathBuf>,
    _locks: Vec<File>,
}

fn home(store: &Store) -> PathBuf {
    store.dir().join("lowers")
}

fn place(store: &Store, tree: &Digest) -> PathBuf {
    home(store).join(tree.hex())
}

/// The chain that is `tree`, checked out where it is missing or too long. Who else does that is waited
/// for.
pub(super) fn chain_or_checkout(
    store: &Store,
    digest: &Digest,
    tree: &Tree,
    wait: Wait<'_>,
) -> Result<Chain, WorkingError> {
    loop {
        if let Some(chain) = chain(store, digest)? {
            return Ok(chain);
        }
        // One does it, whoever else wants it waits.
        let purpose = "checking out what a step stands on";
        let lock: Result<_, WorkingError> = wait.lock(store, &format!("lower-{}", digest.hex()), purpose);
        let _lock = lock?;
        if let Some(chain) = chain(store, digest)? {
            return Ok(chain);
        }
        let staging = store.staging("lower")?;
        let root = make_dir(&staging, "root", 0o700)?;
        checkout(store, tree, &root, wait.cancel)?;
        store.sync()?;
        keep_full(store, digest, &root)?;
    }
}

/// The chain that is `tree`, if all of it is there and it isn't too long.
fn chain(store: &Store, tree: &Digest) -> Result<Option<Chain>, WorkingError> {
    let mut chain = Chain { directories: Vec::new(), _locks: Vec::new() };
    let mut tree = *tree;
    while chain.directories.len() < LONGEST_CHAIN {
        let place = place(store, &tree);
        let Some(lock) = lock(&place, FlockOperation::LockShared)? else { return Ok(None) };
        chain._locks.push(lock);
        let full = place.join("full");
        if is_directory(&full) {
            chain.directories.push(full);
            return Ok(Some(chain));
        }
        let Some(parent) = parent_of(&place) else { return Ok(None) };
        chain.directories.push(place.join("delta/root"));
        tree = parent;
    }
    Ok(None)
}

/// What the delta in `place` lies over; `None` where there is no delta (or none that can be used).
fn parent_of(place: &Path) -> Option<Digest> {
    let text = fs::read(place.join("delta/lower.json")).ok()?;
    let lower: Lower = serde_json::from_slice(&text).ok()?;
    is_directory(&place.join("delta/root")).then_some(lower.parent)
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

/// Locks the directory `place`; `None` where there is none, or another holds it.
fn lock(place: &Path, operation: FlockOperation) -> Result<Option<File>, WorkingError> {
    loop {
        let dir = match File::open(place) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", place)(error)),
        };
        match rustix::fs::flock(&dir, operation) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(failed("lock", place)(error.into())),
        }
        // It may have been moved away between the two calls.
        let ours = dir.metadata().map_err(failed("open", place))?;
        match place.symlink_metadata() {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(dir)),
            _ => {}
        }
    }
}

/// Keeps `root`, which is `tree` and is on disk, as a full lower directory: by rename, if there is
/// none yet.
pub(super) fn keep_full(store: &Store, tree: &Digest, root: &Path) -> Result<(), WorkingError> {
    keep(store, tree, root, "full")
}

/// Keeps `upper`, which over `parent` is `tree` and is on disk, as a delta, if there is nothing for
/// `tree` yet. `staging` is where it stands.
pub(super) fn keep_delta(
    store: &Store,
    tree: &Digest,
    parent: &Digest,
    upper: &Path,
    staging: &Path,
) -> Result<(), WorkingError> {
    if is_directory(&place(store, tree).join("full")) {
        return Ok(());
    }
    let delta = staging.join("delta");
    DirBuilder::new().mode(0o700).create(&delta).map_err(failed("make", &delta))?;
    let text = serde_json::to_vec(&Lower { parent: *parent })
        .map_err(|error| failed("write", &delta)(error.into()))?;
    durable::write_atomic(&delta.join("lower.json"), &text, 0o644)?;
    durable::rename(upper, &delta.join("root"))?;
    keep(store, tree, &delta, "delta")
}

fn keep(store: &Store, tree: &Digest, from: &Path, name: &str) -> Result<(), WorkingError> {
    let place = place(store, tree);
    loop {
        match DirBuilder::new().mode(0o700).recursive(true).create(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", &place)(error)),
        }
        // Held until the end, so that nobody takes the still empty place away.
        let Some(held) = lock(&place, FlockOperation::LockShared)? else { continue };
        let to = place.join(name);
        return match rustix::fs::renameat_with(CWD, from, CWD, &to, RenameFlags::NOREPLACE) {
            // Another step gave the same tree: its directory is as good.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed("rename to", &to)(error.into())),
            Ok(()) => {
                held.sync_all().map_err(failed("sync", &place))?;
                Ok(durable::fsync_dir(&home(store))?)
            }
        };
    }
}

/// Removes kept lower directories that no tree in `keep` needs and nobody uses now. What kept
/// failed roots stand on is needed too.
pub fn prune_lowers(store: &Store, keep: &[Digest]) -> Result<(), WorkingError> {
    // Whoever prunes already does it as well; and no failed root may be put away meanwhile.
    let Some(_lock) = store.try_lock(failed::LOCK, "removing unused lower directories")? else {
        return Ok(());
    };
    let mut needed = HashSet::new();
    let failed_roots = failed::parents(store)?;
    for tree in keep.iter().chain(&failed_roots) {
        let mut tree = *tree;
        while needed.insert(tree.hex()) && !is_directory(&place(store, &tree).join("full")) {
            let Some(parent) = parent_of(&place(store, &tree)) else { break };
            tree = parent;
        }
    }
    let home = home(store);
    let listed = match fs::read_dir(&home) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", &home)(error)),
    };
    let mut staging = None;
    for entry in listed {
        let entry = entry.map_err(failed("read", &home))?;
        if entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            continue;
        }
        let place = entry.path();
        let Some(_held) = lock(&place, FlockOperation::NonBlockingLockExclusive)? else { continue };
        let trash = match &staging {
            Some(trash) => trash,
            None => staging.insert(store.staging("unused-lowers")?),
        };
        let to = trash.path().join(entry.file_name());
        fs::rename(&place, &to).map_err(failed("remove", &place))?;
    }
    if let Some(trash) = staging {
        durable::fsync_dir(&home)?;
        trash.remove()?;
    }
    Ok(())
}
