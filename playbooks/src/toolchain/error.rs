//! What can go wrong with a toolchain.

use std::io;
use std::path::PathBuf;

use rootbuild_roots::process::ProcessError;

use super::PINNED;

/// A toolchain couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The version isn't pinned here, and the definition brings no requirements for it.
    #[error("ansible-core `{version}` isn't known; pinned versions are {}", PINNED.join(", "))]
    Unknown {
        /// The version asked for.
        version: String,
    },
    /// The project's requirements file can't be used.
    #[error("`{}` can't be used for ansible-core {version}: {problem}", path.display())]
    Requirements {
        /// The file.
        path: PathBuf,
        /// The version asked for.
        version: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No Python on the host fits.
    #[error("ansible-core {version} needs Python {needed} on this host; {found}")]
    NoPython {
        /// The ansible-core version.
        version: String,
        /// The Python versions it runs on.
        needed: String,
        /// What there is.
        found: String,
    },
    /// The host's Python can't make virtual environments.
    #[error("`{}` can't make virtual environments", python.display())]
    NoVenv {
        /// The interpreter.
        python: PathBuf,
        /// The Debian package with what is missing.
        package: String,
    },
    /// pip or venv failed.
    #[error("can't install ansible-core {version}")]
    Install {
        /// The version.
        version: String,
        /// What failed, with the last lines of its output.
        source: ProcessError,
    },
    /// What was installed isn't what was asked for.
    #[error("the installed ansible-core isn't {version}: {found}")]
    Wrong {
        /// The version asked for.
        version: String,
        /// What `ansible-playbook --version` said.
        found: String,
    },
    /// An operating-system call failed on a path.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] rootbuild_roots::Cancelled),
}

impl ToolchainError {
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { version } => format!(
                "use a pinned version, or pin it yourself: `echo ansible-core=={version} | uv pip compile \
                 --universal --generate-hashes - > requirements.txt` and `requirements = \"requirements.txt\"` \
                 in [ansible]"
            ),
            Self::Requirements { version, .. } => format!(
                "make it with `echo ansible-core=={version} | uv pip compile --universal --generate-hashes -`"
            ),
            Self::NoPython { .. } => "install one of these versions, with its venv module".to_owned(),
            Self::NoVenv { package, .. } => format!("apt-get install {package}"),
            Self::Install { .. } => {
                "pip uses its own configuration (pip.conf, PIP_INDEX_URL): check that the index can be reached"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// Whether the definition (or a file it names) is wrong, rather than the world.
    #[must_use]
    pub fn is_definition_error(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Requirements { .. })
    }
}
