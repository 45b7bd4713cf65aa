//! Why a root couldn't be made.

use std::path::PathBuf;
use std::sync::Arc;

use rootbuild_cache::Digest;
use rootbuild_playbooks::inputs::InputsError;
use rootbuild_playbooks::run::RunError;
use rootbuild_playbooks::toolchain::ToolchainError;
use rootbuild_roots::Cancelled;
use rootbuild_roots::base::BaseError;
use rootbuild_roots::capture::CaptureError;
use rootbuild_roots::checkout::CheckoutError;
use rootbuild_roots::publish::PublishError;
use rootbuild_roots::sandbox::SandboxError;
use rootbuild_roots::working::WorkingError;

use super::verify::Differs;
use crate::definition::{At, Root};

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
    /// ansible-core would have to be installed from the network, which may not be used.
    #[error("offline, and ansible-core {0} isn't installed in the store")]
    OfflineToolchain(String),
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
    /// What was cached or replayed isn't what running the step whole gives.
    #[error("{0}")]
    Differs(Box<Differs>),
    /// The root that this one stands on couldn't be made.
    #[error("it stands on root `{0}`, which failed")]
    Dependency(String),
    /// The tree that the root is to stand on isn't in the store.
    #[error("the base's tree `{0}` isn't in the store")]
    LostBase(Digest),
    /// Cancelled by a signal.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl StepError {
    /// What it comes down to, whichever crate met it.
    #[must_use]
    pub fn cause(&self) -> Cause<'_> {
        match self {
            Self::Base(BaseError::Sandbox(error)) | Self::Run(RunError::Sandbox(error)) => sandbox(error),
            Self::Run(RunError::Working(error)) | Self::Working(error) => working(error),
            Self::Base(error) if error.is_definition_error() => Cause::Definition,
            Self::Run(error) if error.is_definition_error() => Cause::Definition,
            Self::Toolchain(error) if error.is_definition_error() => Cause::Definition,
            Self::Publish(error) if error.is_definition_error() => Cause::Definition,
            Self::Toolchain(ToolchainError::Store(error))
            | Self::Publish(PublishError::Store(error))
            | Self::Store(error) => store(error),
            Self::Publish(PublishError::Checkout(error)) => checkout(error),
            Self::Base(BaseError::Cancelled(_))
            | Self::Run(RunError::Cancelled(_))
            | Self::Toolchain(ToolchainError::Cancelled(_))
            | Self::Publish(PublishError::Cancelled(_))
            | Self::Cancelled(_) => Cause::Cancelled,
            _ => Cause::Step,
        }
    }

    /// Whether this is only the echo of a cancellation.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.cause(), Cause::Cancelled)
    }

    /// Whether the step got far enough that what it left is worth a look.
    #[must_use]
    pub fn leaves_something(&self) -> bool {
        matches!(self, Self::Run(error) if error.leaves_something())
    }

    /// The place of the definition that has to be changed, if it is one.
    #[must_use]
    pub fn place(&self, root: &Root) -> Option<At> {
        match self {
            Self::Run(
                RunError::UnknownHost { .. } | RunError::HostIsGroup { .. } | RunError::HostPattern { .. },
            ) => Some(root.host.span),
            Self::Run(RunError::ReservedVariable { .. }) => Some(root.span),
            Self::Run(RunError::NoPlayMatched { playbook, .. }) => {
                root.playbooks.iter().find(|named| named.path == *playbook).map(|named| named.span)
            }
            _ => None,
        }
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Toolchain(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::OfflineToolchain(_) => {
                Some("provision once without `--offline`: that installs it for all projects".to_owned())
            }
            Self::LostBase(_) => Some("build what gave it again".to_owned()),
            Self::Differs(differs) => Some(format!(
                "a playbook that doesn't come out the same each time (times, random numbers) is one reason; \
                 `--rebuild {}` builds the layer whole and keeps that",
                differs.step
            )),
            _ => None,
        }
    }
}

/// What the failure of a step comes down to: this decides the exit code.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    /// The definition is wrong, or a file that it names.
    Definition,
    /// The store refused.
    Store(&'a rootbuild_cache::Error),
    /// The store has something else than it should have.
    Damage,
    /// The work was cancelled.
    Cancelled,
    /// The step itself failed.
    Step,
}

fn store(error: &rootbuild_cache::Error) -> Cause<'_> {
    match error {
        rootbuild_cache::Error::Cancelled { .. } => Cause::Cancelled,
        error => Cause::Store(error),
    }
}

fn working(error: &WorkingError) -> Cause<'_> {
    match error {
        WorkingError::Store(error) | WorkingError::Capture(CaptureError::Store(error)) => store(error),
        WorkingError::Checkout(error) => checkout(error),
        WorkingError::Cancelled(_) | WorkingError::Capture(CaptureError::Cancelled(_)) => Cause::Cancelled,
        _ => Cause::Step,
    }
}

fn checkout(error: &CheckoutError) -> Cause<'_> {
    match error {
        CheckoutError::Store(error) => store(error),
        CheckoutError::Length { .. } => Cause::Damage,
        CheckoutError::Cancelled(_) => Cause::Cancelled,
        CheckoutError::Io { .. } | CheckoutError::NotEmpty { .. } => Cause::Step,
    }
}

fn sandbox(error: &SandboxError) -> Cause<'_> {
    if let SandboxError::Cancelled(_) = error { Cause::Cancelled } else { Cause::Step }
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
    /// The root under whose name the failed root was kept for `rootbuild shell --failed`, if it was. Another
    /// one where they share the layer that failed.
    pub kept: Option<String>,
}
