//! A base from a Debian archive, by mmdebstrap.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rootbuild_cache::{KeyHasher, LayerKey};
use serde_json::json;

use super::inroot::{open_in, remove_in};
use super::{BaseContext, BaseError, BaseSource, named_file};
use crate::process::{self, ProcessError};
use crate::progress::StepEvent;

mod error;
mod release;
mod sources;

pub use error::DebianError;
use sources::Entry;

/// The semantic version of what this step does; bumped when the same inputs give another root.
const STEP_VERSION: u32 = 1;

/// The host's tools, and the Debian packages they are in.
const TOOLS: [(&str, &str); 4] =
    [("mmdebstrap", "mmdebstrap"), ("apt-get", "apt"), ("unshare", "util-linux"), ("setpriv", "util-linux")];

/// Where distro-info says which suites a distribution has.
const DISTRO_INFO: &str = "/usr/share/distro-info";

/// A base from a Debian archive, by mmdebstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianBase {
    /// The suite ("bookworm").
    pub suite: String,
    /// Packages beyond those of the variant.
    pub packages: Vec<String>,
    /// The archive's URL; `None`: as the host's own apt sources say, or mmdebstrap's default.
    pub mirror: Option<String>,
    /// Components; empty: `main`.
    pub components: Vec<String>,
    /// mmdebstrap's variant; `None`: `minbase`.
    pub variant: Option<String>,
    /// The keyring (file or directory) that the archive is checked with; `None`: the host's.
    pub keyring: Option<PathBuf>,
}

impl DebianBase {
    fn components(&self) -> Vec<String> {
        if self.components.is_empty() { vec!["main".to_owned()] } else { self.components.clone() }
    }

    fn variant(&self) -> &str {
        self.variant.as_deref().unwrap_or("minbase")
    }

    /// Refuses names that mmdebstrap or apt would take for something else.
    fn check(&self) -> Result<(), BaseError> {
        let bad = |name: &str| {
            name.is_empty() || name.starts_with('-') || name.contains(|c: char| c == ',' || c.is_whitespace())
        };
        let names =
            [&self.suite].into_iter().chain(&self.packages).chain(&self.components).chain(&self.variant);
        match names.into_iter().find(|name| bad(name)) {
            Some(name) => Err(DebianError::BadName(name.clone()).into()),
            None => Ok(()),
        }
    }

    /// Where packages come from; nothing: mmdebstrap knows.
    fn entries(&self) -> Vec<Entry> {
        match &self.mirror {
            Some(uri) => {
                let (suite, components) = (self.suite.clone(), self.components());
                vec![Entry { uri: uri.clone(), suite, components, signed_by: None }]
            }
            None => {
                let etc = Path::new("/etc");
                sources::of_host(etc, Path::new(DISTRO_INFO), &self.suite, &self.components())
            }
        }
    }
}

impl BaseSource for DebianBase {
    fn key(&self) -> Result<LayerKey, BaseError> {
        self.check()?;
        let mut hasher = KeyHasher::new("base debian", STEP_VERSION);
        // The host's own mirrors are not in the key: they all serve the same archive.
        let Self { suite, packages, mirror, components: _, variant: _, keyring } = self;
        hasher.text("suite", suite).list("packages", packages);
        hasher.text("mirror", mirror.as_deref().unwrap_or_default());
        hasher.list("components", self.components()).text("variant", self.variant());
        for file in keyring.iter().flat_map(|path| keyring_files(path)) {
            hasher.bytes("keyring", &named_file(&file, "the keyring")?);
        }
        Ok(LayerKey(hasher.finish()))
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
        self.check()?;
        let entries = self.entries();
        let mirror = entries.first().map_or("of mmdebstrap's choice", |entry| entry.uri.as_str());
        (context.sink)(StepEvent::Phase("looking at the archive".to_owned()));
        let date = match entries.first() {
            Some(entry) => release::date(&entry.uri, &self.suite)?,
            None => None,
        };
        self.bootstrap(context, root, &entries, mirror, date)?;
        // mmdebstrap leaves the host's name in the root.
        remove_in(root, "etc", "hostname").map_err(BaseError::io("remove", &root.join("etc/hostname")))?;
        Ok(json!({
            "source": "debian",
            "suite": self.suite,
            "variant": self.variant(),
            "release_date": date,
            "archives": entries.iter().map(Entry::line).collect::<Vec<_>>(),
            "packages": packages(root)?,
        }))
    }
}

impl DebianBase {
    fn bootstrap(
        &self,
        context: BaseContext<'_>,
        root: &Path,
        entries: &[Entry],
        mirror: &str,
        date: Option<u64>,
    ) -> Result<(), BaseError> {
        // mmdebstrap wants to be able to look at it as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(root, open).map_err(BaseError::io("open", root))?;
        let mut command = process::tool("unshare");
        command.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--propagation", "private", "--", "mmdebstrap", "--mode=root", "--format=directory"]);
        command.arg(format!("--variant={}", self.variant()));
        command.arg(format!("--components={}", self.components().join(",")));
        if !self.packages.is_empty() {
            command.arg(format!("--include={}", self.packages.join(",")));
        }
        if let Some(keyring) = &self.keyring {
            let mut option = std::ffi::OsString::from("--keyring=");
            option.push(keyring);
            command.arg(option);
        }
        command.arg("--").arg(&self.suite).arg(root);
        command.args(entries.iter().map(Entry::line));
        command.env("HOME", context.scratch).env("DEBIAN_FRONTEND", "noninteractive");
        if let Some(date) = date {
            command.env("SOURCE_DATE_EPOCH", date.to_string());
        }
        let result = process::run(command, context.cancel, &|line| {
            (context.sink)(StepEvent::Line(line.to_owned()));
            if let Some(phase) = line.strip_prefix("I: ").and_then(|phase| phase.strip_suffix("...")) {
                (context.sink)(StepEvent::Phase(phase.to_owned()));
            } else if let Some(warning) = line.strip_prefix("W: ") {
                (context.sink)(StepEvent::Warning(warning.to_owned()));
            }
        });
        match result {
            Err(ProcessError::Failed { tail, .. }) => Err(DebianError::of(&tail, &self.suite, mirror).into()),
            other => Ok(other?),
        }
    }
}

/// The files of a keyring: itself, or what is in the directory, sorted.
fn keyring_files(path: &Path) -> Vec<PathBuf> {
    let Ok(dir) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> =
        dir.flatten().map(|entry| entry.path()).filter(|file| file.is_file()).collect();
    files.sort();
    files
}

/// What is installed, as the root's own dpkg knows it.
fn packages(root: &Path) -> Result<Vec<serde_json::Value>, BaseError> {
    const STATUS: &str = "var/lib/dpkg/status";
    let mut text = String::new();
    open_in(root, STATUS)
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(BaseError::io("read", &root.join(STATUS)))?;
    let field = |stanza: &str, name: &str| -> Option<String> {
        let value = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(str::to_owned)
    };
    let mut packages = Vec::new();
    for stanza in text.split("\n\n") {
        if field(stanza, "Status").is_some_and(|status| status.ends_with(" installed")) {
            packages.push(json!({
                "name": field(stanza, "Package"),
                "version": field(stanza, "Version"),
                "arch": field(stanza, "Architecture"),
            }));
        }
    }
    Ok(packages)
}
