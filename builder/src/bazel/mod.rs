//! What the Bazel rules (`bazel/`) hand over and get back. A rule writes a [recipe](recipe), which names every file that
//! the root may read; those are [staged](stage) into a project of their own, which a definition made from the recipe
//! describes; what comes back is a [reference](reference). The [epoch](epoch) tells Bazel that the store lost something.

pub mod epoch;
pub mod recipe;
pub mod reference;
pub mod stage;

pub use recipe::{Recipe, View};
pub use reference::Reference;

use std::io;
use std::path::{Path, PathBuf};

/// What the rules handed over can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BazelError {
    /// A file couldn't be read, written or looked at.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A recipe or reference isn't one that this version knows.
    #[error("`{}` {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody says where files could be staged.
    #[error("`{}` is in no execution root of Bazel", dir.display())]
    NotInBazel {
        /// The working directory.
        dir: PathBuf,
    },
}

impl BazelError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), why: why.into() }
    }
}
