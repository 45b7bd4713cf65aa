//! Writing a lock anew: packages stay what they are as far as the definition permits it, unless they
//! were asked to move.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::{BaseContext, BaseError};
use super::keys::Key;
use super::lock::{Lock, LockedPackage};
use super::repo_file::Repo;
use super::stale::{self, Stale};
use super::{RpmBase, TOOLS, keys, resolve, warnings};
use crate::process;
use crate::progress::StepEvent;

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
    pub written: Written,
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
pub enum Written {
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

impl RpmBase {
    /// How the lock stands to the definition. Without a `context` that needs neither network nor tools nor
    /// privileges; with one, keys that lie on this host are looked at too.
    ///
    /// # Errors
    /// A file that is named is wrong; with `context` also: gpg is missing or fails.
    pub fn lock_state(&self, context: Option<BaseContext<'_>>) -> Result<LockState, BaseError> {
        let Some(path) = &self.lock else { return Ok(LockState::Unnamed) };
        let (repos, _) = self.repos()?;
        let Some((lock, _)) = Lock::read(path)? else { return Ok(LockState::Missing) };
        let mut found = stale::stale(&lock, path, self, &repos);
        if let Some(context) = context {
            tools(&["gpg", "setpriv"])?;
            found.extend(stale::stale_key_files(context, &lock, &repos)?);
        }
        Ok(if found.is_empty() { LockState::Current } else { LockState::Stale(found) })
    }

    /// The names of the packages that are locked, sorted; none where there is no lock.
    ///
    /// # Errors
    /// The lock can't be read.
    pub fn locked_names(&self) -> Result<Vec<String>, BaseError> {
        let lock = self.lock.as_deref().map(Lock::read).transpose()?.flatten();
        let mut names: Vec<String> =
            lock.into_iter().flat_map(|(lock, _)| lock.packages).map(|package| package.name).collect();
        names.dedup();
        Ok(names)
    }

    /// Writes the lock where there is none, where it doesn't answer the definition, or where packages are to
    /// move. Nothing is installed. The file is replaced as a whole or left as it is.
    ///
    /// # Errors
    /// No lock is named; the definition or a file of it is wrong; tools are missing; repositories can't be
    /// read, or have no such packages.
    pub fn relock(&self, context: BaseContext<'_>, update: &Update) -> Result<Relocked, BaseError> {
        let Some(path) = &self.lock else {
            return Err(BaseError::Definition {
                place: self.written.lock_place(&self.written.file),
                message: format!("the base `{}` names no lock file", self.written.name),
                hint: Some(format!("add `lock = \"{0}.lock\"` to `[base.{0}]`", self.written.name)),
            });
        };
        let (repos, _) = self.repos()?;
        for warning in warnings(&repos) {
            (context.sink)(StepEvent::Warning(warning));
        }
        tools(&["gpg", "python3", "setpriv"])?;
        let before = match (Lock::read(path), update) {
            (Ok(found), _) => found.map(|(lock, _)| lock),
            // What can't be read is replaced only by who wants all anew.
            (Err(_), Update::All) => None,
            (Err(error), _) => return Err(error),
        };
        if let (Some(lock), Update::Nothing) = (&before, update)
            && stale::stale(lock, path, self, &repos).is_empty()
            && stale::stale_key_files(context, lock, &repos)?.is_empty()
        {
            return Ok(unchanged(path.clone(), lock.packages.len()));
        }
        let mut notes = Vec::new();
        if let Some(lock) = &before {
            notes.extend(stale::stale(lock, path, self, &repos));
        }
        let mut trusted: Vec<(Repo, Vec<Key>)> = Vec::new();
        for repo in repos {
            let keys = keys::fetch(context, &repo)?;
            trusted.push((repo, keys));
        }
        if let Some(lock) = &before {
            notes.extend(stale::stale_keys(lock, &trusted));
        }
        (context.sink)(StepEvent::Phase("resolving packages".to_owned()));
        let pins = match update {
            Update::All => None,
            Update::Nothing => before.as_ref().map(|lock| (lock, [].as_slice())),
            Update::Names(names) => before.as_ref().map(|lock| (lock, names.as_slice())),
        };
        let (resolution, held) = resolve::resolve(context, self, &trusted, pins)?;
        let lock = Lock::new(self, &trusted, &resolution);
        let written = match &before {
            None => Written::New,
            Some(before) if before.is_as(&lock) => {
                return Ok(Relocked { held, ..unchanged(path.clone(), lock.packages.len()) });
            }
            Some(_) => Written::Changed,
        };
        lock.write(path)?;
        Ok(Relocked {
            path: path.clone(),
            written,
            packages: lock.packages.len(),
            changes: changes(before.as_ref().map_or(&[], |lock| lock.packages.as_slice()), &lock.packages),
            held,
            notes: notes.into_iter().map(|stale| stale.message).collect(),
        })
    }
}

pub(in super::super) fn unchanged(path: PathBuf, packages: usize) -> Relocked {
    let (written, changes, held, notes) = (Written::Unchanged, Vec::new(), Vec::new(), Vec::new());
    Relocked { path, written, packages, changes, held, notes }
}

/// An error unless the host has these tools.
fn tools(needed: &[&str]) -> Result<(), BaseError> {
    for (program, package) in TOOLS {
        if needed.contains(&program) && !process::is_installed(program) {
            return Err(BaseError::Tool { program, package });
        }
    }
    Ok(())
}

/// What became of packages, by name.
pub(in super::super) fn changes(old: &[LockedPackage], new: &[LockedPackage]) -> Vec<PackageChange> {
    let mut names: BTreeMap<&str, (Vec<&LockedPackage>, Vec<&LockedPackage>)> = BTreeMap::new();
    for package in old {
        names.entry(&package.name).or_default().0.push(package);
    }
    for package in new {
        names.entry(&package.name).or_default().1.push(package);
    }
    let mut changes = Vec::new();
    for (mut old, mut new) in names.into_values() {
        // What is the same says nothing; then each goes with the one of its architecture, or any that is left.
        old.retain(|before| {
            let same = new.iter().position(|now| {
                (&now.evr, &now.arch, &now.sha256, &now.repo)
                    == (&before.evr, &before.arch, &before.sha256, &before.repo)
            });
            same.map(|index| new.remove(index)).is_none()
        });
        for now in new {
            let like = old.iter().position(|before| before.arch == now.arch);
            let before = like.or(if old.is_empty() { None } else { Some(0) }).map(|index| old.remove(index));
            changes.push(PackageChange {
                name: now.name.clone(),
                arch: now.arch.clone(),
                old: before.map(|before| before.evr.clone()),
                new: Some(now.evr.clone()),
                repository: now.repo.clone(),
                old_repository: before.map(|before| before.repo.clone()).filter(|repo| *repo != now.repo),
            });
        }
        changes.extend(old.into_iter().map(|before| PackageChange {
            name: before.name.clone(),
            arch: before.arch.clone(),
            old: Some(before.evr.clone()),
            new: None,
            repository: before.repo.clone(),
            old_repository: None,
        }));
    }
    changes
}

#[cfg(test)]
mod tests;
