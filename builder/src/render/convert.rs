//! From the errors of every crate to reports: which exit code, which hint.

use std::error::Error as _;
use std::io;

use rootbuild_cache::Error as StoreError;
use rootbuild_playbooks::run::RunError;
use rootbuild_roots::base::BaseError;
use rootbuild_roots::capture::CaptureError;
use rootbuild_roots::publish::PublishError;
use rootbuild_roots::sandbox::{Network, SandboxError};
use rootbuild_roots::working::WorkingError;

use super::Report;
use crate::definition::{Definition, DefinitionError, Diagnostic, Root, SelectError};
use crate::engine::{Cause, RootFailure, StepError};
use crate::exit;
use crate::host::{self, Tool};

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::from(DefinitionError::from(diagnostic))
    }
}

impl From<DefinitionError> for Report {
    fn from(error: DefinitionError) -> Self {
        Self::usage(error.to_string()).diagnostics(error.diagnostics)
    }
}

impl From<SelectError> for Report {
    fn from(error: SelectError) -> Self {
        Self::usage(error.to_string()).hint(error.hint())
    }
}

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        let report = Self::new(store_code(&error), error.to_string());
        let report = match error.source() {
            Some(source) => report.caused_by(source),
            None => report,
        };
        report.hints(store_hint(&error).or_else(|| system_hint(&error)))
    }
}

impl From<WorkingError> for Report {
    fn from(error: WorkingError) -> Self {
        Self::from(StepError::from(error))
    }
}

impl From<PublishError> for Report {
    fn from(error: PublishError) -> Self {
        Self::from(StepError::from(error))
    }
}

impl From<SandboxError> for Report {
    fn from(error: SandboxError) -> Self {
        let hint = sandbox_hint(&error).or_else(|| system_hint(&error));
        let code = if let SandboxError::Cancelled(_) = error { exit::INTERRUPTED } else { exit::FAILED };
        Self::chain(code, &error).hints(hint)
    }
}

impl From<StepError> for Report {
    fn from(error: StepError) -> Self {
        Self::chain(step_code(&error), &error).hints(step_hint(&error))
    }
}

