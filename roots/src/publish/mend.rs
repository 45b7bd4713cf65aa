//! Published roots that share files with other checkouts: whether the part where their users can't write is still as
//! their tree says, and writing anew what isn't.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;

use rootbuild_cache::fsck::{
    Check, Findings, Kind as Damage, Quarantine, Remedy, Repair, Severity, hash_open,
};
use rootbuild_cache::{Digest, Entry, Kind, Store, Tree};

use super::place::{Generation, Locked, Place, lock};
use super::{PublishError, failed, index};
use crate::capture;
use crate::checkout::{Maker, Shareable};
use crate::fd::{self, Dir, Stat};

/// How many files of a checkout are told by name.
const NAMED: usize = 3;

/// Looks at what of a generation is shared, or may be.
pub(super) fn check(check: &Check<'_>, place: &Place, number: u64, generation: &Generation) {
    let checkout = place.checkout(number);
    let Ok(tree) = check.store().tree(&generation.tree) else { return };
    let identity = || checkout.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    let before = identity();
    let content = |file: &File| if check.is_quick() { Ok(None) } else { check.content(file).map(Some) };
    let wrong = match wrong(&checkout, &tree, generation, &content) {
        Ok(wrong) if wrong.is_empty() => return,
        // Moved away meanwhile, to be removed or to become another.
        _ if identity().is_none() || identity() != before => return,
        Ok(wrong) => wrong,
        Err(error) => {
            let what = format!("what it shares can't be looked at: {error}");
            return check.found(Severity::Note, Damage::Unreadable, &checkout, what, Remedy::Nothing);
        }
    };
    let name = |at: &usize| String::from_utf8_lossy(&tree.entries()[*at].path).into_owned();
    let names: Vec<String> = wrong.iter().take(NAMED).map(name).collect();
    let more = wrong.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what =
        format!("files where nobody may write aren't what its tree says: `{}`{more}", names.join("`, `"));
    check.found(Severity::Damage, Damage::Checkout, &checkout, what, Remedy::Rewrite);
}

/// What a file holds; `None` where that isn't asked.
type Content<'c> = dyn Fn(&File) -> io::Result<Option<Digest>> + Sync + 'c;

