//! Entries become a tree: order, hardlink groups, and everything a tree promises.

use std::collections::HashMap;

use crate::digest::Digest;

use super::merkle::{self, Directory};
use super::{Entry, Kind, Meta, Origin, Tree, base_name, compare_paths, parent_path, paths};

/// Entries in one tree.
pub(super) const MAX_ENTRIES: usize = 1 << 24;
/// Bytes of one path. Deeper nests than `PATH_MAX` can be made, and are kept up to here.
pub(super) const MAX_PATH: usize = 1 << 16;
/// Bytes of all paths, link targets and attributes of one tree together.
pub(super) const MAX_TEXT: usize = 1 << 30;
/// Bytes of a symbolic link's target, and of an attribute's value (Linux' `XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 1 << 16;
/// Attributes of one entry; Linux lists no more than 64 KiB of names.
pub(super) const MAX_XATTRS: usize = 1 << 15;
/// Bytes of an attribute's name (Linux' `XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;

/// Entries that make no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// There is no entry for the root directory, or it isn't a directory.
    #[error("the tree has no root directory")]
    NoRoot,
    /// A path is malformed.
    #[error("the path `{}` {fault}", String::from_utf8_lossy(path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A path occurs twice.
    #[error("the path `{}` occurs twice", String::from_utf8_lossy(path))]
    Duplicate {
        /// The path.
        path: Vec<u8>,
    },
    /// An entry's parent isn't in the tree, or isn't a directory.
    #[error("the parent of `{}` is not a directory of the tree", String::from_utf8_lossy(path))]
    Parent {
        /// The entry without a parent.
        path: Vec<u8>,
    },
    /// A hardlink's target isn't in the tree, or is a directory or itself a hardlink, or has another
    /// owner, mode or attributes than the link.
    #[error(
        "the hardlink `{}` to `{}` is wrong: {fault}",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(target)
    )]
    Hardlink {
        /// The link.
        path: Vec<u8>,
        /// What it names.
        target: Vec<u8>,
        /// What is wrong with that.
        fault: &'static str,
    },
    /// An entry has metadata that no file can have.
    #[error("the entry `{}` {fault}", String::from_utf8_lossy(path))]
    Meta {
        /// The entry.
        path: Vec<u8>,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The tree is beyond what one tree may hold.
    #[error("the tree is too large: {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
}

impl Tree {
    /// [`Tree::from_entries`], with the error as it is.
    pub(super) fn build(mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        normalise(&mut entries)?;
        check_all(&entries, |_| false)?;
        let directories = find_directories(&entries)?;
        let directories = merkle::hash(&entries, directories);
        Ok(Self { entries, directories, origin: Origin::Unknown })
    }

    /// [`Tree::from_entries_like`], with the error as it is.
    pub(super) fn build_like(base: &Self, mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        normalise(&mut entries)?;
        let same = equal_entries(base, &entries);
        check_all(&entries, |at| same[at].is_some())?;
        let directories = find_directories(&entries)?;
        let directories = merkle::hash_like(&entries, directories, &base.directories, &same);
        Ok(Self { entries, directories, origin: Origin::Unknown })
    }

    /// [`Tree::digest_of`], with the error as it is.
    pub(super) fn hash_known(
        mut entries: Vec<Entry>,
        known: &HashMap<Vec<u8>, Digest>,
    ) -> Result<Digest, TreeError> {
        normalise(&mut entries)?;
        check_all(&entries, |_| false)?;
        let directories = find_directories(&entries)?;
        let known = |it: &Directory| known.get(&entries[it.index()].path).copied();
        Ok(merkle::hash_but(&entries, directories, known)[0].digest())
    }
}

/// Brings entries into a tree's order and form.
fn normalise(entries: &mut [Entry]) -> Result<(), TreeError> {
    for entry in entries.iter_mut() {
        if matches!(entry.kind, Kind::Symlink { .. }) {
            // Linux knows no mode of a link; archives and other systems make some up.
            entry.meta.mode = 0o777;
        }
        entry.meta.xattrs.sort();
    }
    entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
    check_order(entries)?;
    join_hardlinks(entries)
}

