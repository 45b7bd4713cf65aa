//! What can go wrong with a base from RPM repositories.

use super::super::download::RepoAt;
use super::super::{BaseError, Place};
use super::keys::KeyProblem;
use super::stale::Written;

/// A base couldn't be made from RPM repositories.
#[derive(Debug, thiserror::Error)]
pub enum RpmError {
    /// A repository can't be read.
    #[error("can't read the repository `{repo}` ({url}), defined in {place}: {message}")]
    Repository {
        /// Its id.
        repo: String,
        /// Where it should be.
        url: String,
        /// Where it is defined.
        place: Place,
        /// Why.
        message: String,
    },
    /// Packages or groups that no repository has.
    #[error("no repository has {}", list(specs))]
    NotFound {
        /// What was asked for, each with the nearest names there are.
        specs: Vec<(String, Vec<String>)>,
    },
    /// The packages can't be installed together.
    #[error("the packages can't be installed together\n{0}")]
    Conflict(String),
    /// A package has no signature though its repository is to be checked.
    #[error("the package {package} of the repository {repo} is not signed")]
    Unsigned {
        /// The package.
        package: String,
        /// The repository.
        repo: Box<RepoAt>,
    },
    /// A package is signed with another key than its repository's.
    #[error("the package {package} of the repository {repo} is signed with the key {key}, which isn't one of the repository's ({})", known.join(", "))]
    WrongKey {
        /// The package.
        package: String,
        /// The repository.
        repo: Box<RepoAt>,
        /// The id of the key it is signed with.
        key: String,
        /// The fingerprints of the repository's keys.
        known: Vec<String>,
    },
    /// A package was changed after it was signed.
    #[error("the package {package} of the repository {repo} was tampered with: {problem}")]
    Tampered {
        /// The package.
        package: String,
        /// The repository.
        repo: Box<RepoAt>,
        /// What doesn't fit.
        problem: String,
    },
    /// A key isn't one of those that the repository pins by `fingerprints`.
    #[error("{place}: the key {found} in {key} is not the one that is expected: {}{}", expected.join(", "), whose(*default))]
    Fingerprint {
        /// Where the key is named.
        place: Place,
        /// The key file.
        key: String,
        /// The key's fingerprint.
        found: String,
        /// The pinned fingerprints.
        expected: Vec<String>,
        /// Whether these are known of the repository, and not written in the file.
        default: bool,
    },
    /// A key expired, was revoked, or is none.
    #[error("{place}: the key {fingerprint} in {key} {problem}")]
    KeyNotGood {
        /// Where the key is named.
        place: Place,
        /// The key file.
        key: String,
        /// The key's fingerprint.
        fingerprint: String,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// A package is signed with a subkey that expired or was revoked.
    #[error("the package {package} of the repository {repo} is signed with the key {key}, which {problem}")]
    SignerNotGood {
        /// The package.
        package: String,
        /// The repository.
        repo: Box<RepoAt>,
        /// The id of the key it is signed with.
        key: String,
        /// What is wrong with that.
        problem: KeyProblem,
    },
    /// A key file holds no key.
    #[error("{place}: {key} holds no OpenPGP key")]
    NoKey {
        /// Where it is named.
        place: Place,
        /// The key file.
        key: String,
    },
    /// There is no room for the packages.
    #[error("no space left: installing the packages needs {megabytes} MB more")]
    NoSpace {
        /// How much is missing, in MB.
        megabytes: u64,
    },
    /// Nothing on this host can choose the packages of a base that has no lock.
    #[error(
        "{place}: the packages of the base `{base}` aren't locked, and choosing them needs dnf's library, which isn't installed on this host"
    )]
    NoSolver {
        /// Where the base is defined.
        place: Place,
        /// Its name.
        base: String,
    },
    /// A package couldn't be unpacked.
    #[error("can't unpack the package {package}: {message}")]
    Unpack {
        /// The package.
        package: String,
        /// Why.
        message: String,
    },
    /// The packages can't install themselves: a program for that is not among them.
    #[error("{place}: the base's own rpm can't install its packages: none of them has `{lacks}`")]
    Bootstrap {
        /// Where the base's packages are named.
        place: Place,
        /// The program.
        lacks: &'static str,
        /// The package that usually has it.
        package: &'static str,
    },
    /// rpm couldn't install the packages.
    #[error("can't install the packages\n{0}")]
    Install(String),
    /// The root's own rpm can't be given a database.
    #[error("can't give the root's own rpm its database: {0}")]
    Database(String),
}

