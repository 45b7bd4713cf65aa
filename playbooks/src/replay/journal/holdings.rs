//! Journals, for who collects: each initial state's together, with the trees of their checkpoints.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rootbuild_cache::gc::{Class, Item, Standing};
use rootbuild_cache::usage::{Counted, Usage};
use rootbuild_cache::{Digest, Store};

use super::{Entry, Journals, Secret, numbers};

/// What the journals of one initial state name.
#[derive(Debug, Default)]
struct Named {
    trees: HashSet<Digest>,
    objects: HashSet<Digest>,
    ends: HashSet<Digest>,
    seconds: f64,
}

/// Journals as items. Those that lead to one of the `current` layers' trees are needed.
pub fn holdings<'a>(store: &Store, current: &HashSet<Digest>) -> io::Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for journals in all(store)? {
        let mut named = Named::default();
        let mut used = SystemTime::UNIX_EPOCH;
        for number in numbers(&journals.dir)? {
            let path = journals.path(number);
            let Ok(found) = path.metadata() else { continue };
            let seconds = u64::try_from(found.atime().max(found.mtime())).unwrap_or_default();
            used = used.max(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            // One that can't be read is of no use to a run either.
            journals.read(&path).unwrap_or_default().into_iter().for_each(|entry| named.add(entry));
        }
        let usage = Usage::of(&journals.dir, &Counted::default())?;
        let standing = if named.ends.is_disjoint(current) {
            Standing::Cached
        } else {
            Standing::Needed("it leads to a layer of a root that stands".to_owned())
        };
        items.push(Item {
            class: Class::Replays,
            name: format!("journals of state {}", short(&journals.dir)),
            trees: named.trees.into_iter().collect(),
            objects: named.objects.into_iter().collect(),
            usage,
            last_used: used,
            seconds: named.seconds,
            standing,
            remove: Box::new(move |trash| Ok(remove(&journals, trash)?)),
        });
    }
    Ok(items)
}

impl Named {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Request { reply, .. } => self.seconds += f64::from(reply.millis) / 1e3,
            Entry::Checkpoint { checkpoint, .. } => {
                self.trees.insert(checkpoint.tree);
                self.objects.extend(checkpoint.volatile);
            }
            Entry::End { tree, .. } => {
                self.trees.insert(tree);
                self.ends.insert(tree);
            }
            Entry::Fetched { .. } => {}
        }
    }
}

fn short(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    name.get(..12).unwrap_or(&name).to_owned()
}

/// The journals of all initial states.
pub(super) fn all(store: &Store) -> io::Result<Vec<Journals>> {
    let home = store.dir().join("replays");
    let secret = home.join("secret");
    if !secret.exists() {
        return Ok(Vec::new());
    }
    let secret = Secret::of(&secret)?;
    let mut all = Vec::new();
    for entry in fs::read_dir(&home)? {
        let entry = entry?;
        let is_state = entry.file_name().to_str().is_some_and(|name| name.len() == 64);
        if is_state && entry.file_type()?.is_dir() {
            all.push(Journals { dir: entry.path(), secret: secret.clone() });
        }
    }
    Ok(all)
}

/// Moves all journals away, and leaves their directory to who adds one just now.
fn remove(journals: &Journals, trash: &Path) -> io::Result<bool> {
    for number in numbers(&journals.dir)? {
        let from: PathBuf = journals.path(number);
        match fs::rename(&from, trash.join(format!("{number}.journal"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}
