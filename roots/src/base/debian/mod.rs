//! A base installed from a Debian archive by mmdebstrap.
//!
//! Packages come as they are now: the same definition gives what the archive has on the day it is
//! built, and keeps that until the definition changes. Everything else is made the same every time,
//! as far as packages allow it (some make keys of their own when they are installed: `openssh-server`
//! does, so every root on such a base has the same ones unless a playbook makes others).

mod command;
mod error;
mod facts;
mod output;
mod sources;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, KeyHasher, LayerKey};

use super::{BaseContext, BaseError, BaseSource, named_file};
use crate::cancel::Cancel;
use crate::process::{self, ProcessError};
use crate::progress::StepEvent;

pub use error::DebianError;

use command::Layout;
use output::Watcher;

/// The semantic version of installing: part of every key, raised when the same definition would give
/// another root.
const VERSION: u32 = 1;

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
    /// The archive's URL. `None`: where the host is a Debian, the archives that its own apt uses, with
    /// updates and security updates if it uses those; else Debian's own.
    pub mirror: Option<String>,
    /// Components; empty: `main`.
    pub components: Vec<String>,
    /// mmdebstrap's variant, that is which packages are installed in any case. `None`: `minbase`, the
    /// essential and required ones and apt: some 80 packages, all that a service or Ansible counts on
    /// but Python and an init system.
    pub variant: Option<String>,
    /// The keyring, a file or a directory of them, of which one key must have signed the suite.
    /// `None`: what the host's apt trusts.
    pub keyring: Option<PathBuf>,
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
    /// the same, and the same definition is to have the same key on every host.
    fn key(&self) -> Result<LayerKey, BaseError> {
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
        Ok(LayerKey(key.finish()))
    }

    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BaseError::NotRoot);
        }
        for (program, package) in TOOLS {
            if !process::is_installed(program) {
                return Err(BaseError::Tool { program, package });
            }
        }
        self.check_names()?;
        let is_local = |mirror: &String| mirror.starts_with("file:") || mirror.starts_with("copy:");
        if context.offline && !self.mirror.as_ref().is_some_and(is_local) {
            return Err(BaseError::Offline {
                message: format!(
                    "offline, and the base `{}` isn't in the store: a Debian base comes from its mirror",
                    self.name
                ),
                hint: "provision once without `--offline`, or name a `file:` mirror in the definition"
                    .to_owned(),
            });
        }
        let (no_keys, no_keyrings) = (context.scratch.join("no-keys"), context.scratch.join("no-keyrings"));
        fs::write(&no_keys, "").map_err(BaseError::io("write", &no_keys))?;
        fs::create_dir_all(&no_keyrings).map_err(BaseError::io("make", &no_keyrings))?;
        let layout = Layout {
            root,
            scratch: context.scratch,
            no_keys: &no_keys,
            no_keyrings: &no_keyrings,
            etc: Path::new("/etc"),
        };
        (context.sink)(StepEvent::Phase(format!("preparing {}", self.suite)));
        self.run(context, &layout)?;
        facts::remove_what_is_the_hosts(root).map_err(BaseError::io("clean up", root))?;
        if facts::has_ssh_host_keys(root) {
            let name = &self.name;
            (context.sink)(StepEvent::Warning(format!(
                "the base `{name}` has SSH host keys: all roots made from it have the same"
            )));
        }
        let packages = facts::packages(root).map_err(BaseError::io("read the package database of", root))?;
        Ok(serde_json::json!({
            "source": "debian",
            "suite": self.suite,
            "variant": self.variant(),
            "components": self.components(),
            "mirror": self.mirror,
            "archives": command::archives(self, layout.etc),
            "packages": packages,
        }))
    }
}

impl DebianBase {
    fn run(&self, context: BaseContext<'_>, layout: &Layout<'_>) -> Result<(), BaseError> {
        let watcher = Watcher::new(context.sink);
        // Its own flag, so that a run that can't succeed any more can be ended.
        let end = Cancel::new();
        let also = end.clone();
        let guard = context.cancel.on_cancel(move || also.cancel());
        let mut command = command::mmdebstrap(self, layout);
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
