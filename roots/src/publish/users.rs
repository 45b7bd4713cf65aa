//! Whether any process has something of a directory open: then what is there can't be written again.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use crate::fd::{self, Dir};

/// Whether a process works in the directory `root`, or holds something of it open or mapped, or has it
/// mounted wherever. `inodes` are the numbers of what was put there: who came to it in a way of his own is
/// found by them, everybody else by the path. What can't be looked at counts as use.
pub(super) fn uses(root: &Path, inodes: &HashSet<u64>) -> bool {
    Users::now().map_or(true, |users| users.has(root, inodes))
}

/// What processes use, for who asks about many directories: a look at all processes serves for a moment.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<(Instant, Arc<Users>)>>);

/// For so long a look at all processes serves.
const MOMENT: Duration = Duration::from_millis(100);

impl Watch {
    /// [`uses`], as of a moment ago at most.
    pub(super) fn uses(&self, root: &Path, inodes: &HashSet<u64>) -> bool {
        self.lately().map_or(true, |users| users.has(root, inodes))
    }

    fn lately(&self) -> io::Result<Arc<Users>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, users)) if at.elapsed() < MOMENT => Ok(users.clone()),
            _ => {
                let users = Arc::new(Users::now()?);
                *last = Some((Instant::now(), users.clone()));
                Ok(users)
            }
        }
    }
}

/// Whether a directory whose path ends like this is mounted somewhere, in whoever's mount namespace. What can't
/// be looked at counts.
pub(super) fn is_mounted(place: &Path) -> bool {
    let place = Finder::new(place.as_os_str().as_bytes());
    let looked = || -> io::Result<bool> {
        let mut namespaces = HashSet::new();
        for process in processes()? {
            let process = process?;
            // It ended meanwhile, or is none of ours.
            let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { continue };
            if !namespaces.insert(namespace) {
                continue;
            }
            let mounts = fs::read(process.join("mountinfo")).unwrap_or_default();
            if finds(&mounts, &place) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    looked().unwrap_or(true)
}

/// The directories of all processes.
fn processes() -> io::Result<impl Iterator<Item = io::Result<PathBuf>>> {
    let is_process = |entry: &fs::DirEntry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit);
    Ok(fs::read_dir("/proc")?
        .filter(move |entry| entry.as_ref().map_or(true, is_process))
        .map(|entry| entry.map(|entry| entry.path())))
}

/// What all processes together work in, have open, mapped and mounted.
#[derive(Debug, Default)]
struct Users {
    /// Paths, as the kernel tells them, and whole lines of mount tables.
    paths: HashSet<Vec<u8>>,
    /// What is open: device (major << 32 | minor), and inode.
    open: HashSet<(u64, u64)>,
    /// What is mapped: device as `maps` has it, and inode.
    mapped: HashSet<(Vec<u8>, u64)>,
}

impl Users {
    fn now() -> io::Result<Self> {
        let (mut users, mut namespaces) = (Self::default(), HashSet::new());
        for process in processes()? {
            let process = process?;
            match users.add(&process, &mut namespaces) {
                Ok(()) => {}
                // It ended meanwhile.
                Err(_) if process.join("stat").symlink_metadata().is_err() => {}
                Err(error) if is_gone(&error) => {}
                // A container's init that not even its root may look at started us, and serves no root.
                Err(error) if process.ends_with("1") && error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(users)
    }

    fn add(&mut self, process: &Path, namespaces: &mut HashSet<PathBuf>) -> io::Result<()> {
        let namespace = fs::read_link(process.join("ns/mnt"))?;
        if namespaces.insert(namespace) {
            let mounts = fs::read(process.join("mountinfo"))?;
            self.paths.extend(mounts.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
        for link in ["cwd", "root", "exe"] {
            self.add_link(&process.join(link))?;
        }
        for open in fs::read_dir(process.join("fd"))? {
            self.add_link(&open?.path())?;
        }
        for line in fs::read(process.join("maps"))?.split(|byte| *byte == b'\n') {
            self.add_mapped(line);
        }
        Ok(())
    }

    /// What a link of `/proc` leads to.
    fn add_link(&mut self, link: &Path) -> io::Result<()> {
        let target = match fs::read_link(link) {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other?,
        };
        if !target.is_absolute() {
            return Ok(());
        }
        self.paths.insert(target.into_os_string().into_vec());
        // What the kernel knows without asking: a file system in user space may never answer.
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(CWD, link, flags, StatxFlags::INO) {
            Ok(found) => {
                let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
                self.open.insert((device, found.stx_ino));
                Ok(())
            }
            Err(Errno::NOENT | Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The file of a line of `maps`.
    fn add_mapped(&mut self, line: &[u8]) {
        let mut fields = line.split(|byte| *byte == b' ').filter(|it| !it.is_empty()).skip(3);
        let (Some(device), Some(inode), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            return;
        };
        if path.starts_with(b"/") {
            self.paths.insert(path.to_vec());
            let inode = std::str::from_utf8(inode).ok().and_then(|it| it.parse().ok());
            self.mapped.extend(inode.map(|inode| (device.to_vec(), inode)));
        }
    }

    /// Whether something of the directory `root`, with what was put there, is among it.
    fn has(&self, root: &Path, inodes: &HashSet<u64>) -> bool {
        let Ok(device) = Dir::top(root).and_then(|dir| Ok(fd::stat(dir.fd()?)?.id.0)) else { return true };
        let (major, minor) = (device >> 32, device & 0xffff_ffff);
        // Only file systems with a device of their own number their files as `stat` says.
        let there = (major != 0).then(|| format!("{major:02x}:{minor:02x}").into_bytes());
        let place = Finder::new(ending(root).as_os_str().as_bytes());
        self.open.iter().any(|(of, inode)| *of == device && inodes.contains(inode))
            || (self.mapped.iter())
                .any(|(of, it)| inodes.contains(it) && there.as_ref().is_none_or(|there| there == of))
            || self.paths.iter().any(|path| finds(path, &place))
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn finds(text: &[u8], place: &Finder<'_>) -> bool {
    // Its lock and its index stand beside it: `1.lock`.
    let ends = |rest: Option<&u8>| rest.is_none_or(|byte| matches!(byte, b'/' | b' ' | b'\n'));
    place.find_iter(text).any(|at| ends(text.get(at + place.needle().len())))
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
