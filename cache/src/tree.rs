//! The canonical listing of a root.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A modification time. Kept and restored, never part of a tree's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mtime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What every entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`. 0o777 for symbolic links.
    pub mode: u32,
    /// Owner, as a number.
    pub uid: u32,
    /// Group, as a number.
    pub gid: u32,
    /// Modification time.
    pub mtime: Mtime,
    /// Extended attributes (ACLs and `security.capability` among them), sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its content.
        object: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What the link says, any bytes but NUL.
        target: Vec<u8>,
    },
    /// Another name of an entry that comes earlier in the tree's order.
    Hardlink {
        /// The path of the first name, in the form of [`Entry::path`]. Never itself a `Hardlink`.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One name in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the root, without leading or trailing slash; empty for the root directory itself.
    /// Any bytes but NUL; no component is empty, `.` or `..`.
    pub path: Vec<u8>,
    /// Owner, mode, times, attributes. For a `Hardlink` equal to its target's.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// The canonical listing of a root: parents before children, siblings by name (bytes), that is the
/// order of paths with `/` sorting before every other byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// A tree from entries in any order. Sorts, makes hardlink groups canonical (the first name in
    /// order is the file, later ones are links to it), checks that every path is well-formed and
    /// unique, that every parent is a directory of the tree and that link targets exist.
    pub fn from_entries(entries: Vec<Entry>) -> crate::Result<Self> {
        let _ = &entries;
        unimplemented!()
    }

    /// All entries in order, the root directory first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path` (empty: the root).
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let _ = path;
        unimplemented!()
    }

    /// All entries below `path`, itself included, in order.
    #[must_use]
    pub fn subtree(&self, path: &[u8]) -> &[Entry] {
        let _ = path;
        unimplemented!()
    }

    /// The tree's identity: a Merkle digest over everything but modification times.
    #[must_use]
    pub fn digest(&self) -> Digest {
        unimplemented!()
    }
}