/// The numbers of the entries outside the private parts that aren't what `tree` says: first names of files, and all else
/// but directories, in which mount points are made. Times don't count.
fn wrong(
    checkout: &Path,
    tree: &Tree,
    generation: &Generation,
    content: &Content<'_>,
) -> io::Result<Vec<usize>> {
    let Some(private) = generation.private() else { return Ok(Vec::new()) };
    let shareable = Shareable::new(tree, &private);
    let stats = index::stats(checkout, tree)?;
    let top = Dir::top(checkout)?;
    let numbers: BTreeMap<&[u8], usize> =
        tree.entries().iter().enumerate().map(|(at, entry)| (entry.path.as_slice(), at)).collect();
    let found = Mutex::new(Vec::new());
    let look = |at: usize, entry: &Entry| -> io::Result<()> {
        let first = tree.resolve(entry);
        if entry.is_directory() || !shareable.contains(&first.path) || !shareable.contains(&entry.path) {
            return Ok(());
        }
        let first_at = numbers.get(first.path.as_slice()).copied().unwrap_or(at);
        let good = match (stats[at], stats[first_at]) {
            (Some(stat), Some(it)) if at != first_at => stat.id == it.id,
            (Some(stat), _) => looks(&stat, entry) && holds(top.fd()?.as_fd(), entry, content)?,
            (None, _) => false,
        };
        if !good {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(first_at);
        }
        Ok(())
    };
    tree.entries().par_iter().enumerate().try_for_each(|(at, entry)| look(at, entry))?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether what is there looks as the entry says.
fn looks(stat: &Stat, entry: &Entry) -> bool {
    let kind = match &entry.kind {
        Kind::File { size, .. } => stat.kind == FileType::RegularFile && stat.size == *size,
        Kind::Symlink { .. } => stat.kind == FileType::Symlink,
        Kind::CharDevice { major, minor } => {
            stat.kind == FileType::CharacterDevice && stat.device == (*major, *minor)
        }
        Kind::BlockDevice { major, minor } => {
            stat.kind == FileType::BlockDevice && stat.device == (*major, *minor)
        }
        Kind::Fifo => stat.kind == FileType::Fifo,
        Kind::Directory | Kind::Hardlink { .. } => true,
    };
    let mode = stat.kind == FileType::Symlink || stat.mode == entry.meta.mode;
    kind && mode && (stat.uid, stat.gid) == (entry.meta.uid, entry.meta.gid)
}

/// Whether the content, target and attributes are as the entry says.
fn holds(top: BorrowedFd<'_>, entry: &Entry, content: &Content<'_>) -> io::Result<bool> {
    let (parent, name) = fd::split(&entry.path);
    let dir = fd::open_beneath(top, parent)?;
    match &entry.kind {
        Kind::File { object, .. } => {
            let file = File::from(fd::open_file(&dir, name, OFlags::RDONLY)?);
            Ok(content(&file)?.is_none_or(|found| found == *object)
                && fd::list_xattrs(&file, None, capture::belongs)? == entry.meta.xattrs)
        }
        Kind::Symlink { target } => {
            Ok(rustix::fs::readlinkat(&dir, name, Vec::new())?.as_bytes() == target.as_slice())
        }
        _ => Ok(true),
    }
}

/// Writes anew what was found in checkouts: each file beside, and renamed to its names. What was there is moved to the
/// quarantine. A service that has the old file open keeps it until it opens it again. What can't be written stays a
/// finding, and is logged.
#[must_use]
pub fn repair(store: &Store, findings: &Findings) -> Vec<Repair> {
    let mut quarantine = Quarantine::new(store);
    let mut done = Vec::new();
    for finding in findings.all.iter().filter(|it| it.remedy == Remedy::Rewrite) {
        let mut parts = finding.path.iter().skip(1).map(|part| part.to_string_lossy());
        let name = parts.next().unwrap_or_default();
        let number = parts.next().and_then(|number| number.parse().ok()).unwrap_or_default();
        match rewrite(store, &name, number, &mut quarantine) {
            Ok(count) => {
                let done_ = format!("{count} of them written anew; what was there is in `quarantine`");
                done.push(Repair { finding: finding.clone(), done: done_ });
            }
            Err(error) => {
                let path = finding.path.display();
                tracing::warn!(%path, error = &error as &dyn std::error::Error, "not repaired");
            }
        }
    }
    done
}

fn rewrite(
    store: &Store,
    name: &str,
    number: u64,
    quarantine: &mut Quarantine<'_>,
) -> Result<usize, PublishError> {
    let place = Place::new(store, name)?;
    // So that it isn't removed, and doesn't become another one, meanwhile.
    let held = lock(&place.lock(number), FlockOperation::NonBlockingLockShared)?;
    let generation = place.generation(number)?;
    let (Locked::Held(_held), Some(generation)) = (held, generation) else {
        return Err(PublishError::Gone { path: place.checkout(number) });
    };
    let (tree, checkout) = (store.tree(&generation.tree)?, place.checkout(number));
    let io = |action| {
        let checkout = checkout.clone();
        move |error: io::Error| failed(action, &checkout)(error)
    };
    let content = |file: &File| hash_open(file).map(Some);
    let wrong = wrong(&checkout, &tree, &generation, &content).map_err(io("look at"))?;
    let staging = store.checkout_staging("mend")?;
    let fresh = Dir::top(staging.path()).map_err(io("open"))?;
    let maker = Maker::new(store, &checkout, (u32::MAX, u32::MAX))?;
    let into = fresh.fd().map_err(io("open"))?;
    for at in &wrong {
        maker.make(&into, at.to_string().as_bytes(), *at, &tree.entries()[*at])?;
    }
    rustix::fs::syncfs(&into).map_err(|error| io("sync")(error.into()))?;
    let top = Dir::top(&checkout).map_err(io("open"))?;
    let top = top.fd().map_err(io("open"))?;
    let away = quarantine.dir()?.join("checkouts").join(name).join(number.to_string());
    for at in &wrong {
        let first = &tree.entries()[*at];
        let is_name = |entry: &&Entry| match &entry.kind {
            Kind::Hardlink { target } => *target == first.path,
            _ => entry.path == first.path,
        };
        for entry in tree.entries().iter().filter(is_name) {
            put(top.as_fd(), entry, &fresh, &at.to_string(), &away)
                .map_err(|error| failed("write anew", &checkout.join(shown(&entry.path)))(error))?;
        }
    }
    rustix::fs::syncfs(top).map_err(|error| io("sync")(error.into()))?;
    Ok(wrong.len())
}

/// Gives the file `fresh` in `staging` the name of `entry`; what has it is moved below `away`.
fn put(top: BorrowedFd<'_>, entry: &Entry, staging: &Arc<Dir>, fresh: &str, away: &Path) -> io::Result<()> {
    const PUT: &str = "put";
    let (parent, name) = fd::split(&entry.path);
    let dir = fd::open_beneath(top, parent)?;
    let before = fd::stat(&dir)?.mtime;
    let from = staging.fd()?;
    rustix::fs::linkat(&from, fresh, &from, PUT, AtFlags::empty())?;
    let there = fd::stat_if_there(&dir, name)?;
    let how = if there.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    rustix::fs::renameat_with(&from, PUT, &dir, name, how)?;
    if let Some(old) = there {
        let to = away.join(shown(&entry.path));
        fs::create_dir_all(to.parent().unwrap_or(away))?;
        match rustix::fs::renameat(&from, PUT, CWD, &to) {
            // Where `checkouts/` is another mount, what a file held is all that is kept of it.
            Err(Errno::XDEV) => {
                if old.kind == FileType::RegularFile {
                    let old = File::from(fd::open_file(&from, PUT.as_bytes(), OFlags::RDONLY)?);
                    io::copy(&mut &old, &mut File::create(to)?)?;
                }
                fd::remove(staging, PUT.as_bytes())?;
            }
            done => done?,
        }
    }
    fd::set_times(&dir, None, before)
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}
