//! What an upper side would hold that makes one tree of another.

use std::collections::{HashMap, HashSet};

use rootbuild_cache::tree::parent_path;
use rootbuild_cache::{Entry, Kind, Meta, Tree};

/// From so many entries on, a delta that has more than half of the tree's isn't worth it.
const FEW: usize = 1000;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// The upper side which over `near` is `tree`, as a tree that can be checked out: whiteouts are
/// devices in it, and opaque directories have overlayfs's attribute. Neither tree may hold such things
/// itself. `None` where so much differs that it isn't worth it.
///
/// A file that stays is one that keeps content, metadata and time, and all its names: hardlinks across
/// the two sides there are none.
pub(super) fn between(near: &Tree, tree: &Tree) -> Option<Vec<Entry>> {
    let kept = Kept::new(near, tree);
    let mut wanted: HashSet<&[u8]> = HashSet::from([&b""[..]]);
    let mut found: Vec<Entry> = Vec::new();
    for entry in tree.entries() {
        let beside = near.get(&entry.path);
        let (stays, opaque) = match (&entry.kind, beside) {
            (Kind::Directory, Some(beside)) if beside.kind == Kind::Directory => {
                (beside.meta == entry.meta, false)
            }
            (Kind::Directory, _) => (false, true),
            _ => (kept.contains(tree, entry), false),
        };
        if stays {
            continue;
        }
        want_parents(&mut wanted, &entry.path);
        if opaque {
            let mut entry = entry.clone();
            entry.meta.xattrs.push((OPAQUE.to_vec(), b"y".to_vec()));
            found.push(entry);
        } else if entry.kind == Kind::Directory {
            wanted.insert(&entry.path);
        } else {
            found.push(entry.clone());
        }
    }
    for gone in near.entries().iter().filter(|it| tree.get(&it.path).is_none()) {
        let parent = parent_path(&gone.path).unwrap_or_default();
        // Else what stands in the directory's place hides all that was below it.
        if tree.get(parent).is_some_and(Entry::is_directory) {
            want_parents(&mut wanted, &gone.path);
            found.push(whiteout(&gone.path));
        }
    }
    let opaque: HashSet<Vec<u8>> =
        found.iter().filter(|it| it.is_directory()).map(|it| it.path.clone()).collect();
    let directories = wanted.into_iter().filter(|path| !opaque.contains(*path));
    found.extend(directories.filter_map(|path| tree.get(path)).cloned());
    (found.len() <= FEW || found.len() <= tree.entries().len() / 2).then_some(found)
}

fn want_parents<'t>(wanted: &mut HashSet<&'t [u8]>, path: &'t [u8]) {
    let mut path = path;
    while let Some(parent) = parent_path(path) {
        if !wanted.insert(parent) {
            return;
        }
        path = parent;
    }
}

fn whiteout(path: &[u8]) -> Entry {
    Entry { path: path.to_vec(), meta: Meta::default(), kind: Kind::CharDevice { major: 0, minor: 0 } }
}

/// Which files of a tree can stay what they are in the tree near it, by their first names.
struct Kept<'t>(HashSet<&'t [u8]>);

impl<'t> Kept<'t> {
    fn new(near: &'t Tree, tree: &'t Tree) -> Self {
        // All names of the groups of several.
        let mut names: HashMap<&[u8], Vec<&Entry>> = HashMap::new();
        for entry in tree.entries() {
            if let Kind::Hardlink { target } = &entry.kind {
                names.entry(target).or_default().push(entry);
            }
        }
        let mut kept = HashSet::new();
        // Of a group there that fell apart here, only one part can keep the file.
        let mut claimed: HashSet<&[u8]> = HashSet::new();
        for first in tree.entries() {
            if matches!(first.kind, Kind::Directory | Kind::Hardlink { .. }) {
                continue;
            }
            let Some(beside) = near.get(&first.path) else { continue };
            let holder = near.resolve(beside);
            let links = names.get(first.path.as_slice()).map_or(&[][..], Vec::as_slice);
            let same = holder.kind == first.kind
                && holder.meta == first.meta
                && links
                    .iter()
                    .all(|link| near.get(&link.path).is_some_and(|it| near.resolve(it).path == holder.path));
            if same && claimed.insert(&holder.path) {
                kept.insert(first.path.as_slice());
            }
        }
        Self(kept)
    }

    fn contains(&self, tree: &Tree, entry: &Entry) -> bool {
        self.0.contains(tree.resolve(entry).path.as_slice())
    }
}
