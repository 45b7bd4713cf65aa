//! The lock file: exactly which packages, once resolved, for ever after. This is its format; whether it
//! answers its definition is `stale.rs`' business, writing it anew `relock.rs`'.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::BaseError;
use super::super::lock_file::{self, Wrong};
use super::super::relock::Locked;
use super::repo_file::{Repo, Source};
use super::resolve::{Package, Resolution, ResolvedRepo};
use super::{RpmBase, keys};

/// The format that this version writes. It knows version 1, which had no source packages, as far as it
/// takes to write it anew with the same packages.
pub(super) const VERSION: u32 = 2;

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    pub(super) version: u32,
    pub(super) request: Request,
    #[serde(rename = "repo", default)]
    pub(super) repos: Vec<LockedRepo>,
    #[serde(rename = "package", default)]
    pub(super) packages: Vec<LockedPackage>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) releasever: String,
    pub(super) arch: String,
    /// Sorted, each once.
    pub(super) packages: Vec<String>,
}

/// Where packages were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedRepo {
    pub(super) id: String,
    /// What the .repo file said: its URLs, or that of its mirror list.
    pub(super) source: Vec<String>,
    /// The mirrors that the list named; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) urls: Vec<String>,
    /// What else decides which of its packages are taken, as `option=value`, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<String>,
    pub(super) repomd_sha256: String,
    /// Of the keys that its packages are signed with; empty where they aren't checked.
    pub(super) fingerprints: Vec<String>,
    /// The ids of those of them, and of their subkeys, whose time was over already; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expired: Vec<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockedPackage {
    pub(super) name: String,
    /// `[epoch:]version-release`.
    pub(super) evr: String,
    pub(super) arch: String,
    pub(super) repo: String,
    pub(super) location: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// The file name of the source package that it was built from; empty where the repository doesn't say.
    pub(super) source_rpm: String,
}

/// Just enough of any version.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// What version 1 held.
#[derive(Deserialize)]
struct Version1 {
    request: Request,
    #[serde(rename = "repo", default)]
    repos: Vec<LockedRepo>,
    #[serde(rename = "package", default)]
    packages: Vec<Package1>,
}

#[derive(Deserialize)]
struct Package1 {
    name: String,
    epoch: u64,
    version: String,
    release: String,
    arch: String,
    repo: String,
    location: String,
    size: u64,
    sha256: String,
}

impl Lock {
    /// The lock of a fresh resolution.
    pub(super) fn new(base: &RpmBase, repos: &[(Repo, Vec<keys::Key>)], resolution: &Resolution) -> Self {
        let locked = |repo: &ResolvedRepo| {
            let known = repos.iter().find(|(known, _)| known.id == repo.id);
            LockedRepo {
                id: repo.id.clone(),
                source: known.map(|(known, _)| source(known)).unwrap_or_default(),
                urls: match known.map(|(known, _)| &known.source) {
                    Some(Source::Urls(_)) => Vec::new(),
                    _ => repo.urls.clone(),
                },
                options: known.map(|(known, _)| options(known)).unwrap_or_default(),
                repomd_sha256: repo.repomd_sha256.clone(),
                fingerprints: known.map(|(_, keys)| keys::all_fingerprints(keys)).unwrap_or_default(),
                expired: known.map(|(_, keys)| keys::expired(keys)).unwrap_or_default(),
            }
        };
        let mut lock = Self {
            version: VERSION,
            request: request(base),
            repos: resolution.repos.iter().map(locked).collect(),
            packages: resolution.packages.iter().map(LockedPackage::from).collect(),
        };
        lock.repos.sort_by(|a, b| a.id.cmp(&b.id));
        lock.packages.sort_by(|a, b| (&a.name, &a.arch, &a.evr).cmp(&(&b.name, &b.arch, &b.evr)));
        lock
    }

    /// Reads a lock file and its bytes; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, Vec<u8>)>, BaseError> {
        lock_file::read(path, "the repositories have", parse)
    }

    /// Writes the file, all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> Result<(), BaseError> {
        lock_file::write(path, self)
    }

    /// What to install. `repos` are the definition's, which the lock was checked against.
    pub(super) fn resolution(&self, repos: &[(Repo, Vec<keys::Key>)]) -> Resolution {
        let urls = |locked: &LockedRepo| {
            let known = repos.iter().find(|(known, _)| known.id == locked.id);
            match known.map(|(known, _)| &known.source) {
                Some(Source::Urls(urls)) => urls.clone(),
                _ => locked.urls.clone(),
            }
        };
        let repo = |locked: &LockedRepo| ResolvedRepo {
            id: locked.id.clone(),
            urls: urls(locked),
            repomd_sha256: locked.repomd_sha256.clone(),
        };
        Resolution {
            repos: self.repos.iter().map(repo).collect(),
            packages: self.packages.iter().filter_map(LockedPackage::package).collect(),
        }
    }

    /// What is locked.
    pub(super) fn listed(&self) -> impl Iterator<Item = Locked<'_>> {
        self.packages.iter().map(|LockedPackage { name, evr, arch, repo, sha256, .. }| Locked {
            name,
            version: evr,
            arch,
            repo,
            sha256,
        })
    }

    /// Whether both would be installed the same way from the same places: what repositories hold beside
    /// that is no reason to write a lock anew.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let plain = |lock: &Self| {
            let mut lock = lock.clone();
            for repo in &mut lock.repos {
                repo.repomd_sha256.clear();
                repo.urls.clear();
            }
            lock
        };
        plain(self) == plain(other)
    }
}

