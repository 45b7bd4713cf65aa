//! A tree becomes a directory.
//!
//! Three passes: everything but hardlinks, one task per directory (created 0700, so that nobody
//! looks in before it is whole); hardlinks; then the directories' own owners, modes and times,
//! deepest first, since filling a directory changes its time and a mode may forbid to go in.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rayon::prelude::*;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use rootbuild_cache::{Entry, Kind, Store, Tree};

use crate::cancel::{Cancel, Cancelled};
use crate::fd::{self, Copier, Dir, split};

/// So many entries of one directory are worked on by one task.
const CHUNK: usize = 64;

/// A tree couldn't be checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// A file or directory couldn't be written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The target has something in it.
    #[error("`{}` is not empty", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// An object isn't as long as the tree says.
    #[error("the store is damaged: the content of `{}` has {found} bytes, not {expected}", path.display())]
    Length {
        /// The file, in the target.
        path: PathBuf,
        /// What the tree says, in bytes.
        expected: u64,
        /// The object's length, in bytes.
        found: u64,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Writes `tree` into `target`, which must be an existing empty directory (its own metadata is set
/// too). Every inode is private to the checkout: reflinked where the file system can, else copied.
///
/// On an error, and when cancelled, what was written so far is left there: the caller throws the
/// staging directory away that the target stands in.
pub fn checkout(store: &Store, tree: &Tree, target: &Path, cancel: &Cancel) -> Result<(), CheckoutError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| CheckoutError::Io { action, path, source }
    };
    let top = Dir::top(target).map_err(failed("open", target))?;
    let owner = {
        let fd = top.fd().map_err(failed("open", target))?;
        if !fd::children(&fd).map_err(failed("read", target))?.is_empty() {
            return Err(CheckoutError::NotEmpty { path: target.to_owned() });
        }
        prepare(&fd).map_err(failed("prepare", target))?
    };
    let index = Index::new(tree);
    let work = Work {
        maker: Maker::new(store, target, owner),
        tree,
        cancel,
        index: &index,
        error: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    fd::in_pool(fd::Work::Write, || -> Result<(), CheckoutError> {
        rayon::scope(|scope| work.task(|| work.directory(scope, &top, 0)));
        work.outcome()?;
        let fd = top.fd().map_err(failed("open", target))?;
        work.links(fd.as_fd())?;
        work.directories(fd.as_fd())
    })
}

/// Takes away what children would inherit from the target (a default ACL, a group), and tells who
/// owns what is made there.
fn prepare(target: &impl AsFd) -> io::Result<(u32, u32)> {
    fd::remove_xattr(target, "system.posix_acl_default")?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(0o700))?;
    rustix::fs::mkdirat(target, "probe", Mode::from_raw_mode(0o700))?;
    let stat = fd::stat_at(target, b"probe")?;
    rustix::fs::unlinkat(target, "probe", AtFlags::REMOVEDIR)?;
    Ok((stat.uid, stat.gid))
}

/// Which entries lie directly in which directory, by their place in the tree.
struct Index {
    /// For each entry the entries directly in it (empty but for directories).
    children: Vec<Vec<usize>>,
    links: Vec<usize>,
    /// Directories by depth, the root first.
    levels: Vec<Vec<usize>>,
}

impl Index {
    fn new(tree: &Tree) -> Self {
        let entries = tree.entries();
        let mut index =
            Self { children: vec![Vec::new(); entries.len()], links: Vec::new(), levels: Vec::new() };
        // Parents come before their children, so the way down to the current entry is a stack.
        let mut above: Vec<usize> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let parent = split(&entry.path).0;
            while above.last().is_some_and(|last| *last != 0 && entries[*last].path != parent) {
                above.pop();
            }
            if let (Some(last), false) = (above.last(), entry.path.is_empty()) {
                index.children[*last].push(at);
            }
            match entry.kind {
                Kind::Directory => {
                    if index.levels.len() <= above.len() {
                        index.levels.push(Vec::new());
                    }
                    index.levels[above.len()].push(at);
                    above.push(at);
                }
                Kind::Hardlink { .. } => index.links.push(at),
                _ => {}
            }
        }
        index
    }
}

