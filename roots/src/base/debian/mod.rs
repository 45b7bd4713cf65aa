//! A base installed from a Debian archive by mmdebstrap.
//!
//! With a lock, packages are chosen once (by apt, on an empty system) and installed without a network from then on.
//! Without one they come as they are now: the same definition gives what the archive has on the day it is
//! built, and keeps that until the definition changes. Everything else is made the same every time,
//! as far as packages allow it (some make keys of their own when they are installed: `openssh-server`
//! does, so every root on such a base has the same ones unless a playbook makes others).

mod command;
mod error;
mod facts;
pub mod fuzz;
mod install;
mod lock;
mod output;
mod release;
mod relock;
mod resolve;
mod snapshot;
mod sources;
mod stale;
mod version;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_cache::{Digest, KeyHasher, LayerKey};

use super::fetch::{self, Patience};
use super::{BaseContext, BaseError, BaseSource, named_file};
use crate::cancel::Cancel;
use crate::process::{self, ProcessError};
use crate::progress::StepEvent;

pub use error::{DebianError, Gone};
pub use stale::Written;

use command::Layout;
use lock::Lock;
use output::Watcher;

/// The semantic version of installing: part of every key, raised when the same definition would give
/// another root.
const VERSION: u32 = 1;

/// The same of installing what a lock says.
const LOCKED_VERSION: u32 = 1;

/// Programs of the host that are needed, and the packages that they are in.
const TOOLS: [(&str, &str); 5] = [
    ("mmdebstrap", "mmdebstrap"),
    ("apt-get", "apt"),
    ("gpgv", "gpgv"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// A base installed from a Debian archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianBase {
    /// The base's name, for messages.
    pub name: String,
    /// The suite: `bookworm`.
    pub suite: String,
    /// Packages beyond those of the variant, in any form that `apt-get install` takes.
    pub packages: Vec<String>,
    /// The archive's URLs, best first: the first that answers is used, and all of them for what is locked. None: where
    /// the host is a Debian, the archives that its own apt uses, with updates and security updates if it uses
    /// those; else Debian's own.
    pub mirror: Vec<String>,
    /// Components; empty: `main`.
    pub components: Vec<String>,
    /// mmdebstrap's variant, that is which packages are installed in any case. `None`: `minbase`, the
    /// essential and required ones and apt: some 80 packages, all that a service or Ansible counts on
    /// but Python and an init system.
    pub variant: Option<String>,
    /// The keyring, a file or a directory of them, of which one key must have signed the suite.
    /// `None`: what the host's apt trusts.
    pub keyring: Option<PathBuf>,
    /// Where the exact packages are kept: used when it is there, else written.
    pub lock: Option<PathBuf>,
    /// Where all that is written, for messages.
    pub written: Written,
}

impl DebianBase {
    fn variant(&self) -> &str {
        self.variant.as_deref().unwrap_or("minbase")
    }

    fn components(&self) -> Vec<String> {
        if self.components.is_empty() { vec!["main".to_owned()] } else { self.components.clone() }
    }

    /// Refuses names that mmdebstrap or apt would take for an option, or for several names.
    fn check_names(&self) -> Result<(), BaseError> {
        let bad = |name: &&String| {
            name.is_empty() || name.starts_with('-') || name.contains(|c: char| c == ',' || c.is_whitespace())
        };
        let names = self.packages.iter().chain([&self.suite]).chain(&self.components);
        match names.chain(&self.variant).chain(&self.mirror).find(bad) {
            Some(name) => Err(DebianError::Name(name.clone()).into()),
            None => Ok(()),
        }
    }

    /// The keyring's content: one digest, or each file's with its name.
    fn keyring_digests(&self) -> Result<Vec<(Vec<u8>, Digest)>, BaseError> {
        let Some(keyring) = &self.keyring else { return Ok(Vec::new()) };
        if !keyring.is_dir() {
            return Ok(vec![(Vec::new(), Digest::of(&named_file(keyring, "the keyring")?))]);
        }
        let failed =
            |error: std::io::Error| BaseError::file(keyring, format!("can't read the keyring: {error}"));
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(keyring).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // What apt reads in such a directory.
            if path.extension().is_some_and(|extension| extension == "gpg" || extension == "asc") {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(BaseError::file(keyring, "the keyring holds no `.gpg` or `.asc` file"));
        }
        files.sort();
        let digest = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
            Ok((name, Digest::of(&named_file(&path, "the keyring")?)))
        };
        files.into_iter().map(digest).collect()
    }
}

