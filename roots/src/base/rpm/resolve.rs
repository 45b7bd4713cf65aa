//! Which packages make up the base: asked of dnf's library.

use serde::{Deserialize, Serialize};

use super::super::{BaseContext, BaseError, download};
use super::keys::Key;
use super::lock::{Lock, LockedPackage};
use super::repo_file::{Repo, Source};
use super::{RpmBase, RpmError};
use crate::process;
use crate::progress::StepEvent;

/// Asks dnf's library; see the files.
const SCRIPT: &str = concat!(include_str!("pins.py"), include_str!("resolve.py"));

/// The system's Python: the one that has dnf's library.
const PYTHON: &str = "/usr/bin/python3";

/// What the script exits with when the library isn't there.
const NO_LIBRARY: i32 = 3;

/// What to install and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolution {
    pub(super) repos: Vec<ResolvedRepo>,
    pub(super) packages: Vec<Package>,
}

/// A repository as it was when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ResolvedRepo {
    pub(super) id: String,
    /// Where its files can be had, best first.
    pub(super) urls: Vec<String>,
    pub(super) repomd_sha256: String,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) epoch: u64,
    pub(super) version: String,
    pub(super) release: String,
    pub(super) arch: String,
    pub(super) repo: String,
    /// Relative to the repository's URL, or a URL itself.
    pub(super) location: String,
    pub(super) size: u64,
    /// Of the package file, 64 hex digits.
    pub(super) sha256: String,
    /// The file name of the source package; empty where the repository doesn't say.
    pub(super) source_rpm: String,
}

impl Package {
    /// `name-version-release.arch`, with the epoch where there is one.
    pub(super) fn nevra(&self) -> String {
        let Self { name, epoch, version, release, arch, .. } = self;
        match epoch {
            0 => format!("{name}-{version}-{release}.{arch}"),
            epoch => format!("{name}-{epoch}:{version}-{release}.{arch}"),
        }
    }

    /// The file to download.
    pub(super) fn file(&self) -> download::File {
        let Self { repo, location, size, sha256, .. } = self.clone();
        download::File { what: self.nevra(), repo, location, size, sha256 }
    }

    /// What is strange about it, if anything is: what it is called and where it lies come from a repository or
    /// a file that anybody may have written, and become names of files and arguments of programs.
    pub(super) fn strange(&self) -> Option<String> {
        let Self { name, epoch: _, version, release, arch, repo: _, location, size: _, sha256, source_rpm } =
            self;
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '/')
        };
        for (what, text) in [("name", name), ("version", version), ("release", release), ("arch", arch)] {
            if !word(text) {
                return Some(format!("its {what} is `{}`", text.escape_debug()));
            }
        }
        if !source_rpm.is_empty() && !word(source_rpm) {
            return Some(format!("its source package is `{}`", source_rpm.escape_debug()));
        }
        if location.is_empty()
            || location.chars().any(char::is_control)
            || location.split('/').any(|part| part == "..")
        {
            return Some(format!("its location is `{}`", location.escape_debug()));
        }
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (sha256.len() != 64 || !sha256.bytes().all(is_hex))
            .then(|| format!("its sha256 is `{}`", sha256.escape_debug()))
    }
}

#[derive(Serialize)]
struct Request<'a> {
    scratch: &'a std::path::Path,
    releasever: &'a str,
    arch: &'a str,
    basearch: &'a str,
    packages: &'a [String],
    repos: Vec<RequestedRepo<'a>>,
    /// What is locked, if that is to stay.
    locked: Vec<Pinned>,
    /// Which names of that may move.
    update: &'a [String],
    /// What wasn't asked for when that was locked.
    added: Vec<&'a str>,
}

#[derive(Serialize)]
struct Pinned {
    name: String,
    epoch: u64,
    version: String,
    release: String,
    arch: String,
    repo: String,
    sha256: String,
}

#[derive(Serialize)]
struct RequestedRepo<'a> {
    id: &'a str,
    baseurl: &'a [String],
    mirrorlist: Option<&'a str>,
    metalink: Option<&'a str>,
    gpgcheck: bool,
    repo_gpgcheck: bool,
    gpgkey: Vec<String>,
    sslverify: bool,
    options: &'a [(&'static str, String)],
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    repos: Vec<ResolvedRepo>,
    #[serde(default)]
    packages: Vec<AnsweredPackage>,
    /// Names that were to move and stay behind the newest version, which is the second.
    #[serde(default)]
    held: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Failure {
    Repository { repo: String, message: String },
    Metadata { message: String },
    NotFound { specs: Vec<(String, Vec<String>)> },
    Conflict { message: String },
}

#[derive(Deserialize)]
struct AnsweredPackage {
    name: String,
    epoch: u64,
    version: String,
    release: String,
    arch: String,
    repo: String,
    location: String,
    baseurl: String,
    size: u64,
    checksum: String,
    digest: String,
    source_rpm: String,
}

