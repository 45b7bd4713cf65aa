//! Whether a lock still answers its definition, and if not, which line of which file says otherwise.

use std::path::{Path, PathBuf};

use super::super::relock::Stale;
use super::super::{BaseContext, BaseError, Place};
use super::keys::{self, Key};
use super::lock::{self, Lock, LockedRepo};
use super::repo_file::{KeyFile, Repo};
use super::{RpmBase, lock::VERSION};

/// Where the definition says what; only for messages. Lines are from 1; 0: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The base's name.
    pub name: String,
    /// The definition.
    pub file: PathBuf,
    /// The line that names the base.
    pub base: usize,
    /// Of `repos`.
    pub repos: usize,
    /// Of each of the packages.
    pub packages: Vec<usize>,
    /// Of `lock`.
    pub lock: usize,
    /// Of `releasever`, if it is written.
    pub releasever: usize,
    /// Of `arch`, if it is written.
    pub arch: usize,
}

impl Written {
    /// A line of the definition, the base's own where that isn't known; `None` if nothing is.
    fn place(&self, line: usize) -> Option<Place> {
        let line = if line == 0 { self.base } else { line };
        (line > 0).then(|| Place { file: self.file.clone(), line })
    }

    /// The definition's lock line, else the base's.
    pub(super) fn lock_place(&self, lock: &Path) -> Place {
        self.place(self.lock).unwrap_or(Place { file: lock.to_owned(), line: 0 })
    }

    /// A file as people know it: relative to the definition, where it lies below it.
    pub(super) fn shown(&self, path: &Path) -> String {
        let below = self.file.parent().and_then(|dir| path.strip_prefix(dir).ok());
        below.unwrap_or(path).display().to_string()
    }

    /// The command that writes the lock.
    pub(super) fn command(&self) -> String {
        if self.name.is_empty() {
            "rootbuild lock".to_owned()
        } else {
            format!("rootbuild lock {}", self.name)
        }
    }
}

/// Every way in which `lock`, which is at `path`, doesn't answer what is asked for now. Needs no network, no
/// tools and no privileges; keys are only compared with pinned fingerprints.
pub(super) fn stale(lock: &Lock, path: &Path, base: &RpmBase, repos: &[Repo]) -> Vec<Stale> {
    let mut found = Found { path, base, stale: Vec::new() };
    if lock.version != VERSION {
        let place = Place { file: path.to_owned(), line: 0 };
        let message = format!(
            "it has version {}, written by an older rootbuild; this one needs {VERSION}",
            lock.version
        );
        found.stale.push(Stale { place, message });
        return found.stale;
    }
    let written = &base.written;
    let asked = lock::request(base);
    for (what, locked, asked, line) in [
        ("releasever", &lock.request.releasever, &asked.releasever, written.releasever),
        ("arch", &lock.request.arch, &asked.arch, written.arch),
    ] {
        if locked != asked {
            found.add(line, format!("{what} is `{asked}`, locked is `{locked}`"));
        }
    }
    for (index, package) in base.packages.iter().enumerate() {
        if !lock.request.packages.contains(package) && !base.packages[..index].contains(package) {
            let line = written.packages.get(index).copied().unwrap_or(0);
            found.add(line, format!("the package `{package}` isn't locked"));
        }
    }
    for package in &lock.request.packages {
        if !asked.packages.contains(package) {
            let line = written.packages.first().copied().unwrap_or(0);
            found.add(line, format!("the package `{package}` is locked, but not asked for"));
        }
    }
    for repo in repos {
        match lock.repos.iter().find(|locked| locked.id == repo.id) {
            None => {
                let message = format!("the repository `{}` isn't locked", repo.id);
                found.stale.push(Stale { place: repo.place.clone(), message });
            }
            Some(locked) => found.repo(locked, repo),
        }
    }
    for locked in &lock.repos {
        if repos.iter().all(|repo| repo.id != locked.id) {
            found.add(written.repos, format!("the repository `{}` is locked, but not defined", locked.id));
        }
    }
    found.stale
}

struct Found<'a> {
    path: &'a Path,
    base: &'a RpmBase,
    stale: Vec<Stale>,
}