/// Reads a lock's text; else the line (from 1; 0: the whole) and what is wrong there.
fn parse(text: &str) -> Result<Lock, Wrong> {
    let wrong = |error: &toml::de::Error| lock_file::no_lock(text, error);
    let lock = match toml::from_str::<Head>(text).map_err(|error| wrong(&error))?.version {
        VERSION => toml::from_str::<Lock>(text).map_err(|error| wrong(&error))?,
        1 => Lock::from(toml::from_str::<Version1>(text).map_err(|error| wrong(&error))?),
        version => return Err(lock_file::newer(text, version, VERSION)),
    };
    let line = |index: usize| lock_file::table(text, "[[package]]", index);
    let mut seen = BTreeMap::new();
    for (index, locked) in lock.packages.iter().enumerate() {
        let (name, LockedPackage { evr, arch, repo, .. }) = (&locked.name, locked);
        let problem = match locked.package() {
            None => Some(format!("`{evr}` is no version of a package")),
            Some(package) => package.strange(),
        };
        if let Some(problem) = problem {
            return Err((line(index), format!("the package `{}` can't be: {problem}", name.escape_debug())));
        }
        if lock.repos.iter().all(|known| known.id != *repo) {
            return Err((line(index), format!("`{name}` is from a repository `{repo}` that isn't there")));
        }
        if seen.insert((name, evr, arch), ()).is_some() {
            return Err((line(index), format!("`{name}-{evr}.{arch}` is locked twice")));
        }
    }
    Ok(lock)
}

/// What the definition asks for.
pub(super) fn request(base: &RpmBase) -> Request {
    let mut packages = base.packages.clone();
    packages.sort();
    packages.dedup();
    Request { releasever: base.releasever.clone(), arch: base.arch.clone(), packages }
}

/// Where a repository is said to be.
pub(super) fn source(repo: &Repo) -> Vec<String> {
    match &repo.source {
        Source::Urls(urls) => urls.clone(),
        Source::MirrorList(url) | Source::Metalink(url) => vec![url.clone()],
    }
}

/// What else decides which of a repository's packages are taken; order and commas decide nothing.
pub(super) fn options(repo: &Repo) -> Vec<String> {
    let mut options = BTreeMap::new();
    for (name, value) in &repo.options {
        let value = if name.ends_with("pkgs") {
            let mut words: Vec<&str> =
                value.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty()).collect();
            words.sort_unstable();
            words.dedup();
            words.join(" ")
        } else {
            value.clone()
        };
        options.insert(*name, value);
    }
    options.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

impl From<Version1> for Lock {
    fn from(old: Version1) -> Self {
        let Version1 { request, repos, packages } = old;
        let packages = packages.into_iter().map(|old| {
            let Package1 { name, epoch, version, release, arch, repo, location, size, sha256 } = old;
            let source_rpm = String::new();
            let evr = evr(epoch, &version, &release);
            LockedPackage { name, evr, arch, repo, location, size, sha256, source_rpm }
        });
        Self { version: 1, packages: packages.collect(), request, repos }
    }
}

/// `[epoch:]version-release`.
fn evr(epoch: u64, version: &str, release: &str) -> String {
    if epoch == 0 { format!("{version}-{release}") } else { format!("{epoch}:{version}-{release}") }
}

impl From<&Package> for LockedPackage {
    fn from(package: &Package) -> Self {
        let Package { name, epoch, version, release, arch, repo, location, size, sha256, source_rpm } =
            package.clone();
        let evr = evr(epoch, &version, &release);
        Self { name, evr, arch, repo, location, size, sha256, source_rpm }
    }
}

impl LockedPackage {
    /// `None` where the version isn't one.
    pub(super) fn package(&self) -> Option<Package> {
        let Self { name, evr, arch, repo, location, size, sha256, source_rpm } = self.clone();
        let (epoch, rest) = evr.split_once(':').unwrap_or(("0", &evr));
        let epoch = epoch.parse().ok()?;
        let (version, release) = rest.rsplit_once('-').map(|(v, r)| (v.to_owned(), r.to_owned()))?;
        Some(Package { name, epoch, version, release, arch, repo, location, size, sha256, source_rpm })
    }
}

#[cfg(test)]
mod tests;
