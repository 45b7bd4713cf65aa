//! The merged view of an overlay, from the tree of its lower side and a scan of its upper side.
//!
//! A directory of the upper side shows a directory of the lower side through: the one of the same
//! name in whatever its parent shows through, or the one its redirect names (relative: in that same
//! place; absolute: from the lower side's top), or none if it is opaque. What the lower side has and
//! the upper side has no name for stays as it is.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rootbuild_cache::{Child, Digest, Entry, Kind, Tree};

use super::scan::{AGAIN, Found, What};
use super::{CaptureError, Group, Groups};
use crate::fd::{join, split};

/// Which directory of the lower side shows through which directory of the upper side.
#[derive(Debug, Default)]
pub(crate) struct Shown(HashMap<Vec<u8>, Option<Vec<u8>>>);

impl Shown {
    /// Whether the lower side has something that would show at `path` if the upper side had nothing
    /// there: then, and only then, it takes a whiteout to hide it. (In a directory that nothing shows
    /// through, overlayfs lists whiteouts as names that can't be found.)
    pub(crate) fn is_below(&self, lower: &Tree, path: &[u8]) -> bool {
        let (mut directory, mut rest) = (path, Vec::new());
        while !directory.is_empty() {
            let (parent, name) = split(directory);
            rest.push(name);
            directory = parent;
            if let Some(below) = self.0.get(directory) {
                let Some(below) = below else { return false };
                let at = rest.iter().rev().fold(below.clone(), |at, name| join(&at, name));
                return lower.get(&at).is_some();
            }
        }
        false
    }
}

/// The entries of the merged view, in a tree's order, and what shows through. `upper` is for messages.
pub(super) fn merge(
    lower: &Tree,
    found: &[Found],
    upper: &Path,
) -> Result<(Vec<Entry>, Shown), CaptureError> {
    let mut merge = Merge::new(lower, found, lower.entries().len() + found.len());
    merge.run(upper)?;
    Ok((merge.entries, merge.shown))
}

/// The digest of the merged view. What is as in the lower side isn't looked into.
pub(super) fn digest(lower: &Tree, found: &[Found], upper: &Path) -> Result<Digest, CaptureError> {
    let mut merge = Merge::new(lower, found, 8 * found.len());
    merge.whole = Some(Whole { linked: linked_places(lower), digests: HashMap::new() });
    merge.run(upper)?;
    let digests = merge.whole.map(|it| it.digests).unwrap_or_default();
    Ok(Tree::digest_of(merge.entries, &digests)?)
}

/// A directory of the merged view, on the way down.
struct Open<'t> {
    /// Its place among what was found in the upper side.
    at: usize,
    /// The directory of the lower side that it shows through.
    below: Option<Vec<u8>>,
    /// What is still to come, the first name last.
    rest: Vec<(&'t [u8], Next<'t>)>,
}

enum Next<'t> {
    /// Something of the lower side with all below it.
    Lower(Child<'t>),
    /// Something found in the upper side.
    Upper(usize),
}

/// What was found, by the directory it is in.
fn by_parent(found: &[Found]) -> HashMap<&[u8], Vec<usize>> {
    let mut names: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, it) in found.iter().enumerate().filter(|(_, it)| !it.path.is_empty()) {
        names.entry(split(&it.path).0).or_default().push(index);
    }
    names
}

/// What the files of several names are.
fn kinds(found: &[Found]) -> HashMap<(u64, u64), &Kind> {
    let several = found.iter().filter_map(|it| match &it.what {
        What::Entry { kind, file: Some(file) } if *kind != AGAIN => Some((*file, kind)),
        _ => None,
    });
    several.collect()
}

/// The directory of the lower side that `directory` shows through; `parent` is the one that its
/// parent does.
fn source(
    lower: &Tree,
    directory: &Found,
    parent: Option<&[u8]>,
    name: &[u8],
    upper: &Path,
) -> Result<Option<Vec<u8>>, CaptureError> {
    if directory.marks.opaque {
        return Ok(None);
    }
    let is_directory = |path: &[u8]| lower.get(path).is_some_and(|entry| entry.kind == Kind::Directory);
    let Some(redirect) = &directory.marks.redirect else {
        return Ok(parent.map(|parent| join(parent, name)).filter(|path| is_directory(path)));
    };
    let path = match redirect.strip_prefix(b"/") {
        Some(absolute) => Some(absolute.to_vec()),
        None if redirect.is_empty() || redirect.contains(&b'/') => None,
        None => parent.map(|parent| join(parent, redirect)),
    };
    match path {
        Some(path) if !path.is_empty() && is_directory(&path) => Ok(Some(path)),
        _ => Err(CaptureError::Redirect {
            path: upper.join(Path::new(OsStr::from_bytes(&directory.path))),
            redirect: String::from_utf8_lossy(redirect).into_owned(),
        }),
    }
}

/// Where all names of all hardlink groups stand, in order.
fn linked_places(tree: &Tree) -> Vec<usize> {
    let mut places = Vec::new();
    for (at, entry) in tree.entries().iter().enumerate() {
        if let Kind::Hardlink { target } = &entry.kind {
            places.extend([at, tree.range(target).start]);
        }
    }
    places.sort_unstable();
    places
}

/// The first names of all hardlink groups.
fn linked(tree: &Tree) -> HashSet<&[u8]> {
    let targets = tree.entries().iter().filter_map(|entry| match &entry.kind {
        Kind::Hardlink { target } => Some(target.as_slice()),
        _ => None,
    });
    targets.collect()
}

