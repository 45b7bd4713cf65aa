//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::lock::Holder;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operating-system call failed on a path.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb ("open", "write").
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store was written by a newer (or foreign) version.
    #[error("the store `{}` has format {found}, this rootbuild knows {known}", path.display())]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// What its `format` file says.
        found: String,
        /// The format this crate writes.
        known: u32,
    },
    /// A directory that was to be the store holds something else.
    #[error("`{}` is not empty, and not a store", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// A directory whose path isn't UTF-8 was to be the store: JSON and some of the tools that are run can't
    /// name it.
    #[error("the store's path `{}` isn't UTF-8", path.display())]
    NotText {
        /// The directory.
        path: PathBuf,
    },
    /// Something was to be written to a store that was opened for reading.
    #[error("the store `{}` was opened for reading only", path.display())]
    ReadOnly {
        /// The store's directory.
        path: PathBuf,
    },
    /// Entries that make no tree.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// Something in the store is not what its name says.
    #[error("the store is damaged: {what} in `{}`", path.display())]
    Damaged {
        /// What is wrong.
        what: String,
        /// Where.
        path: PathBuf,
    },
    /// Less of the store's file system is free than has to stay free.
    #[error(
        "too little space: only {} are free on the file system of `{}`, and {} ({floor}) have to stay free",
        crate::space::size(*free),
        path.display(),
        crate::space::size(*least)
    )]
    NoRoom {
        /// The store's directory, or that of its checkouts.
        path: PathBuf,
        /// How many bytes are free.
        free: u64,
        /// How many have to be.
        least: u64,
        /// Why that many.
        floor: crate::space::Floor,
    },
    /// Something that was asked for isn't in the store.
    #[error("{what} is not in the store")]
    Missing {
        /// What was asked for ("object b3:…").
        what: String,
    },
    /// A lock wasn't had in time.
    #[error("waited {waited_seconds} s for the lock on {what}, held by {holder}")]
    LockTimeout {
        /// What the lock is on.
        what: String,
        /// The holder, as far as known.
        holder: Holder,
        /// How long was waited, in seconds.
        waited_seconds: u64,
    },
    /// The wait for a lock was cancelled by the caller.
    #[error("cancelled while waiting for the lock on {what}")]
    Cancelled {
        /// What the lock is on.
        what: String,
    },
}

impl Error {
    /// Wraps an I/O error with what was tried on which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
