//! A checkout becomes one of another tree, by their difference.
//!
//! What stays is what is the same in both trees and, by the index, as it was when it was checked out.
//! All else goes and is made anew, whoever changed it. Hardlinked files stay with all their names or
//! go with all of them.

mod compare;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use rootbuild_cache::tree::{base_name, parent_path};
use rootbuild_cache::{Entry, Kind, Store, Tree};

use super::index::{Index, Known, Names};
use crate::cancel::Cancel;
use crate::capture;
use crate::checkout::{CheckoutError, Fresh, Maker, Sharing};
use crate::fd::{self, Dir, Stat};
use compare::{Compared, staying};

/// What is known of what stands in the checkout that becomes another.
pub(super) enum Found {
    /// Nobody could come to it since the index was taken: all is as it says.
    AsIndexed,
    /// What stands there now of each entry of the new tree.
    Stats(Vec<Option<Stat>>),
}

/// Makes `root`, which was checked out as `old` and had `index` then, a checkout of `new`. Nobody but us
/// writes there. After an error `root` is nothing any more. Returns what others could share, and what is known of
/// the entries.
pub(super) fn renew(
    store: &Store,
    root: &Path,
    (old, index): (&Tree, &Index),
    (new, found): (&Tree, &Found),
    sharing: Sharing<'_>,
    cancel: &Cancel,
) -> Result<(Fresh, Known), CheckoutError> {
    let failed = |source| CheckoutError::Io { action: "update", path: root.to_owned(), source };
    let top = Dir::top(root).map_err(failed)?;
    let state = State { old, index, new, found, compared: Compared::new(old, new) };
    let plan = Plan::new(&top, &state).map_err(failed)?;
    let dirs = Dirs { top: &top, found: Mutex::default() };
    let fresh = plan.apply(store, root, &dirs, sharing, cancel)?;
    let mut known = state.known();
    let names = Names::of(new);
    for at in plan.made.iter().chain(&plan.touched).copied() {
        let stat = || {
            let (parent, name) = fd::split(&new.entries()[at].path);
            let dir = dirs.get(parent)?;
            if at == 0 { fd::stat(dir.fd()?) } else { fd::stat_at(dir.fd()?, name) }
        };
        // What others are to share is still to get another name.
        let settled = fresh.is_empty() || new.entries()[at].is_directory();
        known.0[at] = if settled { Some(names.seen(at, &stat().map_err(failed)?)) } else { None };
    }
    Ok((fresh, known))
}

/// Two trees, and what stands of the first.
struct State<'t> {
    old: &'t Tree,
    index: &'t Index,
    new: &'t Tree,
    found: &'t Found,
    compared: Compared<'t>,
}

impl State<'_> {
    /// Whether anything stands at the place of an entry of the new tree.
    fn is_there(&self, at: usize) -> bool {
        match self.found {
            Found::AsIndexed => self.compared.beside(at).is_some(),
            Found::Stats(stats) => stats[at].is_some(),
        }
    }

    fn is_directory_there(&self, at: usize) -> bool {
        let old = || self.compared.beside(at).is_some_and(|it| self.old.entries()[it].is_directory());
        self.new.entries()[at].is_directory()
            && match self.found {
                Found::AsIndexed => old(),
                Found::Stats(stats) => stats[at].is_some_and(|it| it.kind == FileType::Directory),
            }
    }

    /// Whether what is there is what was checked out.
    fn is_untouched(&self, at: usize) -> bool {
        match (self.found, self.compared.beside(at)) {
            // The top one was renamed.
            (_, None) | (Found::Stats(_), Some(0)) => false,
            (Found::AsIndexed, Some(_)) => true,
            (Found::Stats(stats), Some(before)) => {
                stats[at].is_some_and(|stat| self.index.get(before).is_some_and(|it| it.is(&stat)))
            }
        }
    }

    /// Whether it is what the new tree wants, if it is untouched.
    fn is_same(&self, at: usize) -> bool {
        self.compared.is_same(at)
            && match self.found {
                Found::AsIndexed => true,
                Found::Stats(stats) => stats[at].is_some_and(|stat| is(&stat, &self.new.entries()[at])),
            }
    }

    /// What was known before anything was done.
    fn known(&self) -> Known {
        match self.found {
            Found::Stats(stats) => Known::of(self.new, stats),
            Found::AsIndexed => {
                let seen = |at| self.compared.beside(at).and_then(|it| self.index.get(it).copied());
                Known((0..self.new.entries().len()).map(seen).collect())
            }
        }
    }
}

/// What is to be done.
struct Plan<'t> {
    new: &'t Tree,
    /// Names to be removed, with the number of their directory.
    removed: Vec<(usize, Vec<u8>)>,
    /// Entries to be made, in order.
    made: Vec<usize>,
    /// Directories whose metadata is set again at the end.
    touched: BTreeSet<usize>,
    /// Those of them that are there already.
    standing: Vec<usize>,
}

