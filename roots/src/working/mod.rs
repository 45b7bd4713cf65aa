//! The writable root of a step: it shares no inode with the store, and what changed is found fast.
//!
//! Where overlayfs works on the store's file system, a step's root is an overlay over directories
//! that are kept for that ([`lowers`]) and never written again; its upper side is captured in
//! O(changes) and becomes a lower directory itself. Elsewhere it is a private checkout that is
//! scanned whole. Nothing is mounted here: the sandbox does that in its own mount namespace.

pub mod check;
mod delta;
mod failed;
mod fingerprint;
pub mod holdings;
mod lowers;
mod probe;
mod snapshot;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rootbuild_cache::{Digest, Kind, Staging, Store, Tree};

use crate::cancel::{Cancel, Cancelled};
use crate::capture::{self, CaptureError, Captured};
use crate::checkout::{CheckoutError, checkout};
use crate::fd::{self, Dir};
use crate::normal;
use crate::scrub;
use crate::wait::Wait;
use lowers::Chain;

pub use failed::{FailedRoot, drop_failed, failed_exists, failed_root};
pub use fingerprint::Fingerprint;
pub use lowers::prune_lowers;
pub use snapshot::Snapshot;

/// How the sandbox sees a step's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootMount {
    /// A plain directory, private to the step.
    Plain(PathBuf),
    /// An overlay, mounted in the sandbox's own mount namespace (so no mount outlives it).
    Overlay {
        /// Read-only lower directories, topmost first.
        lowers: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// overlayfs's work directory, beside `upper`.
        work: PathBuf,
    },
}