impl Found<'_> {
    /// Something that a line of the definition says.
    fn add(&mut self, line: usize, message: String) {
        let place = self.base.written.place(line).unwrap_or(Place { file: self.path.to_owned(), line: 0 });
        self.stale.push(Stale { place, message });
    }

    /// Something that a line of a .repo file says.
    fn repo(&mut self, locked: &LockedRepo, repo: &Repo) {
        let id = &repo.id;
        let mut add = |keys: &[&str], message: String| {
            self.stale.push(Stale { place: repo.place_of(keys), message });
        };
        let source = lock::source(repo);
        if locked.source != source {
            let (old, new) = (locked.source.join(" "), source.join(" "));
            add(
                &["baseurl", "metalink", "mirrorlist"],
                format!("the repository `{id}` is at {new}, locked is {old}"),
            );
        }
        let options = lock::options(repo);
        for option in options.iter().filter(|option| !locked.options.contains(option)) {
            let name = option.split('=').next().unwrap_or_default();
            let old = locked.options.iter().find(|old| old.split('=').next() == Some(name));
            let old = old.map_or_else(|| "none is".to_owned(), |old| format!("`{old}` is"));
            add(
                &[name, name.trim_end_matches("pkgs")],
                format!("the repository `{id}` says `{option}`, {old} locked"),
            );
        }
        for old in &locked.options {
            let name = old.split('=').next();
            if options.iter().all(|option| option.split('=').next() != name) {
                add(&[], format!("the repository `{id}` doesn't say `{old}` any more, which is locked"));
            }
        }
        if !repo.fingerprints.is_empty()
            && let Some(strange) = locked.fingerprints.iter().find(|print| !repo.fingerprints.contains(print))
        {
            add(
                &["fingerprints"],
                format!(
                    "the key {strange} of the repository `{id}` is locked, but not among its fingerprints"
                ),
            );
        }
    }
}

/// In which the keys of the repositories aren't those that were locked.
pub(super) fn stale_keys(lock: &Lock, repos: &[(Repo, Vec<Key>)]) -> Vec<Stale> {
    let mut stale = Vec::new();
    for (repo, keys) in repos {
        let now = keys::all_fingerprints(keys);
        if let Some(locked) = lock.repos.iter().find(|locked| locked.id == repo.id)
            && locked.fingerprints != now
        {
            let shown =
                |prints: &[String]| if prints.is_empty() { "none".to_owned() } else { prints.join(", ") };
            let message = format!(
                "the keys of the repository `{}` are now {}, locked are {}",
                repo.id,
                shown(&now),
                shown(&locked.fingerprints)
            );
            stale.push(Stale { place: repo.place_of(&["gpgkey"]), message });
        }
    }
    stale
}

/// The same for the keys that lie on this host, as far as they can be had without a network.
pub(super) fn stale_key_files(
    context: BaseContext<'_>,
    lock: &Lock,
    repos: &[Repo],
) -> Result<Vec<Stale>, BaseError> {
    let is_here = |repo: &&Repo| repo.keys.iter().all(|(key, _)| matches!(key, KeyFile::File(_)));
    let repos = repos.iter().filter(is_here).cloned().collect();
    Ok(stale_keys(lock, &keys::fetch_all(context, repos, &lock.repos)?))
}

/// The error for a lock that isn't right any more; `None` when nothing is wrong.
pub(super) fn refused(base: &RpmBase, path: &Path, stale: Vec<Stale>) -> Option<BaseError> {
    let more = stale.len().saturating_sub(1);
    let first = stale.into_iter().next()?;
    let lock = base.written.shown(path);
    let more = match more {
        0 => String::new(),
        1 => " (and one thing more)".to_owned(),
        more => format!(" (and {more} things more)"),
    };
    Some(BaseError::Definition {
        place: first.place,
        message: format!(
            "the lock file `{lock}` doesn't answer the definition any more: {}{more}",
            first.message
        ),
        hint: Some(format!(
            "`{}` writes it anew, and moves no package that it needn't",
            base.written.command()
        )),
    })
}

#[cfg(test)]
mod tests;
