//! What the file system said of every name of a checkout when it was handed over: `<n>.index`. Whatever
//! is written there afterwards, or changed of owner, mode and attributes, shows in the ctime. Of a file
//! that is shared with other checkouts the ctime also tells of names that came and went elsewhere: it is written
//! as 0, and doesn't count. Nobody can write in such a file where the root is used as it is meant to.
//!
//! ```text
//! "RBINDEX1"  the tree's digest, 32 bytes
//! entry*      in the tree's order: inode (8) size (8) mtime (8, 4) ctime (8, 4), little-endian
//! BLAKE3 of everything before, 32 bytes
//! ```

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Scope;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FileType;

use rootbuild_cache::tree::base_name;
use rootbuild_cache::{Digest, Kind, Mtime, Tree};

use crate::fd::{self, Dir, Stat};

const MAGIC: &[u8] = b"RBINDEX1";
const ENTRY: usize = 40;
/// A directory with so many entries below it is looked at by a task of its own.
const APART: usize = 64;

/// What tells that a file wasn't touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: u64,
    mtime: Mtime,
    ctime: Mtime,
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self { inode: stat.id.1, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }

    fn shared(self) -> Self {
        Self { ctime: Mtime::default(), ..self }
    }

    /// Whether what is there now is as it was.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        let now = Self::of(stat);
        *self == if self.ctime == Mtime::default() { now.shared() } else { now }
    }
}

/// Tells which files of a tree are shared with other checkouts: they have more names than it gives them.
pub(super) struct Names<'t> {
    tree: &'t Tree,
    /// How many a file of several has, by the first.
    names: HashMap<&'t [u8], u32>,
}

impl<'t> Names<'t> {
    pub(super) fn of(tree: &'t Tree) -> Self {
        let mut names = HashMap::new();
        for entry in tree.entries() {
            if let Kind::Hardlink { target } = &entry.kind {
                *names.entry(target.as_slice()).or_insert(1) += 1;
            }
        }
        Self { tree, names }
    }

    /// What there is to see of the entry of this number.
    pub(super) fn seen(&self, at: usize, stat: &Stat) -> Seen {
        let shared = stat.kind == FileType::RegularFile && stat.links > 1 && {
            let first = &self.tree.resolve(&self.tree.entries()[at]).path;
            stat.links > self.names.get(first.as_slice()).copied().unwrap_or(1)
        };
        if shared { Seen::of(stat).shared() } else { Seen::of(stat) }
    }
}

/// What the entries of a checkout are known to be, and that nobody could change them since; empty where
/// nothing is known.
#[derive(Debug, Default)]
pub(super) struct Known(pub(super) Vec<Option<Seen>>);

impl Known {
    /// Of what stands for each entry of `tree`, in its order.
    pub(super) fn of(tree: &Tree, stats: &[Option<Stat>]) -> Self {
        let names = Names::of(tree);
        let seen = stats.iter().enumerate().map(|(at, stat)| Some(names.seen(at, stat.as_ref()?)));
        Self(seen.collect())
    }
}

/// All of a checkout, in its tree's order.
#[derive(Debug)]
pub(super) struct Index {
    tree: Digest,
    seen: Vec<Seen>,
}

impl Index {
    /// Looks at all of the checkout `root` of `tree` that isn't known; afterwards nothing can change there and
    /// look the same.
    pub(super) fn take(root: &Path, tree: &Tree, known: Known) -> io::Result<Self> {
        let Known(mut known) = known;
        if known.is_empty() {
            Known(known) = Known::of(tree, &stats(root, tree)?);
        } else {
            look_at_rest(root, tree, &mut known)?;
        }
        let seen = known.into_iter().collect::<Option<Vec<Seen>>>();
        let seen = seen.ok_or_else(|| io::Error::other("something of the checkout is missing"))?;
        fd::settle(root, seen.iter().map(|it| it.ctime).max().unwrap_or_default());
        Ok(Self { tree: tree.digest(), seen })
    }

    /// The tree that was checked out.
    pub(super) fn tree(&self) -> &Digest {
        &self.tree
    }

    /// Whether it is one of `tree`.
    pub(super) fn is_of(&self, tree: &Tree) -> bool {
        self.tree == tree.digest() && self.seen.len() == tree.entries().len()
    }

    /// The inode numbers of all that was there.
    pub(super) fn inodes(&self) -> HashSet<u64> {
        self.seen.iter().map(|it| it.inode).collect()
    }

    /// What the entry of this number was.
    pub(super) fn get(&self, number: usize) -> Option<&Seen> {
        self.seen.get(number)
    }

