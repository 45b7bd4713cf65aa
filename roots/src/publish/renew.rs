//! A checkout becomes one of another tree, by their difference.
//!
//! What stays is what is the same in both trees and, by the index, as it was when it was checked out.
//! All else goes and is made anew, whoever changed it. Hardlinked files stay with all their names or
//! go with all of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use rootbuild_cache::tree::{base_name, compare_paths, parent_path};
use rootbuild_cache::{Entry, Kind, Store, Tree};

use super::index::{Index, Known};
use crate::cancel::Cancel;
use crate::capture;
use crate::checkout::{CheckoutError, Fresh, Maker, Sharing};
use crate::fd::{self, Dir, Stat};

/// Makes `root`, which was checked out as `old` and had `index` then, a checkout of `new`. `stats` is what
/// stands there now of the entries of `new`, and nobody but us writes there. After an error `root` is
/// nothing any more. Returns what others could share, and what is known of the entries.
pub(super) fn renew(
    store: &Store,
    root: &Path,
    (old, index): (&Tree, &Index),
    (new, mut stats): (&Tree, Vec<Option<Stat>>),
    sharing: Sharing<'_>,
    cancel: &Cancel,
) -> Result<(Fresh, Known), CheckoutError> {
    let failed = |source| CheckoutError::Io { action: "update", path: root.to_owned(), source };
    let top = Dir::top(root).map_err(failed)?;
    let plan = Plan::new(&top, (old, index), (new, &stats)).map_err(failed)?;
    let fresh = plan.apply(store, root, &top, sharing, cancel)?;
    for at in plan.made.iter().chain(&plan.touched) {
        stats[*at] = None;
    }
    Ok((fresh, Known(stats)))
}

/// What is to be done.
struct Plan<'t> {
    new: &'t Tree,
    /// Directories of the new tree that are there.
    there: HashSet<usize>,
    /// Names to be removed, with the number of their directory.
    removed: Vec<(usize, Vec<u8>)>,
    /// Entries to be made, in order.
    made: Vec<usize>,
    /// Directories whose metadata is set again at the end.
    touched: BTreeSet<usize>,
}

