//! What a playbook run tells while it works.

use serde::{Deserialize, Serialize};

/// How a task ended on the root's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// Nothing to change.
    Ok,
    /// Something was changed.
    Changed,
    /// A condition was false.
    Skipped,
    /// It failed.
    Failed,
    /// It failed and `ignore_errors` says that this is fine.
    Ignored,
    /// The host couldn't be reached.
    Unreachable,
}

/// One thing that happened in a playbook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// A play starts for the root's host.
    Play {
        /// Its name.
        name: String,
    },
    /// A task or handler starts.
    Task {
        /// Its name, with the role's before it as Ansible shows it ("httpd : install packages").
        name: String,
        /// The module or action.
        action: String,
        /// `file:line` of its source, relative to the project where possible.
        source: String,
        /// Whether it is a handler.
        handler: bool,
    },
    /// A task ended.
    Result {
        /// Its name.
        name: String,
        /// How it ended.
        status: TaskStatus,
        /// Whether the root had no part in it: journals of earlier runs answered.
        replayed: bool,
        /// Seconds it took.
        seconds: f64,
        /// For failures: message and output, ready to be shown; `None` otherwise. Never set from a
        /// `no_log` result's content.
        detail: Option<String>,
        /// `file:line` of the task.
        source: String,
    },
    /// `state: started|restarted|reloaded` met in a root that isn't booted: left to the unit.
    Deferred {
        /// The service.
        service: String,
        /// The wanted state.
        state: String,
    },
    /// What is done now, in a few words.
    Phase {
        /// What.
        text: String,
    },
    /// Something a person must see (Ansible's warnings and deprecations are only logged).
    Warning {
        /// What.
        text: String,
    },
}
