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

use rootbuild_cache::{Entry, Kind, Tree};

use super::scan::{Found, What};
use super::{CaptureError, Group, Groups, children_of};
use crate::fd::{join, split};

/// The entries of the merged view. `upper` is for messages.
pub(super) fn merge(lower: &Tree, found: Vec<Found>, upper: &Path) -> Result<Vec<Entry>, CaptureError> {
    let (names, directories) = by_parent(&found);
    let mut out = Merge { lower, linked: linked(lower), groups: Groups::default(), entries: Vec::new() };
    out.entries.reserve(lower.entries().len() + found.len());

    // Which directory of the lower side each directory of the upper side shows through.
    let mut shown: Vec<(usize, Option<Vec<u8>>)> = Vec::new();
    if let Some(top) = directories.get(&b""[..]) {
        shown.push((*top, (!found[*top].marks.opaque).then(Vec::new)));
    }
    let nothing = HashMap::new();
    while let Some((at, below)) = shown.pop() {
        let directory = &found[at];
        let here = names.get(directory.path.as_slice()).unwrap_or(&nothing);
        if let Some(below) = &below {
            for child in children_of(lower, below) {
                if !here.contains_key(split(&child.path).1) {
                    out.lower_side(&child.path, &join(&directory.path, split(&child.path).1));
                }
            }
        }
        for (name, child) in here {
            let child_found = &found[*child];
            if let What::Entry { kind: Kind::Directory, .. } = child_found.what {
                shown.push((*child, source(lower, child_found, below.as_deref(), name, upper)?));
            }
        }
    }
    for Found { path, meta, what, .. } in found {
        if let What::Entry { kind, file } = what {
            let entry = out.groups.entry(file.map(Group::Here), path, meta, kind);
            out.entries.push(entry);
        }
    }
    Ok(out.entries)
}

type Names<'f> = HashMap<&'f [u8], HashMap<&'f [u8], usize>>;

/// The names in each directory, and where each directory itself is.
fn by_parent(found: &[Found]) -> (Names<'_>, HashMap<&[u8], usize>) {
    let (mut names, mut directories) = (Names::new(), HashMap::new());
    for (index, it) in found.iter().enumerate() {
        if let What::Entry { kind: Kind::Directory, .. } = it.what {
            directories.insert(it.path.as_slice(), index);
        }
        if !it.path.is_empty() {
            let (parent, name) = split(&it.path);
            names.entry(parent).or_default().insert(name, index);
        }
    }
    (names, directories)
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
    linked: HashSet<&'t [u8]>,
    groups: Groups,
    entries: Vec<Entry>,
}

impl Merge<'_> {
    /// Takes over `path` of the lower side with all below it, as `new`.
    fn lower_side(&mut self, path: &[u8], new: &[u8]) {
        for entry in self.lower.subtree(path) {
            let rest = entry.path.get(path.len()..).unwrap_or_default();
            let mut at = Vec::with_capacity(new.len() + rest.len());
            at.extend_from_slice(new);
            at.extend_from_slice(rest);
            let (group, kind) = match &entry.kind {
                // The first name may be gone from the merged view: any of them can take its place.
                Kind::Hardlink { target } => match self.lower.get(target) {
                    Some(first) => (Some(target.clone()), first.kind.clone()),
                    None => continue,
                },
                kind if self.linked.contains(entry.path.as_slice()) => {
                    (Some(entry.path.clone()), kind.clone())
                }
                kind => (None, kind.clone()),
            };
            let entry = self.groups.entry(group.map(Group::Lower), at, entry.meta.clone(), kind);
            self.entries.push(entry);
        }
    }
}