/// Checks each entry but those that are `known` to be sound, and what all of them are together.
pub(super) fn check_all(entries: &[Entry], known: impl Fn(usize) -> bool) -> Result<(), TreeError> {
    if entries.len() > MAX_ENTRIES {
        return Err(TreeError::TooLarge { what: "more than 16,777,216 entries" });
    }
    let mut text = 0usize;
    for (at, entry) in entries.iter().enumerate() {
        if !known(at) {
            check_entry(entry)?;
        }
        text = text.saturating_add(text_length(entry));
    }
    if text > MAX_TEXT {
        return Err(TreeError::TooLarge { what: "paths, links and attributes of more than 1 GiB" });
    }
    Ok(())
}

/// For each entry the number of the entry of `base` that it equals but for its time, what it links to
/// included. Both are in order.
fn equal_entries(base: &Tree, entries: &[Entry]) -> Vec<Option<usize>> {
    let mut same: Vec<Option<usize>> = Vec::with_capacity(entries.len());
    let mut theirs = base.entries.iter().enumerate().peekable();
    for entry in entries {
        while theirs.next_if(|(_, it)| compare_paths(&it.path, &entry.path).is_lt()).is_some() {}
        let found = theirs.next_if(|(_, it)| it.path == entry.path).filter(|(_, it)| {
            let (a, b) = (&it.meta, &entry.meta);
            it.kind == entry.kind && (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs)
        });
        // The first name of a group comes before its links.
        let found = found.filter(|_| match &entry.kind {
            Kind::Hardlink { target } => entries[..same.len()]
                .binary_search_by(|it| compare_paths(&it.path, target))
                .is_ok_and(|first| same[first].is_some()),
            _ => true,
        });
        same.push(found.map(|(number, _)| number));
    }
    same
}

/// What an entry counts towards [`MAX_TEXT`].
pub(super) fn text_length(entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => target.len(),
        Kind::Directory
        | Kind::File { .. }
        | Kind::CharDevice { .. }
        | Kind::BlockDevice { .. }
        | Kind::Fifo => 0,
    };
    entry.path.len() + target + xattr_length(&entry.meta)
}

/// The memory that a meta's attributes take, in bytes.
pub(super) fn xattr_length(meta: &Meta) -> usize {
    let pair = size_of::<(Vec<u8>, Vec<u8>)>();
    meta.xattrs.iter().map(|(name, value)| pair + name.len() + value.len()).sum()
}

fn check_entry(entry: &Entry) -> Result<(), TreeError> {
    let path = || entry.path.clone();
    if entry.path.len() > MAX_PATH {
        return Err(TreeError::Path { path: path(), fault: "is longer than 65,536 bytes" });
    }
    match meta_fault(&entry.meta).or_else(|| kind_fault(entry)) {
        Some(fault) => Err(TreeError::Meta { path: path(), fault }),
        None => Ok(()),
    }
}

fn meta_fault(meta: &Meta) -> Option<&'static str> {
    if meta.mode > 0o7777 {
        return Some("has more in its mode than permissions");
    }
    if meta.mtime.nanoseconds >= 1_000_000_000 {
        return Some("has a second or more of nanoseconds");
    }
    if meta.xattrs.len() > MAX_XATTRS {
        return Some("has more than 32,768 attributes");
    }
    for (name, value) in &meta.xattrs {
        if name.is_empty() || name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return Some("has an attribute with an impossible name");
        }
        if value.len() > MAX_VALUE {
            return Some("has an attribute of more than 65,536 bytes");
        }
    }
    if meta.xattrs.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Some("has an attribute twice, or unsorted ones");
    }
    None
}

fn kind_fault(entry: &Entry) -> Option<&'static str> {
    match &entry.kind {
        Kind::Symlink { target } => {
            if target.is_empty() || target.contains(&0) {
                Some("is a symbolic link that is empty or holds a NUL byte")
            } else if target.len() > MAX_VALUE {
                Some("is a symbolic link of more than 65,536 bytes")
            } else if entry.meta.mode != 0o777 {
                Some("is a symbolic link whose mode isn't 0777")
            } else {
                None
            }
        }
        Kind::File { size, .. } if i64::try_from(*size).is_err() => Some("is larger than a file can be"),
        Kind::Directory
        | Kind::File { .. }
        | Kind::Hardlink { .. }
        | Kind::CharDevice { .. }
        | Kind::BlockDevice { .. }
        | Kind::Fifo => None,
    }
}

