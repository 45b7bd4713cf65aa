//! The lock file: exactly which packages, once resolved, for ever after.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::BaseError;
use super::repo_file::{Repo, Source};
use super::resolve::{Package, Resolution, ResolvedRepo};
use super::{RpmBase, keys};

/// The format that this version writes and reads.
const VERSION: u32 = 1;

/// What stands at the top of the file.
const HEADER: &str = "\
# Written by rootbuild: the exact packages of a base. Keep it with the definition; delete it to take
# what the repositories have now.

";

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    version: u32,
    request: Request,
    #[serde(rename = "repo", default)]
    repos: Vec<LockedRepo>,
    #[serde(rename = "package", default)]
    packages: Vec<LockedPackage>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    releasever: String,
    arch: String,
    packages: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedRepo {
    id: String,
    /// What the .repo file said: its URLs, or that of its mirror list.
    source: Vec<String>,
    /// Where packages are downloaded from.
    urls: Vec<String>,
    repomd_sha256: String,
    /// Of the keys that its packages are signed with; empty where they aren't checked.
    fingerprints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedPackage {
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
                urls: repo.urls.clone(),
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
        lock.packages.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        lock
    }

    /// Reads a lock file; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, Vec<u8>)>, BaseError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BaseError::file(path, format!("can't read the lock file: {error}"))),
        };
        let text = String::from_utf8_lossy(&bytes);
        let lock: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            BaseError::Definition {
                place: super::super::Place { file: path.to_owned(), line },
                message: format!("this is no lock file: {}", error.message()),
                hint: Some("delete it to have it written again".to_owned()),
            }
        })?;
        if lock.version != VERSION {
            let message =
                format!("the lock file has version {}, this rootbuild knows {VERSION}", lock.version);
            return Err(BaseError::file(path, message));
        }
        if let Some(strange) = lock.packages.iter().find(|p| !is_sha256(&p.sha256)) {
            return Err(BaseError::file(path, format!("the sha256 of `{}` is none", strange.name)));
        }
        Ok(Some((lock, bytes)))
    }

    /// Writes the file, all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> Result<(), BaseError> {
        let text = toml::to_string(self)
            .map_err(|error| BaseError::io("write", path)(std::io::Error::other(error)))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".rootbuild-lock-").tempfile_in(dir)?;
            file.write_all(HEADER.as_bytes())?;
            file.write_all(text.as_bytes())?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(BaseError::io("write the lock file", path))
    }

    /// Checks that the lock answers what the definition asks. Needs no network and no tools.
    pub(super) fn check(&self, path: &Path, base: &RpmBase, repos: &[Repo]) -> Result<(), BaseError> {
        let changed = |what: String| {
            Err(BaseError::Definition {
                place: super::super::Place { file: path.to_owned(), line: 0 },
                message: format!("the lock file doesn't fit the definition: {what}"),
                hint: Some(format!("delete `{}` to resolve again", path.display())),
            })
        };
        let now = request(base);
        for (what, locked, asked) in [
            ("releasever", &self.request.releasever, &now.releasever),
            ("arch", &self.request.arch, &now.arch),
        ] {
            if locked != asked {
                return changed(format!("{what} is `{asked}`, locked is `{locked}`"));
            }
        }
        if let Some(what) = difference("package", &self.request.packages, &now.packages) {
            return changed(what);
        }
        let ids = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let locked = ids(self.repos.iter().map(|repo| repo.id.as_str()).collect());
        let asked = ids(repos.iter().map(|repo| repo.id.as_str()).collect());
        if let Some(what) = difference("repository", &locked, &asked) {
            return changed(what);
        }
        for repo in repos {
            let Some(locked) = self.repos.iter().find(|locked| locked.id == repo.id) else { continue };
            if locked.source != source(repo) {
                let (old, new) = (locked.source.join(" "), source(repo).join(" "));
                return changed(format!("the repository `{}` is at {new}, locked is {old}", repo.id));
            }
        }
        let unknown = |p: &&LockedPackage| self.repos.iter().all(|repo| repo.id != p.repo);
        match self.packages.iter().find(unknown) {
            Some(p) => changed(format!("`{}` is from a repository `{}` that isn't there", p.name, p.repo)),
            None => Ok(()),
        }
    }

    /// Checks that the repositories' keys are still the ones that were locked.
    pub(super) fn check_keys(&self, path: &Path, repos: &[(Repo, Vec<keys::Key>)]) -> Result<(), BaseError> {
        for (repo, keys) in repos {
            let now = keys::all_fingerprints(keys);
            if let Some(locked) = self.repos.iter().find(|locked| locked.id == repo.id)
                && locked.fingerprints != now
            {
                return Err(BaseError::Definition {
                    place: super::super::Place { file: path.to_owned(), line: 0 },
                    message: format!(
                        "the lock file doesn't fit the definition: the keys of the repository `{}` are now \
                         {}, locked are {}",
                        repo.id,
                        now.join(", "),
                        locked.fingerprints.join(", ")
                    ),
                    hint: Some(format!("if the change is right, delete `{}`", path.display())),
                });
            }
        }
        Ok(())
    }

    /// What to install.
    pub(super) fn resolution(&self) -> Resolution {
        let repo = |repo: &LockedRepo| ResolvedRepo {
            id: repo.id.clone(),
            urls: repo.urls.clone(),
            repomd_sha256: repo.repomd_sha256.clone(),
        };
        Resolution {
            repos: self.repos.iter().map(repo).collect(),
            packages: self.packages.iter().map(Package::from).collect(),
        }
    }
}

fn request(base: &RpmBase) -> Request {
    let mut packages = base.packages.clone();
    packages.sort();
    packages.dedup();
    Request { releasever: base.releasever.clone(), arch: base.arch.clone(), packages }
}

fn source(repo: &Repo) -> Vec<String> {
    match &repo.source {
        Source::Urls(urls) => urls.clone(),
        Source::MirrorList(url) | Source::Metalink(url) => vec![url.clone()],
    }
}

/// What only one side has, in words.
fn difference(what: &str, locked: &[String], asked: &[String]) -> Option<String> {
    if let Some(new) = asked.iter().find(|name| !locked.contains(name)) {
        return Some(format!("the {what} `{new}` isn't locked"));
    }
    let old = locked.iter().find(|name| !asked.contains(name))?;
    Some(format!("the {what} `{old}` is locked, but not asked for"))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl From<&Package> for LockedPackage {
    fn from(package: &Package) -> Self {
        let Package { name, epoch, version, release, arch, repo, location, size, sha256 } = package.clone();
        Self { name, epoch, version, release, arch, repo, location, size, sha256 }
    }
}

impl From<&LockedPackage> for Package {
    fn from(package: &LockedPackage) -> Self {
        let LockedPackage { name, epoch, version, release, arch, repo, location, size, sha256 } =
            package.clone();
        Self { name, epoch, version, release, arch, repo, location, size, sha256 }
    }
}
