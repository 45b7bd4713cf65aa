//! What can go wrong between us and systemd.

use rootbuild_roots::publish::PublishError;
use rootbuild_roots::units::InstallError;

/// Units couldn't be handed to systemd, or be asked for.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    /// Process 1 is something else.
    #[error("this machine isn't run by systemd: process 1 is `{name}`")]
    NotSystemd {
        /// What it calls itself.
        name: String,
    },
    /// There is no system bus, or it doesn't let us in.
    #[error("can't reach systemd over the system's D-Bus")]
    Bus(#[source] zbus::Error),
    /// systemd said no.
    #[error("systemd doesn't {action} `{unit}`")]
    Refused {
        /// What was asked for, as a verb.
        action: &'static str,
        /// Of which unit.
        unit: String,
        /// What it said.
        source: zbus::Error,
    },
    /// systemd went away, or the bus did.
    #[error("the connection to systemd was lost")]
    Lost,
    /// Units couldn't be put in their place.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A file or directory couldn't be read or written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: std::path::PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What is to run can't be said.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The work was cancelled; systemd goes on with what it was asked for.
    #[error(transparent)]
    Cancelled(#[from] rootbuild_roots::Cancelled),
}

impl HandoffError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotSystemd { .. } => Some(
                "roots run as units of a systemd that is process 1; `rootbuild units ROOT` prints them for another host",
            ),
            Self::Bus(_) => {
                Some("`systemctl start dbus.socket` starts the bus (package dbus, or dbus-broker)")
            }
            _ => None,
        }
    }

    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
