//! What can go wrong with a Debian base.

use super::super::Place;

/// A locked package that the archive doesn't have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The package.
    pub package: String,
    /// Its repository.
    pub repo: String,
    /// The line that says where it comes from.
    pub place: Place,
    /// Where it was looked for.
    pub urls: Vec<String>,
    /// A mirror that has what the archive had.
    pub snapshot: String,
}

/// A Debian base couldn't be installed.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// The mirror doesn't have the suite.
    #[error("there is no suite `{suite}` at {mirror}")]
    Suite {
        /// The suite.
        suite: String,
        /// The mirror's URL.
        mirror: String,
    },
    /// The suite doesn't have a component.
    #[error("the suite `{suite}` has no component `{component}`")]
    Component {
        /// The suite.
        suite: String,
        /// The component.
        component: String,
    },
    /// The mirror can't be reached.
    #[error("can't reach the mirror: {message}")]
    Unreachable {
        /// What apt says, with the URL.
        message: String,
    },
    /// The suite doesn't have these packages.
    #[error("the suite `{suite}` has no {}", list(packages))]
    Packages {
        /// The suite.
        suite: String,
        /// The packages, as they were asked for.
        packages: Vec<String>,
    },
    /// A string that can't be a name of what it should be, and might be taken for something else.
    #[error("`{0}` can't be the name of a package, suite or component")]
    Name(String),
    /// What a mirror says isn't signed by a key that is trusted.
    #[error("the mirror can't be trusted: {message}")]
    Untrusted {
        /// What apt says.
        message: String,
        /// The keyring of the base, if it has its own.
        keyring: Option<String>,
    },
    /// What a mirror says is signed, but too old.
    #[error("the mirror is out of date: {0}")]
    Expired(String),
    /// Packages can't be installed together.
    #[error("the packages can't be installed together\n{0}")]
    Conflict(String),
    /// A package's own script, or dpkg, failed.
    #[error("can't install the packages\n{0}")]
    Install(String),
    /// The archive doesn't have a locked package any more.
    #[error("{}: the package {} of the repository `{}` is gone from {}", .0.place, .0.package, .0.repo, .0.urls.join(", "))]
    Gone(Box<Gone>),
    /// A package isn't what the lock says.
    #[error("the package {package} isn't what it should be: {problem}")]
    Strange {
        /// The package.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What was installed isn't what is locked.
    #[error(
        "what was installed isn't what is locked{}{}",
        named("missing", missing),
        named("not locked", strange)
    )]
    NotAsLocked {
        /// Packages that are locked and not installed.
        missing: Vec<String>,
        /// Packages that are installed and not locked.
        strange: Vec<String>,
    },
    /// The disk is full.
    #[error("there is no room for the packages on the store's file system")]
    Full,
    /// Anything else.
    #[error("mmdebstrap failed\n{0}")]
    Failed(String),
}

fn named(what: &str, packages: &[String]) -> String {
    if packages.is_empty() { String::new() } else { format!("; {what}: {}", packages.join(", ")) }
}

fn list(packages: &[String]) -> String {
    let quoted: Vec<_> = packages.iter().map(|package| format!("`{package}`")).collect();
    let what = if packages.len() == 1 { "package" } else { "packages" };
    format!("{what} {}", quoted.join(", "))
}

impl DebianError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Suite { suite, .. } if super::sources::is_archived(suite) => {
                "old releases are at http://archive.debian.org/debian: name it as the base's `mirror`".to_owned()
            }
            Self::Suite { .. } => "check the spelling of `suite`, or name a `mirror` that has it".to_owned(),
            Self::Component { .. } => {
                "Debian's are `main`, `contrib`, `non-free`, `non-free-firmware` (from bookworm on)".to_owned()
            }
            Self::Unreachable { .. } => {
                "check the network and the proxy (`http_proxy`), or name another `mirror` in the base".to_owned()
            }
            Self::Packages { .. } => {
                "check the spelling at https://packages.debian.org; it may be in another of the `components`"
                    .to_owned()
            }
            Self::Name(_) => "write one name per string: `[\"a\", \"b\"]`".to_owned(),
            Self::Untrusted { keyring: Some(keyring), .. } => {
                format!("`{keyring}` doesn't hold the key that signs the suite")
            }
            Self::Untrusted { keyring: None, .. } => {
                "apt-get install debian-archive-keyring, or name the `keyring` that signs the suite in the base"
                    .to_owned()
            }
            Self::Expired(_) => "use another mirror, or check this machine's clock".to_owned(),
            Self::Gone(gone) => format!(
                "add a mirror that keeps everything, `mirror = \"{}\"`, or take what there is now: \
                 `rootbuild lock --update`",
                gone.snapshot
            ),
            Self::Strange { .. } => "don't use the lock before you know who changed it".to_owned(),
            Self::NotAsLocked { .. } => {
                "take what the archive has now: `rootbuild lock --update`; if that doesn't help, please report it".to_owned()
            }
            Self::Full => "make room, e.g. with `rootbuild cache gc`".to_owned(),
            Self::Conflict(_) | Self::Install(_) | Self::Failed(_) => return None,
        })
    }
}
