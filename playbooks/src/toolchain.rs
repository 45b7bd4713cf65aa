//! Managed ansible-core installations: one venv per version, shared by all projects.
//!
//! A toolchain lies in `<store>/toolchains/ansible-core-<version>-<digest of its requirements>`. It is
//! made in staging and published by rename under a kernel lock, so one that is there is complete.

mod error;
pub mod holdings;
mod install;
mod python;
mod requirements;

use std::path::{Path, PathBuf};

use rootbuild_cache::Store;
use rootbuild_roots::{Cancel, StepSink};

pub use error::ToolchainError;
use requirements::Requirements;

/// The ansible-core versions that are pinned in this crate, oldest first.
pub const PINNED: &[&str] = &["2.16.19", "2.17.14", "2.18.19", "2.19.14"];

/// An installed ansible-core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// `bin/ansible-playbook` lies below.
    pub dir: PathBuf,
    /// The version.
    pub version: String,
}

impl Toolchain {
    /// The interpreter that runs it.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.dir.join("bin/python3")
    }

    /// One of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }
}

/// Text that goes into every playbook layer's key: the version and the digest of its requirements.
/// `requirements` is the project's own hash-pinned file, if the definition names one. Cheap.
pub fn identity(version: &str, requirements: Option<&Path>) -> Result<String, ToolchainError> {
    Ok(Requirements::of(version, requirements)?.identity())
}

/// The host's interpreter that a toolchain of this version would be made with. Starts the
/// interpreters it finds, to ask what they are; changes nothing.
pub fn interpreter(version: &str) -> Result<PathBuf, ToolchainError> {
    python::choose(version)
}

/// The toolchain, if it is installed already. Needs no network.
pub fn installed(
    store: &Store,
    version: &str,
    requirements: Option<&Path>,
) -> Result<Option<Toolchain>, ToolchainError> {
    let requirements = Requirements::of(version, requirements)?;
    let toolchain = placed(store, version, &requirements);
    Ok(install::is_usable(&toolchain).then_some(toolchain))
}

/// The toolchain, installed or not.
fn placed(store: &Store, version: &str, requirements: &Requirements) -> Toolchain {
    let dir = store.dir().join("toolchains").join(requirements.directory_name());
    Toolchain { dir, version: version.to_owned() }
}

/// The installed toolchain, installing it first if need be (once, under a lock, by rename).
pub fn ensure(
    store: &Store,
    version: &str,
    requirements: Option<&Path>,
    cancel: &Cancel,
    sink: StepSink<'_>,
) -> Result<Toolchain, ToolchainError> {
    let requirements = Requirements::of(version, requirements)?;
    let toolchain = placed(store, version, &requirements);
    if !install::is_usable(&toolchain) {
        install::install(store, &toolchain, &requirements, cancel, sink)?;
    }
    Ok(toolchain)
}