    /// Writes it. Not durably: half a file is seen to be one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 64 + self.seen.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.tree.as_bytes());
        for Seen { inode, size, mtime, ctime } in &self.seen {
            bytes.extend_from_slice(&inode.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            for time in [mtime, ctime] {
                bytes.extend_from_slice(&time.seconds.to_le_bytes());
                bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
            }
        }
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        let written = fs::write(path, bytes);
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    }

    /// The index of a checkout; `None` where there is none, or no whole one.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let (tree, entries) = content.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        let whole = Digest::of(content).as_bytes() == digest && entries.len().is_multiple_of(ENTRY);
        let seen = entries.chunks_exact(ENTRY).map(|it| {
            let word = |at: usize| Some(u64::from_le_bytes(it.get(at..at + 8)?.try_into().ok()?));
            let half = |at: usize| Some(u32::from_le_bytes(it.get(at..at + 4)?.try_into().ok()?));
            let time = |at| Some(Mtime { seconds: word(at)?.cast_signed(), nanoseconds: half(at + 8)? });
            Some(Seen { inode: word(0)?, size: word(8)?, mtime: time(16)?, ctime: time(28)? })
        });
        let seen = seen.collect::<Option<Vec<Seen>>>()?;
        whole.then(|| Self { tree: Digest::from_bytes(*tree), seen })
    }
}

/// Looks at the entries that nothing is known of.
fn look_at_rest(root: &Path, tree: &Tree, known: &mut [Option<Seen>]) -> io::Result<()> {
    let top = Dir::top(root)?;
    let (top, names) = (top.fd()?, Names::of(tree));
    let mut open: Option<(&[u8], OwnedFd)> = None;
    for (at, known) in known.iter_mut().enumerate().filter(|(_, known)| known.is_none()) {
        let (parent, name) = fd::split(&tree.entries()[at].path);
        let dir = match open.take() {
            Some((path, dir)) if path == parent => dir,
            _ => fd::open_beneath(top.as_fd(), parent)?,
        };
        let stat = if at == 0 { fd::stat(&dir)? } else { fd::stat_at(&dir, name)? };
        *known = Some(names.seen(at, &stat));
        open = Some((parent, dir));
    }
    Ok(())
}

/// What is there of each entry of `tree` below `root`; nothing below what isn't a directory there.
pub(crate) fn stats(root: &Path, tree: &Tree) -> io::Result<Vec<Option<Stat>>> {
    let top = Dir::top(root)?;
    let mut stats = vec![None; tree.entries().len()];
    let error = Mutex::new(None);
    let look = Look { tree, error: &error };
    if let Some((first, rest)) = stats.split_first_mut() {
        *first = Some(fd::stat(top.fd()?)?);
        fd::in_pool(fd::Work::Read, || rayon::scope(|scope| look.below(scope, &top, 0, rest)));
    }
    error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(stats), Err)
}

#[derive(Clone, Copy)]
struct Look<'t> {
    tree: &'t Tree,
    error: &'t Mutex<Option<io::Error>>,
}

impl<'t> Look<'t> {
    /// `stats` is for all that is below the directory of number `at`.
    fn below<'s>(self, scope: &Scope<'s>, dir: &Arc<Dir>, at: usize, stats: &'s mut [Option<Stat>])
    where
        't: 's,
    {
        if let Err(error) = self.try_below(scope, dir, at, stats) {
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn try_below<'s>(
        self,
        scope: &Scope<'s>,
        dir: &Arc<Dir>,
        at: usize,
        mut stats: &'s mut [Option<Stat>],
    ) -> io::Result<()>
    where
        't: 's,
    {
        let fd = dir.fd()?;
        let mut at = at + 1;
        while let Some((first, rest)) = stats.split_first_mut() {
            let entry = &self.tree.entries()[at];
            let name = base_name(&entry.path);
            *first = fd::stat_if_there(&fd, name)?;
            if first.is_some_and(|it| it.mount_root) {
                return Err(io::Error::other("something is mounted in it"));
            }
            let length = if entry.is_directory() { self.tree.directory(at).map_or(1, |it| it.0) } else { 1 };
            let (inner, after) = rest.split_at_mut(length - 1);
            if !inner.is_empty() && first.is_some_and(|it| it.kind == FileType::Directory) {
                let child = dir.child(name)?.0;
                if length < APART {
                    self.below(scope, &child, at, inner);
                } else {
                    scope.spawn(move |scope| self.below(scope, &child, at, inner));
                }
            }
            at += length;
            stats = after;
        }
        Ok(())
    }
}
