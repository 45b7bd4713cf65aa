//! What there is of a root on this host.

use rootbuild_roots::units::{self, Directories};

use crate::error::HandoffError;
use crate::manager::Manager;
use crate::mounts::mounted;
use crate::status::{Active, UnitStatus};
use crate::up::glob;

/// What there is of a root on this host.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Whether its units are installed.
    pub installed: bool,
    /// Whether they are there at the next boot.
    pub enabled: bool,
    /// The checkout that they run in; `None`: none is mounted.
    pub checkout: Option<u64>,
    /// Since when all of it is up, in microseconds since 1970.
    pub since: Option<u64>,
    /// The bytes that all of it uses; `None` where nobody counts.
    pub memory: Option<u64>,
    /// Its units, sorted by name; without its slice and its target.
    pub units: Vec<UnitStatus>,
    target: Active,
}

impl Survey {
    /// How it is, in a word: `up`, `down`, `starting`, `failed`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let any = |is: fn(&UnitStatus) -> bool| self.units.iter().any(is);
        if any(|it| it.active == Active::Failed || it.is_restarting()) {
            return "failed";
        }
        if any(|it| it.active == Active::Activating) {
            return "starting";
        }
        match self.target {
            Active::Active => "up",
            Active::Activating => "starting",
            _ if any(|it| it.active == Active::Active && it.pid != 0) => "failed",
            _ => "down",
        }
    }
}

/// Looks at the root `name`.
///
/// # Errors
/// systemd can't be asked, or what is installed not be read.
pub async fn survey(manager: &Manager, name: &str) -> Result<Survey, HandoffError> {
    let mut survey = Survey {
        installed: false,
        enabled: false,
        checkout: mounted(name).and_then(|it| it.number),
        since: None,
        memory: None,
        units: Vec::new(),
        target: Active::Inactive,
    };
    let mut patterns = Vec::new();
    for (directories, lasting) in [(Directories::until_boot(), false), (Directories::for_good(), true)] {
        if let Some(snapshot) = units::snapshot(&directories, name)? {
            survey.installed = true;
            survey.enabled |= lasting;
            patterns.extend(snapshot.units().map(glob));
        }
    }
    if patterns.is_empty() {
        return Ok(survey);
    }
    let target = format!("rootbuild-{name}.target");
    let mut names = manager.loaded(&patterns).await?;
    names.sort();
    for unit in names {
        let status = manager.unit(&unit).await?;
        if unit == target {
            survey.target = status.active;
            survey.since = Some(status.since).filter(|since| *since > 0);
        } else if unit.ends_with(".slice") {
            survey.memory = status.memory;
        } else {
            survey.units.push(status);
        }
    }
    Ok(survey)
}
