//! Digests of directories, from the leaves up.
//!
//! A directory's digest is BLAKE3 over
//!
//! ```text
//! "rootbuild directory 1\n"  its meta  child*
//! child     = name-length name tag ( directory: digest
//!                                  | hardlink: path-length path-of-first-name, then the first
//!                                    name's tag, meta and what
//!                                  | else: meta what )
//! meta      = mode uid gid n ( length name length value )*n
//! what      = file: size digest | symlink: length target | device: major minor | fifo: nothing
//! ```
//!
//! with numbers as LEB128 varints and children in the tree's order. A hardlink carries what it
//! links to, since a directory is different when the file behind one of its names is.

use crate::digest::Digest;

use super::codec::{put_bytes, put_varint, tag};
use super::{Entry, Kind, Meta, base_name, compare_paths};

const DOMAIN: &[u8] = b"rootbuild directory 1\n";

/// Where a directory stands in the entries, and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directory {
    index: u32,
    end: u32,
    /// The number of the first directory after this one's subtree.
    next: u32,
    digest: Digest,
}

#[allow(clippy::cast_possible_truncation, reason = "a tree has fewer than 2^32 entries: `MAX_ENTRIES`")]
impl Directory {
    /// The directory of entry `index`, whose subtree ends before entry `end` and before directory
    /// number `next`; its digest isn't known yet.
    pub(super) fn new(index: usize, end: usize, next: usize) -> Self {
        Self { index: index as u32, end: end as u32, next: next as u32, digest: Digest::from_bytes([0; 32]) }
    }

    /// Closes a directory that was opened by [`Directory::new`] before its extent was known.
    pub(super) fn close(&mut self, end: usize, next: usize) {
        self.end = end as u32;
        self.next = next as u32;
    }

    pub(super) fn index(&self) -> usize {
        self.index as usize
    }

    pub(super) fn end(&self) -> usize {
        self.end as usize
    }

    pub(super) fn next(&self) -> usize {
        self.next as usize
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn set_digest(&mut self, digest: Digest) {
        self.digest = digest;
    }
}

/// Fills in the digests of `directories`, which list every directory of `entries` in order.
pub(super) fn hash(entries: &[Entry], directories: Vec<Directory>) -> Vec<Directory> {
    hash_but(entries, directories, |_| None)
}

/// [`hash`], but takes from `base`, another tree's directories, what is there: `same` holds, for each entry, the
/// number of the one of that tree that it equals.
pub(super) fn hash_like(
    entries: &[Entry],
    directories: Vec<Directory>,
    base: &[Directory],
    same: &[Option<usize>],
) -> Vec<Directory> {
    // How many of the entries before each are others than in `base`.
    let mut others = Vec::with_capacity(same.len() + 1);
    others.push(0usize);
    for it in same {
        others.push(others.last().copied().unwrap_or(0) + usize::from(it.is_none()));
    }
    hash_but(entries, directories, |directory| {
        let (start, end) = (directory.index(), directory.end());
        let theirs = same[start]?;
        let theirs = base.binary_search_by_key(&theirs, Directory::index).ok().map(|found| &base[found])?;
        // Equal in number too: nothing is gone.
        let equal = others[start] == others[end] && theirs.end() - theirs.index() == end - start;
        equal.then(|| theirs.digest())
    })
}

/// Fills in the digests of `directories`, but for those that are `known`.
pub(super) fn hash_but(
    entries: &[Entry],
    mut directories: Vec<Directory>,
    known: impl Fn(&Directory) -> Option<Digest>,
) -> Vec<Directory> {
    let mut buffer = Vec::with_capacity(4096);
    for number in (0..directories.len()).rev() {
        let directory = directories[number];
        if let Some(digest) = known(&directory) {
            directories[number].digest = digest;
            continue;
        }
        buffer.clear();
        buffer.extend_from_slice(DOMAIN);
        put_meta(&mut buffer, &entries[directory.index()].meta);
        let mut at = directory.index() + 1;
        let mut inner = number + 1;
        while at < directory.end() {
            let child = &entries[at];
            put_bytes(&mut buffer, base_name(&child.path));
            buffer.push(tag(&child.kind));
            match &child.kind {
                Kind::Directory => {
                    let below = directories[inner];
                    buffer.extend_from_slice(below.digest.as_bytes());
                    at = below.end();
                    inner = below.next as usize;
                    continue;
                }
                Kind::Hardlink { target } => {
                    put_bytes(&mut buffer, target);
                    let first = entries[..at].binary_search_by(|entry| compare_paths(&entry.path, target));
                    if let Ok(first) = first {
                        buffer.push(tag(&entries[first].kind));
                        put_leaf(&mut buffer, &entries[first]);
                    }
                }
                Kind::File { .. }
                | Kind::Symlink { .. }
                | Kind::CharDevice { .. }
                | Kind::BlockDevice { .. }
                | Kind::Fifo => put_leaf(&mut buffer, child),
            }
            at += 1;
        }
        directories[number].digest = Digest::of(&buffer);
    }
    directories
}

fn put_leaf(buffer: &mut Vec<u8>, entry: &Entry) {
    put_meta(buffer, &entry.meta);
    match &entry.kind {
        Kind::File { object, size } => {
            put_varint(buffer, *size);
            buffer.extend_from_slice(object.as_bytes());
        }
        Kind::Symlink { target } => put_bytes(buffer, target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_varint(buffer, u64::from(*major));
            put_varint(buffer, u64::from(*minor));
        }
        Kind::Directory | Kind::Hardlink { .. } | Kind::Fifo => {}
    }
}

/// Everything of `meta` but the modification time.
pub(super) fn put_meta(buffer: &mut Vec<u8>, meta: &Meta) {
    for number in [meta.mode, meta.uid, meta.gid] {
        put_varint(buffer, u64::from(number));
    }
    put_varint(buffer, meta.xattrs.len() as u64);
    for (name, value) in &meta.xattrs {
        put_bytes(buffer, name);
        put_bytes(buffer, value);
    }
}
