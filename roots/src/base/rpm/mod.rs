//! A base from RPM repositories: resolved by dnf's library, downloaded and verified by us, installed by
//! the host's rpm or its own, and given a package database that the root's own rpm can read.

use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, KeyHasher, LayerKey};
use serde_json::json;

use super::{BaseContext, BaseError, BaseSource, Place, download, named_file};
use crate::process;
use crate::progress::StepEvent;

mod bootstrap;
mod convert;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod install;
mod keys;
mod lock;
mod reach;
mod relock;
mod repo_file;
mod resolve;
mod stale;
mod verify;

pub use bootstrap::Bootstrap;
pub use error::RpmError;
use keys::Key;
pub use keys::KeyProblem;
use lock::Lock;
use repo_file::{KeyFile, Repo, Variables};
use resolve::{Package, Resolution};
pub use stale::Written;

/// The semantic version of what this step does; bumped when the same inputs give another root.
const STEP_VERSION: u32 = 3;

/// The host's tools, and the Debian packages they are in.
const TOOLS: [(&str, &str); 6] = [
    ("rpm", "rpm"),
    ("rpmkeys", "rpm"),
    ("gpg", "gnupg"),
    ("python3", "python3-dnf"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// A base from RPM repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpmBase {
    /// Ordinary yum `.repo` files. Keys are checked unless one says `gpgcheck=0`; `fingerprints=` pins
    /// them.
    pub repo_files: Vec<PathBuf>,
    /// Packages, `@groups`, or anything else that `dnf install` takes.
    pub packages: Vec<String>,
    /// Where the exact packages are kept: used when it is there, else written.
    pub lock: Option<PathBuf>,
    /// The architecture: `x86_64`.
    pub arch: String,
    /// What `$releasever` stands for: `7`.
    pub releasever: String,
    /// Who installs the packages.
    pub bootstrap: Bootstrap,
    /// Where all that is written, for messages.
    pub written: Written,
}

impl RpmBase {
    /// What `$basearch` stands for.
    fn basearch(&self) -> &str {
        match self.arch.as_str() {
            "i386" | "i486" | "i586" | "i686" => "i386",
            arch if arch.starts_with("armv7") => "armhfp",
            arch => arch,
        }
    }

    /// The http and https URLs of the repositories: of directories with a slash at the end, of lists of mirrors
    /// without.
    pub fn urls(&self) -> Result<Vec<String>, BaseError> {
        let mut urls = Vec::new();
        for repo in self.repos()?.0 {
            urls.extend(repo.list);
            match repo.source {
                repo_file::Source::Urls(found) => urls.extend(found.into_iter().map(|url| url + "/")),
                repo_file::Source::MirrorList(url) | repo_file::Source::Metalink(url) => urls.push(url),
            }
        }
        urls.retain(|url| url.starts_with("http://") || url.starts_with("https://"));
        Ok(urls)
    }

    /// What the lock has of lists of mirrors: URLs of directories. None where there is no lock that can be read.
    #[must_use]
    pub fn locked_mirrors(&self) -> Vec<String> {
        let lock = self.lock.as_deref().and_then(|path| Lock::read(path).ok().flatten());
        lock.into_iter().flat_map(|(lock, _)| lock.repos).flat_map(|repo| repo.urls).collect()
    }

    /// The repositories of all files, and the files' contents.
    fn repos(&self) -> Result<(Vec<Repo>, Vec<Vec<u8>>), BaseError> {
        let variables =
            Variables { releasever: &self.releasever, arch: &self.arch, basearch: self.basearch() };
        let (mut repos, mut contents): (Vec<Repo>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        for file in &self.repo_files {
            let bytes = named_file(file, "the .repo file")?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| BaseError::file(file, "the .repo file isn't valid UTF-8"))?;
            for repo in repo_file::parse(text, file, variables)? {
                if let Some(other) = repos.iter().find(|other| other.id == repo.id) {
                    return Err(BaseError::Definition {
                        message: format!(
                            "the repository `{}` is defined in {} already",
                            repo.id, other.place
                        ),
                        place: repo.place,
                        hint: None,
                    });
                }
                repos.push(repo);
            }
            contents.push(bytes);
        }
        if let (true, Some(file)) = (repos.is_empty(), self.repo_files.first()) {
            return Err(BaseError::file(file, "no repository is enabled here"));
        }
        Ok((repos, contents))
    }

    /// The lock, if there is one, checked against the definition.
    fn locked(&self, repos: &[Repo]) -> Result<Option<(Lock, Vec<u8>)>, BaseError> {
        let Some(path) = &self.lock else { return Ok(None) };
        let found = Lock::read(path)?;
        let stale = found.as_ref().map(|(lock, _)| stale::stale(lock, path, self, repos));
        match stale::refused(self, path, stale.unwrap_or_default()) {
            Some(refused) => Err(refused),
            None => Ok(found),
        }
    }
}

impl BaseSource for RpmBase {
    fn key(&self) -> Result<LayerKey, BaseError> {
        let (mut hasher, repos) = self.hasher()?;
        match self.locked(&repos)? {
            Some((_, bytes)) => hasher.digest("lock", &Digest::of(&bytes)),
            None => hasher.text("lock", "none"),
        };
        Ok(LayerKey(hasher.finish()))
    }

    fn inputs_key(&self) -> Result<LayerKey, BaseError> {
        Ok(LayerKey(self.hasher()?.0.finish()))
    }

    fn warnings(&self) -> Result<Vec<String>, BaseError> {
        Ok(warnings(&self.repos()?.0))
    }

    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BaseError::NotRoot);
        }
        for (program, package) in TOOLS {
            // What choosing packages and the host's rpm need isn't always needed.
            let needed = match program {
                "rpm" | "rpmkeys" => self.bootstrap == Bootstrap::Host,
                "python3" => false,
                _ => true,
            };
            if needed && !process::is_installed(program) {
                return Err(BaseError::Tool { program, package });
            }
        }
        let (repos, _) = self.repos()?;
        let mut warnings = warnings(&repos);
        for warning in &warnings {
            (context.sink)(StepEvent::Warning(warning.clone()));
        }
        let locked = self.locked(&repos)?;
        if locked.is_none() {
            reach::resolvable(context, self, &repos)?;
        }
        let in_lock = locked.as_ref().map(|(lock, _)| lock.repos.as_slice()).unwrap_or_default();
        let trusted = keys::fetch_all(context, repos, in_lock)?;
        let (resolution, lock_state) = self.resolution(context, &trusted, locked)?;
        download(context, &trusted, &resolution)?;
        let keys: Vec<Key> = trusted.iter().flat_map(|(_, keys)| keys.clone()).collect();
        let layout = install::Layout::new(context, &resolution.packages, &keys)?;
        let packages = &resolution.packages;
        let by_root = self.verified(context, &trusted, packages, &layout)?;
        let said = if by_root {
            bootstrap::install(context, &self.written, &layout, packages, root)?
        } else {
            install::install(context, &layout, packages, root)?
        };
        for warning in said.warnings {
            (context.sink)(StepEvent::Warning(warning.clone()));
            warnings.push(warning);
        }
        // Most of what there is now stays as it is; it comes to the disk while other things are done.
        context.store.begin_sync();
        let database = convert::convert(context, &layout, packages, said.installed, root)?;
        let mut facts = facts(&trusted, &resolution, lock_state, database, &warnings);
        facts["installed_by"] = if by_root { "root" } else { "host" }.into();
        Ok(facts)
    }
}

