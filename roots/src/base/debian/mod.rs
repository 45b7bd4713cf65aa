//! A base from a Debian archive.

use std::path::{Path, PathBuf};

use rootbuild_cache::LayerKey;

use super::{BaseContext, BaseError, BaseSource};

/// A base couldn't be made from a Debian archive.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {}
impl DebianError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match *self {}
    }
}

/// A base from a Debian archive, by mmdebstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianBase {
    /// The suite ("bookworm").
    pub suite: String,
    /// Packages beyond those of the variant.
    pub packages: Vec<String>,
    /// The archive's URL; `None`: as the host's own apt sources say, or mmdebstrap's default.
    pub mirror: Option<String>,
    /// Components; empty: `main`.
    pub components: Vec<String>,
    /// mmdebstrap's variant; `None`: `minbase`.
    pub variant: Option<String>,
    /// The keyring (file or directory) that the archive is checked with; `None`: the host's.
    pub keyring: Option<PathBuf>,
}

impl BaseSource for DebianBase {
    fn key(&self) -> Result<LayerKey, BaseError> {
        unimplemented!()
    }
    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        let _ = (context, root);
        unimplemented!()
    }
}
