//! Whether the store is whole: every object, tree, record, pin and reference; and putting right what can be.
//!
//! What is wrong is a [`Finding`]. A repair never deletes: what is damaged is moved to
//! `<store>/quarantine/<id>/`, under its path in the store, contents are had again from directories that
//! still hold them, and what names something that is gone goes too, if it can be made again. What this
//! version doesn't know stays as it is. Other crates check what is theirs, and tell it here too.

mod objects;
mod quarantine;
mod repair;
mod trees;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::gc::Telling;
use crate::store::Store;

pub use objects::hash_open;
pub use quarantine::{KEPT, items as quarantined};
pub use repair::{Place, Quarantine, Repair};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something isn't what its name says, or what it needs is gone.
    Damage,
    /// This version doesn't know it.
    Unknown,
    /// Left over by a command that was killed, or about to be gone: harmless.
    Note,
}

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file holds something else than its name says.
    Content,
    /// The disk doesn't give it back.
    Unreadable,
    /// A tree isn't one, or another one.
    Tree,
    /// A tree names contents that aren't there.
    Incomplete,
    /// Text or JSON that makes no sense.
    Malformed,
    /// It names a tree that isn't there.
    Dangling,
    /// A root leads to no directory.
    Link,
    /// Files of a checkout that nobody may write in aren't what its tree says.
    Checkout,
    /// Everybody can read what is secret, or nobody what isn't.
    Mode,
    /// A name that this version doesn't know.
    Unknown,
    /// Something was left over.
    Leftover,
}

/// What a repair does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Moves it to the quarantine: it is made again when it is needed.
    Quarantine,
    /// Gets the contents from a directory that holds them; else moves the tree to the quarantine.
    Restore,
    /// Changes the permissions.
    Mode(u32),
    /// Writes anew what isn't as its tree says, and moves what was there to the quarantine.
    Rewrite,
    /// Nothing: it needs no repair, or none is known.
    Nothing,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub kind: Kind,
    /// Where, relative to the store.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// What that means, in words.
    pub what: String,
    /// What a repair does about it.
    pub remedy: Remedy,
}

fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A check in progress: who looks at something tells here what is wrong.
pub struct Check<'a> {
    store: &'a Store,
    /// Whether contents are left unread.
    quick: bool,
    telling: &'a dyn Telling,
    looked: AtomicU64,
    findings: Mutex<Vec<Finding>>,
    wanted: Mutex<repair::Wanted>,
    /// What files with several names hold, by device and inode: each is read once.
    contents: Mutex<HashMap<(u64, u64), Digest>>,
}

impl<'a> Check<'a> {
    /// A check of `store`. `quick`: contents of files aren't read, only their lengths are looked at.
    #[must_use]
    pub fn new(store: &'a Store, quick: bool, telling: &'a dyn Telling) -> Self {
        Self {
            store,
            quick,
            telling,
            looked: AtomicU64::new(0),
            findings: Mutex::default(),
            wanted: Mutex::default(),
            contents: Mutex::default(),
        }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Whether contents are left unread.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.quick
    }

