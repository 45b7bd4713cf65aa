//! How a root stands, as far as whoever asks may know.

use std::io;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::publish::{self, PublishError, Published};

use crate::definition::Definition;
use crate::generation;
use crate::render::Report;

/// A root as it stands now.
#[derive(Debug)]
pub(super) struct Current {
    /// Its tree.
    pub(super) tree: Digest,
    /// `<store>/roots/<name>`.
    pub(super) path: PathBuf,
    /// The directory that the path stands for; `None` where only root may know.
    pub(super) checkout: Option<PathBuf>,
    /// When it got this tree, RFC 3339 in UTC.
    pub(super) created: String,
}

/// How root `name` stands; `None`: it isn't provisioned yet.
///
/// # Errors
/// The store can't be read.
pub(super) fn current(store: &Store, definition: &Definition, name: &str) -> Result<Option<Current>, Report> {
    match publish::current(store, name) {
        Ok(published) => Ok(published.map(Current::from)),
        // Checkouts are closed to all but root; what the last provision noted isn't.
        Err(PublishError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let path = store.dir().join("roots").join(name);
            let noted = generation::newest(store, &definition.path)
                .and_then(|mut generation| generation.roots.remove(name))
                .filter(|_| path.symlink_metadata().is_ok());
            let Some(noted) = noted else { return Ok(None) };
            if is_newer(&path, &noted.created) {
                let message = format!(
                    "root `{name}` was handed over by another definition: only root can tell its tree"
                );
                return Err(Report::failed(message).hint("run it with sudo"));
            }
            Ok(Some(Current { tree: noted.tree, path, checkout: None, created: noted.created }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a link was made after `noted`; one that can't be told isn't.
fn is_newer(link: &Path, noted: &str) -> bool {
    let made = link.symlink_metadata().and_then(|link| link.modified()).map(jiff::Timestamp::try_from);
    match (made, noted.parse::<jiff::Timestamp>()) {
        (Ok(Ok(made)), Ok(noted)) => made > noted,
        _ => false,
    }
}

impl From<Published> for Current {
    fn from(published: Published) -> Self {
        let Published { name: _, tree, path, checkout, created } = published;
        Self { tree, path, checkout: Some(checkout), created }
    }
}
