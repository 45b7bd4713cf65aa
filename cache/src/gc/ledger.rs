//! Which trees hold which objects, and how large those are.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::objects::by_digest;
use crate::store::Store;
use crate::trees;
use crate::usage::Usage;

/// Maps by the first byte of a digest, so that threads rarely meet.
#[derive(Debug)]
struct Sharded<T>(Vec<Mutex<HashMap<Digest, T>>>);

impl<T> Sharded<T> {
    fn new() -> Self {
        Self((0..256).map(|_| Mutex::default()).collect())
    }

    fn with<R>(&self, digest: &Digest, work: impl FnOnce(&mut HashMap<Digest, T>) -> R) -> R {
        let shard = usize::from(digest.as_bytes()[0]);
        work(&mut self.0[shard].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An object in the store.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// How many trees and items name it.
    by: u32,
    size: u64,
    /// In blocks of 512 bytes.
    blocks: u32,
    /// Whether it is younger than the collection: then it is left alone.
    is_new: bool,
}

impl Held {
    fn usage(&self) -> Usage {
        Usage { files: 1, apparent: self.size, disk: u64::from(self.blocks) * 512 }
    }
}

/// What is in the store by digest, and what holds it.
#[derive(Debug)]
pub(crate) struct Ledger<'s> {
    store: &'s Store,
    objects: Sharded<Held>,
    /// All trees, with what their files take.
    trees: HashMap<Digest, TreeHeld>,
}

#[derive(Debug, Clone, Copy, Default)]
struct TreeHeld {
    by: u32,
    usage: Usage,
    is_new: bool,
    /// Whether its objects were counted.
    counted: bool,
}

impl<'s> Ledger<'s> {
    /// Lists what is there. What came after `began` is left alone.
    pub(crate) fn new(store: &'s Store, began: SystemTime) -> Result<Self> {
        let objects = Sharded::new();
        list(store, "objects", |digest, found| {
            let held = Held {
                by: 0,
                size: found.len(),
                blocks: u32::try_from(found.blocks()).unwrap_or(u32::MAX),
                is_new: is_new(found, began),
            };
            objects.with(&digest, |shard| shard.insert(digest, held));
        })?;
        let trees = Mutex::new(HashMap::new());
        list(store, "trees", |digest, found| {
            let held = TreeHeld {
                usage: Usage::of_file(found),
                is_new: is_new(found, began),
                ..TreeHeld::default()
            };
            trees.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, held);
        })?;
        Ok(Self { store, objects, trees: trees.into_inner().unwrap_or_else(PoisonError::into_inner) })
    }

    /// Adds one to what holds each of these trees; a tree's first holder holds its objects as well. A tree that isn't
    /// there is passed over, one that can't be read is an error.
    pub(crate) fn hold(&mut self, trees: &[Digest]) -> Result<()> {
        let mut first = Vec::new();
        // What a tree is stored over is held with it.
        for digest in trees.iter().flat_map(|tree| self.store.with_bases(tree)).collect::<Vec<_>>() {
            let Some(held) = self.trees.get_mut(&digest) else { continue };
            held.by += 1;
            if !held.counted {
                held.counted = true;
                first.push(digest);
            }
        }
        // Those that only a lease or a newer tree names now come in here too.
        let counted: Result<Vec<()>> = first
            .par_iter()
            .map(|digest| match self.store.peek_tree(digest) {
                Ok(tree) => {
                    trees::objects(&tree).for_each(|object| self.hold_object(object));
                    Ok(())
                }
                // It was never there, or went before it was held; but then all of it.
                Err(Error::Missing { what }) if self.store.tree_base(digest).is_ok() => {
                    let path = by_digest(&self.store.dir().join("trees"), digest);
                    Err(Error::Damaged { what: format!("{what}, over which a tree is stored,"), path })
                }
                Err(Error::Missing { .. }) => Ok(()),
                Err(error) => Err(error),
            })
            .collect();
        counted.map(drop)
    }

    /// Like [`Ledger::hold`], for trees that were put since the listing.
    pub(crate) fn hold_new(&mut self, trees: &[Digest]) -> Result<()> {
        for digest in trees.iter().flat_map(|tree| self.store.with_bases(tree)) {
            self.trees.entry(digest).or_insert(TreeHeld { is_new: true, ..TreeHeld::default() });
        }
        self.hold(trees)
    }

    /// Adds one to what holds an object.
    pub(crate) fn hold_object(&self, object: &Digest) {
        self.objects.with(object, |shard| {
            if let Some(held) = shard.get_mut(object) {
                held.by += 1;
            }
        });
    }

    /// Takes one of the holders of a tree away, and with the last the tree's hold on its objects; what that frees.
    pub(crate) fn release(&mut self, tree: &Digest) -> Result<Usage> {
        let mut freed = Usage::default();
        for tree in self.store.with_bases(tree) {
            freed += self.release_one(&tree)?;
        }
        Ok(freed)
    }