impl BaseSource for DebianBase {
    /// A mirror that is named is part of the key; one that is found on the host isn't: the archive is
    /// the same, and the same definition is to have the same key on every host. With a lock, that is what counts,
    /// wherever packages come from.
    fn key(&self) -> Result<LayerKey, BaseError> {
        let Some((_, bytes)) = self.locked()? else { return self.inputs_key() };
        let mut key = KeyHasher::new("base debian locked", LOCKED_VERSION);
        key.text("arch", std::env::consts::ARCH).digest("lock", &Digest::of(&bytes));
        Ok(LayerKey(key.finish()))
    }

    fn inputs_key(&self) -> Result<LayerKey, BaseError> {
        self.check_names()?;
        let mut packages = self.packages.clone();
        packages.sort();
        packages.dedup();
        let mut key = KeyHasher::new("base debian", VERSION);
        key.text("suite", &self.suite)
            .list("packages", packages)
            .list("mirror", &self.mirror)
            .list("components", self.components())
            .text("variant", self.variant())
            .text("arch", std::env::consts::ARCH);
        for (name, digest) in self.keyring_digests()? {
            key.bytes("keyring", &name).digest("content", &digest);
        }
        if self.lock.is_some() {
            key.text("lock", "none");
        }
        Ok(LayerKey(key.finish()))
    }

    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BaseError::NotRoot);
        }
        tools()?;
        self.check_names()?;
        let locked = self.locked()?;
        let with_keys = Keys::new(context.scratch)?;
        let layout = with_keys.layout(root, context.scratch);
        (context.sink)(StepEvent::Phase(format!("preparing {}", self.suite)));
        let (lock, state) = match (locked, &self.lock) {
            (Some((lock, _)), _) => (Some(lock), "used"),
            (None, None) => (None, "none"),
            (None, Some(path)) => {
                self.needs_network(context)?;
                let lock = resolve::resolve(context, self, &layout, None)?.lock;
                lock.write(path)?;
                (Some(lock), "written")
            }
        };
        match &lock {
            Some(lock) => install::install(context, self, &layout, lock)?,
            None => {
                self.needs_network(context)?;
                let watcher = Watcher::new(context.sink);
                self.watched(context, &watcher, command::mmdebstrap(&self.answering(), &layout))?;
            }
        }
        facts::remove_what_is_the_hosts(root).map_err(BaseError::io("clean up", root))?;
        if facts::has_ssh_host_keys(root) {
            let name = &self.name;
            (context.sink)(StepEvent::Warning(format!(
                "the base `{name}` has SSH host keys: all roots made from it have the same"
            )));
        }
        let packages = facts::packages(root).map_err(BaseError::io("read the package database of", root))?;
        let archives = match &lock {
            Some(lock) => lock.repos.iter().map(|repo| repo.line().trim_end().to_owned()).collect(),
            None => command::archives(self, layout.etc),
        };
        Ok(serde_json::json!({
            "source": "debian",
            "suite": self.suite,
            "variant": self.variant(),
            "components": self.components(),
            "mirror": self.mirror,
            "archives": archives,
            "lock": state,
            "packages": packages,
        }))
    }
}

/// An error unless the host has all tools.
fn tools() -> Result<(), BaseError> {
    for (program, package) in TOOLS {
        if !process::is_installed(program) {
            return Err(BaseError::Tool { program, package });
        }
    }
    Ok(())
}

/// Keyrings with nothing in them.
struct Keys {
    file: PathBuf,
    dir: PathBuf,
}

