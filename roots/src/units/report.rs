//! What became of what can't be taken over as it is.

use std::fmt;

/// How much a report matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nobody misses it: the host does it, or it makes no difference.
    Note,
    /// Something that the root asks for won't be there, or will be otherwise.
    Warning,
}

impl Level {
    /// Its name, as `--json` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// A line of a file in the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as a path in the root.
    pub file: String,
    /// The line, from 1; 0 means the file as a whole (a link).
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// What couldn't be taken over as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// A unit that is enabled in the root gets none on the host.
    NotLifted {
        /// Why.
        reason: String,
    },
    /// A unit doesn't depend on another one any more.
    DependencyDropped {
        /// How it did.
        setting: String,
        /// On which.
        on: String,
        /// Why.
        reason: String,
    },
    /// A setting is left out.
    SettingDropped {
        /// Which.
        setting: String,
        /// Why.
        reason: String,
    },
    /// A setting means something else than it would on a machine of the root's own.
    Changed {
        /// Which.
        setting: String,
        /// What it means now.
        reason: String,
    },
    /// A line or file that systemd wouldn't understand either.
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// An init script that no unit stands for.
    Sysv,
    /// Something that makes units when a machine boots.
    Generator {
        /// What became of it.
        reason: String,
    },
}

impl Finding {
    /// Its name, as `--json` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLifted { .. } => "not-lifted",
            Self::DependencyDropped { .. } => "dependency-dropped",
            Self::SettingDropped { .. } => "setting-dropped",
            Self::Changed { .. } => "changed",
            Self::Malformed { .. } => "malformed",
            Self::Sysv => "sysv",
            Self::Generator { .. } => "generator",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLifted { reason } => write!(f, "isn't taken over: {reason}"),
            Self::DependencyDropped { setting, on, reason } => {
                write!(f, "`{setting}={on}` is left out: {reason}")
            }
            Self::SettingDropped { setting, reason } => write!(f, "`{setting}` is left out: {reason}"),
            Self::Changed { setting, reason } => write!(f, "`{setting}`: {reason}"),
            Self::Malformed { reason } | Self::Generator { reason } => f.write_str(reason),
            Self::Sysv => f.write_str("isn't taken over: an init script, and no unit stands for it"),
        }
    }
}

/// A finding, and where it was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Report {
    /// The unit, by its name in the root; what isn't a unit is named by its path there.
    pub unit: String,
    /// The file that says so.
    pub place: Option<Place>,
    /// What was found.
    pub finding: Finding,
    /// How much it matters.
    pub level: Level,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.unit)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, " {}", self.finding)
    }
}
