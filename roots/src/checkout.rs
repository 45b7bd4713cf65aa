//! A tree becomes a directory.
//!
//! Directory by directory: what is in it is made, then it gets its own owner, mode and time (since filling
//! it changes its time), and meanwhile others do the directories below. Hardlinks come last, since
//! they reach across directories.

pub mod check;
mod maker;
mod sharing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use rootbuild_cache::{Entry, Kind, Store, Tree};

use crate::cancel::{Cancel, Cancelled};
use crate::fd::{self, Dir, split};

pub(crate) use maker::Maker;
pub(crate) use sharing::Shareable;
pub use sharing::{Areas, Fresh, Sharing};

/// So many entries of one directory are worked on by one task.
const CHUNK: usize = 128;

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
    checkout_as(store, tree, target, Sharing::Private, cancel).map(|_| ())
}

/// [`checkout`] that may share files with other checkouts, as `sharing` says. What it had to make itself for
/// that is returned.
pub fn checkout_as(
    store: &Store,
    tree: &Tree,
    target: &Path,
    sharing: Sharing<'_>,
    cancel: &Cancel,
) -> Result<Fresh, CheckoutError> {
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
    let kind = if sharing == Sharing::Private { fd::Work::Write } else { fd::Work::Link };
    let maker = Maker::new(store, target, owner)?.sharing(tree, sharing)?;
    let work = Work {
        maker,
        tree,
        cancel,
        late: Late::new(tree),
        error: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    fd::in_pool(kind, || -> Result<(), CheckoutError> {
        rayon::scope(|scope| work.task(|| work.directory(scope, &top, 0)));
        work.outcome()?;
        let fd = top.fd().map_err(failed("open", target))?;
        work.links(fd.as_fd())?;
        work.late_directories(fd.as_fd())
    })?;
    Ok(work.maker.into_fresh())
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

/// What has to wait until all else is there.
struct Late {
    links: Vec<usize>,
    /// Whether the entry is a directory that gets its metadata then: names are still to come, or its mode
    /// would keep us out.
    directories: Vec<bool>,
}

impl Late {
    fn new(tree: &Tree) -> Self {
        let mut late = Self { links: Vec::new(), directories: vec![false; tree.entries().len()] };
        // The directories on the way, and where each ends.
        let mut way: Vec<(usize, usize)> = Vec::new();
        for (at, entry) in tree.entries().iter().enumerate() {
            while way.last().is_some_and(|(_, end)| *end <= at) {
                way.pop();
            }
            match &entry.kind {
                Kind::Directory => {
                    way.push((at, at + tree.directory(at).map_or(1, |(length, _)| length)));
                    late.directories[at] = entry.meta.mode & 0o700 != 0o700;
                }
                Kind::Hardlink { .. } => {
                    late.links.push(at);
                    late.directories[way.last().map_or(0, |(parent, _)| *parent)] = true;
                }
                _ => {}
            }
        }
        late
    }
}

struct Work<'a> {
    maker: Maker<'a>,
    tree: &'a Tree,
    cancel: &'a Cancel,
    late: Late,
    error: Mutex<Option<CheckoutError>>,
    stop: AtomicBool,
}

/// A directory that is being filled.
struct Open {
    dir: Arc<Dir>,
    at: usize,
    children: Vec<usize>,
    /// How many parts of it aren't done.
    left: AtomicUsize,
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
        let children: Vec<usize> = numbers(self.tree, at).collect();
        let parts = children.len().div_ceil(CHUNK).max(1);
        let open = Open { dir: Arc::clone(dir), at, children, left: AtomicUsize::new(parts) };
        let open = Arc::new(open);
        for part in 1..parts {
            let open = Arc::clone(&open);
            scope.spawn(move |scope| self.task(|| self.part(scope, &open, part)));
        }
        self.part(scope, &open, 0)
    }

    fn part<'s>(&'s self, scope: &Scope<'s>, open: &Arc<Open>, part: usize) -> Result<(), CheckoutError>
    where
        'a: 's,
    {
        let fd = open.dir.fd().map_err(|error| self.failed("open", self.entry(open.at))(error))?;
        for at in open.children.iter().skip(part * CHUNK).take(CHUNK).copied() {
            self.cancel.check()?;
            let entry = self.entry(at);
            let name = split(&entry.path).1;
            if entry.kind != Kind::Directory {
                self.maker.make(&fd, name, at, entry)?;
                continue;
            }
            rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o700))
                .map_err(|error| self.failed("make the directory", entry)(error.into()))?;
            let open = Arc::clone(open);
            scope.spawn(move |scope| {
                self.task(|| {
                    let (child, _) =
                        open.dir.child(name).map_err(|error| self.failed("open", entry)(error))?;
                    drop(open);
                    self.directory(scope, &child, at)
                });
            });
        }
        if open.left.fetch_sub(1, Ordering::AcqRel) == 1 && !self.late.directories[open.at] {
            self.finish(&fd, open.at)?;
        }
        Ok(())
    }

    /// Gives a directory that is full its own metadata.
    fn finish(&self, dir: &impl AsFd, at: usize) -> Result<(), CheckoutError> {
        let entry = self.entry(at);
        let owned = (entry.meta.uid, entry.meta.gid) == self.maker.owner() && at > 0;
        fd::set_metadata(dir, None, &entry.meta, owned, false)
            .map_err(|error| self.failed("set owner, mode and attributes of", entry)(error))
    }

    fn links(&self, top: BorrowedFd<'_>) -> Result<(), CheckoutError> {
        for at in &self.late.links {
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

    /// Deepest first: a mode may keep us out.
    fn late_directories(&self, top: BorrowedFd<'_>) -> Result<(), CheckoutError> {
        for at in (0..self.late.directories.len()).rev().filter(|at| self.late.directories[*at]) {
            self.cancel.check()?;
            let entry = self.entry(at);
            let dir = fd::open_beneath(top, &entry.path).map_err(self.failed("open", entry))?;
            self.finish(&dir, at)?;
        }
        Ok(())
    }
}

/// The numbers of the entries directly in the directory of number `at`.
fn numbers(tree: &Tree, at: usize) -> impl Iterator<Item = usize> {
    let end = at + tree.directory(at).map_or(1, |(length, _)| length);
    let mut next = at + 1;
    std::iter::from_fn(move || {
        let this = (next < end).then_some(next)?;
        let entry = &tree.entries()[this];
        next += if entry.is_directory() { tree.directory(this).map_or(1, |(length, _)| length) } else { 1 };
        Some(this)
    })
}
