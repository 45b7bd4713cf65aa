//! Lower directories and failed roots, for who checks the store.

use std::fs;

use rootbuild_cache::Store;
use rootbuild_cache::fsck::{self, Check, Kind, Remedy, Severity};

use super::failed::Failed;
use super::lowers::Lower;

/// Looks at descriptions: lower directories themselves are a cache, and nobody can write there.
pub fn check(check: &Check<'_>) {
    let dir = check.store().dir();
    for place in check.names(&dir.join("lowers")) {
        check.looked();
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if format!("b3:{name}").parse::<rootbuild_cache::Digest>().is_err() {
            check.unknown(&place);
            continue;
        }
        for part in check.names(&place) {
            match part.file_name().and_then(|name| name.to_str()) {
                Some("full") => {}
                Some("delta") => {
                    let lower = part.join("lower.json");
                    if check.json::<Lower>(&lower).is_none() && part.exists() && !lower.exists() {
                        let what = "nothing says what it lies over";
                        check.damaged(Kind::Malformed, &part, what);
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
