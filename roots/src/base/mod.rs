//! Where roots come from: RPM repositories, Debian, archives.
//! (A base of source `root` is another root's tree; the engine needs no builder for it.)

use std::fmt;
use std::path::{Path, PathBuf};

use rootbuild_cache::{LayerKey, Store};

use crate::cancel::{Cancel, Cancelled};
use crate::process::ProcessError;
use crate::progress::StepSink;
use crate::sandbox::SandboxError;

pub mod archive;
pub mod check;
pub mod debian;
mod download;
mod fetch;
pub mod holdings;
mod inroot;
mod lock_file;
mod mirror;
mod relock;
pub mod repos;
pub mod rpm;

pub use archive::{ArchiveBase, ArchiveError};
pub use debian::{DebianBase, DebianError};
pub use download::{DownloadError, RepoAt};
pub use mirror::{Mirror, NoMirror};
pub use relock::{LockState, LockWritten, PackageChange, Relocked, Stale, Update};
pub use rpm::{RpmBase, RpmError};

/// A line of a file, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when it is the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// A base couldn't be made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The definition, or a file it names, is wrong.
    #[error("{place}: {message}")]
    Definition {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A tool of the host is missing.
    #[error("`{program}` isn't installed on this host")]
    Tool {
        /// The tool, or a library it needs.
        program: &'static str,
        /// The Debian package it comes in.
        package: &'static str,
    },
    /// Installing a base needs root.
    #[error("installing a base needs root privileges")]
    NotRoot,
    /// A file couldn't be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A base from RPM repositories.
    #[error(transparent)]
    Rpm(#[from] RpmError),
    /// A base from a Debian archive.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// A base from a tar archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It can't be had without the network, which may not be used.
    #[error("{message}")]
    Offline {
        /// What is missing.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A tool of the host failed.
    #[error(transparent)]
    Process(ProcessError),
    /// A sandbox couldn't be run.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// An operating-system call failed on a path.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BaseError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Definition { hint, .. } => hint.clone(),
            Self::Tool { package, .. } => Some(format!("apt-get install {package}")),
            Self::Offline { hint, .. } => Some(hint.clone()),
            Self::NotRoot => Some("run it as root, e.g. with `sudo`".to_owned()),
            Self::Download(error) => Some(error.hint()),
            Self::Rpm(error) => error.hint(),
            Self::Debian(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::Sandbox(error) => error.hint(),
            Self::Process(_) | Self::Io { .. } | Self::Cancelled(_) => None,
        }
    }

    /// Whether the definition (or a file it names) is wrong, rather than the world.
    #[must_use]
    pub fn is_definition_error(&self) -> bool {
        matches!(self, Self::Definition { .. })
    }

    /// Whether this is the end of cancelled work, not a failure.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Wraps an I/O error with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// A definition error about a file as a whole.
    pub(crate) fn file(file: &Path, message: impl Into<String>) -> Self {
        let place = Place { file: file.to_owned(), line: 0 };
        Self::Definition { place, message: message.into(), hint: None }
    }
}

impl From<ProcessError> for BaseError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            other => Self::Process(other),
        }
    }
}

impl From<SandboxError> for BaseError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            other => Self::Sandbox(other),
        }
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
    /// Whether the network may not be used: what isn't in the store or in a file is an error.
    pub offline: bool,
    /// Has what well-known hosts have.
    pub mirror: Option<&'a Mirror>,
}

impl BaseContext<'_> {
    /// Where to get what is at `url`.
    fn mirrored(&self, url: &str) -> String {
        self.mirror.map_or_else(|| url.to_owned(), |mirror| mirror.of(url).into_owned())
    }
}

/// A source of base trees.
pub trait BaseSource: Send + Sync {
    /// The layer key: everything that decides the result, contents of named files included. Cheap;
    /// needs no network and no privileges. Checks that the named files exist and make sense.
    ///
    /// `build` may change it: it writes the lock file where one is named and not there yet. The record
    /// then belongs under the key as it is afterwards.
    fn key(&self) -> Result<LayerKey, BaseError>;

    /// The key without the lock file, which `build` may write, from the named files as they are now. Where it
    /// is another than before [`key`](Self::key) was asked, somebody changed a file meanwhile: what was
    /// built belongs under no key.
    fn inputs_key(&self) -> Result<LayerKey, BaseError> {
        self.key()
    }

    /// What people must hear every time the base is used, built anew or not: checks that are switched off.
    /// [`build`](Self::build) tells it itself.
    fn warnings(&self) -> Result<Vec<String>, BaseError> {
        Ok(Vec::new())
    }

    /// Installs the base into `root`, an empty directory. Returns facts for the record (package
    /// list with digests, repositories), a JSON object.
    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError>;
}

/// The contents of a file that the definition names.
pub(crate) fn named_file(path: &Path, what: &str) -> Result<Vec<u8>, BaseError> {
    std::fs::read(path).map_err(|error| BaseError::file(path, format!("can't read {what}: {error}")))
}
