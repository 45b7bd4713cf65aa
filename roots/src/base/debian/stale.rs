//! Whether a lock still answers its definition, and if not, which line says otherwise.

use std::path::{Path, PathBuf};

use super::super::relock::Stale;
use super::super::{BaseError, Place};
use super::lock::{self, Lock};
use super::{DebianBase, snapshot};

/// Where the definition says what; only for messages. Lines are from 1; 0: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The definition.
    pub file: PathBuf,
    /// The line that names the base.
    pub base: usize,
    /// Of `suite`.
    pub suite: usize,
    /// Of each of the packages.
    pub packages: Vec<usize>,
    /// Of `mirror`, if it is written.
    pub mirror: usize,
    /// Of `components`, if they are written.
    pub components: usize,
    /// Of `variant`, if it is written.
    pub variant: usize,
    /// Of `lock`.
    pub lock: usize,
}

impl Written {
    /// A line of the definition, the base's own where that isn't known; else the lock itself.
    fn place(&self, line: usize, lock: &Path) -> Place {
        match if line == 0 { self.base } else { line } {
            0 => Place { file: lock.to_owned(), line: 0 },
            line => Place { file: self.file.clone(), line },
        }
    }

    /// The definition's lock line, else the base's.
    pub(super) fn lock_place(&self, lock: &Path) -> Place {
        self.place(self.lock, lock)
    }

    /// The line that says where packages come from, or from which suite.
    pub(super) fn source_place(&self, lock: &Path) -> Place {
        self.place(if self.mirror == 0 { self.suite } else { self.mirror }, lock)
    }

    /// A file as people know it: relative to the definition, where it lies below it.
    pub(super) fn shown(&self, path: &Path) -> String {
        let below = self.file.parent().and_then(|dir| path.strip_prefix(dir).ok());
        below.unwrap_or(path).display().to_string()
    }
}

/// Every way in which `lock`, which is at `path`, doesn't answer what is asked for now. Needs no network, no tools
/// and no privileges.
pub(super) fn stale(lock: &Lock, path: &Path, base: &DebianBase) -> Vec<Stale> {
    let (written, asked) = (&base.written, lock::request(base));
    let mut found = Vec::new();
    let mut add = |line: usize, message: String| {
        found.push(Stale { place: written.place(line, path), message });
    };
    let components = |request: &lock::Request| request.components.join(" ");
    for (what, locked, asked, line) in [
        ("suite", lock.request.suite.clone(), asked.suite.clone(), written.suite),
        ("arch", lock.request.arch.clone(), asked.arch.clone(), 0),
        ("variant", lock.request.variant.clone(), asked.variant.clone(), written.variant),
        ("components", components(&lock.request), components(&asked), written.components),
    ] {
        if locked != asked {
            add(line, format!("{what} is `{asked}`, locked is `{locked}`"));
        }
    }
    let (now, before) = (mirrors(&asked.mirrors, lock), mirrors(&lock.request.mirrors, lock));
    // Who goes on with what was locked on a day needs no other lock for it.
    let only_that_day = now.is_empty() && !asked.mirrors.is_empty();
    if now != before && !only_that_day {
        let shown = |mirrors: &[&String]| match mirrors {
            [] => "the host's own".to_owned(),
            mirrors => mirrors.iter().map(|mirror| mirror.as_str()).collect::<Vec<_>>().join(" "),
        };
        add(written.mirror, format!("mirror is {}, locked is {}", shown(&now), shown(&before)));
    }
    for (index, package) in base.packages.iter().enumerate() {
        if !lock.request.packages.contains(package) && !base.packages[..index].contains(package) {
            let line = written.packages.get(index).copied().unwrap_or(0);
            add(line, format!("the package `{package}` isn't locked"));
        }
    }
    for package in &lock.request.packages {
        if !asked.packages.contains(package) {
            let line = written.packages.first().copied().unwrap_or(0);
            add(line, format!("the package `{package}` is locked, but not asked for"));
        }
    }
    found
}

/// Mirrors but those that just have what the lock's repositories had when it was made.
fn mirrors<'a>(mirrors: &'a [String], lock: &Lock) -> Vec<&'a String> {
    mirrors.iter().filter(|url| !lock.repos.iter().any(|repo| snapshot::has(url, &repo.date))).collect()
}

/// The error for a lock that isn't right any more; `None` when nothing is wrong.
pub(super) fn refused(base: &DebianBase, path: &Path, stale: Vec<Stale>) -> Option<BaseError> {
    let more = stale.len().saturating_sub(1);
    let first = stale.into_iter().next()?;
    let more = match more {
        0 => String::new(),
        1 => " (and one thing more)".to_owned(),
        more => format!(" (and {more} things more)"),
    };
    let (lock, message) = (base.written.shown(path), first.message);
    Some(BaseError::Definition {
        place: first.place,
        message: format!("the lock file `{lock}` doesn't answer the definition any more: {message}{more}"),
        hint: Some(format!(
            "`rootbuild lock {}` writes it anew, and moves no package that it needn't",
            base.name
        )),
    })
}
