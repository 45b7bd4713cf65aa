//! Which files of a checkout are private, and which it shares with other checkouts.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rustix::fd::AsFd;

use rootbuild_cache::{Digest, Entry, Kind, LinkName, Links, Shared, Store, Tree};

use super::CheckoutError;
use crate::fd::{self, Dir, split};

/// Parts of a root: directories with all below them, by their paths in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Areas(Vec<Vec<u8>>);

impl Areas {
    /// The parts at these paths, with or without a slash before and after.
    pub fn new<T: AsRef<[u8]>>(paths: impl IntoIterator<Item = T>) -> Self {
        let trimmed = |path: T| {
            let path = path.as_ref();
            let start = path.iter().take_while(|byte| **byte == b'/').count();
            let end = path.iter().rev().take_while(|byte| **byte == b'/').count();
            path[start..path.len().saturating_sub(end).max(start)].to_vec()
        };
        Self(paths.into_iter().map(trimmed).collect())
    }

    /// Whether `path` is in one of them.
    #[must_use]
    pub fn contains(&self, path: &[u8]) -> bool {
        let below = |area: &Vec<u8>| {
            area.is_empty()
                || path.strip_prefix(area.as_slice()).is_some_and(|it| matches!(it, [] | [b'/', ..]))
        };
        self.0.iter().any(below)
    }

    /// Their paths, without slashes around them.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl Default for Areas {
    /// Where services, administrators and steps write.
    fn default() -> Self {
        Self::new(["etc", "var", "home", "root", "srv", "opt"])
    }
}

/// How a checkout gets its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing<'a> {
    /// Every inode is the checkout's own: reflinked where the file system can, else copied.
    Private,
    /// Files outside these parts are further names of inodes in the store's link farm, for users
    /// who can't write there. Directories, links and devices are private, and so are files directly in the
    /// root, in these parts, or with a name there.
    Linked(&'a Areas),
}

impl<'a> Sharing<'a> {
    /// How a checkout gets its files whose users can write in `private` at most: where `target` (a
    /// directory) can share contents with objects, nothing else needs to be shared.
    #[must_use]
    pub fn where_needed(store: &Store, target: &Path, private: &'a Areas) -> Self {
        let shares = |top: std::sync::Arc<Dir>| top.fd().is_ok_and(|fd| store.shares_contents(fd));
        if Dir::top(target).is_ok_and(shares) { Self::Private } else { Self::Linked(private) }
    }
}

/// Files that were made and that other checkouts could share. They get their names in the farm once they are
/// on disk: [`Fresh::share`]. Dropped, they stay this checkout's own.
#[derive(Debug, Default)]
#[must_use]
pub struct Fresh {
    files: Vec<FreshFile>,
}

#[derive(Debug)]
struct FreshFile {
    path: Vec<u8>,
    link: LinkName,
    /// Device and inode of what was made.
    id: (u64, u64),
    /// The inode of that name has as many names as it can.
    replace: bool,
}

impl Fresh {
    /// Whether nothing was made that others could share.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Lets other checkouts share what was made below `target`, all of which is on disk, and where nobody
    /// could write yet.
    pub fn share(mut self, store: &Store, target: &Path) -> Result<(), CheckoutError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let failed = |source| CheckoutError::Io { action: "open", path: target.to_owned(), source };
        let top = Dir::top(target).map_err(failed)?;
        let (top, links) = (top.fd().map_err(failed)?, store.links()?);
        self.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let directories = self.files.chunk_by(|a, b| split(&a.path).0 == split(&b.path).0);
        let directories: Vec<&[FreshFile]> = directories.collect();
        let share = |files: &&[FreshFile]| -> Result<(), CheckoutError> {
            let Some(first) = files.first() else { return Ok(()) };
            let dir = fd::open_beneath(top.as_fd(), split(&first.path).0).map_err(failed)?;
            for file in *files {
                links.add(&file.link, &dir, split(&file.path).1, file.id, file.replace)?;
            }
            Ok(())
        };
        fd::in_pool(fd::Work::Link, || directories.par_iter().try_for_each(share))
    }
}

/// Which files of a tree may be shared.
pub(crate) struct Shareable<'a> {
    private: &'a Areas,
    /// First names of files that have others where users can write.
    exposed: HashSet<&'a [u8]>,
}

impl<'a> Shareable<'a> {
    pub(crate) fn new(tree: &'a Tree, private: &'a Areas) -> Self {
        let mut shareable = Self { private, exposed: HashSet::new() };
        let link = |entry: &'a Entry| match &entry.kind {
            Kind::Hardlink { target } if !shareable.contains(&entry.path) => Some(target.as_slice()),
            _ => None,
        };
        shareable.exposed = tree.entries().iter().filter_map(link).collect();
        shareable
    }

    /// Whether the file whose first name is `path` may be.
    pub(crate) fn contains(&self, path: &[u8]) -> bool {
        // The top directory itself can't be kept read-only without all that is below it.
        path.contains(&b'/') && !self.private.contains(path) && !self.exposed.contains(path)
    }
}

