//! The lock file of a Debian base: exactly which packages, once resolved, for ever after. This is its format;
//! whether it answers its definition is `stale.rs`' business, writing it anew `relock.rs`'.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::lock_file::{self, Wrong};
use super::super::relock::Locked;
use super::super::{BaseError, download};
use super::DebianBase;

/// The format that this version writes and knows.
const VERSION: u32 = 1;

/// What stands in `family`, so that nobody takes a lock of RPM packages for one of these.
const FAMILY: &str = "debian";

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    pub(super) version: u32,
    pub(super) family: String,
    /// When the newest of the repositories was published, as snapshot.debian.org writes it: `20260711T101637Z`;
    /// where packages came from there, the moment in its URL.
    pub(super) snapshot: String,
    pub(super) request: Request,
    #[serde(rename = "repo", default)]
    pub(super) repos: Vec<Repo>,
    #[serde(rename = "package", default)]
    pub(super) packages: Vec<Package>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) suite: String,
    /// As Debian says it: `amd64`.
    pub(super) arch: String,
    pub(super) variant: String,
    pub(super) components: Vec<String>,
    /// As written in the definition; empty: the archives that the host uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mirrors: Vec<String>,
    /// Sorted, each once.
    pub(super) packages: Vec<String>,
}

/// Where packages were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Repo {
    /// What packages name it by: its suite (`bookworm-security`), with a number where that isn't enough.
    pub(super) id: String,
    pub(super) url: String,
    pub(super) suite: String,
    pub(super) components: Vec<String>,
    /// The keyring that apt in the root checks it with, if it isn't one that is trusted for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signed_by: Option<String>,
    /// When it was published: the `Date` of its release file, as snapshot.debian.org writes it.
    pub(super) date: String,
    /// Of its `InRelease` (or `Release`) file.
    pub(super) release_sha256: String,
    /// Of the keys that signed that and were trusted; sorted.
    pub(super) fingerprints: Vec<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    pub(super) name: String,
    /// `[epoch:]version[-revision]`.
    pub(super) version: String,
    pub(super) arch: String,
    pub(super) repo: String,
    pub(super) location: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// The source package that it was built from, with its version where that is another.
    pub(super) source: String,
    /// Whether it came in only because others need it, as apt remembers it for `autoremove`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) auto: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Just enough of any lock.
#[derive(Deserialize)]
struct Head {
    version: u32,
    family: Option<String>,
}

impl Lock {
    /// A lock of what was resolved.
    pub(super) fn new(
        request: Request,
        snapshot: String,
        repos: Vec<Repo>,
        mut packages: Vec<Package>,
    ) -> Self {
        packages.sort_by(|a, b| (&a.name, &a.arch, &a.version).cmp(&(&b.name, &b.arch, &b.version)));
        Self { version: VERSION, family: FAMILY.to_owned(), snapshot, request, repos, packages }
    }

    /// Reads a lock file and its bytes; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, Vec<u8>)>, BaseError> {
        lock_file::read(path, "the archive has", parse)
    }

    /// Writes the file, all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> Result<(), BaseError> {
        lock_file::write(path, self)
    }

    /// What is locked.
    pub(super) fn listed(&self) -> impl Iterator<Item = Locked<'_>> {
        self.packages.iter().map(|Package { name, version, arch, repo, sha256, .. }| Locked {
            name,
            version,
            arch,
            repo,
            sha256,
        })
    }

    /// Whether both would be installed the same way from the same places: when the archive was published last is
    /// no reason to write a lock anew.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let plain = |lock: &Self| {
            let mut lock = lock.clone();
            lock.snapshot.clear();
            for repo in &mut lock.repos {
                repo.date.clear();
                repo.release_sha256.clear();
            }
            lock
        };
        plain(self) == plain(other)
    }
}

impl Package {
    /// `name_version_arch`, as package files are called.
    pub(super) fn shown(&self) -> String {
        format!("{}_{}_{}", self.name, self.version, self.arch)
    }

    /// The file to download.
    pub(super) fn file(&self) -> download::File {
        let Self { repo, location, size, sha256, .. } = self.clone();
        download::File { what: self.shown(), repo, location, size, sha256 }
    }

    /// The source package's name.
    pub(super) fn source_name(&self) -> &str {
        self.source.split(' ').next().unwrap_or_default()
    }

