//! What the file system said of every name of a checkout when it was handed over: `<n>.index`. Whatever
//! is written there afterwards, or changed of owner, mode and attributes, shows in the ctime.
//!
//! ```text
//! "RBINDEX1"  the tree's digest, 32 bytes
//! entry*      in the tree's order: inode (8) size (8) mtime (8, 4) ctime (8, 4), little-endian
//! BLAKE3 of everything before, 32 bytes
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;

use rootbuild_cache::tree::base_name;
use rootbuild_cache::{Digest, Mtime, Tree};

use crate::fd::{self, Dir, Stat};

const MAGIC: &[u8] = b"RBINDEX1";
const ENTRY: usize = 40;

/// What tells that a file wasn't touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: u64,
    mtime: Mtime,
    ctime: Mtime,
}

impl Seen {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { inode: stat.id.1, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// All of a checkout, in its tree's order.
#[derive(Debug)]
pub(super) struct Index {
    tree: Digest,
    seen: Vec<Seen>,
}

impl Index {
    /// Looks at all of the checkout `root` of `tree`; afterwards nothing can change there and look the
    /// same.
    pub(super) fn take(root: &Path, tree: &Tree) -> io::Result<Self> {
        let stats = stats(root, tree)?.into_iter().collect::<Option<Vec<Stat>>>();
        let stats = stats.ok_or_else(|| io::Error::other("something of the checkout is missing"))?;
        fd::settle(root, stats.iter().map(|it| it.ctime).max().unwrap_or_default());
        Ok(Self { tree: tree.digest(), seen: stats.iter().map(Seen::of).collect() })
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
        fs::write(path, bytes)
    }

    /// The index of a checkout of `tree`; `None` where there is none, or no whole one.
    pub(super) fn read(path: &Path, tree: &Tree) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let entries = content.strip_prefix(MAGIC)?.strip_prefix(tree.digest().as_bytes())?;
        let whole = Digest::of(content).as_bytes() == digest && entries.len() == tree.entries().len() * ENTRY;
        let seen = entries.chunks_exact(ENTRY).map(|it| {
            let word = |at: usize| Some(u64::from_le_bytes(it.get(at..at + 8)?.try_into().ok()?));
            let half = |at: usize| Some(u32::from_le_bytes(it.get(at..at + 4)?.try_into().ok()?));
            let time = |at| Some(Mtime { seconds: word(at)?.cast_signed(), nanoseconds: half(at + 8)? });
            Some(Seen { inode: word(0)?, size: word(8)?, mtime: time(16)?, ctime: time(28)? })
        });
        let seen = seen.collect::<Option<Vec<Seen>>>()?;
        whole.then(|| Self { tree: tree.digest(), seen })
    }
}

/// What is there of each entry of `tree` below `root`; nothing below what isn't a directory there.
pub(super) fn stats(root: &Path, tree: &Tree) -> io::Result<Vec<Option<Stat>>> {
    let top = Dir::top(root)?;
    let mut stats = Vec::with_capacity(tree.entries().len());
    stats.push(Some(fd::stat(top.fd()?)?));
    // The directories on the way, and where each ends.
    let mut way: Vec<(Arc<Dir>, usize)> = vec![(top, tree.entries().len())];
    while let Some(entry) = tree.entries().get(stats.len()) {
        let at = stats.len();
        while way.last().is_some_and(|(_, end)| *end <= at) {
            way.pop();
        }
        let Some((dir, _)) = way.last() else { break };
        let name = base_name(&entry.path);
        let stat = fd::stat_if_there(dir.fd()?, name)?;
        if stat.is_some_and(|it| it.mount_root) {
            return Err(io::Error::other("something is mounted in it"));
        }
        stats.push(stat);
        if let Some((length, _)) = tree.directory(at) {
            if stat.is_some_and(|it| it.kind == FileType::Directory) {
                let child = dir.child(name)?.0;
                way.push((child, at + length));
            } else {
                stats.resize(at + length, None);
            }
        }
    }
    Ok(stats)
}
