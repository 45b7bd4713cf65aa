//! Kernel locks: flock on a file, gone with the process that held it.

use std::fs::File;

/// Who holds a lock, as far as the lock file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// What the holder said it was doing, maybe empty.
    pub what: String,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}