impl RpmBase {
    /// The key's fields but the lock, and the repositories.
    fn hasher(&self) -> Result<(KeyHasher, Vec<Repo>), BaseError> {
        let (repos, contents) = self.repos()?;
        let mut hasher = KeyHasher::new("base rpm", STEP_VERSION);
        let Self { repo_files: _, packages, lock: _, arch, releasever, bootstrap, written: _ } = self;
        hasher.text("arch", arch).text("releasever", releasever).list("packages", packages);
        hasher.list("repo files", &contents);
        // Either way gives the same root; who asks for this one wants it built like this.
        if *bootstrap == Bootstrap::Root {
            hasher.text("bootstrap", "root");
        }
        for repo in &repos {
            for (key, _) in &repo.keys {
                match key {
                    KeyFile::File(path) => hasher.bytes("key", &named_file(path, "the key")?),
                    KeyFile::Url(url) => hasher.text("key url", url),
                };
            }
        }
        Ok((hasher, repos))
    }

    /// Checks the signatures; whether the packages are to be installed by the root's own rpm.
    fn verified(
        &self,
        context: BaseContext<'_>,
        trusted: &[(Repo, Vec<Key>)],
        packages: &[Package],
        layout: &install::Layout,
    ) -> Result<bool, BaseError> {
        (context.sink)(StepEvent::Phase("checking signatures".to_owned()));
        let mut why = bootstrap::why_root(context, self.bootstrap, packages, layout)?;
        let by_root = self.bootstrap == Bootstrap::Root || why.is_some();
        match verify(context, trusted, packages, layout, by_root) {
            Ok(()) => {}
            // Newer ones won't have old keys and digests, although they are right. Are they?
            Err(error) if !by_root && self.bootstrap == Bootstrap::Auto && !error.is_cancelled() => {
                if verify(context, trusted, packages, layout, true).is_err() {
                    context.cancel.check()?;
                    return Err(error);
                }
                why = Some(format!("the host's rpm refuses the packages, which are right ({error})"));
            }
            Err(error) => return Err(error),
        }
        if let Some(why) = &why {
            let text = format!("{why}: the packages are installed by the root's own rpm");
            (context.sink)(StepEvent::Line(text));
        }
        Ok(self.bootstrap == Bootstrap::Root || why.is_some())
    }

