//! Whether a store is whole: everything visible is what its name says.

use std::fs;
use std::path::Path;

use rootbuild_cache::{Digest, Kind, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::publish::current;

/// All that is wrong with the store in `dir`; nothing is written there. A store that isn't one yet is whole.
pub(crate) fn faults(dir: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    match Store::open_read_only(dir) {
        Ok(Some(store)) => {
            objects(&store, &mut faults);
            trees(&store, &mut faults);
            roots(&store, &mut faults);
        }
        Ok(None) => {}
        Err(error) => faults.push(error.to_string()),
    }
    faults
}

/// Names two levels below `dir`, joined.
fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for fan in fs::read_dir(dir).into_iter().flatten().flatten() {
        for entry in fs::read_dir(fan.path()).into_iter().flatten().flatten() {
            names.push(format!("{}{}", fan.file_name().display(), entry.file_name().display()));
        }
    }
    names
}

fn objects(store: &Store, faults: &mut Vec<String>) {
    for name in names(&store.dir().join("objects")) {
        let content = name.parse::<Digest>().map_err(|error| error.to_string()).and_then(|digest| {
            let mut content = Vec::new();
            let file = store.open_object(&digest).map_err(|error| error.to_string())?;
            std::io::Read::read_to_end(&mut &file, &mut content).map_err(|error| error.to_string())?;
            Ok((digest, Digest::of(&content)))
        });
        match content {
            Ok((digest, found)) if digest == found => {}
            other => faults.push(format!("object {name}: {other:?}")),
        }
    }
}

fn trees(store: &Store, faults: &mut Vec<String>) {
    for name in names(&store.dir().join("trees")) {
        let tree = name.parse().map_err(|error| format!("{error:?}"));
        match tree.and_then(|digest| store.tree(&digest).map_err(|error| error.to_string())) {
            Err(error) => faults.push(format!("tree {name}: {error}")),
            Ok(tree) => {
                for entry in tree.entries() {
                    let Kind::File { object, size } = &entry.kind else { continue };
                    let found = store.open_object(object).map(|file| file.metadata().map(|it| it.len()).ok());
                    if !matches!(&found, Ok(Some(found)) if found == size) {
                        let path = String::from_utf8_lossy(&entry.path).into_owned();
                        faults.push(format!("tree {name}: `{path}`: {found:?}"));
                    }
                }
            }
        }
    }
    for name in names(&store.dir().join("layers")) {
        let Ok(key) = name.parse() else {
            faults.push(format!("layer {name}"));
            continue;
        };
        let dir = store.dir().join("layers").join(&name[..2]).join(&name[2..]);
        let written = fs::read_dir(dir).map_or(0, Iterator::count);
        match store.records(&rootbuild_cache::LayerKey(key)) {
            Ok(records) => {
                if records.len() != written {
                    faults.push(format!("layer {name}: {} of {written} records can be read", records.len()));
                }
                for record in records.iter().filter(|it| !store.has_tree(&it.tree)) {
                    faults.push(format!("layer {name}: no tree {}", record.tree));
                }
            }
            Err(error) => faults.push(format!("layer {name}: {error}")),
        }
    }
}

fn roots(store: &Store, faults: &mut Vec<String>) {
    let scratch = tempfile::tempdir().expect("there is room");
    let scratch = Store::open(&scratch.path().join("store")).expect("a store of its own");
    for link in fs::read_dir(store.dir().join("roots")).into_iter().flatten().flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        // What `write_atomic` and its like put beside what they replace.
        if name.starts_with('.') {
            continue;
        }
        let found = match current(store, &name) {
            Ok(Some(published)) => capture_directory(&scratch, &published.path, &Cancel::new())
                .map(|tree| (published.tree, tree.digest())),
            other => {
                faults.push(format!("root {name}: {other:?}"));
                continue;
            }
        };
        match found {
            Ok((told, there)) if told == there => {}
            other => faults.push(format!("root {name}: {other:?}")),
        }
    }
}

/// What lies in the store's `staging`, and what was left beside names that were to be replaced. Generations on
/// their way out are none of it: they go while other things are done, or with the next command.
pub(crate) fn left_over(dir: &Path) -> Vec<String> {
    let list = |name: &str| {
        let entries = fs::read_dir(dir.join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let staging = list("staging").filter(|name| !name.starts_with("old-generations-"));
    staging.chain(list("roots").filter(|name| name.starts_with('.'))).collect()
}
