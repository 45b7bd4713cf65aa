//! Lower directories and failed roots, for who checks the store.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rootbuild_cache::fsck::{self, Check, Kind, Remedy, Severity};
use rootbuild_cache::{Digest, Store};

use super::failed::Failed;
use super::lowers::{self, Lower};
use crate::cancel::Cancel;
use crate::capture::{self, CaptureError, Known};

/// Looks at descriptions, and whether lower directories are the trees that they are kept for.
pub fn check(check: &Check<'_>) {
    let dir = check.store().dir();
    for place in check.names(&dir.join("lowers")) {
        check.looked();
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(tree) = format!("b3:{name}").parse::<Digest>() else {
            check.unknown(&place);
            continue;
        };
        for part in check.names(&place) {
            match part.file_name().and_then(|name| name.to_str()) {
                Some("full") => content(check, &part, &tree, None),
                Some("delta") => {
                    let json = part.join("lower.json");
                    if check.json::<Lower>(&json).is_none() && part.exists() && !json.exists() {
                        let what = "nothing says what it lies over";
                        check.damaged(Kind::Malformed, &part, what);
                    } else if let Some(lower) = lowers::lower(&place) {
                        // One of another boot, which may be half on disk, counts for nothing.
                        content(check, &part, &tree, Some(&lower.parent));
                    }
                }
                _ => check.unknown(&part),
            }
        }
    }
    for place in check.names(&dir.join("failed")) {
        let json = place.join("failed.json");
        if let Some(Failed { parent: Some(tree), .. }) = check.json::<Failed>(&json)
            && !check.has_tree(&tree)
        {
            let what = format!("the tree {tree} isn't there, over which the failed root lies");
            check.found(Severity::Note, Kind::Dangling, &json, what, Remedy::Nothing);
        }
    }
}

/// Whether a directory that nobody writes in is `tree`, or an upper side over `parent`: what isn't is made again when it is
/// needed. Contents that nobody knows come to the store with this, for a collection to remove.
pub(crate) fn content(check: &Check<'_>, part: &Path, tree: &Digest, parent: Option<&Digest>) {
    let store = check.store();
    if check.is_quick() {
        return;
    }
    let identity = || part.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    let before = identity();
    let (known, cancel) = (&mut Known::default(), Cancel::new());
    let found = match parent {
        None => capture::directory(store, part, known, &cancel).map(|it| it.tree.digest()),
        Some(parent) => {
            let Ok(parent) = store.tree(parent) else { return };
            capture::scan_upper(store, &part.join("root"), known, &cancel).and_then(|it| it.digest(&parent))
        }
    };
    let what = match found {
        Ok(found) if found == *tree => return,
        // Moved away meanwhile, to be removed or to become another.
        _ if identity().is_none() || identity() != before => return,
        Ok(_) => "it isn't the tree that it is kept for: it is written again when it is needed".to_owned(),
        // Nothing that it says of the directory.
        Err(error @ (CaptureError::Store(_) | CaptureError::Cancelled(_))) => {
            let what = format!("it can't be looked at: {error}");
            return check.found(Severity::Note, Kind::Unreadable, part, what, Remedy::Nothing);
        }
        Err(error) => format!("it can't be read as a tree: {error}"),
    };
    check.damaged(Kind::Checkout, part, what);
}

/// Lower directories that are trees.
#[must_use]
pub fn places(store: &Store) -> Vec<fsck::Place> {
    let listed = fs::read_dir(store.dir().join("lowers")).into_iter().flatten().flatten();
    let place = |entry: fs::DirEntry| {
        let tree = format!("b3:{}", entry.file_name().to_str()?).parse().ok()?;
        Some(fsck::Place { tree, dir: entry.path().join("full") })
    };
    listed.filter_map(place).collect()
}