/// What came of a wish for a shared file.
pub(super) enum Linked {
    /// It has the name.
    Yes,
    /// This one isn't shared.
    No,
    /// What is made instead may be shared under this name; whether it takes another's place.
    Wanted { link: LinkName, replace: bool },
}

/// The link farm, for one checkout.
pub(super) struct Farm {
    links: Links,
    /// By the number of an entry.
    names: HashMap<usize, LinkName>,
    elsewhere: AtomicBool,
    fresh: Mutex<Fresh>,
}

impl Farm {
    /// For the files of `tree` that may be shared.
    pub(super) fn new(store: &Store, tree: &Tree, private: &Areas) -> Result<Self, CheckoutError> {
        let shareable = Shareable::new(tree, private);
        let shared = |(at, entry): (usize, &Entry)| match &entry.kind {
            Kind::File { object, .. } if shareable.contains(&entry.path) => {
                Some((at, LinkName::new(object, &entry.meta, 0)))
            }
            _ => None,
        };
        let first: Vec<(usize, LinkName)> =
            tree.entries().par_iter().enumerate().filter_map(shared).collect();
        // Equal files that are apart in the root stay apart.
        let mut uses: HashMap<LinkName, u32> = HashMap::with_capacity(first.len());
        let mut names = HashMap::with_capacity(first.len());
        for (at, name) in first {
            let ordinal = uses.entry(name).or_default();
            let entry = &tree.entries()[at];
            let name = match &entry.kind {
                Kind::File { object, .. } if *ordinal > 0 => LinkName::new(object, &entry.meta, *ordinal),
                _ => name,
            };
            *ordinal += 1;
            names.insert(at, name);
        }
        Self::of_names(store, names)
    }

    /// For the files of these numbers, of which the root holds no equals: which of the equal inodes those
    /// have isn't known.
    pub(super) fn of_some(
        store: &Store,
        tree: &Tree,
        private: &Areas,
        made: &[usize],
    ) -> Result<Self, CheckoutError> {
        let object = |entry: &Entry| match &entry.kind {
            Kind::File { object, .. } => Some(*object),
            _ => None,
        };
        let (entries, shareable) = (tree.entries(), Shareable::new(tree, private));
        let mut uses: HashMap<Digest, u32> =
            made.iter().filter_map(|at| Some((object(&entries[*at])?, 0))).collect();
        for found in entries.iter().filter_map(object) {
            if let Some(uses) = uses.get_mut(&found) {
                *uses += 1;
            }
        }
        let name = |at: &usize| {
            let entry = &entries[*at];
            let object = object(entry).filter(|it| uses.get(it) == Some(&1))?;
            shareable.contains(&entry.path).then(|| (*at, LinkName::new(&object, &entry.meta, 0)))
        };
        Self::of_names(store, made.iter().filter_map(name).collect())
    }

    fn of_names(store: &Store, names: HashMap<usize, LinkName>) -> Result<Self, CheckoutError> {
        Ok(Self { links: store.links()?, names, elsewhere: AtomicBool::new(false), fresh: Mutex::default() })
    }

    /// Gives the shared file of the entry `at` the name `name` in `dir`, if there is one.
    pub(super) fn link(&self, dir: &impl AsFd, name: &[u8], at: usize) -> io::Result<Linked> {
        let Some(link) = self.names.get(&at) else { return Ok(Linked::No) };
        if self.elsewhere.load(Ordering::Relaxed) {
            return Ok(Linked::No);
        }
        match self.links.link(link, dir, name)? {
            Shared::Done => Ok(Linked::Yes),
            Shared::Missing => Ok(Linked::Wanted { link: *link, replace: false }),
            Shared::Full => Ok(Linked::Wanted { link: *link, replace: true }),
            Shared::Elsewhere => {
                self.elsewhere.store(true, Ordering::Relaxed);
                Ok(Linked::No)
            }
        }
    }

    /// Remembers the file that was made for an entry since there was none to share.
    pub(super) fn made(
        &self,
        file: impl AsFd,
        entry: &Entry,
        (link, replace): (LinkName, bool),
    ) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        let file = FreshFile { path: entry.path.clone(), link, id: (stat.st_dev, stat.st_ino), replace };
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).files.push(file);
        Ok(())
    }

    pub(super) fn into_fresh(self) -> Fresh {
        self.fresh.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_directories_and_not_beginnings_of_names() {
        let areas = Areas::new(["/etc/", "var/lib"]);
        for inside in [&b"etc"[..], b"etc/passwd", b"var/lib", b"var/lib/x/y"] {
            assert!(areas.contains(inside));
        }
        for outside in [&b""[..], b"etcetera", b"var", b"var/library", b"usr/etc"] {
            assert!(!areas.contains(outside));
        }
        assert!(Areas::new(["/"]).contains(b"usr/bin"));
    }
}