/// Resolves the base's packages against its repositories. `pins`: a lock whose packages stay as far as possible,
/// but for these names. Also gives the names that were to move and stay behind the newest version, with that.
pub(super) fn resolve(
    context: BaseContext<'_>,
    base: &RpmBase,
    repos: &[(Repo, Vec<Key>)],
    pins: Option<(&Lock, &[String])>,
) -> Result<(Resolution, Vec<(String, String)>), BaseError> {
    // What is locked, and told of a repository, is where it is by its own account.
    let mirrored: Vec<(Repo, Vec<Key>)> =
        repos.iter().map(|(repo, keys)| (repo.clone().mirrored(context), keys.clone())).collect();
    let repos = mirrored.as_slice();
    let scratch = context.scratch.join("dnf");
    super::keys::private_dir(&scratch)?;
    let request = Request {
        scratch: &scratch,
        releasever: &base.releasever,
        arch: &base.arch,
        basearch: base.basearch(),
        packages: &base.packages,
        repos: repos.iter().map(|(repo, keys)| requested(repo, keys)).collect(),
        locked: pins.map(|(lock, _)| lock.packages.iter().filter_map(pinned).collect()).unwrap_or_default(),
        update: pins.map_or(&[], |(_, update)| update),
        added: pins.map(|(lock, _)| added(lock, base)).unwrap_or_default(),
    };
    let input = serde_json::to_vec(&request).unwrap_or_default();
    let no_solver = || RpmError::no_solver(&base.written);
    if !std::path::Path::new(PYTHON).exists() {
        return Err(no_solver());
    }
    let mut command = process::tool(PYTHON);
    command.args(["-I", "-c", SCRIPT]).env("HOME", &scratch).env("TMPDIR", &scratch);
    let log = |line: &str| (context.sink)(StepEvent::Line(line.to_owned()));
    let output = process::capture(command, &input, context.cancel, &log)?;
    if output.status.code() == Some(NO_LIBRARY) {
        return Err(no_solver());
    }
    let answer: Answer = match serde_json::from_slice(&output.stdout) {
        Ok(answer) if output.status.success() => answer,
        _ => {
            let (program, status, tail) = ("dnf's library".to_owned(), output.status, output.tail);
            return Err(BaseError::Process(process::ProcessError::Failed { program, status, tail }));
        }
    };
    if let Some(failure) = answer.error {
        return Err(failed(failure, repos));
    }
    let packages = answer.packages.into_iter().map(package).collect::<Result<_, _>>()?;
    Ok((Resolution { repos: answer.repos, packages }, answer.held))
}

fn pinned(locked: &LockedPackage) -> Option<Pinned> {
    let Package { name, epoch, version, release, arch, repo, sha256, .. } = locked.package()?;
    Some(Pinned { name, epoch, version, release, arch, repo, sha256 })
}

fn added<'a>(lock: &Lock, base: &'a RpmBase) -> Vec<&'a str> {
    let packages = base.packages.iter().filter(|package| !lock.request.packages.contains(package));
    packages.map(String::as_str).collect()
}

fn requested<'a>(repo: &'a Repo, keys: &[Key]) -> RequestedRepo<'a> {
    let (mut baseurl, mut mirrorlist, mut metalink): (&[String], _, _) = (&[], None, None);
    match &repo.source {
        Source::Urls(urls) => baseurl = urls,
        Source::MirrorList(url) => mirrorlist = Some(url.as_str()),
        Source::Metalink(url) => metalink = Some(url.as_str()),
    }
    RequestedRepo {
        id: &repo.id,
        baseurl,
        mirrorlist,
        metalink,
        gpgcheck: repo.gpgcheck,
        repo_gpgcheck: repo.repo_gpgcheck,
        gpgkey: keys.iter().map(|key| format!("file://{}", key.file.display())).collect(),
        sslverify: repo.sslverify,
        options: &repo.options,
    }
}

fn failed(failure: Failure, repos: &[(Repo, Vec<Key>)]) -> BaseError {
    match failure {
        Failure::Repository { repo, message } => match repos.iter().find(|(known, _)| known.id == repo) {
            Some((known, _)) => RpmError::Repository {
                repo,
                url: known.source.shown().to_owned(),
                place: known.place.clone(),
                message: super::reach::cause(known, &last_part(&message)),
            },
            None => RpmError::Conflict(message),
        },
        Failure::NotFound { specs } => RpmError::NotFound { specs },
        Failure::Conflict { message } | Failure::Metadata { message } => RpmError::Conflict(message),
    }
    .into()
}

/// dnf's messages repeat what ours says already: "Failed to download metadata for repo 'x': Cannot…".
fn last_part(message: &str) -> String {
    message.split_once("': ").map_or(message, |(_, rest)| rest).trim().to_owned()
}

fn package(answered: AnsweredPackage) -> Result<Package, BaseError> {
    let AnsweredPackage {
        name,
        epoch,
        version,
        release,
        arch,
        repo,
        location,
        baseurl,
        size,
        checksum,
        digest,
        source_rpm,
    } = answered;
    if checksum != "sha256" {
        return Err(RpmError::Conflict(format!(
            "the repository `{repo}` describes its packages by {checksum} (`{name}`), sha256 is needed"
        ))
        .into());
    }
    let location = match baseurl.trim_end_matches('/') {
        "" => location,
        base => format!("{base}/{location}"),
    };
    let sha256 = digest;
    let package = Package { name, epoch, version, release, arch, repo, location, size, sha256, source_rpm };
    match package.strange() {
        Some(problem) => Err(RpmError::Conflict(format!(
            "the repository `{}` has a package `{}` that can't be: {problem}",
            package.repo,
            package.name.escape_debug()
        ))
        .into()),
        None => Ok(package),
    }
}
