//! Removing directories whose content is not to be trusted.
//!
//! Names are only ever used relative to an open directory, symbolic links aren't followed, nothing
//! mounted is entered, and neither the depth of the tree nor the number of its entries matters: what
//! lies deep is moved up first.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use crate::durable;
use crate::error::{Error, Result};

/// Directories open at a time; what lies deeper is moved up.
const DEEPEST: usize = 48;

/// Removes `path` and everything below it. Nothing there is fine. Refuses, before anything is
/// removed, when something is mounted on it or below it: the content isn't ours. What can't be
/// removed (an immutable file) doesn't keep the rest; the first such error is returned.
pub fn remove_tree(path: &Path) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::io("remove", path)(io::ErrorKind::InvalidInput.into()));
    };
    let name = CString::new(name.as_bytes()).map_err(|error| Error::io("remove", path)(error.into()))?;
    let parent = match open_path(durable::parent(path)) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(|error| Error::io("remove", path)(error.into()))?,
    };
    match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(Error::io("remove", path)(error.into())),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            return match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(Error::io("remove", path)(error.into())),
            };
        }
        Ok(_) => {}
    }
    let top = open_directory(parent.as_fd(), &name).map_err(|error| not_removable(path, error))?;
    if let Some(mounted) = mount_below(top.as_fd()) {
        return Err(not_removable(&mounted, Errno::XDEV));
    }
    let mut remover =
        Remover { top, failure: None, removed: 0, buffer: vec![MaybeUninit::uninit(); 32 * 1024] };
    loop {
        let before = remover.removed;
        remover.failure = None;
        let top = remover.top.try_clone().map_err(Error::io("remove", path))?;
        remover.empty(top.as_fd(), &mut path.to_owned(), 0);
        match rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // What was moved up from the depth, or what someone put there meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) if remover.removed > before => {}
            Err(error) => {
                return Err(remover.failure.unwrap_or_else(|| not_removable(path, error)));
            }
        }
    }
}

fn not_removable(path: &Path, error: Errno) -> Error {
    let source = match error {
        Errno::XDEV => io::Error::new(io::ErrorKind::ResourceBusy, "a file system is mounted there"),
        other => other.into(),
    };
    Error::io("remove", path)(source)
}

fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory `name` in `dir` for reading, unless it is a link or a mount point. A mode that
/// forbids it is changed: the directory is about to go.
fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |flags: OFlags| {
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)
    };
    match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let there = open(OFlags::PATH)?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", there.as_raw_fd()), Mode::RWXU)?;
            open(OFlags::RDONLY)
        }
        other => other,
    }
}

/// The first mount point at or below the directory `dir`, as this process sees mounts.
fn mount_below(dir: BorrowedFd<'_>) -> Option<PathBuf> {
    let dir = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .find(|mount| mount.starts_with(&dir))
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

struct Remover {
    top: OwnedFd,
    /// The first thing that couldn't be removed in this round.
    failure: Option<Error>,
    /// Names removed or moved so far.
    removed: u64,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Remover {
    /// Removes what is in `dir`, as far as it can be. `path` is for messages.
    fn empty(&mut self, dir: BorrowedFd<'_>, path: &mut PathBuf, depth: usize) {
        let names = match self.list(dir) {
            Ok(names) => names,
            Err(error) => return self.fail(path, error),
        };
        for (name, kind) in names {
            path.push(OsStr::from_bytes(name.to_bytes()));
            let done = if kind == FileType::Directory {
                self.remove_directory(dir, &name, path, depth)
            } else {
                with_permission(dir, || rustix::fs::unlinkat(dir, &name, AtFlags::empty())).map(|()| true)
            };
            match done {
                Ok(removed) => self.removed += u64::from(removed),
                Err(Errno::NOENT) => {}
                Err(error) => self.fail(path, error),
            }
            path.pop();
        }
    }

    /// Removes a directory, or moves it up; false when something in it, which was noted, keeps it.
    fn remove_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &mut PathBuf,
        depth: usize,
    ) -> rustix::io::Result<bool> {
        let inner = open_directory(dir, name)?;
        if depth < DEEPEST {
            self.empty(inner.as_fd(), path, depth + 1);
            let removed = with_permission(dir, || rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR));
            return match removed {
                // The reason is known: whatever in it couldn't be removed.
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.failure.is_some() => Ok(false),
                other => other.map(|()| true),
            };
        }
        // Most deep directories are empty ones; only the others are worth a rename.
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other.map(|()| true),
        }
        let moved = format!(".removed-{}", durable::unique());
        with_permission(dir, || rustix::fs::renameat(dir, name, &self.top, &moved)).map(|()| true)
    }

    fn list(&mut self, dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, FileType)>> {
        rustix::fs::seek(dir, SeekFrom::Start(0))?;
        let mut names = Vec::new();
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            names.push((name.to_owned(), kind));
        }
        Ok(names)
    }

    fn fail(&mut self, path: &Path, error: Errno) {
        if self.failure.is_none() {
            self.failure = Some(not_removable(path, error));
        }
    }
}

/// Does `change` to a name in `dir`; where the directory's mode forbids it, the mode is changed.
fn with_permission(
    dir: BorrowedFd<'_>,
    change: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match change() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(dir, Mode::RWXU)?;
            change()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