    /// What is strange about it, if anything is: all that comes from an archive or a file that anybody may have
    /// written, and becomes names of files and lines of apt's lists.
    pub(super) fn strange(&self) -> Option<String> {
        let Self { name, version, arch, repo: _, location, size: _, sha256, source, auto: _ } = self;
        let word = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        for (what, text, more) in [("name", name, "+-."), ("version", version, "+-.~:"), ("arch", arch, "-")]
        {
            if !word(text, more) {
                return Some(format!("its {what} is `{}`", text.escape_debug()));
            }
        }
        if !word(source, "+-.~: ") {
            return Some(format!("its source package is `{}`", source.escape_debug()));
        }
        let odd = |part: &str| part.is_empty() || part == "..";
        if location.chars().any(|c| c.is_control() || c.is_whitespace()) || location.split('/').any(odd) {
            return Some(format!("its location is `{}`", location.escape_debug()));
        }
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (sha256.len() != 64 || !sha256.bytes().all(is_hex))
            .then(|| format!("its sha256 is `{}`", sha256.escape_debug()))
    }
}

impl Repo {
    /// What is strange about it, if anything is: it becomes a line of the root's `sources.list`.
    fn strange(&self) -> Option<String> {
        let Self { id: _, url, suite, components, signed_by, date, release_sha256: _, fingerprints: _ } =
            self;
        let odd = |text: &String| {
            text.is_empty()
                || text.contains(|c: char| c.is_control() || c.is_whitespace() || "[]#".contains(c))
        };
        let mut words = [url, suite, date].into_iter().chain(components).chain(signed_by);
        words.find(|word| odd(word)).map(|word| format!("`{}` is in it", word.escape_debug()))
    }

    /// Its line in `sources.list`.
    pub(super) fn line(&self) -> String {
        let mut options = Vec::new();
        if super::snapshot::is_snapshot(&self.url) {
            options.push("check-valid-until=no".to_owned());
        }
        options.extend(self.signed_by.iter().map(|keyring| format!("signed-by={keyring}")));
        let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        format!("deb {options}{} {} {}\n", self.url, self.suite, self.components.join(" "))
    }
}

/// Reads a lock's text; else the line (from 1; 0: the whole) and what is wrong there.
fn parse(text: &str) -> Result<Lock, Wrong> {
    let wrong = |error: &toml::de::Error| lock_file::no_lock(text, error);
    let head = toml::from_str::<Head>(text).map_err(|error| wrong(&error))?;
    if head.family.as_deref() != Some(FAMILY) {
        return Err((lock_file::line_of(text, "family"), "this is no lock file of a Debian base".to_owned()));
    }
    if head.version != VERSION {
        return Err(lock_file::newer(text, head.version, VERSION));
    }
    let lock = toml::from_str::<Lock>(text).map_err(|error| wrong(&error))?;
    let line = |header: &str, index: usize| lock_file::table(text, header, index);
    for (index, repo) in lock.repos.iter().enumerate() {
        if let Some(problem) = repo.strange() {
            let id = repo.id.escape_debug();
            return Err((line("[[repo]]", index), format!("the repository `{id}` can't be: {problem}")));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, package) in lock.packages.iter().enumerate() {
        let line = || line("[[package]]", index);
        let name = &package.name;
        if let Some(problem) = package.strange() {
            return Err((line(), format!("the package `{}` can't be: {problem}", name.escape_debug())));
        }
        if lock.repos.iter().all(|repo| repo.id != package.repo) {
            return Err((
                line(),
                format!("`{name}` is from a repository `{}` that isn't there", package.repo),
            ));
        }
        if !seen.insert((name, &package.arch)) {
            return Err((line(), format!("`{name}` for `{}` is locked twice", package.arch)));
        }
    }
    Ok(lock)
}

/// What the definition asks for.
pub(super) fn request(base: &DebianBase) -> Request {
    let mut packages = base.packages.clone();
    packages.sort();
    packages.dedup();
    Request {
        suite: base.suite.clone(),
        arch: arch().to_owned(),
        variant: base.variant().to_owned(),
        components: base.components(),
        mirrors: base.mirror.clone(),
        packages,
    }
}

/// What Debian calls this host's architecture.
pub(super) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "i386",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        "loongarch64" => "loong64",
        same => same,
    }
}
