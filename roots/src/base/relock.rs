//! Writing locks of all kinds of bases anew: packages stay what they are as far as the definition permits it, unless
//! they were asked to move. Which ones there are then, each kind finds out itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{BaseError, Place, lock_file};

/// Which of a lock's packages may move to newer versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// None that needn't.
    Nothing,
    /// These, and what that needs. Names that aren't locked mean nothing.
    Names(Vec<String>),
    /// All.
    All,
}

/// How a lock stands to its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// The definition names none.
    Unnamed,
    /// It isn't there yet.
    Missing,
    /// It answers another definition than the one there is; at least one difference.
    Stale(Vec<Stale>),
    /// It answers the definition.
    Current,
}

/// What became of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocked {
    /// The lock file.
    pub path: PathBuf,
    /// Whether it is new, or another than before.
    pub written: LockWritten,
    /// How many packages it holds.
    pub packages: usize,
    /// What became of packages, by name; of a new lock, all of them.
    pub changes: Vec<PackageChange>,
    /// Names that were to move and stay behind the newest version, which is the second.
    pub held: Vec<(String, String)>,
    /// What else is locked otherwise than before, in words: what was asked for, repositories, keys.
    pub notes: Vec<String>,
}

/// Whether a lock file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWritten {
    /// There was none.
    New,
    /// It is another than before.
    Changed,
    /// It answered already: it was left as it is.
    Unchanged,
}

/// A package that is locked otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its architecture (the new one).
    pub arch: String,
    /// `[epoch:]version-release` before; `None`: it is new.
    pub old: Option<String>,
    /// `[epoch:]version-release` now, the same as before where only the content or the repository is another;
    /// `None`: it is gone.
    pub new: Option<String>,
    /// The repository that it comes from (came from, if it is gone).
    pub repository: String,
    /// The repository before, where that was another.
    pub old_repository: Option<String>,
}

/// One thing in which a lock doesn't answer its definition any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The line that says otherwise.
    pub place: Place,
    /// What it says, and what the lock says.
    pub message: String,
}

/// A package as a lock of any kind has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked<'a> {
    pub(super) name: &'a str,
    /// `[epoch:]version-release`, or Debian's version.
    pub(super) version: &'a str,
    pub(super) arch: &'a str,
    pub(super) repo: &'a str,
    pub(super) sha256: &'a str,
}

impl Update {
    /// The lock to start from, as it was read: what can't be read is replaced only by who wants all anew.
    pub(super) fn before<L>(&self, read: Result<Option<L>, BaseError>) -> Result<Option<L>, BaseError> {
        match (read, self) {
            (Err(_), Self::All) => Ok(None),
            (read, _) => read,
        }
    }

    /// What stays, and the names in it that may move all the same; `None`: everything is chosen anew.
    pub(super) fn pins<'a, L>(&'a self, before: Option<&'a L>) -> Option<(&'a L, &'a [String])> {
        let names = match self {
            Self::All => return None,
            Self::Nothing => &[],
            Self::Names(names) => names.as_slice(),
        };
        before.map(|lock| (lock, names))
    }
}

impl Relocked {
    /// A lock of so many packages that was left as it is.
    pub(super) fn unchanged(path: &Path, packages: usize) -> Self {
        let (written, changes, held, notes) = (LockWritten::Unchanged, Vec::new(), Vec::new(), Vec::new());
        Self { path: path.to_owned(), written, packages, changes, held, notes }
    }

    /// Writes `lock`, which holds the packages `new`. `before`: what was locked, if anything, and whether that is
    /// the same.
    pub(super) fn write(
        path: &Path,
        lock: &impl Serialize,
        new: &[Locked<'_>],
        before: Option<(bool, Vec<Locked<'_>>)>,
        held: Vec<(String, String)>,
        notes: Vec<Stale>,
    ) -> Result<Self, BaseError> {
        let (written, old) = match before {
            None => (LockWritten::New, Vec::new()),
            Some((true, _)) => return Ok(Self { held, ..Self::unchanged(path, new.len()) }),
            Some((false, old)) => (LockWritten::Changed, old),
        };
        lock_file::write(path, lock)?;
        let notes = notes.into_iter().map(|stale| stale.message).collect();
        let (path, packages) = (path.to_owned(), new.len());
        Ok(Self { path, written, packages, changes: changes(&old, new), held, notes })
    }
}

/// The names of locked packages, sorted, each once.
pub(super) fn names<'a>(packages: impl IntoIterator<Item = Locked<'a>>) -> Vec<String> {
    let mut names: Vec<String> = packages.into_iter().map(|package| package.name.to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// What a base without a lock file is told where one is to be written.
pub(super) fn unnamed(base: &str, place: Place) -> BaseError {
    BaseError::Definition {
        place,
        message: format!("the base `{base}` names no lock file"),
        hint: Some(format!("add `lock = \"{base}.lock\"` to `[base.{base}]`")),
    }
}

/// What became of packages, by name.
fn changes<'a>(old: &[Locked<'a>], new: &[Locked<'a>]) -> Vec<PackageChange> {
    let mut names: BTreeMap<&str, (Vec<&Locked<'_>>, Vec<&Locked<'_>>)> = BTreeMap::new();
    for package in old {
        names.entry(package.name).or_default().0.push(package);
    }
    for package in new {
        names.entry(package.name).or_default().1.push(package);
    }
    let mut changes = Vec::new();
    for (mut old, mut new) in names.into_values() {
        // What is the same says nothing; then each goes with the one of its architecture, or any that is left.
        old.retain(|before| {
            let same = new.iter().position(|now| {
                (now.version, now.arch, now.sha256, now.repo)
                    == (before.version, before.arch, before.sha256, before.repo)
            });
            same.map(|index| new.remove(index)).is_none()
        });
        for now in new {
            let like = old.iter().position(|before| before.arch == now.arch);
            let before = like.or(if old.is_empty() { None } else { Some(0) }).map(|index| old.remove(index));
            changes.push(PackageChange {
                name: now.name.to_owned(),
                arch: now.arch.to_owned(),
                old: before.map(|before| before.version.to_owned()),
                new: Some(now.version.to_owned()),
                repository: now.repo.to_owned(),
                old_repository: before.map(|before| before.repo.to_owned()).filter(|repo| repo != now.repo),
            });
        }
        changes.extend(old.into_iter().map(|before| PackageChange {
            name: before.name.to_owned(),
            arch: before.arch.to_owned(),
            old: Some(before.version.to_owned()),
            new: None,
            repository: before.repo.to_owned(),
            old_repository: None,
        }));
    }
    changes
}

#[cfg(test)]
mod tests;