/// Paths must rise strictly.
pub(super) fn check_order(entries: &[Entry]) -> Result<(), TreeError> {
    for pair in entries.windows(2) {
        match compare_paths(&pair[0].path, &pair[1].path) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Err(TreeError::Duplicate { path: pair[1].path.clone() }),
            std::cmp::Ordering::Greater => {
                return Err(TreeError::Path { path: pair[1].path.clone(), fault: "is out of order" });
            }
        }
    }
    Ok(())
}

/// Makes the first name of every group the file, and all others links to it.
fn join_hardlinks(entries: &mut [Entry]) -> Result<(), TreeError> {
    // Holder of the inode in the input → all its names, in order because entries are.
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    for at in 0..entries.len() {
        let Kind::Hardlink { target } = &entries[at].kind else { continue };
        let holder = holder(entries, at, target)?;
        groups.entry(holder).or_default().push(at);
    }
    for (holder, links) in groups {
        let first = holder.min(links[0]);
        let (kind, meta) = (entries[holder].kind.clone(), entries[holder].meta.clone());
        let target = entries[first].path.clone();
        for at in links.into_iter().chain([holder]) {
            entries[at].meta = meta.clone();
            entries[at].kind = Kind::Hardlink { target: target.clone() };
        }
        entries[first].kind = kind;
    }
    Ok(())
}

/// The entry that `target`, the hardlink at `at`, names.
fn holder(entries: &[Entry], at: usize, target: &[u8]) -> Result<usize, TreeError> {
    let wrong =
        |fault| TreeError::Hardlink { path: entries[at].path.clone(), target: target.to_vec(), fault };
    let holder = entries
        .binary_search_by(|entry| compare_paths(&entry.path, target))
        .map_err(|_| wrong("there is no such entry"))?;
    match &entries[holder].kind {
        Kind::Directory => return Err(wrong("that is a directory")),
        Kind::Hardlink { .. } => return Err(wrong("that is a hardlink itself")),
        Kind::File { .. }
        | Kind::Symlink { .. }
        | Kind::CharDevice { .. }
        | Kind::BlockDevice { .. }
        | Kind::Fifo => {}
    }
    let (link, file) = (&entries[at].meta, &entries[holder].meta);
    if (link.uid, link.gid, &link.xattrs) != (file.uid, file.gid, &file.xattrs)
        || (link.mode != file.mode && !matches!(entries[holder].kind, Kind::Symlink { .. }))
    {
        return Err(wrong("their owner, mode or attributes differ"));
    }
    Ok(holder)
}

/// What is wrong with an entry whose path is malformed or whose parent is missing.
fn unfit(entry: &Entry) -> TreeError {
    let path = entry.path.clone();
    match paths::fault(&path) {
        Some(fault) => TreeError::Path { path, fault },
        None => TreeError::Parent { path },
    }
}

/// Finds the directories and their extents; every entry must have a directory as its parent.
pub(super) fn find_directories(entries: &[Entry]) -> Result<Vec<Directory>, TreeError> {
    match entries.first() {
        Some(root) if root.path.is_empty() && root.is_directory() => {}
        _ => return Err(TreeError::NoRoot),
    }
    let mut directories = vec![Directory::new(0, entries.len(), 0)];
    // Numbers of the directories that the current entry is below.
    let mut open = vec![0usize];
    for (at, entry) in entries.iter().enumerate().skip(1) {
        // The parent's path is one of the tree, and sound; only the last component is news.
        let name = base_name(&entry.path);
        let parent = parent_path(&entry.path).unwrap_or_default();
        if paths::name_fault(name).is_some() || entry.path.first() == Some(&b'/') {
            return Err(unfit(entry));
        }
        while let Some(number) = open.last().copied() {
            if entries[directories[number].index()].path == parent {
                break;
            }
            let next = directories.len();
            directories[number].close(at, next);
            open.pop();
        }
        if open.is_empty() {
            return Err(unfit(entry));
        }
        if entry.is_directory() {
            open.push(directories.len());
            directories.push(Directory::new(at, 0, 0));
        }
    }
    let next = directories.len();
    for number in open {
        directories[number].close(entries.len(), next);
    }
    Ok(directories)
}