impl Keys {
    fn new(scratch: &Path) -> Result<Self, BaseError> {
        let (file, dir) = (scratch.join("no-keys"), scratch.join("no-keyrings"));
        fs::write(&file, "").map_err(BaseError::io("write", &file))?;
        fs::create_dir_all(&dir).map_err(BaseError::io("make", &dir))?;
        Ok(Self { file, dir })
    }

    fn layout<'a>(&'a self, root: &'a Path, scratch: &'a Path) -> Layout<'a> {
        Layout { root, scratch, no_keys: &self.file, no_keyrings: &self.dir, etc: Path::new("/etc") }
    }
}

impl DebianBase {
    /// The lock, if there is one, checked against the definition.
    fn locked(&self) -> Result<Option<(Lock, Vec<u8>)>, BaseError> {
        self.check_names()?;
        let Some(path) = &self.lock else { return Ok(None) };
        let found = Lock::read(path)?;
        let stale = found.as_ref().map(|(lock, _)| stale::stale(lock, path, self));
        match stale::refused(self, path, stale.unwrap_or_default()) {
            Some(refused) => Err(refused),
            None => Ok(found),
        }
    }

    /// The same base with the first of its mirrors that answers; the first of all if none does.
    fn answering(&self) -> Self {
        let mut base = self.clone();
        let answers = |mirror: &&String| {
            let url = format!("{}/dists/{}/Release", install::plain_url(mirror), self.suite);
            fetch::open(&url, &fetch::agent(true, Patience::default()), 0).is_ok()
        };
        if base.mirror.len() > 1 {
            let first = self.mirror.iter().find(answers).or(self.mirror.first());
            base.mirror = first.cloned().into_iter().collect();
        }
        base
    }

    /// An error where the network may not be used and packages have to be chosen.
    fn needs_network(&self, context: BaseContext<'_>) -> Result<(), BaseError> {
        let is_local = |mirror: &String| mirror.starts_with("file:") || mirror.starts_with("copy:");
        if !context.offline || self.mirror.first().is_some_and(is_local) {
            return Ok(());
        }
        let (why, hint) = match &self.lock {
            Some(lock) => (
                format!("the lock file `{}` isn't there", self.written.shown(lock)),
                "run `rootbuild lock`, and provision once, without `--offline`".to_owned(),
            ),
            None => (
                "the base has no lock".to_owned(),
                format!(
                    "provision once without `--offline`, after adding `lock = \"{}.lock\"` to the base: only a lock \
                     says what to install without asking the archive; or name a `file:` mirror",
                    self.name
                ),
            ),
        };
        Err(BaseError::Offline {
            message: format!("offline, and the base `{}` isn't in the store: {why}", self.name),
            hint,
        })
    }

    /// Runs mmdebstrap, with what it says told and understood.
    fn watched(
        &self,
        context: BaseContext<'_>,
        watcher: &Watcher<'_>,
        mut command: Command,
    ) -> Result<(), BaseError> {
        // Its own flag, so that a run that can't succeed any more can be ended.
        let end = Cancel::new();
        let also = end.clone();
        let guard = context.cancel.on_cancel(move || also.cancel());
        for (variable, proxy) in sources::host_proxies(&end)? {
            command.env(variable, proxy);
        }
        let result = process::run(command, &end, &|line| {
            if watcher.see(line) {
                end.cancel();
            }
        });
        drop(guard);
        context.cancel.check()?;
        match result {
            Ok(()) => Ok(()),
            Err(ProcessError::Failed { tail, .. }) => {
                Err(watcher.explain(&self.suite, &tail, self.shown_keyring()).into())
            }
            Err(ProcessError::Cancelled(_)) => match watcher.missing_component() {
                Some(component) => {
                    Err(DebianError::Component { suite: self.suite.clone(), component }.into())
                }
                None => Err(DebianError::Failed(String::new()).into()),
            },
            Err(other) => Err(other.into()),
        }
    }

    fn shown_keyring(&self) -> Option<String> {
        self.keyring.as_ref().map(|keyring| keyring.display().to_string())
    }
}