/// Makes single entries of a tree.
pub(crate) struct Maker<'a> {
    store: &'a Store,
    target: &'a Path,
    /// Who owns what is made in the target.
    owner: (u32, u32),
    copier: Copier,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(store: &'a Store, target: &'a Path, owner: (u32, u32)) -> Self {
        Self { store, target, owner, copier: Copier::new() }
    }

    pub(crate) fn failed(
        &self,
        action: &'static str,
        entry: &Entry,
    ) -> impl FnOnce(io::Error) -> CheckoutError + use<> {
        let path = self.shown(entry);
        move |source| CheckoutError::Io { action, path, source }
    }

    fn shown(&self, entry: &Entry) -> PathBuf {
        self.target.join(Path::new(std::ffi::OsStr::from_bytes(&entry.path)))
    }

    /// Makes what is no directory and no further name of a file.
    pub(crate) fn make(&self, dir: &impl AsFd, name: &[u8], entry: &Entry) -> Result<(), CheckoutError> {
        let meta = &entry.meta;
        let owned = (meta.uid, meta.gid) == self.owner;
        let made = match &entry.kind {
            Kind::File { object, size } => {
                let from = if *size == 0 { None } else { Some(self.store.open_object(object)?) };
                return self.file(dir, name, entry, owned, from.as_ref(), *size);
            }
            Kind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), dir, name),
            Kind::CharDevice { major, minor } => {
                node(dir, name, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                node(dir, name, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Fifo => node(dir, name, FileType::Fifo, 0),
            Kind::Directory | Kind::Hardlink { .. } => return Ok(()),
        };
        let symlink = matches!(entry.kind, Kind::Symlink { .. });
        made.map_err(io::Error::from)
            .and_then(|()| fd::set_metadata(dir, Some(name), meta, owned, symlink))
            .map_err(self.failed("make", entry))
    }

    fn file(
        &self,
        dir: &impl AsFd,
        name: &[u8],
        entry: &Entry,
        owned: bool,
        from: Option<&File>,
        size: u64,
    ) -> Result<(), CheckoutError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| self.failed("make", entry)(error.into()))?;
        let file = File::from(file);
        if let Some(from) = from {
            let found = self.copier.copy(from, &file).map_err(self.failed("write", entry))?;
            if found != size {
                return Err(CheckoutError::Length { path: self.shown(entry), expected: size, found });
            }
        }
        fd::set_metadata(&file, None, &entry.meta, owned, false)
            .map_err(self.failed("set owner, mode and attributes of", entry))
    }
}

struct Work<'a> {
    maker: Maker<'a>,
    tree: &'a Tree,
    cancel: &'a Cancel,
    index: &'a Index,
    error: Mutex<Option<CheckoutError>>,
    stop: AtomicBool,
}

impl<'a> Work<'a> {
    /// Runs a part, unless another failed; keeps the first error.
    fn task(&self, work: impl FnOnce() -> Result<(), CheckoutError>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.cancel.check().map_err(CheckoutError::from).and_then(|()| work()) {
            self.stop.store(true, Ordering::Relaxed);
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn outcome(&self) -> Result<(), CheckoutError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn failed(&self, action: &'static str, entry: &Entry) -> impl FnOnce(io::Error) -> CheckoutError + use<> {
        self.maker.failed(action, entry)
    }

    fn entry(&self, at: usize) -> &'a Entry {
        &self.tree.entries()[at]
    }

    fn directory<'s>(&'s self, scope: &Scope<'s>, dir: &Arc<Dir>, at: usize) -> Result<(), CheckoutError>
    where
        'a: 's,
    {
        let children = self.index.children[at].as_slice();
        let (own, others) = children.split_at(children.len().min(CHUNK));
        for part in others.chunks(CHUNK) {
            let dir = Arc::clone(dir);
            scope.spawn(move |scope| self.task(|| self.children(scope, &dir, part)));
        }
        self.children(scope, dir, own)
    }

    fn children<'s>(
        &'s self,
        scope: &Scope<'s>,
        dir: &Arc<Dir>,
        children: &'s [usize],
    ) -> Result<(), CheckoutError>
    where
        'a: 's,
    {
        let Some(first) = children.first() else { return Ok(()) };
        let fd = dir.fd().map_err(self.failed("open the directory of", self.entry(*first)))?;
        for at in children {
            self.cancel.check()?;
            let entry = self.entry(*at);
            let name = split(&entry.path).1;
            if entry.kind != Kind::Directory {
                self.maker.make(&fd, name, entry)?;
                continue;
            }
            rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o700))
                .map_err(|error| self.failed("make the directory", entry)(error.into()))?;
            let (dir, at) = (Arc::clone(dir), *at);
            scope.spawn(move |scope| {
                self.task(|| {
                    let (child, _) = dir.child(name).map_err(self.failed("open", entry))?;
                    self.directory(scope, &child, at)
                });
            });
        }
        Ok(())
    }

    fn links(&self, top: BorrowedFd<'_>) -> Result<(), CheckoutError> {
        for at in &self.index.links {
            self.cancel.check()?;
            let entry = self.entry(*at);
            let Kind::Hardlink { target } = &entry.kind else { continue };
            let link = || -> io::Result<()> {
                let (from, to) = (split(target), split(&entry.path));
                let (from_dir, to_dir) = (fd::open_beneath(top, from.0)?, fd::open_beneath(top, to.0)?);
                match rustix::fs::linkat(&from_dir, from.1, &to_dir, to.1, AtFlags::empty()) {
                    // So many names that the file system can't: the last resort is a copy, which
                    // would be another tree. Say so.
                    Err(Errno::MLINK) => Err(io::Error::other("the file system allows no more hardlinks")),
                    done => Ok(done?),
                }
            };
            link().map_err(self.failed("link", entry))?;
        }
        Ok(())
    }

    fn directories(&self, top: BorrowedFd<'_>) -> Result<(), CheckoutError> {
        let finish = |at: &usize| {
            let entry = self.entry(*at);
            let owned = (entry.meta.uid, entry.meta.gid) == self.maker.owner && !entry.path.is_empty();
            let open = fd::open_beneath(top, &entry.path);
            open.and_then(|dir| fd::set_metadata(&dir, None, &entry.meta, owned, false))
                .map_err(self.failed("set owner, mode and attributes of", entry))
        };
        for level in self.index.levels.iter().rev() {
            self.cancel.check()?;
            level.par_iter().with_min_len(CHUNK).try_for_each(finish)?;
        }
        Ok(())
    }
}

fn node(dir: &impl AsFd, name: &[u8], kind: FileType, device: u64) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device)
}
