//! Why a root couldn't be made.

use std::path::PathBuf;
use std::sync::Arc;

use rootbuild_playbooks::inputs::InputsError;
use rootbuild_playbooks::run::RunError;
use rootbuild_playbooks::toolchain::ToolchainError;
use rootbuild_roots::Cancelled;
use rootbuild_roots::base::BaseError;
use rootbuild_roots::publish::PublishError;
use rootbuild_roots::working::WorkingError;

/// Why a step couldn't be done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The base couldn't be made.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The playbook failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// ansible-core couldn't be had.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The project couldn't be read.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// The step's directory couldn't be prepared or captured.
    #[error(transparent)]
    Working(#[from] WorkingError),
    /// The finished root couldn't be handed over.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// The root that this one stands on couldn't be made.
    #[error("it stands on root `{0}`, which failed")]
    Dependency(String),
    /// Cancelled by a signal.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl StepError {
    /// Whether this is only the echo of a cancellation.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Store(rootbuild_cache::Error::Cancelled { .. }))
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base(error) => error.hint(),
            _ => None,
        }
    }
}

/// Why a root couldn't be made, and where.
#[derive(Debug, Clone)]
pub struct RootFailure {
    /// The root.
    pub root: String,
    /// The step, if it was one.
    pub step: Option<String>,
    /// Why. Shared, since one layer can fail for several roots.
    pub error: Arc<StepError>,
    /// The log to read, if there is one.
    pub log: Option<PathBuf>,
    /// Whether the failed root was kept for `rootbuild shell --failed`.
    pub kept: bool,
}