impl Report {
    /// An error and all that it was caused by.
    fn chain(exit_code: u8, error: &(dyn std::error::Error + 'static)) -> Self {
        let report = Self::new(exit_code, error.to_string());
        match error.source() {
            Some(source) => report.caused_by(source),
            None => report,
        }
    }

    fn hints(mut self, hint: Option<String>) -> Self {
        self.0.hints.extend(hint);
        self
    }

    /// Why a step of a root couldn't be done, or be planned.
    #[must_use]
    pub fn from_step(root: &str, step: Option<&str>, error: &StepError) -> Self {
        if let StepError::Base(BaseError::Definition { place, message, hint }) = error {
            // It isn't this root that is wrong, but a file: shown like the definition's own errors.
            let mut diagnostic = Diagnostic::line_of(&place.file, place.line, message);
            diagnostic.hint.clone_from(hint);
            return Self::from(diagnostic);
        }
        let place =
            step.map_or_else(|| format!("root `{root}`"), |step| format!("root `{root}`, step `{step}`"));
        Self::new(step_code(error), format!("{place} failed")).caused_by(error).hints(step_hint(error))
    }

    /// Why the packages of a base couldn't be locked.
    #[must_use]
    pub fn from_lock(base: &str, error: BaseError) -> Self {
        let error = StepError::from(error);
        if let StepError::Base(BaseError::Definition { .. }) = error {
            return Self::from_step("", None, &error);
        }
        let message = format!("base `{base}` can't be locked");
        Self::new(step_code(&error), message).caused_by(&error).hints(step_hint(&error))
    }

    /// Why a root couldn't be made. `sharers` are all roots that failed for the same reason.
    #[must_use]
    pub fn from_failure(failure: &RootFailure, sharers: &[&str], definition: &Definition) -> Self {
        let error = failure.error.as_ref();
        if let StepError::Dependency(_) = error {
            // The root below tells why; this one only follows.
            return Self::failed(format!("root `{}` wasn't built: {error}", failure.root));
        }
        let root = definition.root(&failure.root);
        let mut report = match root.and_then(|root| error.place(root)) {
            Some(place) => {
                let message = format!("root `{}`: {error}", failure.root);
                let mut diagnostic = definition.diagnostic(place, message.as_str());
                diagnostic.hint = step_hint(error);
                Self::new(step_code(error), message).diagnostics(vec![diagnostic])
            }
            None => Self::from_step(&failure.root, failure.step.as_deref(), error),
        };
        let others: Vec<String> =
            sharers.iter().filter(|name| **name != failure.root).map(|name| format!("`{name}`")).collect();
        if !others.is_empty() {
            report = report.note("also needed by", others.join(", "));
        }
        report = report.hints(root.and_then(|root| network_hint(root, error)));
        if let Some(log) = &failure.log {
            report = report.note("log", log.display().to_string());
        }
        // What Ansible itself refuses (a syntax error, a role that isn't there) isn't to be found in the root.
        if let Some(kept) = &failure.kept
            && !matches!(error, StepError::Run(RunError::Ansible { .. }))
        {
            report = report.hint(format!("look around in it with `rootbuild shell --failed {kept}`"));
        }
        report
    }
}

/// The exit code for what went wrong with a store.
fn store_code(error: &StoreError) -> u8 {
    match error {
        StoreError::Damaged { .. } | StoreError::Missing { .. } => exit::STORE_DAMAGED,
        StoreError::LockTimeout { .. } => exit::LOCK_TIMEOUT,
        StoreError::Cancelled { .. } => exit::INTERRUPTED,
        StoreError::NotAStore { .. } | StoreError::NotText { .. } | StoreError::Format { .. } => exit::USAGE,
        _ => exit::FAILED,
    }
}

fn store_hint(error: &StoreError) -> Option<String> {
    match error {
        StoreError::Format { .. } => {
            Some("use the rootbuild that wrote it, or another store with `--store`".to_owned())
        }
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
            Some("name a directory with `--store`".to_owned())
        }
        StoreError::NotText { .. } => Some("name another directory with `--store`".to_owned()),
        StoreError::NotAStore { .. } => Some("name an empty or new directory with `--store`".to_owned()),
        StoreError::LockTimeout { holder, .. } if holder.pid != 0 => Some(format!(
            "`ps -fp {}` shows who holds it; a longer `--lock-timeout` waits for it",
            holder.pid
        )),
        StoreError::Damaged { .. } => Some(
            "`rootbuild cache fsck` tells all that is damaged, and `--repair` puts right what can be"
                .to_owned(),
        ),
        StoreError::NoRoom { .. } => Some(
            "remove something there, with `rootbuild cache gc` or by hand; `--min-free` sets another floor"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The exit code for a step that couldn't be done.
fn step_code(error: &StepError) -> u8 {
    match error.cause() {
        Cause::Definition => exit::USAGE,
        Cause::Store(error) => store_code(error),
        Cause::Damage => exit::STORE_DAMAGED,
        Cause::Cancelled => exit::INTERRUPTED,
        Cause::Step => exit::FAILED,
    }
}

fn step_hint(error: &StepError) -> Option<String> {
    match error {
        StepError::Base(BaseError::Sandbox(error)) | StepError::Run(RunError::Sandbox(error)) => {
            return sandbox_hint(error).or_else(|| system_hint(error));
        }
        _ => {}
    }
    if let StepError::Inputs(_) = error {
        return Some("whoever plans or provisions must be able to read the whole Ansible project".to_owned())
            .filter(|_| is_denied(error));
    }
    if let StepError::Run(RunError::Ansible { message }) = error
        && message.contains("no vault secrets")
    {
        return Some(
            "name the file with the right password: `vault_password_file` in `[ansible]`, or in ansible.cfg"
                .to_owned(),
        );
    }
    let of_store = || if let Cause::Store(error) = error.cause() { store_hint(error) } else { None };
    error.hint().or_else(of_store).or_else(|| system_hint(error))
}

fn sandbox_hint(error: &SandboxError) -> Option<String> {
    match error {
        // Packages have other names elsewhere.
        SandboxError::NotFound { program: "systemd-nspawn", .. } => Some(host::install(Tool::Nspawn)),
        SandboxError::NotFound { .. } => Some(host::install(Tool::UtilLinux)),
        error => error.hint(),
    }
}

/// Whether an error comes down to missing permissions.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// What a playbook says that looks for a network where there is none.
const NO_NETWORK: &[&str] = &[
    "urlopen error",
    "Could not resolve host",
    "Temporary failure",
    "Name or service not known",
    "Network is unreachable",
    "Failed to download metadata",
    "Cannot download",
    "Cannot find a valid baseurl",
    "Failed to update apt cache",
    "Unable to fetch",
];

/// What helps a task that wants a network which its root doesn't have.
fn network_hint(root: &Root, error: &StepError) -> Option<String> {
    let StepError::Run(RunError::TaskFailed { detail, .. }) = error else { return None };
    let wants = root.network == Network::None && NO_NETWORK.iter().any(|words| detail.contains(words));
    wants.then(|| {
        format!(
            "`{}` has no network while it is provisioned: set `network = \"repos\"` (packages of declared repositories) or \
             `network = \"host\"` in `[root.{0}]`",
            root.name
        )
    })
}

/// What helps against errors of the operating system, wherever they are met.
fn system_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(CaptureError::Limit(exceeded)) = error.downcast_ref() {
            return Some(exceeded.hint());
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space (`rootbuild cache gc`), or name a store on a larger file system with `--store`".to_owned())
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("name a store that can be written with `--store`".to_owned())
                }
                io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
                    Some("run it as root, or name a store of your own with `--store`".to_owned())
                }
                _ => None,
            };
        }
        next = error.source();
    }
    None
}
