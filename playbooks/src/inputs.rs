//! What a playbook may read. Coarse: the whole project.

use std::path::{Path, PathBuf};

use rootbuild_cache::Input;

/// Inputs couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    // variants by the implementation
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
pub fn inputs(project: &Project, playbook: &Path) -> Result<Vec<Input>, InputsError> {
    let _ = (project, playbook);
    unimplemented!()
}
