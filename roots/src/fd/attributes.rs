//! Extended attributes, owners, modes and times.

use std::io;

use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use rootbuild_cache::{Meta, Mtime};

/// The kernel's limit for a value, and for a list of names.
const XATTR_MAX: usize = 64 * 1024;

/// Where attributes stand: an open file, or a name (not followed) in an open directory. The second
/// goes through `/proc/self/fd`, since there is no `*xattrat` on most kernels; it is how symbolic
/// links, devices and FIFOs are reached without being opened.
fn by_name(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Attributes: names and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// All attributes of `name` in `dir`, or of `dir` itself where `name` is `None`, that `wanted`
/// accepts, sorted by name.
pub(crate) fn list_xattrs(
    dir: impl AsFd,
    name: Option<&[u8]>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Xattrs> {
    let path = name.map(|name| by_name(&dir, name));
    let listed = read(1024, |buffer| match &path {
        Some(path) => rustix::fs::llistxattr(path.as_slice(), buffer),
        None => rustix::fs::flistxattr(&dir, buffer),
    });
    let names = match listed {
        Ok(names) => names,
        // A file system without attributes.
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for attribute in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
        let value = read(256, |buffer| match &path {
            Some(path) => rustix::fs::lgetxattr(path.as_slice(), attribute, buffer),
            None => rustix::fs::fgetxattr(&dir, attribute, buffer),
        });
        match value {
            Ok(value) => found.push((attribute.to_vec(), value)),
            // Listed, but not there: some file systems list names that they only make up.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// One attribute of an open file, `None` where it has none of that name.
pub(crate) fn get_xattr(file: impl AsFd, attribute: &str) -> io::Result<Option<Vec<u8>>> {
    match read(256, |buffer| rustix::fs::fgetxattr(&file, attribute, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Calls `call` with a buffer, and with the largest that can be needed where the first is too small.
fn read(first: usize, call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; first];
    let length = match call(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(XATTR_MAX, 0);
            call(&mut buffer)?
        }
        done => done?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// Sets an attribute of an open file.
pub(crate) fn set_xattr(file: impl AsFd, attribute: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty())?)
}

/// Removes an attribute of an open file; one that isn't there is no error.
pub(crate) fn remove_xattr(file: impl AsFd, attribute: &str) -> io::Result<()> {
    match rustix::fs::fremovexattr(file, attribute) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        done => Ok(done?),
    }
}

/// Gives an open file (`name` is `None`), or a name in an open directory, its owner, attributes,
/// mode and mtime, in the order in which none undoes another: `chown` clears setuid bits and
/// capabilities, attributes of the user can't be set once the file is read-only, and everything
/// but the last leaves the time alone. `owned` tells that the owner is right already, `symlink`
/// that there is no mode to set.
pub(crate) fn set_metadata(
    file: impl AsFd,
    name: Option<&[u8]>,
    meta: &Meta,
    owned: bool,
    symlink: bool,
) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
    let mode = Mode::from_raw_mode(meta.mode);
    match name {
        None => {
            if !owned {
                rustix::fs::fchown(&file, uid, gid)?;
            }
            for (attribute, value) in &meta.xattrs {
                set_xattr(&file, attribute, value)?;
            }
            rustix::fs::fchmod(&file, mode)?;
        }
        Some(name) => {
            if !owned {
                rustix::fs::chownat(&file, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if !meta.xattrs.is_empty() {
                let path = by_name(&file, name);
                for (attribute, value) in &meta.xattrs {
                    let flags = XattrFlags::empty();
                    rustix::fs::lsetxattr(path.as_slice(), attribute.as_slice(), value, flags)?;
                }
            }
            if !symlink {
                // A device or FIFO of ours, unless somebody has put a link in its place.
                let held = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let held = rustix::fs::openat(&file, name, held, Mode::empty())?;
                if super::stat(&held)?.kind == FileType::Symlink {
                    return Err(Errno::LOOP.into());
                }
                rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), mode)?;
            }
        }
    }
    set_times(&file, name, meta.mtime)
}

/// Sets the mtime of an open file, or of a name (not followed) in an open directory.
pub(crate) fn set_times(file: impl AsFd, name: Option<&[u8]>, mtime: Mtime) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    };
    match name {
        None => rustix::fs::futimens(file, &times)?,
        Some(name) => rustix::fs::utimensat(file, name, &times, AtFlags::SYMLINK_NOFOLLOW)?,
    }
    Ok(())
}
