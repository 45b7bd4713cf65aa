//! Every tree, and every name of one: records, pins, references.

use super::objects::{Sizes, digest_of, each, fan_name};
use super::{Check, Kind, Remedy, Severity};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::LayerKey;
use crate::objects::by_digest;
use crate::pins::{Pin, Reference};
use crate::records::{Unusable, numbers, read};
use crate::tree::{Kind as EntryKind, Tree};

/// How many missing contents of one tree are told by name.
const NAMED: usize = 3;

pub(super) fn check(check: &Check<'_>, sizes: &Sizes) -> Result<()> {
    let dir = check.store.dir().join("trees");
    each(check, &dir, |path, digest| match check.store.checked_tree(&digest) {
        Ok(tree) => contents(check, sizes, &digest, &tree),
        Err(Error::Missing { what }) if path.exists() => {
            check.damaged(Kind::Tree, path, format!("{what}, over which it is stored"));
        }
        Err(Error::Missing { .. }) => {}
        Err(Error::Format { found, .. }) => {
            let what = format!("a tree of version {found}, which this version doesn't know");
            check.found(Severity::Unknown, Kind::Unknown, path, what, Remedy::Nothing);
        }
        Err(Error::Io { source, .. }) => check.damaged(Kind::Unreadable, path, source.to_string()),
        Err(error) => check.damaged(Kind::Tree, path, error.to_string()),
    });
    Ok(())
}

/// Whether all that a tree names is there, of the right length.
fn contents(check: &Check<'_>, sizes: &Sizes, digest: &Digest, tree: &Tree) {
    let objects = check.store.dir().join("objects");
    let is_there = |object: &Digest, size: u64| match sizes.get(object) {
        Some(found) => *found == size,
        // Bad, gone, or newer than the listing.
        None => {
            let path = by_digest(&objects, object);
            path.symlink_metadata().is_ok_and(|found| found.len() == size)
                && (check.quick || super::objects::hash(&path).is_ok_and(|read| read == *object))
        }
    };
    let mut missing = Vec::new();
    for entry in tree.entries() {
        if let EntryKind::File { object, size } = &entry.kind
            && !is_there(object, *size)
        {
            missing.push((*object, *size, entry.path.clone()));
        }
    }
    if missing.is_empty() {
        return;
    }
    let names: Vec<_> =
        missing.iter().take(NAMED).map(|it| String::from_utf8_lossy(&it.2).into_owned()).collect();
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("contents that it names aren't there: `{}`{more}", names.join("`, `"));
    let path = by_digest(&check.store.dir().join("trees"), digest);
    check.found(Severity::Damage, Kind::Incomplete, &path, what, Remedy::Restore);
    let mut wanted = check.wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (object, size, _) in missing {
        wanted.insert(object, size);
    }
}

pub(super) fn records(check: &Check<'_>) -> Result<()> {
    let top = check.store.dir().join("layers");
    for fan in check.names(&top) {
        let Some(first) = fan_name(&fan) else {
            check.unknown(&fan);
            continue;
        };
        for dir in check.names(&fan) {
            match digest_of(first, &dir) {
                Some(key) => records_of(check, &dir, &LayerKey(key))?,
                None => check.unknown(&dir),
            }
        }
    }
    Ok(())
}

fn records_of(check: &Check<'_>, dir: &std::path::Path, key: &LayerKey) -> Result<()> {
    let known = numbers(dir)?;
    for path in check.names(dir) {
        let number: Option<u64> = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok())
            .filter(|number| known.contains(number));
        if number.is_none() {
            check.unknown(&path);
            continue;
        }
        check.looked();
        match read(&path, key) {
            Ok(record) if !check.has_tree(&record.tree) => {
                check.damaged(Kind::Dangling, &path, format!("the tree {} isn't there", record.tree));
            }
            Ok(_) => {}
            Err(Unusable::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(Unusable::Io(error)) => check.damaged(Kind::Unreadable, &path, error.to_string()),
            Err(error @ Unusable::Schema(_)) => {
                check.found(Severity::Unknown, Kind::Unknown, &path, error.to_string(), Remedy::Nothing);
            }
            Err(error) => check.damaged(Kind::Malformed, &path, error.to_string()),
        }
    }
    Ok(())
}

/// Pins and references.
pub(super) fn names(check: &Check<'_>) {
    for path in check.names(&check.store.dir().join("pins")) {
        if path.extension().is_none_or(|it| it != "json") {
            check.unknown(&path);
        } else if let Some(pin) = check.json::<Pin>(&path)
            && !check.has_tree(&pin.tree)
        {
            // Somebody wanted it kept: not for us to forget.
            let what = format!("the pinned tree {} isn't there", pin.tree);
            check.found(Severity::Damage, Kind::Dangling, &path, what, Remedy::Nothing);
        }
    }
    for path in check.names(&check.store.dir().join("refs")) {
        if path.extension().is_none_or(|it| it != "json") {
            check.unknown(&path);
        } else if let Some(reference) = check.json::<Reference>(&path) {
            if let Some(why) = reference.is_dead() {
                check.found(Severity::Note, Kind::Leftover, &path, why, Remedy::Nothing);
            } else if !check.has_tree(&reference.tree) {
                let what = format!(
                    "the tree {} isn't there, which `{}` names",
                    reference.tree,
                    reference.path.display()
                );
                check.found(Severity::Damage, Kind::Dangling, &path, what, Remedy::Nothing);
            }
        }
    }
}