impl<'t> Plan<'t> {
    fn new(
        top: &Arc<Dir>,
        (old, index): (&Tree, &Index),
        (new, stats): (&'t Tree, &[Option<Stat>]),
    ) -> io::Result<Self> {
        let (beside, gone) = compare(old, new);
        let untouched = |at: usize| {
            // The top one was renamed.
            let before = beside[at].filter(|_| at > 0).and_then(|it| index.get(it));
            stats[at].is_some_and(|stat| before.is_some_and(|it| it.is(&stat)))
        };
        let same = |at: usize| beside[at].is_some_and(|it| old.entries()[it] == new.entries()[at]);
        let good = files(old, new, |at| {
            untouched(at) && same(at) && stats[at].is_some_and(|stat| is(&stat, &new.entries()[at]))
        });
        let mut plan = Self {
            new,
            there: HashSet::new(),
            removed: Vec::new(),
            made: Vec::new(),
            touched: BTreeSet::from([0]),
        };
        let mut way: Vec<(usize, usize)> = Vec::new();
        for (at, entry) in new.entries().iter().enumerate() {
            while way.last().is_some_and(|(_, end)| *end <= at) {
                way.pop();
            }
            let parent = way.last().map_or(0, |(parent, _)| *parent);
            let directory = new.directory(at);
            if let Some((length, _)) = directory {
                way.push((at, at + length));
            }
            let stat = stats[at];
            if directory.is_some() && stat.is_some_and(|it| it.kind == FileType::Directory) {
                plan.there.insert(at);
                if !untouched(at) {
                    plan.foreign_names(top, at)?;
                    plan.touched.insert(at);
                } else if !same(at) || !stat.is_some_and(|it| is(&it, entry)) {
                    plan.touched.insert(at);
                }
            } else if !good.contains(&at) {
                if stat.is_some() {
                    plan.removed.push((parent, base_name(&entry.path).to_vec()));
                }
                plan.made.push(at);
                plan.touched.insert(parent);
                if directory.is_some() {
                    plan.touched.insert(at);
                }
            }
        }
        for entry in gone {
            let parent = new.range(parent_path(&entry.path).unwrap_or_default());
            if plan.there.contains(&parent.start) && !parent.is_empty() && untouched(parent.start) {
                plan.removed.push((parent.start, base_name(&entry.path).to_vec()));
                plan.touched.insert(parent.start);
            }
        }
        Ok(plan)
    }

    /// Has all names removed that stand in a directory and don't belong there.
    fn foreign_names(&mut self, top: &Arc<Dir>, at: usize) -> io::Result<()> {
        let path = &self.new.entries()[at].path;
        let dir = descend(top, path)?;
        let fd = dir.fd()?;
        // Such flags (`chattr`) aren't part of a tree, so they can't be put right.
        if at > 0 && flags(&fd) != flags(top.fd()?) {
            return Err(io::Error::other("a directory has flags"));
        }
        let ours: HashSet<&[u8]> = self.new.children(path).map(|it| base_name(&it.entries[0].path)).collect();
        for it in fd::children(&fd)? {
            if !ours.contains(it.name.as_slice()) {
                self.removed.push((at, it.name));
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        store: &Store,
        root: &Path,
        top: &Arc<Dir>,
        sharing: Sharing<'_>,
        cancel: &Cancel,
    ) -> Result<Fresh, CheckoutError> {
        let entries = self.new.entries();
        // Nobody's owner: what is made may stand in a directory that passes its group on.
        let maker =
            Maker::new(store, root, (u32::MAX, u32::MAX))?.sharing_some(self.new, sharing, &self.made)?;
        for at in self.touched.intersection(&self.there.iter().copied().collect()) {
            let entry = &entries[*at];
            let free = || fd::remove_xattr(descend(top, &entry.path)?.fd()?, "system.posix_acl_default");
            free().map_err(maker.failed("open", entry))?;
        }
        for (at, name) in &self.removed {
            cancel.check()?;
            let entry = &entries[*at];
            let remove = || fd::remove(&descend(top, &entry.path)?, name);
            remove().map_err(maker.failed("remove something of", entry))?;
        }
        for at in &self.made {
            cancel.check()?;
            let entry = &entries[*at];
            let (parent, name) = fd::split(&entry.path);
            let dir = descend(top, parent).map_err(maker.failed("make", entry))?;
            let fd = dir.fd().map_err(maker.failed("make", entry))?;
            if entry.is_directory() {
                rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o700))
                    .map_err(|error| maker.failed("make", entry)(error.into()))?;
            } else {
                maker.make(&fd, name, *at, entry)?;
            }
        }
        for entry in self.made.iter().map(|at| &entries[*at]) {
            let Kind::Hardlink { target } = &entry.kind else { continue };
            let link = || -> io::Result<()> {
                let (from, to) = (fd::split(target), fd::split(&entry.path));
                let (from_dir, to_dir) = (descend(top, from.0)?, descend(top, to.0)?);
                Ok(rustix::fs::linkat(from_dir.fd()?, from.1, to_dir.fd()?, to.1, AtFlags::empty())?)
            };
            link().map_err(maker.failed("link", entry))?;
        }
        // Deepest first.
        for at in self.touched.iter().rev() {
            let entry = &entries[*at];
            set_directory(top, entry).map_err(maker.failed("set owner, mode and attributes of", entry))?;
        }
        Ok(maker.into_fresh())
    }
}

/// Gives a directory exactly the metadata that its entry has.
fn set_directory(top: &Arc<Dir>, entry: &Entry) -> io::Result<()> {
    let dir = descend(top, &entry.path)?;
    let fd = dir.fd()?;
    for (name, _) in fd::list_xattrs(&fd, None, capture::belongs)? {
        match rustix::fs::fremovexattr(&fd, name.as_slice()) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    fd::set_metadata(&fd, None, &entry.meta, false, false)
}

fn flags(file: impl rustix::fd::AsFd) -> Option<rustix::fs::IFlags> {
    // How the file system keeps a large directory.
    let own = rustix::fs::IFlags::from_bits_retain(0x1000);
    rustix::fs::ioctl_getflags(file).ok().map(|flags| flags - own)
}

fn descend(top: &Arc<Dir>, path: &[u8]) -> io::Result<Arc<Dir>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.into_iter().try_fold(Arc::clone(top), |dir, name| Ok(dir.child(name)?.0))
}

/// Whether what is there looks as the entry says; a link's other names are looked at by themselves.
fn is(stat: &Stat, entry: &Entry) -> bool {
    let meta = &entry.meta;
    let length = match entry.kind {
        Kind::File { size, .. } => stat.kind == FileType::RegularFile && stat.size == size,
        _ => true,
    };
    let mode = stat.kind == FileType::Symlink || stat.mode == meta.mode;
    length && mode && (stat.uid, stat.gid, stat.mtime) == (meta.uid, meta.gid, meta.mtime)
}

/// For each entry of `new` the number of the one of that path in `old`; and those of `old` that `new`
/// hasn't.
fn compare<'o>(old: &'o Tree, new: &Tree) -> (Vec<Option<usize>>, Vec<&'o Entry>) {
    let (mut beside, mut gone) = (Vec::with_capacity(new.entries().len()), Vec::new());
    let mut theirs = old.entries().iter().enumerate().peekable();
    for entry in new.entries() {
        while let Some((_, it)) = theirs.next_if(|(_, it)| compare_paths(&it.path, &entry.path).is_lt()) {
            gone.push(it);
        }
        beside.push(theirs.next_if(|(_, it)| it.path == entry.path).map(|(number, _)| number));
    }
    gone.extend(theirs.map(|(_, it)| it));
    (beside, gone)
}

/// The files that stay: all of whose names are `good`, and were all in the old tree.
fn files(old: &Tree, new: &Tree, good: impl Fn(usize) -> bool) -> HashSet<usize> {
    let mut names: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (at, entry) in new.entries().iter().enumerate() {
        if let Kind::Hardlink { target } = &entry.kind {
            names.entry(target).or_default().push(at);
        }
    }
    let mut before: HashMap<&[u8], usize> = HashMap::new();
    for entry in old.entries() {
        if let Kind::Hardlink { target } = &entry.kind {
            *before.entry(target).or_default() += 1;
        }
    }
    let mut stay = HashSet::with_capacity(new.entries().len());
    for (at, entry) in new.entries().iter().enumerate() {
        if matches!(entry.kind, Kind::Directory | Kind::Hardlink { .. }) {
            continue;
        }
        let path = entry.path.as_slice();
        let links = names.get(path).map_or(&[][..], Vec::as_slice);
        let all = before.get(path).copied().unwrap_or(0) == links.len();
        if all && good(at) && links.iter().all(|link| good(*link)) {
            stay.insert(at);
            stay.extend(links);
        }
    }
    stay
}
