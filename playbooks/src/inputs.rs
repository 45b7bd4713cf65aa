//! What a playbook read, where its run could be traced; else what it may read, coarsely: the whole project,
//! and what its configuration names outside.

pub(crate) mod digest;
mod filter;
mod names;
mod outside;
mod reader;
mod scope;
mod stats;
mod traced;
mod walk;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rootbuild_cache::Input;

use crate::config::Config;
use filter::Filter;
pub use reader::{Reader, cache_in};
pub use scope::scope;
pub use traced::Traced;
use walk::{Entry, Found, LeftOut};

/// The kinds of inputs.
pub mod kind {
    /// A file: its content and its permissions.
    pub const FILE: &str = "file";
    /// Something that was looked for and wasn't there.
    pub const ABSENT: &str = "absent";
    /// Something that was looked for and not read: its type, of files also the permissions.
    pub const EXISTS: &str = "exists";
    /// A symbolic link: what it leads to.
    pub const LINK: &str = "link";
    /// A directory: the names in it and their types.
    pub const DIRECTORY: &str = "directory";
    /// What the run has left in the project.
    pub const OUTPUT: &str = "output";
    /// A variable of the caller's environment.
    pub const ENVIRONMENT: &str = "environment";
    /// The interpreter that Ansible runs with, which stands for the host's operating system.
    pub const PYTHON: &str = "python";
    /// The names of everything that a playbook (the input's name) may read; where nothing was traced.
    pub const PROJECT: &str = "project";
}

/// Inputs couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A file or directory couldn't be read.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The playbook isn't there.
    #[error("there is no playbook `{}`", path.display())]
    NoPlaybook {
        /// Where it should be.
        path: PathBuf,
    },
}

impl InputsError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The Ansible project that playbooks belong to; all paths absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Where `ansible.cfg`, `roles/`, `group_vars/` are found.
    pub dir: PathBuf,
    /// The inventory, a file or directory.
    pub inventory: Option<PathBuf>,
    /// The vault password file named by the definition (never part of a key).
    pub vault_password_file: Option<PathBuf>,
    /// Paths that aren't inputs although they lie in the project (the store, say).
    pub exclude: Vec<PathBuf>,
}

/// Every file that a playbook of this project may read, sorted, with digests. `playbook` is
/// included even if it lies outside the project.
///
/// Names are relative to the project, absolute for what lies outside. A `file`'s digest covers its
/// content and permissions, a `link`'s its target; what a link that leaves the project leads to is
/// listed below the link's own name. A `directory` is listed only if nothing is in it.
pub fn inputs(project: &Project, playbook: &Path) -> Result<Vec<Input>, InputsError> {
    if !playbook.is_file() {
        return Err(InputsError::NoPlaybook { path: playbook.to_owned() });
    }
    let entries: Vec<Entry> = find(project, playbook)?.into_entries();
    let mut inputs: Vec<Input> = entries.into_par_iter().map(digest::input).collect::<Result<_, _>>()?;
    inputs.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    Ok(inputs)
}

/// The inputs of a run that couldn't be traced: everything that the playbook may read, and that there is
/// nothing else. `inputs` are those of [`inputs`].
#[must_use]
pub fn whole(project: &Project, playbook: &Path, mut inputs: Vec<Input>) -> Vec<Input> {
    let name = names::Names::of(&project.dir).name(playbook);
    let digest = Some(reader::names_of(&inputs));
    inputs.push(Input { kind: kind::PROJECT.to_owned(), name, digest });
    inputs.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    inputs
}

/// What the project may put in the place of Ansible's own Python.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnPython {
    /// Every file's stem ("copy"): it may be a module of that name.
    pub(crate) names: Vec<String>,
    /// Whether any module may import something of the project instead of Ansible's module_utils.
    /// Those of collections have names of their own.
    pub(crate) utilities: bool,
}

/// Looks for it among all inputs.
pub(crate) fn own_python(project: &Project, playbook: &Path) -> Result<OwnPython, InputsError> {
    let config = read_config(project)?;
    let mut names = BTreeSet::new();
    // Such a directory may have any name.
    let mut utilities = config.get("defaults", "module_utils").is_some();
    for Entry { name, .. } in find(project, playbook)?.into_entries() {
        let has = |part: &str| name.components().any(|component| component.as_os_str() == part);
        utilities |= has("module_utils") && !has("ansible_collections");
        names.extend(name.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.retain(|name| !name.contains('\n'));
    Ok(OwnPython { names: names.into_iter().collect(), utilities })
}

/// Everything that may be read, by name.
fn find(project: &Project, playbook: &Path) -> Result<Found, InputsError> {
    let config = read_config(project)?;
    let left_out = left_out(project, &config);
    let mut found = Found::default();
    walk::walk(&project.dir, &project.dir, &left_out, &mut found)?;
    for path in outside::paths(project, &config, playbook) {
        if !path.starts_with(&project.dir) {
            walk::walk(&path, &project.dir, &left_out, &mut found)?;
        }
    }
    Ok(found)
}

fn read_config(project: &Project) -> Result<Config, InputsError> {
    Config::of_project(&project.dir).map_err(InputsError::io("read", &crate::config::path(&project.dir)))
}

/// Paths that are no inputs: secrets, and what running Ansible writes.
fn left_out(project: &Project, config: &Config) -> LeftOut {
    let mut paths: BTreeSet<PathBuf> = project.exclude.iter().cloned().collect();
    paths.extend(project.vault_password_file.clone());
    for key in
        ["vault_password_file", "log_path", "retry_files_save_path", "fact_caching_connection", "local_tmp"]
    {
        paths.extend(config.paths("defaults", key, '\0'));
    }
    // "label@file, file": the file is a password, or a program that prints it.
    for path in config.paths("defaults", "vault_identity_list", ',') {
        let text = path.to_string_lossy().into_owned();
        paths.extend(text.rsplit_once('@').map(|(_, file)| project.dir.join(file)));
        paths.insert(path);
    }
    LeftOut::new(paths.iter().map(|path| plain(path)))
}

/// The path without `.` and `..`, by text alone.
pub(crate) fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
