//! Private directories for work in progress.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A private directory for work in progress; removed on drop.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    _lock: File,
}

impl Staging {
    /// The directory: empty at first, mode 0700, on the store's file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}