    fn release_one(&mut self, tree: &Digest) -> Result<Usage> {
        let Some(held) = self.trees.get_mut(tree) else { return Ok(Usage::default()) };
        held.by = held.by.saturating_sub(1);
        if held.by > 0 || held.is_new {
            return Ok(Usage::default());
        }
        held.counted = false;
        let own = held.usage;
        let tree = match self.store.peek_tree(tree) {
            Err(Error::Missing { .. }) => return Ok(Usage::default()),
            other => other?,
        };
        Ok(own + trees::objects(&tree).map(|object| self.release_object(object)).sum())
    }

    /// Takes one of the holders of an object away; what that frees.
    pub(crate) fn release_object(&self, object: &Digest) -> Usage {
        self.objects.with(object, |shard| match shard.get_mut(object) {
            Some(held) if held.by > 0 => {
                held.by -= 1;
                if held.by == 0 && !held.is_new { held.usage() } else { Usage::default() }
            }
            _ => Usage::default(),
        })
    }

    /// The share of an item in what it holds: each tree and object counts by how many hold it.
    pub(crate) fn share(&self, trees: &[Digest], objects: &[Digest]) -> Result<u64> {
        let mut share = 0;
        for digest in trees {
            let Some(held) = self.trees.get(digest).filter(|held| held.by > 0) else { continue };
            let tree = match self.store.peek_tree(digest) {
                Err(Error::Missing { .. }) => continue,
                other => other?,
            };
            let inner: u64 = trees::objects(&tree).map(|object| self.object_share(object)).sum();
            share += (held.usage.disk + inner) / u64::from(held.by);
        }
        Ok(share + objects.iter().map(|object| self.object_share(object)).sum::<u64>())
    }

    fn object_share(&self, object: &Digest) -> u64 {
        self.objects.with(object, |shard| {
            shard.get(object).map_or(0, |held| held.usage().disk / u64::from(held.by.max(1)))
        })
    }

    /// The trees that nothing holds, but for new ones.
    pub(crate) fn free_trees(&self) -> Vec<Digest> {
        let free = self.trees.iter().filter(|(_, held)| held.by == 0 && !held.is_new);
        free.map(|(digest, _)| *digest).collect()
    }

    /// The objects that nothing holds, but for new ones.
    pub(crate) fn free_objects(&self) -> Vec<Digest> {
        let of = |shard: &Mutex<HashMap<Digest, Held>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let free = shard.iter().filter(|(_, held)| held.by == 0 && !held.is_new);
            free.map(|(digest, _)| *digest).collect::<Vec<_>>()
        };
        self.objects.0.iter().flat_map(of).collect()
    }

    /// What nothing holds, and what else there is: of trees, then of objects.
    pub(crate) fn usage(&self) -> [(Usage, Usage); 2] {
        let mut trees = (Usage::default(), Usage::default());
        for held in self.trees.values() {
            if held.by == 0 && !held.is_new { trees.0 += held.usage } else { trees.1 += held.usage }
        }
        let mut objects = (Usage::default(), Usage::default());
        for shard in &self.objects.0 {
            for held in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                if held.by == 0 && !held.is_new {
                    objects.0 += held.usage();
                } else {
                    objects.1 += held.usage();
                }
            }
        }
        [trees, objects]
    }

    /// Whether nothing holds a tree.
    pub(crate) fn is_free_tree(&self, tree: &Digest) -> bool {
        self.trees.get(tree).is_some_and(|held| held.by == 0)
    }

    /// What a tree's file takes.
    pub(crate) fn tree_usage(&self, tree: &Digest) -> Usage {
        self.trees.get(tree).map(|held| held.usage).unwrap_or_default()
    }

    /// Whether nothing holds an object, and what it takes.
    pub(crate) fn free_object(&self, object: &Digest) -> Option<Usage> {
        self.objects.with(object, |shard| shard.get(object).filter(|held| held.by == 0).map(Held::usage))
    }
}

fn is_new(found: &fs::Metadata, began: SystemTime) -> bool {
    let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(began.as_secs()).unwrap_or(i64::MAX);
    (found.ctime(), found.ctime_nsec()) >= (seconds, i64::from(began.subsec_nanos()))
}

/// Visits what is named by digests in `<store>/<kind>`, in several threads. Other names are passed over.
pub(crate) fn list(store: &Store, kind: &str, visit: impl Fn(Digest, &fs::Metadata) + Sync) -> Result<()> {
    let dir = store.dir().join(kind);
    (0..=255_u8).into_par_iter().try_for_each(|first| {
        let fan = dir.join(format!("{first:02x}"));
        let entries = match fs::read_dir(&fan) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Error::io("read", &fan))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &fan))?;
            let name = entry.file_name();
            let digest: Option<Digest> =
                name.to_str().and_then(|name| format!("b3:{first:02x}{name}").parse().ok());
            let Some(digest) = digest else { continue };
            match entry.metadata() {
                Ok(found) if found.is_file() && by_digest(&dir, &digest) == entry.path() => {
                    visit(digest, &found);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &entry.path())(error)),
            }
        }
        Ok(())
    })
}