impl<'t> Plan<'t> {
    fn new(top: &Arc<Dir>, state: &State<'t>) -> io::Result<Self> {
        let new = state.new;
        let good = |at: usize| state.is_same(at) && state.is_untouched(at);
        let good = staying(state.old, new, (0..new.entries().len()).map(good).collect());
        let mut plan = Self {
            new,
            removed: Vec::new(),
            made: Vec::new(),
            touched: BTreeSet::from([0]),
            standing: Vec::new(),
        };
        for (at, entry) in new.entries().iter().enumerate().filter(|(at, _)| !good[*at]) {
            if state.is_directory_there(at) {
                if !state.is_untouched(at) {
                    plan.foreign_names(top, at)?;
                }
                plan.touched.insert(at);
                continue;
            }
            let parent = new.range(parent_path(&entry.path).unwrap_or_default()).start;
            if state.is_there(at) {
                plan.removed.push((parent, base_name(&entry.path).to_vec()));
            }
            plan.made.push(at);
            plan.touched.insert(parent);
            if entry.is_directory() {
                plan.touched.insert(at);
            }
        }
        for entry in state.compared.gone() {
            let parent = new.range(parent_path(&entry.path).unwrap_or_default());
            let there = !parent.is_empty() && state.is_directory_there(parent.start);
            // Where the directory isn't as it was, all that doesn't belong there goes anyway.
            if there && state.is_untouched(parent.start) {
                plan.removed.push((parent.start, base_name(&entry.path).to_vec()));
                plan.touched.insert(parent.start);
            }
        }
        plan.standing = plan.touched.iter().copied().filter(|at| state.is_directory_there(*at)).collect();
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
        dirs: &Dirs<'t>,
        sharing: Sharing<'_>,
        cancel: &Cancel,
    ) -> Result<Fresh, CheckoutError> {
        let entries = self.new.entries();
        // Nobody's owner: what is made may stand in a directory that passes its group on.
        let maker =
            Maker::new(store, root, (u32::MAX, u32::MAX))?.sharing_some(self.new, sharing, &self.made)?;
        for at in &self.standing {
            let entry = &entries[*at];
            let free = || fd::remove_xattr(dirs.get(&entry.path)?.fd()?, "system.posix_acl_default");
            free().map_err(maker.failed("open", entry))?;
        }
        for (at, name) in &self.removed {
            cancel.check()?;
            let entry = &entries[*at];
            let remove = || fd::remove(&dirs.get(&entry.path)?, name);
            remove().map_err(maker.failed("remove something of", entry))?;
        }
        for entry in self.made.iter().map(|at| &entries[*at]).filter(|entry| entry.is_directory()) {
            cancel.check()?;
            let (parent, name) = fd::split(&entry.path);
            let make = || -> io::Result<()> {
                Ok(rustix::fs::mkdirat(dirs.get(parent)?.fd()?, name, Mode::from_raw_mode(0o700))?)
            };
            make().map_err(maker.failed("make", entry))?;
        }
        let files: Vec<usize> = self.made.iter().copied().filter(|at| !entries[*at].is_directory()).collect();
        let parent = |at: &usize| fd::split(&entries[*at].path).0;
        let by_directory: Vec<&[usize]> = files.chunk_by(|a, b| parent(a) == parent(b)).collect();
        let fill = |files: &&[usize]| -> Result<(), CheckoutError> {
            for at in *files {
                cancel.check()?;
                let entry = &entries[*at];
                let dir = dirs.get(parent(at)).map_err(maker.failed("make", entry))?;
                let fd = dir.fd().map_err(maker.failed("make", entry))?;
                maker.make(&fd, base_name(&entry.path), *at, entry)?;
            }
            Ok(())
        };
        fd::in_pool(fd::Work::Write, || by_directory.par_iter().try_for_each(fill))?;
        for entry in self.made.iter().map(|at| &entries[*at]) {
            let Kind::Hardlink { target } = &entry.kind else { continue };
            let link = || -> io::Result<()> {
                let (from, to) = (fd::split(target), fd::split(&entry.path));
                let (from_dir, to_dir) = (dirs.get(from.0)?, dirs.get(to.0)?);
                Ok(rustix::fs::linkat(from_dir.fd()?, from.1, to_dir.fd()?, to.1, AtFlags::empty())?)
            };
            link().map_err(maker.failed("link", entry))?;
        }
        // Deepest first.
        for at in self.touched.iter().rev() {
            let entry = &entries[*at];
            let set = || set_directory(dirs.get(&entry.path)?.fd()?, entry);
            set().map_err(maker.failed("set owner, mode and attributes of", entry))?;
        }
        Ok(maker.into_fresh())
    }
}

/// Directories below one, each looked for once.
struct Dirs<'t> {
    top: &'t Arc<Dir>,
    found: Mutex<HashMap<&'t [u8], Arc<Dir>>>,
}

impl<'t> Dirs<'t> {
    /// The directory at `path`, which must stay where it is from now on.
    fn get(&self, path: &'t [u8]) -> io::Result<Arc<Dir>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = path;
        let mut dir = loop {
            match found.get(known) {
                _ if known.is_empty() => break Arc::clone(self.top),
                Some(found) => break Arc::clone(found),
                None => known = fd::split(known).0,
            }
        };
        while known.len() < path.len() {
            let start = if known.is_empty() { 0 } else { known.len() + 1 };
            let name = path[start..].split(|byte| *byte == b'/').next().unwrap_or_default();
            dir = dir.child(name)?.0;
            known = &path[..start + name.len()];
            found.insert(known, Arc::clone(&dir));
        }
        Ok(dir)
    }
}

/// Gives a directory exactly the metadata that its entry has.
fn set_directory(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    for (name, _) in fd::list_xattrs(&fd, None, capture::belongs)? {
        match rustix::fs::fremovexattr(&fd, name.as_slice()) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    fd::set_metadata(&fd, None, &entry.meta, false, false)
}

fn flags(file: impl AsFd) -> Option<rustix::fs::IFlags> {
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
