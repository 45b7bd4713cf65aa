//! Whether any process has something of a directory open: then what is there can't be written again.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use crate::fd::{self, Dir, Stat};

/// Whether a process works in the directory `root`, or holds something of it open or mapped, or has it
/// mounted wherever. `inodes` are the numbers of what was put there: who came to it in a way of his own is
/// found by them, everybody else by the path. What can't be looked at counts as use.
pub(super) fn uses(root: &Path, inodes: &HashSet<u64>) -> bool {
    let Ok(device) = Dir::top(root).and_then(|dir| Ok(fd::stat(dir.fd()?)?.id.0)) else { return true };
    let users = Users { place: ending(root).as_os_str().as_bytes(), inodes, device };
    users.anywhere().unwrap_or(true)
}

/// [`uses`], for who has looked: `stats` is what stands in the directory, `place` how its path ends.
#[allow(dead_code, reason = "who collects generations has looked")]
pub(super) fn is_used(place: &Path, stats: &[Option<Stat>]) -> bool {
    let inodes = stats.iter().flatten().map(|it| it.id.1).collect();
    let device = stats.iter().flatten().map(|it| it.id.0).next().unwrap_or_default();
    let users = Users { place: place.as_os_str().as_bytes(), inodes: &inodes, device };
    users.anywhere().unwrap_or(true)
}

/// Whether a directory whose path ends like this is mounted somewhere, in whoever's mount namespace. What can't
/// be looked at counts.
pub(super) fn is_mounted(place: &Path) -> bool {
    let looked = || -> io::Result<bool> {
        let mut namespaces = HashSet::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            if !entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            // It ended meanwhile, or is none of ours.
            let Ok(namespace) = fs::read_link(entry.path().join("ns/mnt")) else { continue };
            if !namespaces.insert(namespace) {
                continue;
            }
            let mounts = fs::read(entry.path().join("mountinfo")).unwrap_or_default();
            if contains(&mounts, place.as_os_str().as_bytes()) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    looked().unwrap_or(true)
}

struct Users<'a> {
    place: &'a [u8],
    inodes: &'a HashSet<u64>,
    /// As [`Stat::id`] has it.
    device: u64,
}

impl Users<'_> {
    fn anywhere(&self) -> io::Result<bool> {
        let mut namespaces = HashSet::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            if !entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let process = entry.path();
            match self.process(&process, &mut namespaces) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                // It ended meanwhile.
                Err(_) if process.join("stat").symlink_metadata().is_err() => {}
                Err(error) if is_gone(&error) => {}
                // A container's init that not even its root may look at started us, and serves no root.
                Err(error) if entry.file_name() == "1" && error.kind() == io::ErrorKind::PermissionDenied => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn process(&self, process: &Path, namespaces: &mut HashSet<std::path::PathBuf>) -> io::Result<bool> {
        let namespace = fs::read_link(process.join("ns/mnt"))?;
        if namespaces.insert(namespace) && contains(&fs::read(process.join("mountinfo"))?, self.place) {
            return Ok(true);
        }
        for link in ["cwd", "root", "exe"] {
            if self.is_ours(&process.join(link))? {
                return Ok(true);
            }
        }
        for open in fs::read_dir(process.join("fd"))? {
            if self.is_ours(&open?.path())? {
                return Ok(true);
            }
        }
        let maps = fs::read(process.join("maps"))?;
        Ok(maps.split(|byte| *byte == b'\n').any(|line| self.is_mapped(line)))
    }

    /// Whether what a link of `/proc` leads to is in the directory.
    fn is_ours(&self, link: &Path) -> io::Result<bool> {
        let target = match fs::read_link(link) {
            Err(error) if is_gone(&error) => return Ok(false),
            other => other?,
        };
        if !target.is_absolute() {
            return Ok(false);
        }
        if contains(target.as_os_str().as_bytes(), self.place) {
            return Ok(true);
        }
        // What the kernel knows without asking: a file system in user space may never answer.
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(CWD, link, flags, StatxFlags::INO) {
            Ok(found) => Ok(self.inodes.contains(&found.stx_ino)
                && self.device == u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a line of `maps` is about a file in the directory, or one with the inode number of one of
    /// ours. Devices have other numbers there on some file systems.
    fn is_mapped(&self, line: &[u8]) -> bool {
        let mut fields = line.split(|byte| *byte == b' ').filter(|it| !it.is_empty()).skip(4);
        let inode = fields.next().and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
        let Some(path) = fields.next().filter(|path| path.starts_with(b"/")) else { return false };
        contains(path, self.place)
            || inode.is_some_and(|inode: u64| self.inodes.contains(&inode) && self.may_be_ours(line))
    }

    fn may_be_ours(&self, line: &[u8]) -> bool {
        let (major, minor) = (self.device >> 32, self.device & 0xffff_ffff);
        let device = line.split(|byte| *byte == b' ').filter(|it| !it.is_empty()).nth(3);
        // Only file systems with a device of their own number their files as `stat` says.
        major == 0 || device == Some(format!("{major:02x}:{minor:02x}").as_bytes())
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn contains(text: &[u8], place: &[u8]) -> bool {
    // Its lock and its index stand beside it: `1.lock`.
    let ends = |rest: Option<&u8>| rest.is_none_or(|byte| matches!(byte, b'/' | b' ' | b'\n'));
    let mut windows = text.windows(place.len()).enumerate();
    windows.any(|(at, it)| it == place && ends(text.get(at + place.len())))
}

/// How the path of a directory ends, as far as it is the same seen from anywhere.
pub(super) fn ending(path: &Path) -> &Path {
    let mut from = path.as_os_str().as_bytes().len();
    for part in path.components().rev().take(3) {
        from = from.saturating_sub(part.as_os_str().len() + 1);
    }
    Path::new(OsStr::from_bytes(&path.as_os_str().as_bytes()[from..]))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_open_or_mounted_somewhere_is_in_use() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: what_is_open_or_mounted_somewhere_is_in_use needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("checkouts/hgweb/1");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("file"), "").unwrap();
        let inodes = HashSet::from([&place, &place.join("file")].map(|it| fs::metadata(it).unwrap().ino()));
        let used = || uses(&place, &inodes);
        assert_eq!(ending(&place), Path::new("/checkouts/hgweb/1"));
        assert!(!used());
        let open = File::open(place.join("file")).unwrap();
        assert!(used());
        drop(open);
        let later = File::create(place.join("made later")).unwrap();
        assert!(used());
        drop(later);
        let inside = |script: &str| {
            let mut child = std::process::Command::new("unshare")
                .args(["--mount", "sh", "-c", script])
                .current_dir(&place)
                .stdout(std::process::Stdio::piped())
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0];
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            let seen = used();
            child.kill().unwrap();
            child.wait().unwrap();
            seen
        };
        assert!(inside("echo; read x"), "somebody works there");
        assert!(inside("mount --bind . /mnt && cd / && echo && read x"), "mounted by another");
        assert!(!inside("cd / && echo && read x"));
        assert!(!used());
    }
}
