//! The store's directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::digest::Digest;
use crate::layer::{LayerKey, Record};
use crate::lock::{Holder, Lock};
use crate::staging::Staging;
use crate::tree::Tree;

/// An open store. Cheap to clone; used from many threads.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, making it if there is none. Sweeps leftovers of dead processes.
    pub fn open(dir: &Path) -> Result<Self> {
        let _ = dir;
        unimplemented!()
    }

    /// Opens the store for reading only, without locks or writes (works unprivileged for trees and
    /// layers); `None` where there is no store yet.
    pub fn open_read_only(dir: &Path) -> Result<Option<Self>> {
        let _ = dir;
        unimplemented!()
    }

    /// The store's directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stores the content of `file`, an open regular file read from its start, holes kept as holes.
    /// Returns its digest and size in bytes. Nothing is written when the object is there already.
    pub fn put_object(&self, file: &File) -> Result<(Digest, u64)> {
        let _ = file;
        unimplemented!()
    }

    /// Stores bytes as an object.
    pub fn put_object_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let _ = bytes;
        unimplemented!()
    }

    /// Opens an object for reading.
    pub fn open_object(&self, digest: &Digest) -> Result<File> {
        let _ = digest;
        unimplemented!()
    }

    /// Whether the object is there.
    #[must_use]
    pub fn has_object(&self, digest: &Digest) -> bool {
        let _ = digest;
        unimplemented!()
    }

    /// Makes every object put so far durable (one syncfs). To be called before a tree that names
    /// them is put.
    pub fn sync(&self) -> Result<()> {
        unimplemented!()
    }

    /// Stores a tree and returns its digest.
    pub fn put_tree(&self, tree: &Tree) -> Result<Digest> {
        let _ = tree;
        unimplemented!()
    }

    /// Loads a tree and checks it against its digest.
    pub fn tree(&self, digest: &Digest) -> Result<Tree> {
        let _ = digest;
        unimplemented!()
    }

    /// Whether the tree is there.
    #[must_use]
    pub fn has_tree(&self, digest: &Digest) -> bool {
        let _ = digest;
        unimplemented!()
    }

    /// The records under a layer's key, newest first.
    pub fn records(&self, key: &LayerKey) -> Result<Vec<Record>> {
        let _ = key;
        unimplemented!()
    }

    /// Adds a record (durable when this returns); it replaces an older one with equal inputs.
    pub fn add_record(&self, key: &LayerKey, record: &Record) -> Result<()> {
        let _ = (key, record);
        unimplemented!()
    }

    /// Takes the exclusive lock `name` (a kernel lock on `<store>/locks/<name>`), waiting as long as
    /// `timeout` (`None`: for ever). `waiting` is called once with the holder when it has to wait,
    /// and `cancelled` is asked while waiting.
    pub fn lock(
        &self,
        name: &str,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Lock> {
        let _ = (name, timeout, waiting, cancelled);
        unimplemented!()
    }

    /// A fresh private directory under `<store>/staging`, held by a kernel lock and removed on drop
    /// (or swept by a later process if this one dies).
    pub fn staging(&self, purpose: &str) -> Result<Staging> {
        let _ = purpose;
        unimplemented!()
    }
}
