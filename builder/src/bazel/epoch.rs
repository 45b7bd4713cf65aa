//! The epoch: a file that is another one after the store lost what references name.
//!
//! It is an input of every action of the rules, so Bazel asks again for each root when a store is new, or was collected
//! by force, instead of believing in references of roots that are gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Result, Store, durable};

/// Where a store has it.
#[must_use]
pub fn path(store_dir: &Path) -> PathBuf {
    store_dir.join("bazel").join("epoch")
}

/// Makes it, where there is none yet.
pub fn ensure(store: &Store) -> Result<()> {
    match path(store.dir()).symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => renew(store),
        _ => Ok(()),
    }
}

/// Makes it another one.
pub fn renew(store: &Store) -> Result<()> {
    let path = path(store.dir());
    let dir = durable::parent(&path);
    fs::create_dir_all(dir).map_err(rootbuild_cache::Error::io("create", dir))?;
    let now = format!("{} {}", jiff::Timestamp::now(), std::process::id());
    durable::write_atomic(&path, format!("{}\n", Digest::of(now.as_bytes())).as_bytes(), 0o644)
}
