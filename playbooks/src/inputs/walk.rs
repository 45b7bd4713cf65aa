//! Finding the files of a project.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::InputsError;

/// Directories of version control, at the project's top. Anywhere else they are somebody's data.
pub(super) const VERSION_CONTROL: &[&str] = &[".git", ".hg", ".svn", ".bzr"];

/// Where Python keeps compiled code, beside its sources.
pub(super) const COMPILED: &str = "__pycache__";

/// Directories whose content goes into roots as it is, whatever it is called.
pub(super) const VERBATIM: &[&str] = &["files", "templates"];

/// Paths that are no inputs, however they are spelt.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    paths: BTreeSet<PathBuf>,
    /// Device and inode of those that are directories (files may have several names).
    dirs: BTreeSet<(u64, u64)>,
}

impl LeftOut {
    pub(super) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut left_out = Self::default();
        for path in paths {
            if let Ok(meta) = std::fs::metadata(&path)
                && meta.is_dir()
            {
                left_out.dirs.insert((meta.dev(), meta.ino()));
            }
            // The link is left out, and so is what it leads to.
            left_out.paths.extend(path.canonicalize());
            left_out.paths.extend(path.parent().and_then(|parent| {
                let parent = parent.canonicalize().ok()?;
                Some(parent.join(path.file_name()?))
            }));
            left_out.paths.insert(path);
        }
        left_out
    }

    /// Every spelling of each of them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter()
    }

    /// Whether the path is one of them, or below one.
    pub(super) fn covers(&self, path: &Path) -> bool {
        !self.paths.is_empty() && path.ancestors().any(|path| self.paths.contains(path))
    }

    fn has(&self, path: &Path, is_dir: bool) -> bool {
        let same = || std::fs::metadata(path).is_ok_and(|meta| self.dirs.contains(&(meta.dev(), meta.ino())));
        self.paths.contains(path) || (is_dir && !self.dirs.is_empty() && same())
    }
}

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
    /// A directory with nothing in it.
    Dir,
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
        // What is in a directory comes right after it.
        let next: Vec<Option<PathBuf>> =
            self.entries.keys().skip(1).cloned().map(Some).chain([None]).collect();
        let entries = self.entries.into_iter().zip(next);
        entries
            .filter(|((name, (_, kind)), next)| {
                *kind != Kind::Dir || !next.as_ref().is_some_and(|next| next.starts_with(name))
            })
            .map(|((name, (path, kind)), _)| Entry { name, path, kind })
            .collect()
    }
}

/// Adds what is at and below `top`, if it exists.
pub(super) fn walk(
    top: &Path,
    project: &Path,
    left_out: &LeftOut,
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
    left_out: &LeftOut,
    found: &mut Found,
) -> Result<(), InputsError> {
    let real = top.canonicalize().map_err(InputsError::io("find", top))?;
    // A top that is a link is followed (a project may be one); links below are looked at.
    let wanted = |entry: &DirEntry| {
        let rest = entry.path().strip_prefix(top).unwrap_or(entry.path());
        let spelt = if entry.depth() == 0 { real.clone() } else { real.join(rest) };
        !(ignored(entry, &name.join(rest))
            || left_out.has(entry.path(), entry.file_type().is_dir())
            || left_out.has(&spelt, false))
    };
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
        if own.as_os_str().is_empty() {
            // The project itself: how it is reached says nothing.
        } else if kind.is_symlink() {
            found.entries.insert(own.clone(), (entry.path().to_owned(), Kind::Link));
            follow(entry.path(), &own, project, left_out, found)?;
        } else if kind.is_file() {
            found.entries.insert(own, (entry.path().to_owned(), Kind::File));
        } else if kind.is_dir() {
            if entry.depth() > 0 {
                found.entries.entry(own).or_insert_with(|| (entry.path().to_owned(), Kind::Dir));
            }
        } else {
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
    left_out: &LeftOut,
    found: &mut Found,
) -> Result<(), InputsError> {
    let Ok(real) = link.canonicalize() else {
        // It leads nowhere: what it says is all there is to know.
        return Ok(());
    };
    let home = project.canonicalize().map_err(InputsError::io("find", project))?;
    let meta: Metadata = std::fs::metadata(&real).map_err(InputsError::io("read", &real))?;
    if real.starts_with(&home) || left_out.has(&real, meta.is_dir()) {
        return Ok(());
    }
    if meta.is_file() {
        found.entries.insert(name.join("."), (real, Kind::File));
    } else if meta.is_dir() && found.followed.insert(real.clone()) {
        below(&real, name, project, left_out, found)?;
    }
    Ok(())
}

/// Whether something is never read by a playbook: version control's own files, and what running
/// Ansible leaves behind. `name` is the input's.
fn ignored(entry: &DirEntry, name: &Path) -> bool {
    let (Some(own), Some(parent)) = (name.file_name(), entry.path().parent()) else { return false };
    if entry.depth() == 0 {
        return false;
    }
    if name.parent() == Some(Path::new("")) && VERSION_CONTROL.iter().any(|ignored| own == *ignored) {
        return true;
    }
    let verbatim = || name.components().any(|part| VERBATIM.iter().any(|dir| part.as_os_str() == *dir));
    let beside = |ending: &str| entry.path().with_extension(ending).is_file();
    if entry.file_type().is_dir() {
        return own == COMPILED && !verbatim() && has_sources(parent);
    }
    match name.extension().and_then(|ending| ending.to_str()) {
        Some("pyc") => beside("py") && !verbatim(),
        Some("retry") => (beside("yml") || beside("yaml")) && !verbatim(),
        _ => false,
    }
}

fn has_sources(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|ending| ending == "py"))
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
