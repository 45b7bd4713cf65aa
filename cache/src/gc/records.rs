//! Records as items.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;

use super::{Class, Item, Standing};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::{LayerKey, Record};
use crate::store::Store;
use crate::usage::Usage;

/// The layers that something needs, by key and tree: with what it is.
pub type Layers = HashMap<(LayerKey, Digest), String>;

/// All records as items, which keep their trees and the contents that their facts name. What can't be read as a record
/// isn't among them: it is passed over by who looks records up, and told by a check of the store.
pub fn record_items<'a>(store: &Store, needed: &Layers) -> Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for (path, key) in keys(store)? {
        for number in crate::records::numbers(&path)? {
            items.push((path.join(format!("{number}.json")), key));
        }
    }
    let read = |(path, key): &(PathBuf, LayerKey)| {
        let found = fs::symlink_metadata(path).ok()?;
        let record = crate::records::read(path, key).ok()?;
        Some(item(path, key, &record, &found, needed, store))
    };
    Ok(items.par_iter().filter_map(read).collect())
}

fn item<'a>(
    path: &Path,
    key: &LayerKey,
    record: &Record,
    found: &fs::Metadata,
    needed: &Layers,
    store: &Store,
) -> Item<'a> {
    let last_used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let standing = match needed.get(&(*key, record.tree)) {
        _ if !store.tree_is_there(&record.tree) => Standing::Useless("its tree is gone".to_owned()),
        Some(what) => Standing::Needed(what.clone()),
        None => Standing::Cached,
    };
    let (from, was) = (path.to_owned(), last_used);
    Item {
        class: Class::Records,
        name: format!("layer {}, record {}", key.0.short(), file_stem(path)),
        trees: vec![record.tree],
        objects: digests(&record.facts),
        usage: Usage::of_file(found),
        last_used,
        seconds: record.seconds,
        standing,
        remove: Box::new(move |trash| {
            // Of use to somebody since then.
            let is_same = fs::symlink_metadata(&from).is_ok_and(|it| it.modified().ok() == Some(was));
            Ok(is_same && moved(&from, &trash.join("record"))?)
        }),
    }
}

fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Renames; whether there was anything.
fn moved(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true),
    }
}

/// The directories of all layers' records, with their keys.
pub(crate) fn keys(store: &Store) -> Result<Vec<(PathBuf, LayerKey)>> {
    let top = store.dir().join("layers");
    let mut keys = Vec::new();
    for fan in names(&top)? {
        for name in names(&top.join(&fan))? {
            if let Ok(digest) = format!("b3:{fan}{name}").parse() {
                keys.push((top.join(&fan).join(&name), LayerKey(digest)));
            }
        }
    }
    Ok(keys)
}

/// The names in a directory that are text.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other.map_err(Error::io("read", dir))?,
    };
    let names: Result<Vec<_>> =
        entries.map(|entry| Ok(entry.map_err(Error::io("read", dir))?.file_name())).collect();
    Ok(names?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// All digests that a value names.
pub(crate) fn digests(value: &serde_json::Value) -> Vec<Digest> {
    use serde_json::Value;
    match value {
        Value::String(text) => text.parse().into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(digests).collect(),
        Value::Object(fields) => fields.values().flat_map(digests).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// Removes the directories of layers that have no records any more; behind the gate.
pub(super) fn remove_empty(store: &Store) -> Result<()> {
    for (path, _) in keys(store)? {
        match fs::remove_dir(&path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
                ) => {}
            done => done.map_err(Error::io("remove", &path))?,
        }
    }
    Ok(())
}
