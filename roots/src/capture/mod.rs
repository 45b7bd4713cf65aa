//! A directory becomes a tree.
//!
//! Kept: everything of DESIGN §7's list. Not kept: sockets (they mean nothing without the process
//! that listens), inode flags (`chattr`), and attributes that belong to the host rather than to the
//! root, see [`xattrs`].

mod known;
mod overlay;
mod scan;
mod xattrs;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Entry, Exceeded, Kind, Limit, Limits, Meta, Store, Tree};

use crate::cancel::{Cancel, Cancelled};
use crate::checkout::Areas;
use scan::{Found, Side, What};

pub(crate) use known::Known;
pub(crate) use overlay::Shown;
pub(crate) use xattrs::belongs;

/// A directory couldn't be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// A file or directory couldn't be read.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another file system, or a bind, is mounted in the directory: it isn't part of the root.
    #[error("something is mounted on `{}`", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
    },
    /// Something changed while it was read: a process still works there.
    #[error("`{}` changed while it was captured", path.display())]
    Changed {
        /// What.
        path: PathBuf,
    },
    /// There is more than a limit allows.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// An overlay was mounted with `metacopy=on`: this file's content isn't in the upper side.
    #[error("`{}` is a copy of metadata only: the overlay must be mounted with `metacopy=off`", path.display())]
    Metacopy {
        /// The file.
        path: PathBuf,
    },
    /// A directory of an overlay's upper side names an origin that the lower side doesn't have.
    #[error("`{}` is redirected to `{redirect}`, which is no directory of the lower side", path.display())]
    Redirect {
        /// The directory.
        path: PathBuf,
        /// What its attribute says.
        redirect: String,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// A tree as captured, and what was seen on the way and isn't in it.
#[derive(Debug)]
pub(crate) struct Captured {
    pub tree: Tree,
    /// Paths of sockets in the directory that was scanned, which the tree leaves out.
    pub sockets: Vec<Vec<u8>>,
    /// For an upper side: what shows through it.
    pub shown: Shown,
}

/// Captures everything below `root` by a full scan; file contents go to the store. Loses nothing of
/// DESIGN §7's list; sockets are left out. Nothing may change the directory meanwhile.
pub fn capture_directory(store: &Store, root: &Path, cancel: &Cancel) -> Result<Tree, CaptureError> {
    Ok(directory(store, root, &mut Known::default(), cancel)?.tree)
}

/// Captures the upper side of an overlay whose lower side is `lower`: whiteouts, opaque
/// directories, redirects and overlay's own attributes are understood; O(changes) in file work.
/// The overlay must not be mounted any more, and have been mounted with
/// `redirect_dir=on,metacopy=off,index=off`.
pub fn capture_overlay(
    store: &Store,
    lower: &Tree,
    upper: &Path,
    cancel: &Cancel,
) -> Result<Tree, CaptureError> {
    Ok(upper_side(store, lower, upper, &mut Known::default(), cancel)?.tree)
}

/// [`capture_directory`], reading only what isn't `known`.
pub(crate) fn directory(
    store: &Store,
    root: &Path,
    known: &mut Known,
    cancel: &Cancel,
) -> Result<Captured, CaptureError> {
    plain(scan::scan(store, root, (Side::Plain, known), cancel)?)
}

/// [`directory`] of a root in which nobody changes a file from now on, whether this succeeds or not: the store takes
/// files over where they lie. Those that steps are likely to change stay as they are: overlayfs can't keep the inode
/// number of a file with several names when it is changed, and some programs (cron) refuse such files.
pub(crate) fn left_directory(
    store: &Store,
    root: &Path,
    known: &mut Known,
    cancel: &Cancel,
) -> Result<Captured, CaptureError> {
    plain(scan::scan(store, root, (Side::Left(&Areas::default()), known), cancel)?)
}

fn plain(found: Vec<Found>) -> Result<Captured, CaptureError> {
    let sockets = sockets(&found);
    let mut groups = Groups::default();
    let mut entries = Vec::with_capacity(found.len());
    for found in found {
        let Found { path, meta, what, .. } = found;
        match what {
            What::Entry { kind, file } => entries.push(groups.entry(file.map(Group::Here), path, meta, kind)),
            What::Socket => {}
            // Only an upper side has these; a plain directory's scan doesn't make them.
            What::Whiteout => {}
        }
    }
    Ok(Captured { tree: Tree::from_entries(entries)?, sockets, shown: Shown::default() })
}

/// [`capture_overlay`], reading only what isn't `known`.
pub(crate) fn upper_side(
    store: &Store,
    lower: &Tree,
    upper: &Path,
    known: &mut Known,
    cancel: &Cancel,
) -> Result<Captured, CaptureError> {
    scan_upper(store, upper, known, cancel)?.merge(lower)
}

/// What stands in the upper side of an overlay; file contents are in the store.
#[derive(Debug)]
pub(crate) struct UpperSide {
    found: Vec<Found>,
    limits: Limits,
    /// For messages.
    path: PathBuf,
}

/// Looks through an upper side; nobody may write there meanwhile.
pub(crate) fn scan_upper(
    store: &Store,
    upper: &Path,
    known: &mut Known,
    cancel: &Cancel,
) -> Result<UpperSide, CaptureError> {
    let mut found = scan::scan(store, upper, (Side::Upper, known), cancel)?;
    // The scan's own order is another each time; a file of several names stays before the others.
    found.sort_by(|a, b| (a.is_again(), &a.path).cmp(&(b.is_again(), &b.path)));
    Ok(UpperSide { found, limits: *store.limits(), path: upper.to_owned() })
}

impl UpperSide {
    /// The merged view over `lower`.
    pub(crate) fn merge(&self, lower: &Tree) -> Result<Captured, CaptureError> {
        let (entries, shown) = overlay::merge(lower, &self.found, &self.path)?;
        let place = || self.path.display().to_string();
        self.limits.check(Limit::Entries, entries.len() as u64, place)?;
        let total = entries.iter().fold(0u64, |sum, entry| match entry.kind {
            Kind::File { size, .. } => sum.saturating_add(size),
            _ => sum,
        });
        self.limits.check(Limit::TotalSize, total, place)?;
        let tree = Tree::from_entries_like(lower, entries)?;
        Ok(Captured { tree, sockets: sockets(&self.found), shown })
    }

    /// The digest of the merged view over `lower`, sooner than by merging.
    pub(crate) fn digest(&self, lower: &Tree) -> Result<Digest, CaptureError> {
        overlay::digest(lower, &self.found, &self.path)
    }

    /// Whether nothing differs, times included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.found == other.found
    }
}