    /// One more thing was looked at.
    pub fn looked(&self) {
        self.telling.deleted(self.looked.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// Begins with something, in words.
    pub fn phase(&self, text: &str) {
        self.telling.phase(text);
    }

    /// Tells what is wrong with `path`, which is in the store.
    pub fn found(
        &self,
        severity: Severity,
        kind: Kind,
        path: &Path,
        what: impl Into<String>,
        remedy: Remedy,
    ) {
        let path = path.strip_prefix(self.store.dir()).unwrap_or(path).to_owned();
        let finding = Finding { severity, kind, path, what: what.into(), remedy };
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }

    /// Tells of a damage that a repair moves away.
    pub fn damaged(&self, kind: Kind, path: &Path, what: impl Into<String>) {
        self.found(Severity::Damage, kind, path, what, Remedy::Quarantine);
    }

    /// Tells of a name that isn't known.
    pub fn unknown(&self, path: &Path) {
        let what = "this version doesn't know what it is";
        self.found(Severity::Unknown, Kind::Unknown, path, what, Remedy::Nothing);
    }

    /// Reads a small file, or tells why it can't; `None` where it is gone.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.looked();
        match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.damaged(Kind::Unreadable, path, error.to_string());
                None
            }
        }
    }

    /// Reads a small JSON file, or tells why it can't.
    pub fn json<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Option<T> {
        let bytes = self.read(path)?;
        let read = serde_json::from_slice(&bytes);
        read.inspect_err(|error| self.damaged(Kind::Malformed, path, format!("it makes no sense: {error}")))
            .ok()
    }

    /// What an open regular file holds.
    pub fn content(&self, file: &File) -> io::Result<Digest> {
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        let contents = || self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = contents().get(&id) {
            return Ok(*known);
        }
        let digest = hash_open(file)?;
        if found.nlink() > 1 {
            contents().insert(id, digest);
        }
        Ok(digest)
    }

    /// Looks at everything below `dir`, in parallel, that is named by a digest as objects are; what has another name is
    /// unknown.
    pub fn each(&self, dir: &Path, look: impl Fn(&Path, Digest) + Sync) {
        objects::each(self, dir, look);
    }

    /// Whether a tree is there.
    #[must_use]
    pub fn has_tree(&self, tree: &Digest) -> bool {
        self.store.tree_is_there(tree)
    }

    /// The names in a directory, but for those of files that are just being written; none where there is none.
    pub fn names(&self, dir: &Path) -> Vec<PathBuf> {
        let listed = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.found(Severity::Damage, Kind::Unreadable, dir, error.to_string(), Remedy::Nothing);
                return Vec::new();
            }
            Ok(listed) => listed,
        };
        let mut names: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        names.retain(|path| !path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b".")));
        names.sort();
        names
    }

    /// What was found, the worst first.
    #[must_use]
    pub fn finish(self) -> Findings {
        let mut all = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by(|a, b| (a.severity, &a.path).cmp(&(b.severity, &b.path)));
        all.dedup();
        Findings {
            all,
            looked: self.looked.into_inner(),
            wanted: self.wanted.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Findings {
    /// All of it, the worst first.
    pub all: Vec<Finding>,
    /// How many things were looked at.
    pub looked: u64,
    wanted: repair::Wanted,
}

impl Findings {
    /// Whether anything is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.all.iter().any(|it| it.severity == Severity::Damage)
    }
}

/// Checks what this crate knows: objects, trees, records, pins, references, and permissions of directories.
/// `known`: the names in the store's directory that others know.
pub fn check(check: &Check<'_>, known: &[&str]) -> Result<()> {
    directories(check, known);
    check.phase("checking objects");
    let sizes = objects::check(check)?;
    check.phase("checking trees");
    trees::check(check, &sizes)?;
    check.phase("checking records");
    trees::records(check)?;
    trees::names(check);
    Ok(())
}

fn directories(check: &Check<'_>, known: &[&str]) {
    use std::os::unix::fs::PermissionsExt;
    let layout = crate::store::layout();
    for path in check.names(check.store.dir()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = ["format", "quarantine", "lost+found"];
        let mode = layout.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
        if mode.is_none() && !ours.contains(&name.as_str()) && !known.contains(&name.as_str()) {
            check.unknown(&path);
        }
        let Some(mode) = mode else { continue };
        match path.symlink_metadata() {
            Ok(found) if !found.is_dir() => {
                let what = "it is no directory";
                check.found(Severity::Damage, Kind::Unknown, &path, what, Remedy::Nothing);
            }
            Ok(found) if found.permissions().mode() & 0o7777 & !mode != 0 => {
                let what = format!("it has the mode {:o}, not {mode:o}", found.permissions().mode() & 0o7777);
                check.found(Severity::Damage, Kind::Mode, &path, what, Remedy::Mode(mode));
            }
            _ => {}
        }
    }
}

/// Repairs what can be, from `places` where contents are missing, and tells what was done to each finding.
pub fn repair(store: &Store, findings: &Findings, places: &[Place]) -> Result<Vec<Repair>> {
    repair::repair(store, findings, places)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(action, path)
}

#[cfg(test)]
mod tests;