struct Merge<'t> {
    lower: &'t Tree,
    found: &'t [Found],
    names: HashMap<&'t [u8], Vec<usize>>,
    linked: HashSet<&'t [u8]>,
    kinds: HashMap<(u64, u64), &'t Kind>,
    groups: Groups,
    entries: Vec<Entry>,
    shown: Shown,
    /// Where unchanged directories of the lower side are taken as a whole.
    whole: Option<Whole>,
}

/// Directories of the lower side that are taken as a whole.
struct Whole {
    /// The numbers of the lower side's entries that are a file of several names, in order.
    linked: Vec<usize>,
    /// Their digests, by path.
    digests: HashMap<Vec<u8>, Digest>,
}

impl<'t> Merge<'t> {
    fn new(lower: &'t Tree, found: &'t [Found], room: usize) -> Self {
        Self {
            lower,
            found,
            names: by_parent(found),
            linked: linked(lower),
            kinds: kinds(found),
            groups: Groups::default(),
            entries: Vec::with_capacity(room),
            shown: Shown::default(),
            whole: None,
        }
    }

    fn run(&mut self, upper: &Path) -> Result<(), CaptureError> {
        let found = self.found;
        let Some(top) = found.iter().position(|it| it.path.is_empty()) else { return Ok(()) };
        let below = (!found[top].marks.opaque).then(Vec::new);
        let mut way = vec![self.enter(top, below)];
        while let Some(directory) = way.last_mut() {
            match directory.rest.pop() {
                None => {
                    way.pop();
                }
                Some((name, Next::Lower(child))) => {
                    let path = join(&found[directory.at].path, name);
                    self.lower_side(child, &path);
                }
                Some((name, Next::Upper(at))) => {
                    if let What::Entry { kind: Kind::Directory, .. } = found[at].what {
                        let below = source(self.lower, &found[at], directory.below.as_deref(), name, upper)?;
                        way.push(self.enter(at, below));
                    } else {
                        self.upper_side(at);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes over a directory of the upper side, which shows `below` through, and lists what is in
    /// it.
    fn enter(&mut self, at: usize, below: Option<Vec<u8>>) -> Open<'t> {
        self.upper_side(at);
        self.shown.0.insert(self.found[at].path.clone(), below.clone());
        let here = self.names.get(self.found[at].path.as_slice()).map_or(&[][..], Vec::as_slice);
        let mut rest: Vec<_> =
            here.iter().map(|at| (split(&self.found[*at].path).1, Next::Upper(*at))).collect();
        if let Some(below) = &below {
            let taken: HashSet<&[u8]> = rest.iter().map(|(name, _)| *name).collect();
            for child in self.lower.children(below) {
                let name = split(&child.entries[0].path).1;
                if !taken.contains(name) {
                    rest.push((name, Next::Lower(child)));
                }
            }
        }
        rest.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        Open { at, below, rest }
    }

    /// Takes over something of the upper side, if it is one that a tree has.
    fn upper_side(&mut self, at: usize) {
        let Found { path, meta, what, .. } = &self.found[at];
        let What::Entry { kind, file } = what else { return };
        let kind = file.and_then(|file| self.kinds.get(&file).copied()).unwrap_or(kind);
        let entry = self.groups.entry(file.map(Group::Here), path.clone(), meta.clone(), kind.clone());
        self.entries.push(entry);
    }

    /// If the directory of this number in the lower side can be taken with all that is below it: how many
    /// entries that are.
    fn take_whole(&mut self, number: usize, new: &[u8]) -> Option<usize> {
        let whole = self.whole.as_mut()?;
        let (length, digest) = self.lower.directory(number)?;
        let first = whole.linked.partition_point(|at| *at < number);
        if whole.linked.get(first).is_some_and(|at| *at < number + length) {
            return None;
        }
        // It doesn't depend on the directory's name and place.
        whole.digests.insert(new.to_vec(), digest);
        Some(length)
    }

    /// Whether the lower side's file has further names.
    fn is_linked(&self, path: &[u8]) -> bool {
        !self.linked.is_empty() && self.linked.contains(path)
    }

    /// Takes over something of the lower side with all below it, as `new`.
    fn lower_side(&mut self, Child { at: start, entries, .. }: Child<'_>, new: &[u8]) {
        let old = entries[0].path.len();
        let mut skipped = 0;
        for (at, entry) in entries.iter().enumerate() {
            if at < skipped {
                continue;
            }
            let rest = entry.path.get(old..).unwrap_or_default();
            let mut path = Vec::with_capacity(new.len() + rest.len());
            path.extend_from_slice(new);
            path.extend_from_slice(rest);
            if entry.kind == Kind::Directory
                && let Some(length) = self.take_whole(start + at, &path)
            {
                skipped = at + length;
            }
            let (group, kind) = match &entry.kind {
                // The first name may be gone from the merged view: any of them can take its place.
                Kind::Hardlink { target } => {
                    (Some(Group::Lower(target.clone())), &self.lower.resolve(entry).kind)
                }
                kind if self.is_linked(&entry.path) => (Some(Group::Lower(entry.path.clone())), kind),
                kind => (None, kind),
            };
            let entry = self.groups.entry(group, path, entry.meta.clone(), kind.clone());
            self.entries.push(entry);
        }
    }
}