fn sockets(found: &[Found]) -> Vec<Vec<u8>> {
    let socket = |it: &&Found| matches!(it.what, What::Socket);
    found.iter().filter(socket).map(|it| it.path.clone()).collect()
}

/// The attributes of a directory of an upper side that are the root's own, as a capture takes them.
pub(crate) fn own_xattrs(directory: impl rustix::fd::AsFd) -> io::Result<crate::fd::Xattrs> {
    Ok(xattrs::part(crate::fd::list_xattrs(directory, None, belongs)?).0)
}

/// The attributes of a directory of an upper side that are the root's own, and what overlayfs wrote there
/// that means something, if there is any of that.
pub(crate) fn xattrs_and_marks(
    directory: impl rustix::fd::AsFd,
) -> io::Result<(crate::fd::Xattrs, Option<impl std::fmt::Debug>)> {
    let (own, marks) = xattrs::part(crate::fd::list_xattrs(directory, None, belongs)?);
    Ok((own, (marks != xattrs::Marks::default()).then_some(marks)))
}

/// What tells that names belong to one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    /// Device and inode in the scanned directory.
    Here((u64, u64)),
    /// The first name in the lower side's tree.
    Lower(Vec<u8>),
}

/// The first name met of each group.
#[derive(Debug, Default)]
struct Groups(HashMap<Group, Vec<u8>>);

impl Groups {
    /// The entry for a name: the file itself, or a link to the first name of its group. Which name
    /// is the canonical one, [`Tree::from_entries`] settles.
    fn entry(&mut self, group: Option<Group>, path: Vec<u8>, meta: Meta, kind: Kind) -> Entry {
        let Some(group) = group else { return Entry { path, meta, kind } };
        match self.0.get(&group) {
            Some(first) => Entry { path, meta, kind: Kind::Hardlink { target: first.clone() } },
            None => {
                self.0.insert(group, path.clone());
                Entry { path, meta, kind }
            }
        }
    }
}

/// The entries directly in the directory `path` of a tree; none where it is no directory.
pub(crate) fn children_of<'t>(tree: &'t Tree, path: &[u8]) -> impl Iterator<Item = &'t Entry> + use<'t> {
    tree.children(path).filter_map(|it| it.entries.first())
}
