//! The canonical listing of a root.

mod build;
mod codec;
mod delta;
mod differences;
mod merkle;
mod paths;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

pub use build::TreeError;
pub use codec::{DecodeError, TREE_VERSION};
pub(crate) use delta::{DELTA_VERSION, Delta, START, base_of, is_sound};
pub use differences::{Difference, Differences};
pub use paths::{base_name, compare_paths, parent_path};

use merkle::Directory;

#[cfg(test)]
mod strategy;
#[cfg(test)]
mod tests;

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

impl Entry {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }
}

/// The canonical listing of a root: parents before children, siblings by name (bytes), that is the
/// order of paths with `/` sorting before every other byte.
#[derive(Debug, Clone)]
pub struct Tree {
    entries: Vec<Entry>,
    /// One per directory, in the order of `entries`; never empty, the first is the root's.
    directories: Vec<Directory>,
    origin: Origin,
}

/// What a tree is in the store that it was loaded from; no part of what it is.
#[derive(Debug, Clone)]
enum Origin {
    /// It wasn't loaded from a store.
    Unknown,
    /// It is stored as a whole.
    Full,
    /// It is stored as what it has over another.
    Over(delta::Over),
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        (&self.entries, &self.directories) == (&other.entries, &other.directories)
    }
}

impl Eq for Tree {}

/// What is directly in a directory of a tree.
#[derive(Debug, Clone, Copy)]
pub struct Child<'t> {
    /// The number of its entry.
    pub at: usize,
    /// Its entry, and all below it.
    pub entries: &'t [Entry],
    /// The digest of a directory.
    pub digest: Option<Digest>,
}

impl Default for Tree {
    /// A root directory with nothing in it: mode 0755, owned by 0:0, mtime 0.
    fn default() -> Self {
        let meta = Meta { mode: 0o755, ..Meta::default() };
        let entries = vec![Entry { path: Vec::new(), meta, kind: Kind::Directory }];
        let directories = merkle::hash(&entries, vec![Directory::new(0, 1, 1)]);
        Self { entries, directories, origin: Origin::Unknown }
    }
}

impl Tree {
    /// A tree from entries in any order. Sorts, makes hardlink groups canonical (the first name in
    /// order is the file, later ones are links to it), checks that every path is well-formed and
    /// unique, that every parent is a directory of the tree and that link targets exist.
    pub fn from_entries(entries: Vec<Entry>) -> crate::Result<Self> {
        Ok(Self::build(entries)?)
    }

    /// What [`Tree::from_entries`] gives, sooner where most entries are those of `base`: their checks
    /// aren't made again, and equal subtrees keep their digests.
    pub fn from_entries_like(base: &Self, entries: Vec<Entry>) -> crate::Result<Self> {
        Ok(Self::build_like(base, entries)?)
    }

    /// The digest of the tree that `entries` make together with what is below the directories that are
    /// `known`: of those only they themselves are among the entries, and nothing below them has a
    /// hardlink elsewhere.
    pub fn digest_of(
        entries: Vec<Entry>,
        known: &std::collections::HashMap<Vec<u8>, Digest>,
    ) -> crate::Result<Digest> {
        Ok(Self::hash_known(entries, known)?)
    }

    /// All entries in order, the root directory first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries in order, taken out of the tree.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The entry at `path` (empty: the root).
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.position(path).map(|index| &self.entries[index])
    }

    /// All entries below `path`, itself included, in order. Empty where there is no such entry.
    #[must_use]
    pub fn subtree(&self, path: &[u8]) -> &[Entry] {
        &self.entries[self.range(path)]
    }

    /// Where [`Tree::subtree`] stands among all entries.
    #[must_use]
    pub fn range(&self, path: &[u8]) -> std::ops::Range<usize> {
        match self.position(path) {
            None => 0..0,
            Some(index) => index..self.directory_at(index).map_or(index + 1, Directory::end),
        }
    }

    /// What is directly in the directory at `path`, in order; nothing where there is no directory.
    pub fn children<'t>(&'t self, path: &[u8]) -> impl Iterator<Item = Child<'t>> + use<'t> {
        let number = self
            .position(path)
            .and_then(|index| self.directories.binary_search_by_key(&index, Directory::index).ok());
        let (mut at, mut inner, end) = match number {
            Some(number) => {
                (self.directories[number].index() + 1, number + 1, self.directories[number].end())
            }
            None => (0, 0, 0),
        };
        std::iter::from_fn(move || {
            let entry = self.entries[..end].get(at)?;
            let directory = entry.is_directory().then(|| &self.directories[inner]);
            let after = directory.map_or(at + 1, Directory::end);
            let entries = &self.entries[at..after];
            let child = Child { at, entries, digest: directory.map(Directory::digest) };
            inner = directory.map_or(inner, Directory::next);
            at = after;
            Some(child)
        })
    }

    /// If the entry of this number is a directory: how many entries that is with all below, and the digest
    /// that [`Tree::directory_digest`] tells.
    #[must_use]
    pub fn directory(&self, number: usize) -> Option<(usize, Digest)> {
        self.directory_at(number).map(|it| (it.end() - it.index(), it.digest()))
    }

    /// The entry that holds what `entry` is: the first name for a `Hardlink`, else `entry` itself.
    #[must_use]
    pub fn resolve<'a>(&'a self, entry: &'a Entry) -> &'a Entry {
        match &entry.kind {
            Kind::Hardlink { target } => self.get(target).unwrap_or(entry),
            Kind::Directory
            | Kind::File { .. }
            | Kind::Symlink { .. }
            | Kind::CharDevice { .. }
            | Kind::BlockDevice { .. }
            | Kind::Fifo => entry,
        }
    }

    /// The tree's identity: a Merkle digest over everything but modification times.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.directories[0].digest()
    }

    /// The digest of the directory at `path` with all that is below it, its own mode, owner and
    /// attributes included, its name not. Where two trees have equal digests at the same path, they
    /// are equal from there on (but for modification times). `None` where there is no directory.
    #[must_use]
    pub fn directory_digest(&self, path: &[u8]) -> Option<Digest> {
        self.position(path).and_then(|index| self.directory_at(index)).map(Directory::digest)
    }

    /// Where this tree and `other` differ in more than times, in order: the entries at each such path, in this
    /// tree and in the other. What is below a directory that only one has comes one by one. Equal directories
    /// aren't looked into: this costs as much as there is different.
    pub fn differences<'t>(&'t self, other: &'t Self) -> Differences<'t> {
        Differences::new(self, other)
    }

    /// Whether storing it over another can pay.
    pub(crate) fn is_large(&self) -> bool {
        self.entries.len() >= delta::WORTH_IT
    }

    /// This tree, loaded from a store, where it is stored as a whole.
    pub(crate) fn stored_whole(self) -> Self {
        Self { origin: Origin::Full, ..self }
    }

    /// The tree that this one is stored over, or it itself if it is stored as a whole. `None` where it wasn't
    /// loaded from a store.
    pub(crate) fn stored_base(&self) -> Option<Digest> {
        match &self.origin {
            Origin::Unknown => None,
            Origin::Full => Some(self.digest()),
            Origin::Over(over) => Some(over.base),
        }
    }

    fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| compare_paths(&entry.path, path)).ok()
    }

    fn directory_at(&self, index: usize) -> Option<&Directory> {
        let found = self.directories.binary_search_by_key(&index, Directory::index).ok()?;
        Some(&self.directories[found])
    }
}
