//! A base from a tar archive. To come.

use std::path::{Path, PathBuf};

use rootbuild_cache::LayerKey;

use super::{BaseContext, BaseError, BaseSource};

/// A base couldn't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {}

impl ArchiveError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}

/// A base from a tar archive: plain, gzip, xz or zstd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveBase {
    /// The archive.
    pub file: PathBuf,
    /// What its bytes must hash to, 64 hex digits.
    pub sha256: Option<String>,
    /// How many leading components of member names are dropped.
    pub strip_components: u32,
    /// Whether device nodes are allowed (those below `dev/` are left out silently).
    pub devices: bool,
}

impl BaseSource for ArchiveBase {
    fn key(&self) -> Result<LayerKey, BaseError> {
        unimplemented!()
    }

    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        let _ = (context, root);
        unimplemented!()
    }
}
