//! Looking into a root from outside: every symbolic link on the way is resolved as inside.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, open, openat2, unlinkat};
use rustix::io::Errno;

/// Opens a regular file of the root for reading. A FIFO isn't opened, and a device neither: that can do
/// something by itself.
pub(super) fn open_in(root: &Path, path: &str) -> std::io::Result<File> {
    let there = openat(root, path, OFlags::PATH)?;
    if !there.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it isn't a regular file"));
    }
    File::open(format!("/proc/self/fd/{}", there.as_raw_fd()))
}

/// Whether `path` is the same seen in the root and seen from outside: no link on its way leads out. What
/// isn't there is the same.
pub(super) fn is_same_outside(root: &Path, path: &str) -> bool {
    let id = |file: &std::fs::Metadata| (file.dev(), file.ino());
    let inside = openat(root, path, OFlags::PATH).and_then(|file| file.metadata());
    let outside = std::fs::metadata(root.join(path));
    inside.as_ref().map(id).ok() == outside.as_ref().map(id).ok()
}

/// Whether the root has something at `path`.
pub(super) fn exists_in(root: &Path, path: &str) -> bool {
    openat(root, path, OFlags::PATH).is_ok()
}

/// Removes a file from a directory of the root; that it isn't there is fine.
pub(super) fn remove_in(root: &Path, dir: &str, name: &str) -> std::io::Result<()> {
    let dir = openat(root, dir, OFlags::PATH | OFlags::DIRECTORY)?;
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes a file in a directory of the root, which everybody may read.
pub(super) fn create_in(root: &Path, dir: &str, name: &str) -> std::io::Result<File> {
    let dir = openat(root, dir, OFlags::PATH | OFlags::DIRECTORY)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?);
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(file)
}

fn openat(root: &Path, path: &str, flags: OFlags) -> std::io::Result<File> {
    let dir = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Renames elsewhere make the kernel ask for another try.
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return Ok(File::from(done?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("etc")).unwrap();
        assert!(!exists_in(dir.path(), "etc/passwd") && !exists_in(dir.path(), "/etc/passwd"));
        assert!(exists_in(dir.path(), "/"));
        assert!(open_in(dir.path(), "../../../../../../etc/passwd").is_err());
        assert!(!is_same_outside(dir.path(), "etc/passwd") && is_same_outside(dir.path(), "missing"));
    }

    #[test]
    fn what_is_no_file_is_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open_in(dir.path(), "fifo").is_err());
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(std::io::read_to_string(open_in(dir.path(), "file").unwrap()).unwrap(), "x");
        assert!(is_same_outside(dir.path(), "file"));
    }
}
