//! What an earlier scan of the same directory found out, so that unchanged files aren't read again.
//!
//! A file is unchanged if inode, length, mtime and ctime are what they were: whatever is written to
//! a file, or changed of its owner, mode and attributes, sets its ctime to the clock. That the clock
//! has moved on since, [`fd::settle`](crate::fd::settle) sees to, after each scan.

use std::collections::HashMap;

use rootbuild_cache::{Digest, Mtime};

use crate::fd::{Stat, Xattrs};

/// The regular files of a directory as a scan found them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    files: HashMap<(u64, u64), KnownFile>,
    /// The newest ctime of all that was scanned.
    pub(super) newest: Mtime,
}

/// A file as a scan found it.
#[derive(Debug, Clone)]
pub(super) struct KnownFile {
    size: u64,
    mtime: Mtime,
    ctime: Mtime,
    /// The root's own attributes.
    pub xattrs: Xattrs,
    pub object: Digest,
}

impl KnownFile {
    pub(super) fn new(stat: &Stat, xattrs: Xattrs, object: Digest) -> Self {
        Self { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, xattrs, object }
    }
}

impl Known {
    /// The file that `stat` is of, if it is unchanged.
    pub(super) fn file(&self, stat: &Stat) -> Option<&KnownFile> {
        let same = |it: &&KnownFile| (it.size, it.mtime, it.ctime) == (stat.size, stat.mtime, stat.ctime);
        self.files.get(&stat.id).filter(same)
    }

    pub(super) fn extend(&mut self, files: Vec<((u64, u64), KnownFile)>) {
        self.files.extend(files);
    }

    /// The newest ctime of all that was scanned.
    pub(crate) fn newest(&self) -> Mtime {
        self.newest
    }
}
