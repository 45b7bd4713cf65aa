//! Removing what a root left behind, however deep, whatever it is.

use std::io;
use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, IFlags, OFlags};
use rustix::io::Errno;

use super::Dir;

/// Removes `name` in `dir` and everything below it; nothing there is no error.
pub(crate) fn remove(dir: &Arc<Dir>, name: &[u8]) -> io::Result<()> {
    match super::stat_if_there(dir.fd()?, name)? {
        None => Ok(()),
        Some(stat) if stat.kind == FileType::Directory => {
            let (child, _) = dir.child(name)?;
            remove_children(&child, false)?;
            drop(child);
            unlink(&dir.fd()?, name, AtFlags::REMOVEDIR)
        }
        Some(_) => unlink(&dir.fd()?, name, AtFlags::empty()),
    }
}

struct Frame {
    dir: Arc<Dir>,
    name: Vec<u8>,
    below: Vec<Vec<u8>>,
    kept: bool,
}

/// Removes everything in `dir`; with `keep_whiteouts` all but overlayfs's whiteouts and the
/// directories that hold one. Returns whether anything was kept.
pub(crate) fn remove_children(dir: &Arc<Dir>, keep_whiteouts: bool) -> io::Result<bool> {
    let mut stack = vec![enter(Arc::clone(dir), Vec::new(), keep_whiteouts)?];
    loop {
        let Some(frame) = stack.last_mut() else { return Ok(false) };
        if let Some(name) = frame.below.pop() {
            let (child, _) = frame.dir.child(&name)?;
            stack.push(enter(child, name, keep_whiteouts)?);
            continue;
        }
        let Some(done) = stack.pop() else { return Ok(false) };
        let Some(parent) = stack.last_mut() else { return Ok(done.kept) };
        if done.kept {
            parent.kept = true;
        } else {
            drop(done.dir);
            unlink(&parent.dir.fd()?, &done.name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Removes all that is no directory, and notes what is.
fn enter(dir: Arc<Dir>, name: Vec<u8>, keep_whiteouts: bool) -> io::Result<Frame> {
    let mut frame = Frame { dir, name, below: Vec::new(), kept: false };
    let fd = frame.dir.fd()?;
    for listed in super::children(&fd)? {
        let stat = match listed.kind {
            FileType::Unknown => Some(super::stat_at(&fd, &listed.name)?),
            FileType::CharacterDevice if keep_whiteouts => Some(super::stat_at(&fd, &listed.name)?),
            _ => None,
        };
        if stat.map_or(listed.kind, |stat| stat.kind) == FileType::Directory {
            frame.below.push(listed.name);
        } else if keep_whiteouts && stat.is_some_and(|stat| stat.is_whiteout()) {
            frame.kept = true;
        } else {
            unlink(&fd, &listed.name, AtFlags::empty())?;
        }
    }
    drop(fd);
    Ok(frame)
}

/// Unlinks a name; where `chattr +i` or `+a` forbids it, takes those flags away first.
fn unlink(dir: &impl AsFd, name: &[u8], flags: AtFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return Ok(done?),
    }
    let _ = thaw(dir);
    let flagged = |stat: super::Stat| matches!(stat.kind, FileType::RegularFile | FileType::Directory);
    if super::stat_at(dir, name).is_ok_and(flagged)
        && let Ok(file) = super::open_file(dir, name, OFlags::RDONLY)
    {
        let _ = thaw(&file);
    }
    Ok(rustix::fs::unlinkat(dir, name, flags)?)
}

fn thaw(file: &impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(file)?;
    rustix::fs::ioctl_setflags(file, flags - IFlags::IMMUTABLE - IFlags::APPEND)
}
