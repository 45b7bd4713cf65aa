//! What a step leaves in a root and nobody wants: removed before capture, listed in one place
//! ([`RULES`]).
//!
//! The upper side of an overlay takes two passes. The first removes what stands there, so that
//! nothing of it is hashed, and leaves whiteouts alone: each hides something of the lower side. But
//! to remove a file of the upper side may uncover one of the lower side, and the lower side may hold
//! things that it wouldn't if it were scrubbed today (the list has grown). So the second pass looks
//! at the captured tree, and what is still there goes by a whiteout.

mod rules;
mod upper;

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use rootbuild_cache::{Meta, Mtime};

use crate::fd::{self, Dir, Stat};
pub use rules::{Action, RULES, Rule};
pub(crate) use upper::{LeftOver, left_over, remove_left_over, replace, whiteout};

/// Where a systemd would be, that writes a machine-id where it finds none.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];

/// A machine-id that is made here: it belongs to whom its directory does.
fn machine_id((uid, gid): (u32, u32)) -> Meta {
    Meta { mode: 0o444, uid, gid, ..Meta::default() }
}

/// Applies [`RULES`] to a whole root in a plain directory. Never follows a symbolic link.
pub fn scrub(root: &Path) -> io::Result<()> {
    apply(root, false)
}

/// Applies [`RULES`] to what stands in the upper side of an overlay; whiteouts stay. What it
/// uncovers is found by [`left_over`].
pub(crate) fn scrub_upper(upper: &Path) -> io::Result<()> {
    apply(upper, true)
}

fn apply(root: &Path, upper: bool) -> io::Result<()> {
    let top = Dir::top(root)?;
    let systemd = !upper && has_systemd(&top)?;
    for rule in RULES {
        let components = rule.components();
        let Some((last, parents)) = components.split_last() else { continue };
        for parent in expand(&top, parents)? {
            for name in names(&parent, last)? {
                one(&parent, &name, rule.action, upper, systemd)?;
            }
        }
    }
    Ok(())
}

/// The directories that the components lead to.
fn expand(top: &Arc<Dir>, components: &[&[u8]]) -> io::Result<Vec<Arc<Dir>>> {
    let mut found = vec![Arc::clone(top)];
    for component in components {
        let mut next = Vec::new();
        for dir in &found {
            for name in names(dir, component)? {
                if let Some(child) = directory(dir, &name)? {
                    next.push(child);
                }
            }
        }
        found = next;
    }
    Ok(found)
}

fn names(dir: &Arc<Dir>, component: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if !rules::is_pattern(component) {
        return Ok(vec![component.to_vec()]);
    }
    let listed = fd::children(dir.fd()?)?;
    Ok(listed.into_iter().map(|it| it.name).filter(|name| rules::matches(component, name)).collect())
}

/// The directory `name`, if it is one itself.
fn directory(dir: &Arc<Dir>, name: &[u8]) -> io::Result<Option<Arc<Dir>>> {
    match fd::stat_if_there(dir.fd()?, name)? {
        Some(stat) if stat.kind == FileType::Directory => Ok(Some(dir.child(name)?.0)),
        _ => Ok(None),
    }
}

fn one(dir: &Arc<Dir>, name: &[u8], action: Action, upper: bool, systemd: bool) -> io::Result<()> {
    let stat = match fd::stat_if_there(dir.fd()?, name)? {
        Some(stat) if upper && stat.is_whiteout() => return Ok(()),
        other => other,
    };
    match (action, stat) {
        (Action::EmptyDirectory, Some(stat)) if stat.kind == FileType::Directory => {
            let (child, _) = dir.child(name)?;
            fd::remove_children(&child, upper)?;
            fd::set_times(child.fd()?, None, Mtime::default())
        }
        (Action::Remove, Some(_)) => fd::remove(dir, name),
        // In an upper side it may only look empty.
        (Action::RemoveIfEmpty, Some(stat)) if stat.kind == FileType::Directory && !upper => {
            match rustix::fs::unlinkat(dir.fd()?, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
                done => Ok(done?),
            }
        }
        (Action::EmptyFile, Some(stat)) if stat.kind == FileType::RegularFile && stat.size > 0 => {
            make_empty(dir, name, &meta_of(&stat))
        }
        (Action::EmptyFile, None) if systemd => {
            let owner = fd::stat(dir.fd()?)?;
            make_empty(dir, name, &machine_id((owner.uid, owner.gid)))
        }
        _ => Ok(()),
    }
}

/// Puts an empty file in the place of what is there. A new one, since the old may have other names.
fn make_empty(dir: &Arc<Dir>, name: &[u8], meta: &Meta) -> io::Result<()> {
    fd::remove(dir, name)?;
    fd::set_metadata(create(dir, name)?, None, meta, false, false)
}

/// Makes a file where there is none.
fn create(dir: &Arc<Dir>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir.fd()?, name, flags, Mode::from_raw_mode(0o600))?)
}

fn meta_of(stat: &Stat) -> Meta {
    Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs: Vec::new() }
}

fn has_systemd(top: &Arc<Dir>) -> io::Result<bool> {
    for path in SYSTEMD {
        let components: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let Some((last, parents)) = components.split_last() else { continue };
        for dir in expand(top, parents)? {
            if fd::stat_if_there(dir.fd()?, last)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
