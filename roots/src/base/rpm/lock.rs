//! The lock file: exactly which packages, once resolved, for ever after. This is its format; whether it
//! answers its definition is `stale.rs`' business, writing it anew `relock.rs`'.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::{BaseError, Place};
use super::repo_file::{Repo, Source};
use super::resolve::{Package, Resolution, ResolvedRepo};
use super::{RpmBase, keys};

/// The format that this version writes. It knows version 1, which had no source packages, as far as it
/// takes to write it anew with the same packages.
pub(super) const VERSION: u32 = 2;

/// What stands at the top of the file.
const HEADER: &str = "\
# Written by rootbuild: the exact packages of a base. Keep it with the definition.
# `rootbuild lock BASE` writes it anew where the definition asks for something else; packages move only with
# `rootbuild lock BASE --update PACKAGE`.

";

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
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct LockedPackage {
    pub(in super::super) name: String,
    /// `[epoch:]version-release`.
    pub(in super::super) evr: String,
    pub(in super::super) arch: String,
    pub(in super::super) repo: String,
    pub(in super::super) location: String,
    pub(in super::super) size: u64,
    pub(in super::super) sha256: String,
    /// The file name of the source package that it was built from; empty where the repository doesn't say.
    pub(in super::super) source_rpm: String,
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
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BaseError::file(path, format!("can't read the lock file: {error}"))),
        };
        let text = String::from_utf8_lossy(&bytes);
        let lock = parse(&text).map_err(|(line, message)| BaseError::Definition {
            place: Place { file: path.to_owned(), line },
            message,
            hint: Some(
                "restore it from version control, or take what the repositories have now: `rootbuild lock --update`"
                    .to_owned(),
            ),
        })?;
        Ok(Some((lock, bytes)))
    }

    /// The file's text.
    fn text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEADER}{}", toml::to_string_pretty(self)?))
    }

    /// Writes the file, all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> Result<(), BaseError> {
        let text = self.text().map_err(|error| BaseError::io("write", path)(io::Error::other(error)))?;
        write(path, &text)
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

/// Writes a lock file, all of it or nothing.
pub(in super::super) fn write(path: &Path, text: &str) -> Result<(), BaseError> {
    // A link to a lock that projects share stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".rootbuild-lock-").tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        as_before(file.as_file(), &target, dir)?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(BaseError::io("write the lock file", path))
}

/// Reads a lock's text; else the line (from 1; 0: the whole) and what is wrong there.
fn parse(text: &str) -> Result<Lock, (usize, String)> {
    let wrong = |error: &toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        (line, format!("this is no lock file: {}", error.message()))
    };
    let lock = match toml::from_str::<Head>(text).map_err(|error| wrong(&error))?.version {
        VERSION => toml::from_str::<Lock>(text).map_err(|error| wrong(&error))?,
        1 => Lock::from(toml::from_str::<Version1>(text).map_err(|error| wrong(&error))?),
        version => {
            let line = text.lines().position(|line| line.starts_with("version")).map_or(0, |index| index + 1);
            let message = format!(
                "the lock file has version {version}, which is newer than this rootbuild: it knows {VERSION}"
            );
            return Err((line, message));
        }
    };
    let line = |index: usize| {
        let mut blocks = text.lines().enumerate().filter(|(_, line)| line.trim() == "[[package]]");
        blocks.nth(index).map_or(0, |(line, _)| line + 1)
    };
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

/// Gives a new file the owner and permissions of the one that it replaces, else the owner of its directory:
/// who runs `sudo rootbuild` wants to go on editing his project.
fn as_before(file: &File, target: &Path, dir: &Path) -> io::Result<()> {
    let before = fs::metadata(target);
    let mode = before.as_ref().map_or(0o644, |data| data.mode() & 0o777);
    if rustix::process::geteuid().is_root() {
        let like = before.or_else(|_| fs::metadata(dir))?;
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
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
