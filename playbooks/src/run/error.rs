//! Why a playbook run failed.

use std::io;
use std::path::{Path, PathBuf};

use rootbuild_roots::Cancelled;
use rootbuild_roots::sandbox::SandboxError;
use rootbuild_roots::working::WorkingError;

/// A playbook run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A task failed, and nothing rescued it.
    #[error("task `{task}` failed ({source_line})\n{detail}")]
    TaskFailed {
        /// Its name, with the role's before it.
        task: String,
        /// `file:line` of the task, relative to the project where possible.
        source_line: String,
        /// Message and output; nothing of a `no_log` result.
        detail: String,
    },
    /// No play of the playbook is for the root's host.
    #[error("no play in `{}` is for host `{host}`", playbook.display())]
    NoPlayMatched {
        /// The playbook.
        playbook: PathBuf,
        /// The host.
        host: String,
        /// What the plays are for.
        plays: Vec<String>,
    },
    /// The inventory doesn't know the root's host.
    #[error("the inventory has no host `{host}`")]
    UnknownHost {
        /// The host.
        host: String,
        /// The host that was meant, most likely.
        nearest: Option<String>,
        /// All that it has.
        known: Vec<String>,
    },
    /// The root's host is a group of the inventory.
    #[error("`{group}` is a group of the inventory, not a host; its hosts are {}", names(hosts))]
    HostIsGroup {
        /// The group.
        group: String,
        /// The hosts that are in it.
        hosts: Vec<String>,
    },
    /// The host's name can't be given to Ansible.
    #[error("`{host}` can't be the name of an inventory host: it is a pattern")]
    HostPattern {
        /// The name.
        host: String,
    },
    /// A variable is given that decides where tasks run.
    #[error("`{name}` can't be set: while provisioning, tasks run in the root")]
    ReservedVariable {
        /// The variable.
        name: String,
    },
    /// Ansible ended with an error of its own: the playbook, the inventory or the configuration is wrong.
    #[error("ansible-playbook failed\n{message}")]
    Ansible {
        /// What it said, with file and line where it named them.
        message: String,
    },
    /// Ansible ended well, but didn't say what it did.
    #[error("ansible-playbook ended without running rootbuild's callback plugin")]
    Silent,
    /// There is no Python in the root that modules could run with.
    #[error("root `{root}` has no Python that Ansible could use")]
    NoPython {
        /// The root.
        root: String,
    },
    /// A service was to be started, and the definition says that this is a failure.
    #[error("root `{root}` isn't booted, so these services can't run: {}", list(services))]
    ServicesNotAllowed {
        /// The root.
        root: String,
        /// Names and states.
        services: Vec<(String, String)>,
    },
    /// The root couldn't be made, looked at or captured.
    #[error(transparent)]
    Working(#[from] WorkingError),
    /// The sandbox couldn't be run, or died.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The sandbox started, and nothing more came from it.
    #[error("the sandbox of `{root}` said nothing for {seconds} s and isn't ready\n{tail}")]
    NotReady {
        /// The root.
        root: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last lines on its stderr.
        tail: String,
    },
    /// The agent in the sandbox ended by itself.
    #[error("the sandbox of `{root}` ended while the playbook ran (exit code {code})\n{tail}")]
    SandboxEnded {
        /// The root.
        root: String,
        /// Its exit code.
        code: i32,
        /// The last lines on its stderr.
        tail: String,
    },
    /// A tool of the host couldn't be started.
    #[error("can't start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
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
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl RunError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlayMatched { plays, .. } if plays.is_empty() => "the playbook has no plays".to_owned(),
            Self::NoPlayMatched { plays, .. } => format!(
                "its plays are for {}; set `host` of the root, or take the playbook off its list",
                plays.iter().map(|play| format!("`{play}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::UnknownHost { nearest: Some(nearest), .. } => {
                format!("did you mean `host = \"{nearest}\"`?")
            }
            Self::UnknownHost { nearest: None, known, .. } if known.is_empty() => {
                "the inventory is empty".to_owned()
            }
            Self::HostIsGroup { hosts, .. } => {
                format!("name one of them: `host = \"{}\"`", hosts.first().map_or("", String::as_str))
            }
            Self::UnknownHost { .. } => "`host` of the root must be a host of the inventory".to_owned(),
            Self::NoPython { .. } => {
                "add python3 (or python, for EL7) to the `packages` of its base".to_owned()
            }
            Self::ServicesNotAllowed { .. } => {
                "set `boot = true` for the root, or `services = \"defer\"` to leave them to its units"
                    .to_owned()
            }
            Self::Sandbox(error) => return error.hint(),
            _ => return None,
        })
    }

    /// Whether the run got far enough that what it left is worth a look.
    #[must_use]
    pub fn leaves_something(&self) -> bool {
        let nothing = matches!(self, Self::NoPlayMatched { .. } | Self::Working(_) | Self::Cancelled(_));
        !self.is_definition_error() && !nothing
    }

    /// Whether the definition (or what it names) is wrong, rather than a task or the world.
    #[must_use]
    pub fn is_definition_error(&self) -> bool {
        matches!(
            self,
            Self::UnknownHost { .. }
                | Self::HostIsGroup { .. }
                | Self::HostPattern { .. }
                | Self::ReservedVariable { .. }
        )
    }
}

/// The first few of some names.
fn names(names: &[String]) -> String {
    const MOST: usize = 10;
    let mut shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    shown.join(", ")
}

fn list(services: &[(String, String)]) -> String {
    services.iter().map(|(name, state)| format!("`{name}` ({state})")).collect::<Vec<_>>().join(", ")
}
