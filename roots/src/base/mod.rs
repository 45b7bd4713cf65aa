//! Where roots come from: RPM repositories, Debian, archives.
//! (A base of source `root` is another root's tree; the engine needs no builder for it.)

use std::path::Path;

use rootbuild_cache::{LayerKey, Store};

use crate::cancel::Cancel;
use crate::progress::StepSink;

pub mod archive;
pub mod debian;
pub mod rpm;

/// A base couldn't be made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    // variants by the implementation; each message names file/line or repository/package,
    // `hint()` says what to do next
}

impl BaseError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }

    /// Whether the definition (or a file it names) is wrong, rather than the world.
    #[must_use]
    pub fn is_definition_error(&self) -> bool {
        false
    }
}

/// What a base is given to work with.
#[derive(Clone, Copy)]
pub struct BaseContext<'a> {
    /// The store (downloads are kept there by digest).
    pub store: &'a Store,
    /// Cancellation.
    pub cancel: &'a Cancel,
    /// Where to tell what is being done; `StepEvent::Line` for the log.
    pub sink: StepSink<'a>,
    /// A private directory for temporary files, on the store's file system.
    pub scratch: &'a Path,
}

/// A source of base trees.
pub trait BaseSource: Send + Sync {
    /// The layer key: everything that decides the result, contents of named files included. Cheap;
    /// needs no network and no privileges. Checks that the named files exist and make sense.
    fn key(&self) -> Result<LayerKey, BaseError>;

    /// Installs the base into `root`, an empty directory. Returns facts for the record (package
    /// list with digests, repositories), a JSON object.
    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError>;
}
