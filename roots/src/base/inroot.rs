//! Looking into a root from outside: every symbolic link on the way is resolved as inside.

use std::fs::File;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, open, openat2, unlinkat};
use rustix::io::Errno;

/// Opens a file of the root for reading.
pub(super) fn open_in(root: &Path, path: &str) -> std::io::Result<File> {
    openat(root, path, OFlags::RDONLY | OFlags::NONBLOCK)
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

fn openat(root: &Path, path: &str, flags: OFlags) -> std::io::Result<File> {
    let dir = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(File::from(openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?))
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
    }
}