impl RpmError {
    /// The packages lack something that they need to install themselves.
    pub(super) fn bootstrap(written: &Written, lacks: &'static str, package: &'static str) -> BaseError {
        let line = written.packages.first().copied().unwrap_or(written.base);
        let place = Place { file: written.file.clone(), line };
        Self::Bootstrap { place, lacks, package }.into()
    }

    /// Nothing here can choose packages.
    pub(super) fn no_solver(written: &Written) -> BaseError {
        let place = Place { file: written.file.clone(), line: written.base };
        Self::NoSolver { place, base: written.name.clone() }.into()
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Repository { url, .. } if url.contains("mirrorlist.centos.org") => {
                "CentOS 7's mirror list is gone: use `baseurl=http://vault.centos.org/7.9.2009/os/$basearch/` \
                 (and `updates`, `extras`)"
                    .to_owned()
            }
            Self::Repository { place, .. } => format!("check the network and the URL in {place}"),
            Self::NotFound { specs } => {
                let near: Vec<_> = specs.iter().flat_map(|(_, near)| near).map(|n| format!("`{n}`")).collect();
                if near.is_empty() {
                    return None;
                }
                format!("did you mean {}?", near.join(", "))
            }
            Self::Unsigned { .. } => "use a repository that signs its packages, or write `gpgcheck=0` there \
                                      and mean it"
                .to_owned(),
            Self::WrongKey { .. } => "add the key to `gpgkey=` there, if you trust it".to_owned(),
            Self::Tampered { .. } => "don't use this mirror before you know why".to_owned(),
            Self::Fingerprint { default: true, .. } => "put the repository's own key there; if its packages are signed \
                                                        by somebody else, say by whom with `fingerprints=`"
                .to_owned(),
            Self::Fingerprint { .. } => "don't trust the key before you know why it changed; if you do, its fingerprint \
                                         belongs to `fingerprints=`"
                .to_owned(),
            Self::KeyNotGood { problem, .. } | Self::SignerNotGood { problem, .. } => match problem {
                KeyProblem::Expired(_) => "get the key anew from who publishes the repository: it may have been \
                                           prolonged under the same fingerprint"
                    .to_owned(),
                KeyProblem::Revoked => "find out why: what it signed isn't trustworthy any more. Whoever publishes the \
                                        repository has a new key for `gpgkey=` and `fingerprints=`"
                    .to_owned(),
                KeyProblem::Invalid => "export it again, whole, from who publishes the repository".to_owned(),
            },
            Self::NoKey { .. } => "it should be an exported public key (-----BEGIN PGP PUBLIC KEY BLOCK-----)".to_owned(),
            Self::NoSpace { .. } => "free some space on the store's file system, or use another store".to_owned(),
            Self::NoSolver { base, .. } => format!(
                "apt-get install python3-dnf; or, on a host that has it, `rootbuild lock {base}`, and keep the lock with the definition"
            ),
            Self::Bootstrap { package, .. } => format!(
                "add \"{package}\" to the base's `packages`, or build it with `bootstrap = \"host\"` on a host that has rpm"
            ),
            Self::Unpack { .. } | Self::Conflict(_) | Self::Install(_) | Self::Database(_) => return None,
        })
    }
}

fn list(specs: &[(String, Vec<String>)]) -> String {
    specs.iter().map(|(spec, _)| format!("`{spec}`")).collect::<Vec<_>>().join(", ")
}

/// Why a fingerprint is expected.
fn whose(default: bool) -> &'static str {
    if default {
        " (CentOS 7's own, which vault.centos.org is pinned to unless `fingerprints=` says otherwise)"
    } else {
        ""
    }
}
