//! Finding the files of a project.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::InputsError;

/// Directories and files that are never read by a playbook, by name.
const IGNORED: &[&str] = &[".git", ".hg", ".svn", ".bzr", "__pycache__"];

/// Endings of files that running Ansible leaves behind.
const IGNORED_ENDINGS: &[&str] = &["pyc", "retry"];

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the project, or absolute.
    pub(super) name: PathBuf,
    /// Where its content is.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    entries: BTreeMap<PathBuf, (PathBuf, Kind)>,
    /// Directories outside the project that a link has led to (real paths): each is walked once.
    followed: BTreeSet<PathBuf>,
}

impl Found {
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_iter().map(|(name, (path, kind))| Entry { name, path, kind }).collect()
    }
}

/// Adds what is at and below `top`, if it exists.
pub(super) fn walk(
    top: &Path,
    project: &Path,
    left_out: &BTreeSet<PathBuf>,
    found: &mut Found,
) -> Result<(), InputsError> {
    match std::fs::metadata(top) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(InputsError::io("read", top)(error)),
    }
    let name = top.strip_prefix(project).unwrap_or(top);
    below(top, name, project, left_out, found)
}

/// Adds what is at and below `top`, calling it `name`.
fn below(
    top: &Path,
    name: &Path,
    project: &Path,
    left_out: &BTreeSet<PathBuf>,
    found: &mut Found,
) -> Result<(), InputsError> {
    // A top that is a link is followed (a project may be one); links below are looked at.
    let wanted =
        |entry: &DirEntry| !ignored(entry.file_name(), entry.depth()) && !left_out.contains(entry.path());
    for entry in WalkDir::new(top).follow_root_links(true).into_iter().filter_entry(wanted) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(top).to_owned();
            InputsError::Io { action: "read", path, source: error.into() }
        })?;
        let own = match entry.path().strip_prefix(top) {
            Ok(rest) if rest.as_os_str().is_empty() => name.to_owned(),
            Ok(rest) => name.join(rest),
            Err(_) => entry.path().to_owned(),
        };
        let kind = entry.file_type();
        if kind.is_symlink() {
            found.entries.insert(own.clone(), (entry.path().to_owned(), Kind::Link));
            follow(entry.path(), &own, project, left_out, found)?;
        } else if kind.is_file() {
            found.entries.insert(own, (entry.path().to_owned(), Kind::File));
        } else if !kind.is_dir() {
            tracing::debug!(path = %entry.path().display(), kind = describe(kind), "no input");
        }
    }
    Ok(())
}

/// Adds what a link leads to, unless that is in the project and so found anyway.
fn follow(
    link: &Path,
    name: &Path,
    project: &Path,
    left_out: &BTreeSet<PathBuf>,
    found: &mut Found,
) -> Result<(), InputsError> {
    let Ok(real) = link.canonicalize() else {
        // It leads nowhere: what it says is all there is to know.
        return Ok(());
    };
    let home = project.canonicalize().map_err(InputsError::io("find", project))?;
    if real.starts_with(&home) || left_out.contains(&real) {
        return Ok(());
    }
    let meta: Metadata = std::fs::metadata(&real).map_err(InputsError::io("read", &real))?;
    if meta.is_file() {
        found.entries.insert(name.join("."), (real, Kind::File));
    } else if meta.is_dir() && found.followed.insert(real.clone()) {
        below(&real, name, project, left_out, found)?;
    }
    Ok(())
}

fn ignored(name: &OsStr, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    let ending = Path::new(name).extension();
    IGNORED.iter().any(|ignored| name == *ignored)
        || ending.is_some_and(|ending| IGNORED_ENDINGS.iter().any(|ignored| ending == *ignored))
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        "device"
    }
}
