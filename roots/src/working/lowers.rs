//! Directories kept as lower sides: `<store>/lowers/<tree>/`, for each tree either or both of
//!
//! - `full`: the tree as a directory;
//! - `delta/root` with `delta/lower.json`: an upper side, and the tree that it lies over.
//!
//! A full one that was checked out shares files with other checkouts where contents can't be shared
//! ([`Sharing::where_needed`]): it is never handed out but as the lower side of an overlay, and what is written
//! there goes to the upper side. One that a base was installed into shares the same files with the objects of its
//! contents, for the same reason. A delta is private: two layers may not show one inode at two places.
//!
//! Each of the two appears by one rename when it is whole and on disk; or a delta when it is whole, and
//! then its `lower.json` names the boot that it is good for. Who uses one holds a shared
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

use rootbuild_cache::{Digest, Lock, Store, Tree, durable};

use super::{WorkingError, delta, failed, make_dir};
use crate::checkout::{Areas, Sharing, checkout, checkout_as};
use crate::wait::Wait;

/// With so many layers the next step gets a full checkout: each lookup asks every layer.
const LONGEST_CHAIN: usize = 20;

/// `lower.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lower {
    /// The tree that `root` lies over.
    pub(super) parent: Digest,
    /// Where it may not be on disk yet: the boot in which it was written. After another one it is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

/// What names this boot of the machine. `None` where the kernel doesn't say.
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Lower directories that together are a tree, held by locks.
#[derive(Debug)]
pub(super) struct Chain {
    /// Topmost first.
    pub directories: Vec<PathBuf>,
    /// Deltas that may not be on disk yet, and what they lie over.
    volatile: Vec<(PathBuf, Digest)>,
    _locks: Vec<File>,
}

impl Chain {
    /// Writes down that all of it is on disk: it is, once the file system was synced.
    pub(super) fn make_durable(&self) -> Result<(), WorkingError> {
        for (delta, parent) in &self.volatile {
            write_lower(delta, &Lower { parent: *parent, boot: None })?;
        }
        Ok(())
    }
}

fn write_lower(delta: &Path, lower: &Lower) -> Result<(), WorkingError> {
    let text = serde_json::to_vec(lower).map_err(|error| failed("write", delta)(error.into()))?;
    let path = delta.join("lower.json");
    if lower.boot.is_some() {
        return fs::write(&path, text).map_err(failed("write", &path));
    }
    Ok(durable::write_atomic(&path, &text, 0o644)?)
}

fn home(store: &Store) -> PathBuf {
    store.dir().join("lowers")
}

pub(super) fn place(store: &Store, tree: &Digest) -> PathBuf {
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
        let lock: Result<_, WorkingError> = wait.lock(store, &lock_name(digest), purpose);
        let _lock = lock?;
        if let Some(chain) = chain(store, digest)? {
            return Ok(chain);
        }
        let staging = store.staging("lower")?;
        let root = make_dir(&staging, "root", 0o700)?;
        // Nobody ever writes in a lower directory. What steps are likely to change is private all the same:
        // of a file with several names overlayfs can't keep the inode number when it is changed, and
        // some programs (cron) refuse such files.
        let private = Areas::default();
        let sharing = Sharing::where_needed(store, &root, &private);
        let fresh = checkout_as(store, tree, &root, sharing, wait.cancel)?;
        store.sync()?;
        fresh.share(store, &root)?;
        keep_full(store, digest, &root)?;
    }
}

/// The chain that is `tree`: the one that is there, or the one of `near` with the difference on top of
/// it. `None` where `near` has none, or one that is too long, or too much differs.
pub(super) fn chain_near(
    store: &Store,
    digest: &Digest,
    tree: &Tree,
    near: &Digest,
    wait: Wait<'_>,
) -> Result<Option<Chain>, WorkingError> {
    if let Some(chain) = chain(store, digest)? {
        return Ok(Some(chain));
    }
    let lock: Result<_, WorkingError> = wait.lock(store, &lock_name(digest), "writing what a step stands on");
    let lock = lock?;
    if let Some(chain) = chain(store, digest)? {
        return Ok(Some(chain));
    }
    // Held until the new one is.
    let Some(below) = chain(store, near)? else { return Ok(None) };
    if below.directories.len() + 1 >= LONGEST_CHAIN {
        return Ok(None);
    }
    let Some(entries) = delta::between(&store.tree(near)?, tree) else { return Ok(None) };
    let staging = store.staging("lower")?;
    let root = make_dir(&staging, "root", 0o700)?;
    checkout(store, &Tree::from_entries(entries)?, &root, wait.cancel)?;
    let boot = boot();
    if boot.is_none() {
        store.sync()?;
    }
    let delta = wrap(&root, &Lower { parent: *near, boot }, staging.path())?;
    keep(store, digest, &delta, "delta", Some(lock))?;
    chain(store, digest)
}

