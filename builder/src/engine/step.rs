//! The steps of a root and the keys of their layers.

use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, KeyHasher, LayerKey};
use rootbuild_playbooks::inputs::Project;
use rootbuild_playbooks::run::{STEP_VERSION, Services};
use serde_json::{Map, Value};

use crate::definition::{Ansible, Base, BaseKind, Definition, Playbook, Root};

/// The version of how keys are made; raised when the fields of a key change.
const KEY_VERSION: u64 = 2;

/// The version of [`tree_key`].
const KEY_VERSION_OF_TREES: u32 = 1;

/// One step of a root: what its layer is made by.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// The base, below everything.
    Base(&'a Base),
    /// A playbook on top of the layer before.
    Playbook(&'a Playbook),
}

impl<'a> Step<'a> {
    /// All steps of a root, from its base up.
    pub fn of(root: &'a Root, base: &'a Base) -> Vec<Self> {
        std::iter::once(Step::Base(base)).chain(root.playbooks.iter().map(Step::Playbook)).collect()
    }

    /// How people and JSON name it: `base:centos7`, or the playbook as the definition writes it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Base(base) => format!("base:{}", base.name),
            Self::Playbook(playbook) => playbook.name.clone(),
        }
    }
}

/// The key of a playbook's layer on `parent`: everything but what the playbook reads.
#[must_use]
pub fn playbook_key(
    parent: &Digest,
    root: &Root,
    playbook: &Playbook,
    project: &Project,
    ansible: &str,
) -> LayerKey {
    PlaybookStep::new(*parent, root, playbook, project, ansible).key()
}

/// Everything that decides the key of a playbook's layer.
#[derive(Debug, Clone)]
pub struct PlaybookStep<'a> {
    /// The tree that the playbook runs on.
    pub parent: Digest,
    /// The playbook, relative to the project where it lies in it.
    pub playbook: &'a Path,
    /// The inventory, likewise.
    pub inventory: Option<&'a Path>,
    /// The inventory host.
    pub host: &'a str,
    /// Extra vars.
    pub vars: &'a Map<String, Value>,
    /// `none`, `repos` or `host`.
    pub network: &'static str,
    /// With `repos`, which URLs.
    pub repos: &'a [String],
    /// `yes` or `no`.
    pub boot: &'static str,
    /// `defer` or `fail`.
    pub services: &'static str,
    /// What the toolchain is known by.
    pub ansible: &'a str,
}

impl<'a> PlaybookStep<'a> {
    /// What decides the layer of `playbook` for `root` on `parent`.
    #[must_use]
    pub fn new(
        parent: Digest,
        root: &'a Root,
        playbook: &'a Playbook,
        project: &'a Project,
        ansible: &'a str,
    ) -> Self {
        // In full, so that a new field can't be forgotten: what a key leaves out must be an input or harmless.
        // The vault password is neither: its file may change, what it opens may not.
        let Project { dir, inventory, vault_password_file: _, exclude: _ } = project;
        Self {
            parent,
            playbook: playbook.path.strip_prefix(dir).unwrap_or(&playbook.path),
            inventory: inventory.as_ref().map(|path| path.strip_prefix(dir).unwrap_or(path)),
            host: &root.host,
            vars: &root.vars,
            network: root.network.name(),
            repos: &root.repos,
            boot: if root.boot { "yes" } else { "no" },
            services: if root.services == Services::Fail { "fail" } else { "defer" },
            ansible,
        }
    }

    /// The layer's key.
    #[must_use]
    pub fn key(&self) -> LayerKey {
        let Self { parent, playbook, inventory, host, vars, network, repos, boot, services, ansible } = self;
        let mut key = KeyHasher::new("playbook", STEP_VERSION);
        key.number("key version", KEY_VERSION)
            .digest("parent", parent)
            .bytes("playbook", playbook.as_os_str().as_encoded_bytes())
            .list("inventory", inventory.iter().map(|path| path.as_os_str().as_encoded_bytes()))
            .text("host", host)
            .text("vars", &canonical_object(vars))
            .text("network", network)
            .text("boot", boot)
            .text("services", services)
            .text("ansible-core", ansible);
        if *network == "repos" {
            key.list("repos", repos.iter().map(String::as_bytes));
        }
        LayerKey(key.finish())
    }
}

/// The key of a base that is a tree of the store: all that it is made from.
#[must_use]
pub fn tree_key(tree: &Digest) -> LayerKey {
    LayerKey(KeyHasher::new("tree", KEY_VERSION_OF_TREES).digest("tree", tree).finish())
}

/// What decides whether equal definitions give equal layers, whichever rootbuild builds them: as long as it stays, nothing
/// need be built again.
#[must_use]
pub fn semantics() -> String {
    format!("{KEY_VERSION}.{STEP_VERSION}")
}

/// The Ansible project of a definition, as the playbooks crate wants it. What only rootbuild reads (the
/// definition, the files of bases, the store) or writes (`outputs`) isn't input of any playbook, even if it
/// lies in the project.
#[must_use]
pub fn project(definition: &Definition, ansible: &Ansible, store_dir: &Path, outputs: &[PathBuf]) -> Project {
    let mut exclude = vec![store_dir.to_owned(), definition.path.clone()];
    exclude.extend_from_slice(outputs);
    for base in &definition.bases {
        match &base.kind {
            BaseKind::Rpm(rpm) => {
                exclude.extend(rpm.repos.iter().chain(&rpm.lock).map(|path| path.value.clone()));
            }
            BaseKind::Debian(debian) => {
                exclude.extend(debian.keyring.iter().chain(&debian.lock).map(|path| path.value.clone()));
            }
            BaseKind::Archive(archive) => exclude.push(archive.file.value.clone()),
            BaseKind::Root(_) | BaseKind::Tree(_) => {}
        }
    }
    Project {
        dir: ansible.project.clone(),
        inventory: ansible.inventory.as_ref().map(|path| path.value.clone()),
        vault_password_file: ansible.vault_password_file.as_ref().map(|path| path.value.clone()),
        exclude,
    }
}

/// The files that this process's stdout and stderr go to: they change while it runs.
#[must_use]
pub fn own_outputs() -> Vec<PathBuf> {
    ["/proc/self/fd/1", "/proc/self/fd/2"].iter().filter_map(|link| std::fs::read_link(link).ok()).collect()
}

/// JSON with sorted keys and no spaces: one text per value.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => canonical_object(map),
        Value::Array(values) => {
            let items: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

fn canonical_object(map: &Map<String, Value>) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| name.as_str());
    let fields: Vec<String> = entries
        .into_iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_vars_is_no_part_of_a_key() {
        let one: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": "é\n"}], "a": true}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"a": true, "b": [1, {"x": "é\n", "y": null}]}"#).unwrap();
        assert_eq!(canonical(&one), canonical(&two));
        assert_eq!(canonical(&one), r#"{"a":true,"b":[1,{"x":"é\n","y":null}]}"#);
    }
}
