//! Small changes on disk that are either done or not: nothing in between, whatever dies when.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::{Error, Result};

/// Writes `bytes` to the file `path` with exactly the permissions `mode`: a reader, and a machine
/// that loses power, sees the old file or the whole new one. A symbolic link at `path` is replaced.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = beside(path);
    let written = write_new(&temporary, bytes, mode)
        .and_then(|file| file.sync_all())
        .map_err(Error::io("write", path))
        .and_then(|()| rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes `path` a symbolic link to `target`, replacing by one rename the link (or file) that is
/// there: a reader sees the old target or the new one.
pub fn replace_symlink(path: &Path, target: &Path) -> Result<()> {
    let temporary = beside(path);
    std::os::unix::fs::symlink(target, &temporary).map_err(Error::io("link", path))?;
    let done = rename(&temporary, path);
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Removes what killed processes left beside `path`, which was to take its place: for who keeps everybody else from
/// replacing `path` meanwhile. That nothing could be removed is only logged.
pub fn sweep_beside(path: &Path) {
    let Some(name) = path.file_name() else { return };
    for entry in fs::read_dir(parent(path)).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let rest = found.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let id = rest.and_then(|rest| rest.strip_prefix(b"."));
        if id.is_some_and(|id| id.len() == UNIQUE && id.iter().all(u8::is_ascii_hexdigit))
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "left behind");
        }
    }
}

/// Renames `from` to `to`, replacing what is there if `rename(2)` can, and makes that durable in
/// both directories.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename to", to))?;
    fsync_parents(from, to)
}

/// Like [`rename`], but fails with `AlreadyExists` where there is something at `to`.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    rename_noreplace(from, to).map_err(Error::io("rename to", to))?;
    fsync_parents(from, to)
}

/// Makes the names in the directory `path` durable.
pub fn fsync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

/// The directory that holds `path`.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn fsync_parents(from: &Path, to: &Path) -> Result<()> {
    fsync_dir(parent(to))?;
    if parent(from) != parent(to) {
        fsync_dir(parent(from))?;
    }
    Ok(())
}

/// `rename` that never replaces. Where the file system can't promise that, a check comes first.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// A new file with `bytes` and exactly the permissions `mode`, whatever the umask is.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// A name beside `path` for what will take its place.
fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("")));
    // A name near NAME_MAX has no room for a suffix.
    if name.len() > 200 {
        name = OsString::from(".");
    }
    name.push(format!(".{}", unique()));
    path.with_file_name(name)
}

/// How long what [`unique`] makes up is.
const UNIQUE: usize = 16;

/// Sixteen hex digits that no other thread or process is likely to have.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Keyed by the process' random seed; the pid tells forks of one seed apart.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.write_u32(std::process::id());
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_left_beside_a_name_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let id = unique();
        let others =
            ["name".to_owned(), format!(".name2.{id}"), format!(".name.{id}0"), ".name.x".to_owned()];
        for name in others.iter().chain([&format!(".name.{id}")]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join(format!(".name.{}", unique()))).unwrap();
        sweep_beside(&dir.path().join("name"));
        let mut others = others.to_vec();
        others.sort();
        assert_eq!(names(dir.path()), others);
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        write_atomic(&path, b"one", 0o640).unwrap();
        write_atomic(&path, b"two", 0o444).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
        assert_eq!(names(dir.path()), ["name"]);
    }

    #[test]
    fn a_failed_atomic_write_leaves_the_old_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        assert!(matches!(write_atomic(&path, b"new", 0o644), Err(Error::Io { .. })));
        assert_eq!(names(dir.path()), ["name"]);
    }

    #[test]
    fn a_link_is_replaced_by_rename() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        replace_symlink(&path, Path::new("a")).unwrap();
        replace_symlink(&path, Path::new("../b")).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../b"));
        assert_eq!(names(dir.path()), ["link"]);
    }

    #[test]
    fn a_rename_to_a_taken_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        let Err(Error::Io { source, .. }) = rename_new(&a, &b) else { panic!("replaced") };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&b).unwrap(), b"b");
    }
}