/// What is locked by who makes lower directories for a tree.
fn lock_name(tree: &Digest) -> String {
    format!("lower-{}", tree.hex())
}

/// The chain that is `tree`, if all of it is there and it isn't too long.
fn chain(store: &Store, tree: &Digest) -> Result<Option<Chain>, WorkingError> {
    let mut chain = Chain { directories: Vec::new(), volatile: Vec::new(), _locks: Vec::new() };
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
        let Some(lower) = lower(&place) else { return Ok(None) };
        let delta = place.join("delta");
        chain.directories.push(delta.join("root"));
        tree = lower.parent;
        if lower.boot.is_some() {
            chain.volatile.push((delta, lower.parent));
        }
    }
    Ok(None)
}

/// What is to be known of the delta in `place`; `None` where there is no delta (or none that can be used).
pub(super) fn lower(place: &Path) -> Option<Lower> {
    let text = fs::read(place.join("delta/lower.json")).ok()?;
    let lower: Lower = serde_json::from_slice(&text).ok()?;
    let good = lower.boot.is_none() || lower.boot == boot();
    (good && is_directory(&place.join("delta/root"))).then_some(lower)
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

/// Locks the directory `place`; `None` where there is none, or another holds it.
pub(super) fn lock(place: &Path, operation: FlockOperation) -> Result<Option<File>, WorkingError> {
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
    let held = keep(store, tree, root, "full", None)?;
    sync_names(store, tree, &held)
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
    let delta = wrap(upper, &Lower { parent: *parent, boot: None }, staging)?;
    let held = keep(store, tree, &delta, "delta", None)?;
    sync_names(store, tree, &held)
}

/// Makes a delta of `root`, in staging.
fn wrap(root: &Path, lower: &Lower, staging: &Path) -> Result<PathBuf, WorkingError> {
    let delta = staging.join("delta");
    DirBuilder::new().mode(0o700).create(&delta).map_err(failed("make", &delta))?;
    write_lower(&delta, lower)?;
    let to = delta.join("root");
    if lower.boot.is_some() {
        fs::rename(root, &to).map_err(failed("rename to", &to))?;
    } else {
        durable::rename(root, &to)?;
    }
    Ok(delta)
}

/// Moves a lower directory to where it is looked for, and holds that place. `making`: the lock on making
/// some for `tree`, if it is held.
fn keep(
    store: &Store,
    tree: &Digest,
    from: &Path,
    name: &str,
    mut making: Option<Lock>,
) -> Result<File, WorkingError> {
    let place = place(store, tree);
    loop {
        match DirBuilder::new().mode(0o700).recursive(true).create(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", &place)(error)),
        }
        // So that nobody takes the still empty place away.
        let Some(held) = lock(&place, FlockOperation::LockShared)? else { continue };
        let to = place.join(name);
        let rename = |flags| rustix::fs::renameat_with(CWD, from, CWD, &to, flags);
        match rename(RenameFlags::NOREPLACE) {
            // One of another boot, maybe half on disk. Nobody uses it; who makes another has the lock.
            Err(Errno::EXIST) if name == "delta" && lower(&place).is_none() => {
                if making.is_none() {
                    making = store.try_lock(&lock_name(tree), "replacing a lower directory")?;
                }
                if making.is_some() && lower(&place).is_none() {
                    rename(RenameFlags::EXCHANGE).map_err(|error| failed("rename to", &to)(error.into()))?;
                }
            }
            // Or another step gave the same tree: its directory is as good.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("rename to", &to)(error.into())),
        }
        return Ok(held);
    }
}

/// Makes the names durable by which the lower directories of `tree` are found.
fn sync_names(store: &Store, tree: &Digest, held: &File) -> Result<(), WorkingError> {
    held.sync_all().map_err(failed("sync", &place(store, tree)))?;
    Ok(durable::fsync_dir(&home(store))?)
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
            let Some(lower) = lower(&place(store, &tree)) else { break };
            tree = lower.parent;
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
        let name = entry.file_name();
        // What isn't a tree's is none of ours.
        let is_tree = |name: &&str| format!("b3:{name}").parse::<Digest>().is_ok();
        let Some(name) = name.to_str().filter(is_tree) else { continue };
        if needed.contains(name) {
            continue;
        }
        let place = entry.path();
        let Some(_held) = lock(&place, FlockOperation::NonBlockingLockExclusive)? else { continue };
        let trash = match &staging {
            Some(trash) => trash,
            None => staging.insert(store.trash("unused-lowers")?),
        };
        let to = trash.path().join(name);
        fs::rename(&place, &to).map_err(failed("remove", &place))?;
    }
    if let Some(trash) = staging {
        durable::fsync_dir(&home)?;
        trash.remove()?;
    }
    Ok(())
}
