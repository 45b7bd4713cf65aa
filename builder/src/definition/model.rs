//! What a definition says, once it has been checked. All paths are absolute.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use rootbuild_cache::Digest;
use rootbuild_playbooks::run::Services;
use rootbuild_roots::base::rpm::Bootstrap;
use rootbuild_roots::checkout::Areas;
use rootbuild_roots::sandbox::Network;
use rootbuild_roots::units;

use super::diagnostic::At;

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub span: At,
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// `[base.NAME]`: where roots start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub kind: BaseKind,
    /// Where its name is written.
    pub span: At,
}

impl Base {
    /// The lock file that it names; it need not exist yet.
    #[must_use]
    pub fn lock(&self) -> Option<&Located<PathBuf>> {
        match &self.kind {
            BaseKind::Rpm(rpm) => rpm.lock.as_ref(),
            BaseKind::Debian(debian) => debian.lock.as_ref(),
            BaseKind::Archive(_) | BaseKind::Root(_) | BaseKind::Tree(_) => None,
        }
    }
}

/// Where a base comes from: `source` and the keys that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseKind {
    /// `source = "rpm"`
    Rpm(RpmBase),
    /// `source = "debian"`
    Debian(DebianBase),
    /// `source = "archive"`
    Archive(ArchiveBase),
    /// `source = "root"`: another root's tree.
    Root(Located<String>),
    /// `source = "tree"`: a tree that is in the store.
    Tree(Located<Digest>),
}

impl BaseKind {
    /// The word in `source`.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Rpm(_) => "rpm",
            Self::Debian(_) => "debian",
            Self::Archive(_) => "archive",
            Self::Root(_) => "root",
            Self::Tree(_) => "tree",
        }
    }
}

/// A base installed from yum repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpmBase {
    /// Ordinary yum `.repo` files, in order; never empty.
    pub repos: Vec<Located<PathBuf>>,
    /// Packages and `@groups`; never empty.
    pub packages: Vec<Located<String>>,
    /// The lock file; it need not exist yet.
    pub lock: Option<Located<PathBuf>>,
    /// What `$releasever` means in the repositories (default "7", as if written where the base's name is).
    pub releasever: Located<String>,
    /// What `$basearch` means (default: this machine's, as if written where the base's name is).
    pub arch: Located<String>,
    /// Who installs the packages.
    pub bootstrap: Bootstrap,
}

/// A base installed from a Debian archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianBase {
    /// The suite ("bookworm").
    pub suite: Located<String>,
    /// Packages beyond those of the variant.
    pub packages: Vec<Located<String>>,
    /// The archive's URLs, best first; empty: as the host's own apt sources say.
    pub mirror: Vec<Located<String>>,
    /// Components ("main"); empty: as the source says.
    pub components: Vec<Located<String>>,
    /// mmdebstrap's variant ("minbase"); `None`: the source's default.
    pub variant: Option<Located<String>>,
    /// The keyring that signs the suite, a file or directory; `None`: the host's own.
    pub keyring: Option<Located<PathBuf>>,
    /// The lock file; it need not exist yet.
    pub lock: Option<Located<PathBuf>>,
}

/// A base unpacked from an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveBase {
    /// The archive.
    pub file: Located<PathBuf>,
    /// What its bytes must hash to, 64 lower-case hexadecimal digits; `None` is signed off with `unverified = true`.
    pub sha256: Option<Located<String>>,
    /// How many leading components of member names are dropped.
    pub strip_components: u32,
    /// Whether device nodes are allowed in it.
    pub devices: bool,
}

/// `[ansible]`: what provisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ansible {
    /// The exact ansible-core version.
    pub core: Located<String>,
    /// The directory from which `ansible.cfg`, `roles/`, `group_vars/` are found.
    pub project: PathBuf,
    /// The inventory, a file or directory.
    pub inventory: Option<Located<PathBuf>>,
    /// The vault password file; it need not exist until a playbook runs.
    pub vault_password_file: Option<Located<PathBuf>>,
    /// Hash-pinned requirements; needed for versions that rootbuild doesn't pin itself.
    pub requirements: Option<Located<PathBuf>>,
    /// Where `ansible` is written.
    pub span: At,
}

/// `[root.NAME]`: a root to provision.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// Its name, which is also a file name in the store.
    pub name: String,
    /// The name of its base, which exists.
    pub base: Located<String>,
    /// The inventory host that the root stands for (default: the root's name).
    pub host: Located<String>,
    /// What runs, in order; may be empty.
    pub playbooks: Vec<Playbook>,
    /// Extra vars, in the order in which they are written.
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// What network playbooks see.
    pub network: Network,
    /// With [`Network::Repos`] the URLs that they see, sorted: those below directories, which end with a slash,
    /// and single ones.
    pub repos: Vec<String>,
    /// Whether systemd runs as PID 1 while provisioning.
    pub boot: bool,
    /// What `state: started` means in a root that isn't booted.
    pub services: Services,
    /// With `checkout = "linked"` the parts of the root that its users may write in; the rest shares files with
    /// other checkouts where the file system can't do better. `None`: every file is the root's own.
    pub private: Option<Areas>,
    /// How it runs on a host; in no key.
    pub run: Run,
    /// Where its name is written.
    pub span: At,
}

/// `[root.NAME.run]`: a root's life as units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whether `up` without names starts it.
    pub start: bool,
    /// How long a unit of it may take to become ready.
    pub ready_timeout: Duration,
    /// What its units are made from.
    pub units: units::Run,
}

/// A playbook of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playbook {
    /// As written.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it is written.
    pub span: At,
}
