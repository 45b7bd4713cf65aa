//! What a layer's key is made of, part by part: so that a changed key can be told by what changed.

use std::fs;
use std::path::{Path, PathBuf};

use rootbuild_cache::Digest;
use rootbuild_roots::base::rpm::Bootstrap;
use serde::{Deserialize, Serialize};

use super::step::{PlaybookStep, canonical};
use crate::definition::{Base, BaseKind, Located};

/// What a file's content is hashed for at most: larger ones are no repositories or locks.
const MOST: u64 = 16 << 20;

/// One thing that decides a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What kind of thing, as in [`Reason::kind`](super::lookup::Reason::kind): `parent`, `playbook`,
    /// `inventory`, `host`, `variable`, `network`, `boot`, `services`, `ansible-core`; of bases `option`
    /// and `file`.
    pub kind: String,
    /// Which one: a variable's name, an option's, a file's.
    pub subject: String,
    /// Its value; a tree's or a file's is its digest. `None`: it isn't there.
    pub value: Option<String>,
}

impl Part {
    fn new(kind: &str, subject: impl Into<String>, value: impl Into<Option<String>>) -> Self {
        Self { kind: kind.to_owned(), subject: subject.into(), value: value.into() }
    }
}

/// The parts of a playbook's layer. `below` is the step that it stands on.
#[must_use]
pub fn of_playbook(step: &PlaybookStep<'_>, below: &str) -> Vec<Part> {
    let PlaybookStep { parent, playbook, inventory, host, vars, network, repos, boot, services, ansible } =
        step;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut parts = vec![
        Part::new("parent", below, parent.to_string()),
        Part::new("playbook", "playbook", text(playbook)),
        Part::new("inventory", "inventory", inventory.map(text)),
        Part::new("host", "host", (*host).to_owned()),
        Part::new("network", "network", (*network).to_owned()),
        Part::new("boot", "boot", (*boot).to_owned()),
        Part::new("services", "services", (*services).to_owned()),
        Part::new("ansible-core", "ansible-core", (*ansible).to_owned()),
    ];
    parts.extend((!repos.is_empty()).then(|| Part::new("network", "repos", repos.join(", "))));
    parts.extend(vars.iter().map(|(name, value)| Part::new("variable", name, canonical(value))));
    parts
}

/// The parts of a base's layer, as far as they can be told cheaply. Names of files are relative to `dir`
/// where they lie below it.
#[must_use]
pub fn of_base(base: &Base, dir: &Path) -> Vec<Part> {
    let option = |name: &str, value: Option<String>| Part::new("option", name, value);
    let one = |value: &Option<Located<String>>| value.as_ref().map(|value| value.value.clone());
    let mut parts = vec![option("source", Some(base.kind.source().to_owned()))];
    match &base.kind {
        BaseKind::Rpm(rpm) => {
            parts.push(option("packages", list(&rpm.packages)));
            parts.push(option("releasever", Some(rpm.releasever.value.clone())));
            parts.push(option("arch", Some(rpm.arch.value.clone())));
            // The other ways are one layer.
            parts.push(option("bootstrap", (rpm.bootstrap == Bootstrap::Root).then(|| "root".to_owned())));
        }
        BaseKind::Debian(debian) => {
            parts.push(option("suite", Some(debian.suite.value.clone())));
            parts.push(option("packages", list(&debian.packages)));
            parts.push(option("mirror", list(&debian.mirror)));
            parts.push(option("components", list(&debian.components)));
            parts.push(option("variant", one(&debian.variant)));
        }
        BaseKind::Archive(archive) => {
            parts.push(option("file", Some(name(&archive.file.value, dir))));
            parts.push(option("sha256", one(&archive.sha256)));
            parts.push(option("strip_components", Some(archive.strip_components.to_string())));
            parts.push(option("devices", Some(archive.devices.to_string())));
        }
        BaseKind::Root(root) => parts.push(option("root", Some(root.value.clone()))),
        BaseKind::Tree(tree) => parts.push(option("tree", Some(tree.value.to_string()))),
    }
    parts.extend(files_of_base(base).into_iter().map(|path| {
        let small = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MOST);
        let content = small.then(|| fs::read(path).ok()).flatten();
        Part::new("file", name(path, dir), content.map(|content| Digest::of(&content).to_string()))
    }));
    parts
}

/// The text files that a base is made from.
#[must_use]
pub fn files_of_base(base: &Base) -> Vec<&Path> {
    let paths: Vec<&PathBuf> = match &base.kind {
        BaseKind::Rpm(rpm) => rpm.repos.iter().chain(&rpm.lock).map(|path| &path.value).collect(),
        BaseKind::Debian(debian) => {
            debian.keyring.iter().chain(&debian.lock).map(|path| &path.value).collect()
        }
        BaseKind::Archive(_) | BaseKind::Root(_) | BaseKind::Tree(_) => Vec::new(),
    };
    paths.into_iter().map(PathBuf::as_path).collect()
}

/// What a base is made from as a whole, to be named when nothing else differs.
#[must_use]
pub fn source_of_base(base: &Base, dir: &Path) -> Option<String> {
    match &base.kind {
        BaseKind::Archive(archive) => Some(name(&archive.file.value, dir)),
        BaseKind::Debian(debian) => debian.keyring.as_ref().map(|path| name(&path.value, dir)),
        BaseKind::Rpm(_) | BaseKind::Root(_) | BaseKind::Tree(_) => None,
    }
}

fn name(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}

fn list(values: &[Located<String>]) -> Option<String> {
    let values: Vec<&str> = values.iter().map(|value| value.value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}
