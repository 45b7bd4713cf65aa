//! Files that checkouts share, for who checks the store: each has to be what its name stands for, since the next
//! checkout gets it as it is.

use std::fs::File;
use std::io;
use std::path::Path;

use rootbuild_cache::fsck::{Check, Kind};
use rootbuild_cache::{Digest, LinkName, Meta};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::capture;
use crate::fd;

/// So many equal files a root may have at least, before a name counts as wrong.
const EQUALS: u32 = 1 << 16;

/// Reads every file of the farm, unless contents are left unread: a name tells nothing without them.
pub fn check(check: &Check<'_>) {
    let dir = check.store().dir().join("links");
    // A file's number among its equals is part of its name, and stands nowhere else.
    let files: usize = check.names(&dir).iter().map(|fan| check.names(fan).len()).sum();
    let ordinals = u32::try_from(files).unwrap_or(u32::MAX).max(EQUALS);
    check.each(&dir, |path, name| match look(check, path, &name, ordinals) {
        Ok(true) => {}
        Ok(false) => {
            check.damaged(Kind::Content, path, "a file that checkouts share isn't what its name says");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => check.damaged(Kind::Unreadable, path, error.to_string()),
    });
}

/// Whether a file of the farm is what its name says.
fn look(check: &Check<'_>, path: &Path, name: &Digest, ordinals: u32) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP | Errno::NXIO) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let stat = fd::stat(&file)?;
    if stat.kind != FileType::RegularFile {
        return Ok(false);
    }
    if check.is_quick() {
        return Ok(true);
    }
    let object = check.content(&file)?;
    let meta = Meta {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        xattrs: fd::list_xattrs(&file, None, capture::belongs)?,
        mtime: stat.mtime,
    };
    Ok((0..ordinals).any(|ordinal| LinkName::new(&object, &meta, ordinal).digest() == name))
}
