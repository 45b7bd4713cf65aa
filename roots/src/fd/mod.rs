//! File work inside a root, relative to open directories: no name is ever looked up from the top, no
//! symbolic link is ever followed, and no depth runs out of stack or descriptors.

mod attributes;
mod clock;
mod copy;
mod dir;
mod pool;
mod remove;

use std::io;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

pub(crate) use attributes::{Xattrs, get_xattr, list_xattrs, remove_xattr, set_metadata, set_times};
pub(crate) use clock::settle;
pub(crate) use copy::Copier;
pub(crate) use dir::{Dir, DirFd, children, open_beneath, open_file};
pub(crate) use pool::{Work, in_pool};
pub(crate) use remove::{remove, remove_children};

use rootbuild_cache::Mtime;

/// What `statx` says about a name, in the form this crate works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Device and inode: what tells whether two names are one file.
    pub id: (u64, u64),
    pub size: u64,
    /// Bytes allocated; less than `size` where there are holes.
    pub allocated: u64,
    pub mtime: Mtime,
    pub ctime: Mtime,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Whether another file system (or a bind) is mounted here.
    pub mount_root: bool,
}

impl Stat {
    /// Whether this is a character device 0/0: overlayfs's mark for a removed name.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.device == (0, 0)
    }

    fn new(raw: &Statx) -> Self {
        Self {
            kind: FileType::from_raw_mode(u32::from(raw.stx_mode)),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            links: raw.stx_nlink,
            id: (u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor), raw.stx_ino),
            size: raw.stx_size,
            allocated: raw.stx_blocks * 512,
            mtime: time(&raw.stx_mtime),
            ctime: time(&raw.stx_ctime),
            device: (raw.stx_rdev_major, raw.stx_rdev_minor),
            mount_root: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}

fn time(raw: &StatxTimestamp) -> Mtime {
    Mtime { seconds: raw.tv_sec, nanoseconds: raw.tv_nsec }
}

/// Stats `name` in the directory `dir`, not following it.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(Stat::new(&rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?))
}

/// Stats `name`, `None` where there is nothing.
pub(crate) fn stat_if_there(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stats an open file.
pub(crate) fn stat(file: impl AsFd) -> io::Result<Stat> {
    Ok(Stat::new(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
}

/// `directory/name` without the slash where the directory is the root.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The directory part and the last component of a path in a tree.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
