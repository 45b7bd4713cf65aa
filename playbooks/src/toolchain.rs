//! Managed ansible-core installations: one venv per version, shared by all projects.

use std::path::{Path, PathBuf};

use rootbuild_cache::Store;
use rootbuild_roots::{Cancel, StepSink};

/// The ansible-core versions that are pinned in this crate, oldest first.
pub const PINNED: &[&str] = &["2.16.19", "2.19.14"];

/// An installed ansible-core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// `bin/ansible-playbook` lies below.
    pub dir: PathBuf,
    /// The version.
    pub version: String,
}

/// A toolchain couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    // variants by the implementation
}

/// Text that goes into every playbook layer's key: the version and the digest of its requirements.
/// `requirements` is the project's own hash-pinned file, if the definition names one. Cheap.
pub fn identity(version: &str, requirements: Option<&Path>) -> Result<String, ToolchainError> {
    let _ = (version, requirements);
    unimplemented!()
}

/// The installed toolchain, installing it first if need be (once, under a lock, by rename).
pub fn ensure(
    store: &Store,
    version: &str,
    requirements: Option<&Path>,
    cancel: &Cancel,
    sink: StepSink<'_>,
) -> Result<Toolchain, ToolchainError> {
    let _ = (store, version, requirements, cancel, sink);
    unimplemented!()
}
