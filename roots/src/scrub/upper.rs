//! The second pass over an overlay's upper side: what the tree as captured still holds.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode};

use rootbuild_cache::{Entry, Kind, Meta, Mtime, Tree};

use super::rules::{self, Action, RULES};
use super::{SYSTEMD, machine_id, make_empty};
use crate::capture::{Captured, children_of};
use crate::fd::{self, Dir};

/// Something that a rule drops and a tree still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOver {
    /// Its path in the tree.
    pub path: Vec<u8>,
    /// `None`: it goes. Else an empty file is put there, with this owner and mode.
    pub empty_file: Option<Meta>,
    /// What its directory's time becomes; by default it stays.
    pub directory_time: Option<Mtime>,
}

/// What [`RULES`] drop of a captured tree: nothing, if it was scrubbed well.
pub(crate) fn left_over(tree: &Tree) -> Vec<LeftOver> {
    let mut found: Vec<LeftOver> = Vec::new();
    for rule in RULES {
        let components = rule.components();
        let Some((last, parents)) = components.split_last() else { continue };
        for parent in parents.iter().fold(vec![Vec::new()], |dirs, part| expand(tree, &dirs, part)) {
            match rule.action {
                Action::EmptyDirectory => {
                    for dir in expand(tree, &[parent], last) {
                        let time = Some(Mtime::default());
                        let emptied = |entry| LeftOver { directory_time: time, ..removed(entry) };
                        found.extend(children_of(tree, &dir).map(emptied));
                    }
                }
                Action::Remove => found.extend(named(tree, &parent, last).map(removed)),
                Action::RemoveIfEmpty => {
                    let gone = |path: &[u8]| found.iter().any(|it| path == it.path);
                    let empty = |dir: &&Entry| {
                        dir.kind == Kind::Directory
                            && children_of(tree, &dir.path).all(|child| gone(&child.path))
                    };
                    let more: Vec<_> = named(tree, &parent, last).filter(empty).map(removed).collect();
                    found.extend(more);
                }
                Action::EmptyFile => found.extend(emptied(tree, &fd::join(&parent, last))),
            }
        }
    }
    found
}

fn removed(entry: &Entry) -> LeftOver {
    LeftOver { path: entry.path.clone(), empty_file: None, directory_time: None }
}

fn emptied(tree: &Tree, path: &[u8]) -> Option<LeftOver> {
    let meta = match tree.get(path) {
        Some(entry) => {
            let kind = match &entry.kind {
                Kind::Hardlink { target } => &tree.get(target)?.kind,
                kind => kind,
            };
            match kind {
                Kind::File { size: 1.., .. } => entry.meta.clone(),
                _ => return None,
            }
        }
        None => {
            let directory = tree.get(fd::split(path).0).filter(|dir| dir.kind == Kind::Directory)?;
            if !SYSTEMD.iter().any(|path| tree.get(path.as_bytes()).is_some()) {
                return None;
            }
            machine_id((directory.meta.uid, directory.meta.gid))
        }
    };
    Some(LeftOver { path: path.to_vec(), empty_file: Some(meta), directory_time: None })
}

/// The entries in `dir` that a component stands for.
fn named<'t>(
    tree: &'t Tree,
    dir: &[u8],
    component: &'static [u8],
) -> Box<dyn Iterator<Item = &'t Entry> + 't> {
    if !rules::is_pattern(component) {
        return Box::new(tree.get(&fd::join(dir, component)).into_iter());
    }
    let matches = |entry: &&Entry| rules::matches(component, fd::split(&entry.path).1);
    Box::new(children_of(tree, dir).filter(matches))
}

/// The directories that a component leads to from `dirs`.
fn expand(tree: &Tree, dirs: &[Vec<u8>], component: &'static [u8]) -> Vec<Vec<u8>> {
    let is_directory = |entry: &&Entry| entry.kind == Kind::Directory;
    let below = dirs.iter().flat_map(|dir| named(tree, dir, component).filter(is_directory));
    below.map(|entry| entry.path.clone()).collect()
}

/// Drops what is left over in the upper side of an overlay over `lower`, as it was captured.
pub(crate) fn remove_left_over(
    upper: &Path,
    lower: &Tree,
    captured: &Captured,
    left: &[LeftOver],
) -> io::Result<()> {
    let tree = &captured.tree;
    let top = Dir::top(upper)?;
    for LeftOver { path, empty_file, directory_time } in left {
        let (parent, name) = fd::split(path);
        let Some(parent) = tree.get(parent) else { continue };
        let dir = raise(&top, tree, &parent.path)?;
        match empty_file {
            Some(meta) => make_empty(&dir, name, meta)?,
            None => {
                fd::remove(&dir, name)?;
                if captured.shown.is_below(lower, path) {
                    whiteout(dir.fd()?, name)?;
                }
            }
        }
        fd::set_times(dir.fd()?, None, directory_time.unwrap_or(parent.meta.mtime))?;
    }
    Ok(())
}

/// Gives the file `path` of a captured tree another content, in the upper side. All else of it stays.
pub(crate) fn replace(upper: &Path, captured: &Captured, path: &[u8], content: &[u8]) -> io::Result<()> {
    let (parent, name) = fd::split(path);
    let (Some(parent), Some(entry)) = (captured.tree.get(parent), captured.tree.get(path)) else {
        return Ok(());
    };
    let dir = raise(&Dir::top(upper)?, &captured.tree, &parent.path)?;
    if fd::stat_if_there(dir.fd()?, name)?.is_some() {
        fd::remove(&dir, name)?;
    }
    let mut file = std::fs::File::from(super::create(&dir, name)?);
    io::Write::write_all(&mut file, content)?;
    fd::set_metadata(&file, None, &entry.meta, false, false)?;
    fd::set_times(dir.fd()?, None, parent.meta.mtime)
}

/// The directory `path` in the upper side, made there as overlayfs does if only the lower side has
/// it.
fn raise(top: &Arc<Dir>, tree: &Tree, path: &[u8]) -> io::Result<Arc<Dir>> {
    let mut dir = Arc::clone(top);
    let mut at = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = fd::join(&at, name);
        if fd::stat_if_there(dir.fd()?, name)?.is_none() {
            rustix::fs::mkdirat(dir.fd()?, name, Mode::from_raw_mode(0o700))?;
            if let Some(entry) = tree.get(&at) {
                let (made, _) = dir.child(name)?;
                fd::set_metadata(made.fd()?, None, &entry.meta, false, false)?;
            }
        }
        dir = dir.child(name)?.0;
    }
    Ok(dir)
}

/// Makes a whiteout. Only where it hides something: see [`Shown::is_below`](crate::capture::Shown::is_below).
pub(crate) fn whiteout(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    Ok(rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, 0)?)
}
