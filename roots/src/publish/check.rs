//! Published roots, for who checks the store.

use std::fs;
use std::path::{Path, PathBuf};

use rootbuild_cache::fsck::{self, Check, Kind, Remedy, Severity};
use rootbuild_cache::{Digest, Store};

use super::index::Index;
use super::place::{Generation, Place};
use super::{check_name, mend};
use crate::working::check::content;

/// Looks at links, descriptions, checkouts and their indices; of what is in checkouts, at what is shared with others: elsewhere
/// services write.
pub fn check(check: &Check<'_>) {
    let dir = check.store().dir();
    for path in check.names(&dir.join("roots")) {
        link(check, &path);
    }
    for home in ["published", "checkouts"] {
        for path in check.names(&dir.join(home)) {
            match name(&path).filter(|name| check_name(name).is_ok()) {
                Some(name) if home == "published" => descriptions(check, name, &path),
                Some(name) => checkouts(check, name, &path),
                None => check.unknown(&path),
            }
        }
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn link(check: &Check<'_>, path: &Path) {
    check.looked();
    let place = name(path).and_then(|name| Place::new(check.store(), name).ok());
    let number = place.as_ref().and_then(|place| place.linked().ok().flatten());
    let (Some(place), Some(number)) = (place, number) else { return check.unknown(path) };
    if !place.checkout(number).is_dir() {
        let what = "it leads to no directory: the next provision makes it again";
        check.found(Severity::Damage, Kind::Link, path, what, Remedy::Quarantine);
    }
}

fn descriptions(check: &Check<'_>, name: &str, dir: &Path) {
    let Ok(place) = Place::new(check.store(), name) else { return };
    let current = place.linked().ok().flatten();
    for path in check.names(dir) {
        let Some(number) = number(&path, ".json") else {
            check.unknown(&path);
            continue;
        };
        let Some(generation) = check.json::<Generation>(&path) else { continue };
        let stands = place.checkout(number).is_dir();
        if !stands && current != Some(number) {
            if place.spare(number).is_dir() {
                // It waits to become the next one.
                continue;
            }
            let what = "its checkout is being written anew, or was removed";
            check.found(Severity::Note, Kind::Leftover, &path, what, Remedy::Nothing);
        } else if stands && !check.has_tree(&generation.tree) {
            let what = format!("the tree {} isn't there: a provision makes it again", generation.tree);
            let severity = if current == Some(number) { Severity::Damage } else { Severity::Note };
            check.found(severity, Kind::Dangling, &path, what, Remedy::Nothing);
        } else if stands {
            mend::check(check, &place, number, &generation);
        }
    }
}

fn checkouts(check: &Check<'_>, name: &str, dir: &Path) {
    let Ok(place) = Place::new(check.store(), name) else { return };
    for path in check.names(dir) {
        if let Some(number) = number(&path, ".index") {
            index(check, &path, &place, number);
        } else if let Some(number) = number(&path, "") {
            check.looked();
            if path.is_dir() && !place.json(number).exists() {
                let what = "a generation that was never handed over, or is just about to be";
                check.found(Severity::Note, Kind::Leftover, &path, what, Remedy::Nothing);
            }
        } else if let Some(number) = number(&path, ".spare") {
            // Nobody has written there since, but in what it shares.
            if let Some(index) = Index::read(&place.index(number)) {
                content(check, &path, index.tree(), None);
            }
        } else if number(&path, ".lock").is_none() {
            check.unknown(&path);
        }
    }
}

fn index(check: &Check<'_>, path: &Path, place: &Place, number: u64) {
    let Some(bytes) = check.read(path) else { return };
    let good =
        bytes.split_last_chunk::<32>().is_some_and(|(rest, digest)| Digest::of(rest).as_bytes() == digest);
    // Removed meanwhile, or written in another form.
    if !good && path.exists() && place.checkout(number).exists() {
        // It is only there to save time, so nobody waits until it is on disk.
        let what = "the index of a checkout isn't whole: the next one is written anew";
        check.found(Severity::Note, Kind::Leftover, path, what, Remedy::Nothing);
    }
}

fn number(path: &Path, suffix: &str) -> Option<u64> {
    let number = name(path)?.strip_suffix(suffix)?;
    number.parse().ok().filter(|it: &u64| it.to_string() == number)
}

/// The directories of standing generations.
#[must_use]
pub fn places(store: &Store) -> Vec<fsck::Place> {
    let mut places = Vec::new();
    let homes: Vec<PathBuf> = fs::read_dir(store.dir().join("published"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .collect();
    for place in homes.iter().filter_map(|home| Place::new(store, name(home)?).ok()) {
        for number in place.numbers().unwrap_or_default() {
            if let Ok(Some(generation)) = place.generation(number) {
                places.push(fsck::Place { tree: generation.tree, dir: place.checkout(number) });
            }
        }
    }
    places
}