/// A step's root couldn't be prepared or captured.
#[derive(Debug, thiserror::Error)]
pub enum WorkingError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// The root couldn't be captured.
    #[error("can't capture the root")]
    Capture(#[from] CaptureError),
    /// The parent couldn't be checked out.
    #[error("can't check out the parent tree")]
    Checkout(#[from] CheckoutError),
    /// A file or directory couldn't be read or written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A name that can't be a root's.
    #[error(transparent)]
    Name(#[from] crate::publish::InvalidName),
    /// Somebody looks around in the failed root.
    #[error("the failed root of `{name}` is in use by pid {holder}")]
    InUse {
        /// The root's name.
        name: String,
        /// Whose process; 0 when unknown.
        holder: u32,
    },
    /// The failed root that is kept belongs to another definition that stands.
    #[error("the failed root of `{name}` that is kept belongs to another definition, `{}`", owner.display())]
    Owned {
        /// The root's name.
        name: String,
        /// The definition that it belongs to.
        owner: PathBuf,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkingError {
    let path = path.to_owned();
    move |source| WorkingError::Io { action, path, source }
}

/// The writable root of a step, in staging until it is kept.
#[derive(Debug)]
pub struct WorkingRoot {
    side: Side,
    memory: Mutex<snapshot::Memory>,
    scratch: PathBuf,
    // Last: dropped after the locks on what it stands on.
    staging: Staging,
}

#[derive(Debug)]
enum Side {
    Plain { root: PathBuf, parent: Option<Digest> },
    Overlay { upper: PathBuf, work: PathBuf, chain: Chain, parent: Digest, tree: Arc<Tree> },
}

impl WorkingRoot {
    /// An empty directory for a base to be installed into.
    pub fn empty(store: &Store) -> Result<Self, WorkingError> {
        let (staging, scratch) = stage(store, "base")?;
        let root = make_dir(&staging, "root", 0o755)?;
        Ok(Self::new(Side::Plain { root, parent: None }, scratch, staging))
    }

    /// A writable view of `parent`: an overlay over kept lower directories (checked out first if
    /// they are gone) where the kernel and file system allow it, else a private checkout.
    /// Another process that checks them out is waited for, as `wait` says.
    pub fn on<'a>(store: &Store, parent: &Digest, wait: impl Into<Wait<'a>>) -> Result<Self, WorkingError> {
        Self::over(store, parent, None, wait.into())
    }

    /// [`WorkingRoot::on`], for a tree that differs little from `near`: where `near` has lower directories
    /// and `tree` has none, only the difference is written, as one more of them.
    pub fn on_near<'a>(
        store: &Store,
        tree: &Digest,
        near: &Digest,
        wait: impl Into<Wait<'a>>,
    ) -> Result<Self, WorkingError> {
        Self::over(store, tree, Some(near), wait.into())
    }

    fn over(
        store: &Store,
        parent: &Digest,
        near: Option<&Digest>,
        wait: Wait<'_>,
    ) -> Result<Self, WorkingError> {
        wait.cancel.check()?;
        let tree = store.tree(parent)?;
        let (staging, scratch) = stage(store, "step")?;
        if !probe::overlay_works(store)? || speaks_overlay(&tree) {
            let root = make_dir(&staging, "root", 0o700)?;
            checkout(store, &tree, &root, wait.cancel)?;
            let known = capture::Known::of_checkout(&root, &tree).map_err(failed("read", &root))?;
            let working = Self::new(Side::Plain { root, parent: Some(*parent) }, scratch, staging);
            return Ok(Self { memory: Mutex::new(snapshot::Memory::of(known)), ..working });
        }
        let chain = match near {
            Some(near) => lowers::chain_near(store, parent, &tree, near, wait)?,
            None => None,
        };
        let chain = match chain {
            Some(chain) => chain,
            None => lowers::chain_or_checkout(store, parent, &tree, wait)?,
        };
        let upper = make_dir(&staging, "upper", 0o700)?;
        let work = make_dir(&staging, "work", 0o700)?;
        // The merged root directory has the upper one's owner, mode and attributes.
        if let Some(root) = tree.entries().first() {
            let set =
                Dir::top(&upper).and_then(|dir| fd::set_metadata(dir.fd()?, None, &root.meta, false, false));
            set.map_err(failed("set owner and mode of", &upper))?;
        }
        let side = Side::Overlay { upper, work, chain, parent: *parent, tree: Arc::new(tree) };
        Ok(Self::new(side, scratch, staging))
    }

    fn new(side: Side, scratch: PathBuf, staging: Staging) -> Self {
        Self { side, memory: Mutex::default(), scratch, staging }
    }

    /// How the sandbox is to mount it.
    #[must_use]
    pub fn mount(&self) -> RootMount {
        match &self.side {
            Side::Plain { root, .. } => RootMount::Plain(root.clone()),
            Side::Overlay { upper, work, chain, .. } => RootMount::Overlay {
                lowers: chain.directories.clone(),
                upper: upper.clone(),
                work: work.clone(),
            },
        }
    }

    /// A private directory of this step beside the root, for sockets and agent files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Scrubs, captures and stores the tree (durable afterwards), and keeps the directory as a lower
    /// one for the steps that come after. The sandbox must be down.
    pub fn finish(self, store: &Store, cancel: &Cancel) -> Result<Digest, WorkingError> {
        self.finish_telling(store, cancel, &|_| ())
    }

    /// [`WorkingRoot::finish`] that tells of the tree as soon as its contents can be read, before anything is durable:
    /// where the root is a plain directory.
    pub fn finish_telling(
        self,
        store: &Store,
        cancel: &Cancel,
        tell: &dyn Fn(&Tree),
    ) -> Result<Digest, WorkingError> {
        cancel.check()?;
        match &self.side {
            Side::Plain { root, parent } => {
                scrub::scrub(root).map_err(failed("scrub", root))?;
                normal::normalise(root).map_err(failed("scrub", root))?;
                // It becomes a lower directory or goes: nobody writes there any more.
                let captured = capture::left_directory(store, root, &mut self.take_known(), cancel)?;
                tell(&captured.tree);
                without_sockets(root, &captured, None).map_err(failed("scrub", root))?;
                let is_new = !store.has_tree(&captured.tree.digest());
                let digest = put(store, &captured.tree, None)?;
                if Some(digest) != *parent && probe::overlay_works(store)? && !speaks_overlay(&captured.tree)
                {
                    lowers::keep_full(store, &digest, root)?;
                }
                keep_in_hand(store, captured.tree, is_new);
                Ok(digest)
            }
            Side::Overlay { upper, parent, tree, chain, .. } => {
                let mut known = self.take_known();
                fd::settle(upper, known.newest());
                scrub::scrub_upper(upper).map_err(failed("scrub", upper))?;
                normal::normalise(upper).map_err(failed("scrub", upper))?;
                if untouched(upper, tree).map_err(failed("read", upper))? && is_clean(store, tree)? {
                    return Ok(*parent);
                }
                let mut captured = capture::upper_side(store, tree, upper, &mut known, cancel)?;
                let left = scrub::left_over(&captured.tree);
                if !left.is_empty() {
                    fd::settle(upper, known.newest());
                    scrub::remove_left_over(upper, tree, &captured, &left).map_err(failed("scrub", upper))?;
                    captured = capture::upper_side(store, tree, upper, &mut known, cancel)?;
                }
                let unequal = normal::unequal(store, &captured.tree)?;
                if !unequal.is_empty() {
                    fd::settle(upper, known.newest());
                    normal::write_unequal(upper, tree, &captured, &unequal)
                        .map_err(failed("scrub", upper))?;
                    captured = capture::upper_side(store, tree, upper, &mut known, cancel)?;
                }
                if captured.tree.digest() == *parent {
                    return Ok(*parent);
                }
                without_sockets(upper, &captured, Some(tree)).map_err(failed("scrub", upper))?;
                let is_new = !store.has_tree(&captured.tree.digest());
                let digest = put(store, &captured.tree, Some(tree))?;
                if !speaks_overlay(&captured.tree) {
                    // Contents, tree, and whatever else was on the file system are on disk now.
                    chain.make_durable()?;
                    lowers::keep_delta(store, &digest, parent, upper, self.staging.path())?;
                }
                keep_in_hand(store, captured.tree, is_new);
                Ok(digest)
            }
        }
    }

    /// Keeps the root of a failed step under `<store>/failed/<name>`, replacing an older one: unless
    /// somebody looks around in that, or it belongs to another definition than `definition` (an
    /// absolute path) that is still there.
    pub fn keep_failed(self, store: &Store, name: &str, definition: &Path) -> Result<PathBuf, WorkingError> {
        failed::keep(store, name, definition, &self.side, self.staging.path())
    }
}

/// Whether a tree is as a step leaves it: a checkpoint's isn't.
fn is_clean(store: &Store, tree: &Tree) -> Result<bool, WorkingError> {
    Ok(scrub::left_over(tree).is_empty() && normal::unequal(store, tree)?.is_empty())
}

/// Contents first, then the tree that names them; the step's directory is made durable with them. `near` is a
/// tree in the store that it may differ little from.
fn put(store: &Store, tree: &Tree, near: Option<&Tree>) -> Result<Digest, WorkingError> {
    store.sync()?;
    Ok(match near {
        Some(near) => store.put_tree_like(tree, near)?,
        None => store.put_tree(tree)?,
    })
}

/// The tree may be what is handed over next. One that was in the store before may have other times there.
fn keep_in_hand(store: &Store, tree: Tree, is_new: bool) {
    if is_new {
        store.keep_in_hand(tree);
    }
}

fn stage(store: &Store, purpose: &str) -> Result<(Staging, PathBuf), WorkingError> {
    let staging = store.staging(purpose)?;
    let scratch = make_dir(&staging, "scratch", 0o700)?;
    Ok((staging, scratch))
}

fn make_dir(staging: &Staging, name: &str, mode: u32) -> Result<PathBuf, WorkingError> {
    let path = staging.path().join(name);
    DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("make", &path))?;
    Ok(path)
}

/// Whether overlayfs would read something of the tree as its own: a device that is its whiteout, an
/// attribute of its name (a container engine's layers). Such a tree can't be a lower side.
fn speaks_overlay(tree: &Tree) -> bool {
    tree.entries().iter().any(|entry| {
        matches!(entry.kind, Kind::CharDevice { major: 0, minor: 0 })
            || entry.meta.xattrs.iter().any(|(name, _)| name.starts_with(b"trusted.overlay."))
    })
}

/// Whether nothing was written in the upper side.
fn untouched(upper: &Path, parent: &Tree) -> io::Result<bool> {
    let top = Dir::top(upper)?;
    let fd = top.fd()?;
    let stat = fd::stat(&fd)?;
    let Some(root) = parent.entries().first() else { return Ok(false) };
    let same = (stat.mode, stat.uid, stat.gid) == (root.meta.mode, root.meta.uid, root.meta.gid);
    Ok(same && fd::children(&fd)?.is_empty() && capture::own_xattrs(&fd)? == root.meta.xattrs)
}

/// Removes the sockets that the tree doesn't have, so that the directory is the tree. In an upper
/// side a whiteout takes the place of each that hid something of the lower side's.
fn without_sockets(root: &Path, captured: &Captured, lower: Option<&Tree>) -> io::Result<()> {
    let top = Dir::top(root)?;
    for path in &captured.sockets {
        let (parent, name) = fd::split(path);
        let dir = fd::open_beneath(rustix::fd::AsFd::as_fd(&top.fd()?), parent)?;
        let mtime = fd::stat(&dir)?.mtime;
        rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty())?;
        if lower.is_some_and(|lower| captured.shown.is_below(lower, path)) {
            scrub::whiteout(&dir, name)?;
        }
        fd::set_times(&dir, None, mtime)?;
    }
    Ok(())
}