    /// What to install: as the lock says, or freshly resolved (and locked). Also how the lock took part.
    fn resolution(
        &self,
        context: BaseContext<'_>,
        trusted: &[(Repo, Vec<Key>)],
        locked: Option<(Lock, Vec<u8>)>,
    ) -> Result<(Resolution, &'static str), BaseError> {
        if let (Some((lock, _)), Some(path)) = (locked, &self.lock) {
            if let Some(refused) = stale::refused(self, path, stale::stale_keys(&lock, trusted)) {
                return Err(refused);
            }
            return Ok((lock.resolution(trusted), "used"));
        }
        (context.sink)(StepEvent::Phase("resolving packages".to_owned()));
        let (resolution, _) = resolve::resolve(context, self, trusted, None)?;
        let Some(path) = &self.lock else { return Ok((resolution, "none")) };
        Lock::new(self, trusted, &resolution).write(path)?;
        Ok((resolution, "written"))
    }
}

/// What people must hear, every time.
fn warnings(repos: &[Repo]) -> Vec<String> {
    let mut warnings = Vec::new();
    for repo in repos {
        let Repo { id, place, .. } = repo;
        if !repo.gpgcheck {
            warnings.push(format!(
                "{place}: `gpgcheck=0`: packages of the repository `{id}` are installed WITHOUT checking who made them"
            ));
        }
        if !repo.sslverify {
            warnings.push(format!(
                "{place}: `sslverify=0`: the servers of the repository `{id}` are not checked"
            ));
        }
        if !repo.ignored.is_empty() {
            warnings.push(format!("{place}: not known, ignored: {}", repo.ignored.join(", ")));
        }
    }
    warnings
}

fn download(
    context: BaseContext<'_>,
    trusted: &[(Repo, Vec<Key>)],
    resolution: &Resolution,
) -> Result<(), BaseError> {
    let files: Vec<download::File> = resolution.packages.iter().map(Package::file).collect();
    download::files(context, &files, &|id| {
        let urls = resolution.repos.iter().find(|repo| repo.id == id).map(|repo| repo.urls.clone());
        let repo = trusted.iter().find(|(repo, _)| repo.id == id).map(|(repo, _)| repo);
        download::Origins {
            place: repo.map_or_else(|| Place { file: PathBuf::new(), line: 0 }, |repo| repo.place.clone()),
            urls: urls.unwrap_or_default().iter().map(|url| context.mirrored(url)).collect(),
            sslverify: repo.is_none_or(|repo| repo.sslverify),
            list: repo.and_then(|repo| repo.list.clone()),
        }
    })
}

/// Checks the packages of each repository by its own keys.
fn verify(
    context: BaseContext<'_>,
    trusted: &[(Repo, Vec<Key>)],
    packages: &[Package],
    layout: &install::Layout,
    by_root: bool,
) -> Result<(), BaseError> {
    for (repo, keys) in trusted.iter().filter(|(repo, _)| repo.gpgcheck) {
        let packages = packages.iter().filter(|package| package.repo == repo.id);
        let packages: Vec<(&Package, PathBuf)> = packages.map(|p| (p, layout.package(p))).collect();
        if packages.is_empty() {
            continue;
        }
        if by_root {
            bootstrap::signature::check(context, repo, keys, &packages)?;
        } else {
            verify::signatures(context, repo, keys, &packages)?;
        }
    }
    Ok(())
}

fn facts(
    trusted: &[(Repo, Vec<Key>)],
    resolution: &Resolution,
    lock: &str,
    database: Option<&str>,
    warnings: &[String],
) -> serde_json::Value {
    let repo = |repo: &resolve::ResolvedRepo| {
        let known = trusted.iter().find(|(known, _)| known.id == repo.id);
        json!({
            "id": repo.id,
            "url": known.map(|(known, _)| known.source.shown()),
            "repomd_sha256": repo.repomd_sha256,
            "gpgcheck": known.is_some_and(|(known, _)| known.gpgcheck),
            "fingerprints": known.map(|(_, keys)| keys::all_fingerprints(keys)),
        })
    };
    let package =
        |p: &Package| json!({"nevra": p.nevra(), "repo": p.repo, "size": p.size, "sha256": p.sha256});
    json!({
        "source": "rpm",
        "lock": lock,
        "rpmdb": database,
        "repositories": resolution.repos.iter().map(repo).collect::<Vec<_>>(),
        "packages": resolution.packages.iter().map(package).collect::<Vec<_>>(),
        "warnings": warnings,
    })
}
