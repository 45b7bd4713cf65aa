//! What an earlier scan of the same directory found out, so that unchanged files aren't read again.
//!
//! A file is unchanged if inode, length, mtime and ctime are what they were: whatever is written to
//! a file, or changed of its owner, mode and attributes, sets its ctime to the clock. That the clock
//! has moved on since, [`fd::settle`](crate::fd::settle) sees to, after each scan.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use rootbuild_cache::{Digest, Kind, Mtime, Tree};

use crate::fd::{self, Stat, Xattrs};
use crate::publish::stats;

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
    /// What is known of `root`, into which `tree` was checked out just now: one look at each name. Afterwards
    /// nothing can change there and look the same.
    pub(crate) fn of_checkout(root: &Path, tree: &Tree) -> io::Result<Self> {
        let mut known = Self::default();
        for (entry, stat) in tree.entries().iter().zip(stats(root, tree)?) {
            let Some(stat) = stat else { continue };
            known.newest = known.newest.max(stat.ctime);
            if let Kind::File { object, size } = &entry.kind
                && stat.kind == FileType::RegularFile
                && stat.size == *size
            {
                known.files.insert(stat.id, KnownFile::new(&stat, entry.meta.xattrs.clone(), *object));
            }
        }
        fd::settle(root, known.newest);
        Ok(known)
    }

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rootbuild_cache::Store;

    use super::*;
    use crate::cancel::Cancel;
    use crate::capture;

    #[test]
    fn what_is_known_is_not_read_again_unless_it_was_touched() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let names = ["same", "written", "moved", "mode"];
        for name in names {
            fs::write(root.join(name), name).unwrap();
        }
        let cancel = Cancel::new();
        let tree = capture::capture_directory(&store, &root, &cancel).unwrap();
        // As if all of them held something else: who doesn't read believes it.
        let mut entries = tree.entries().to_vec();
        for entry in &mut entries {
            if let Kind::File { object, size } = &mut entry.kind {
                *object = store.put_object_bytes(&b"?".repeat(usize::try_from(*size).unwrap())).unwrap();
            }
        }
        let mut known = Known::of_checkout(&root, &Tree::from_entries(entries).unwrap()).unwrap();
        fs::write(root.join("written"), "WRITTEN").unwrap();
        fs::rename(root.join("moved"), root.join("elsewhere")).unwrap();
        fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        let found = capture::directory(&store, &root, &mut known, &cancel).unwrap().tree;
        let holds = |name: &str, content: &[u8]| match found.get(name.as_bytes()).unwrap().kind {
            Kind::File { object, .. } => object == Digest::of(content),
            _ => false,
        };
        assert!(holds("same", b"????"));
        assert!(holds("written", b"WRITTEN"));
        assert!(holds("elsewhere", b"moved") && holds("mode", b"mode"));
    }
}
