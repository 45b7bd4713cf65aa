//! Putting right what a check found.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Serialize;

use super::{Finding, Findings, Kind, Remedy, io_error};
use crate::digest::Digest;
use crate::durable;
use crate::error::Result;
use crate::lease::{self, Gate};
use crate::objects::by_digest;
use crate::store::{Store, make_directory};
use crate::tree::Kind as EntryKind;

/// Contents that are missing, with their lengths.
pub(super) type Wanted = HashMap<Digest, u64>;

/// A directory that was checked out, and may still hold what its tree names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tree.
    pub tree: Digest,
    /// The directory.
    pub dir: PathBuf,
}

/// What was done about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What it was about.
    #[serde(flatten)]
    pub finding: Finding,
    /// What was done, in words.
    pub done: String,
}

pub(super) fn repair(store: &Store, findings: &Findings, places: &[Place]) -> Result<Vec<Repair>> {
    let mut done = Vec::new();
    let mut quarantine = Quarantine::new(store);
    let tell = |finding: &Finding, text: String| Repair { finding: finding.clone(), done: text };
    // What is bad goes first, so that good contents can take its name.
    let is_first = |it: &&Finding| it.remedy == Remedy::Quarantine && it.path.starts_with("objects");
    for finding in findings.all.iter().filter(is_first) {
        done.push(tell(finding, quarantine.take(&finding.path)?));
    }
    let mut wanted = findings.wanted.clone();
    for finding in &done {
        // Nothing may name it any more, or a tree that can't be read: then it isn't missed.
        let name: String =
            finding.finding.path.components().skip(1).map(|it| it.as_os_str().to_string_lossy()).collect();
        if let Ok(digest) = format!("b3:{name}").parse() {
            wanted.entry(digest).or_insert(u64::MAX);
        }
    }
    let restored = restore(store, &wanted, places)?;
    for finding in &findings.all {
        match finding.remedy {
            Remedy::Quarantine if !finding.path.starts_with("objects") => {
                done.push(tell(finding, quarantine.take(&finding.path)?));
            }
            Remedy::Restore => {
                let text = if is_complete(store, &finding.path) {
                    "its contents were restored".to_owned()
                } else {
                    quarantine.take(&finding.path)?
                };
                done.push(tell(finding, text));
            }
            Remedy::Mode(mode) => {
                let path = store.dir().join(&finding.path);
                fs::set_permissions(&path, Permissions::from_mode(mode))
                    .map_err(io_error("change", &path))?;
                done.push(tell(finding, format!("it has the mode {mode:o} now")));
            }
            Remedy::Quarantine | Remedy::Rewrite | Remedy::Nothing => {}
        }
    }
    for repair in &mut done {
        let name: String =
            repair.finding.path.components().skip(1).map(|it| it.as_os_str().to_string_lossy()).collect();
        if repair.finding.kind == Kind::Content
            && format!("b3:{name}").parse().is_ok_and(|digest: Digest| restored.contains(&digest))
        {
            repair.done.push_str(", and its content restored");
        }
    }
    Ok(done)
}

fn is_complete(store: &Store, path: &Path) -> bool {
    let name: String = path.components().skip(1).map(|it| it.as_os_str().to_string_lossy()).collect();
    let Ok(digest) = format!("b3:{name}").parse() else { return false };
    let Ok(tree) = store.peek_tree(&digest) else { return false };
    let objects = store.dir().join("objects");
    tree.entries().iter().all(|entry| match &entry.kind {
        EntryKind::File { object, size } => {
            by_digest(&objects, object).symlink_metadata().is_ok_and(|it| it.len() == *size)
        }
        _ => true,
    })
}

/// Where things are put that nobody should use; made once it is needed.
#[derive(Debug)]
pub struct Quarantine<'s> {
    store: &'s Store,
    dir: Option<PathBuf>,
}

impl<'s> Quarantine<'s> {
    /// One of its own.
    #[must_use]
    pub fn new(store: &'s Store) -> Self {
        Self { store, dir: None }
    }

    /// Its directory.
    pub fn dir(&mut self) -> Result<&Path> {
        if self.dir.is_none() {
            let home = self.store.dir().join("quarantine");
            make_directory(&home, 0o700)?;
            let dir = home.join(durable::unique());
            make_directory(&dir, 0o700)?;
            self.dir = Some(dir);
        }
        Ok(self.dir.as_deref().unwrap_or_else(|| self.store.dir()))
    }

    /// Moves a path of the store there; what was done, in words.
    fn take(&mut self, path: &Path) -> Result<String> {
        let (from, to) = (self.store.dir().join(path), self.dir()?.join(path));
        // What running commands have found is looked for again from now on.
        let _gate = Gate::exclusive(self.store)?;
        lease::read_and_mark(self.store)?;
        fs::create_dir_all(durable::parent(&to)).map_err(io_error("make", &to))?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("it is gone".to_owned()),
            moved => moved.map_err(io_error("move", &from))?,
        }
        durable::fsync_dir(durable::parent(&from))?;
        let shown = to.strip_prefix(self.store.dir()).unwrap_or(&to).display().to_string();
        Ok(format!("moved to `{shown}`"))
    }
}

/// Gets contents from directories that still hold them; which.
fn restore(store: &Store, wanted: &Wanted, places: &[Place]) -> Result<Vec<Digest>> {
    let mut left = wanted.clone();
    let mut restored = Vec::new();
    for place in places {
        if left.is_empty() {
            break;
        }
        let Ok(tree) = store.peek_tree(&place.tree) else { continue };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(top) = rustix::fs::open(&place.dir, flags, Mode::empty()) else { continue };
        for entry in tree.entries() {
            let EntryKind::File { object, size } = &entry.kind else { continue };
            if !left.contains_key(object) {
                continue;
            }
            // A fifo in its place must not block, and no link may lead elsewhere.
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let opened = rustix::fs::openat2(&top, entry.path.as_slice(), flags, Mode::empty(), resolve);
            let Ok(file) = opened.map(File::from) else { continue };
            if file.metadata().is_ok_and(|it| !it.is_file() || it.len() != *size) {
                continue;
            }
            if store.put_object(&file).is_ok_and(|(digest, _)| digest == *object) {
                left.remove(object);
                restored.push(*object);
            }
        }
    }
    store.sync()?;
    Ok(restored)
}
