//! Paths outside the project that Ansible would look into.

use std::path::{Path, PathBuf};

use super::{Project, plain};
use crate::config::Config;

/// Settings that list directories of roles, modules or plugins.
const PATH_LISTS: &[&str] = &[
    "roles_path",
    "collections_path",
    "collections_paths",
    "library",
    "module_utils",
    "action_plugins",
    "become_plugins",
    "cache_plugins",
    "callback_plugins",
    "cliconf_plugins",
    "connection_plugins",
    "doc_fragment_plugins",
    "filter_plugins",
    "httpapi_plugins",
    "inventory_plugins",
    "lookup_plugins",
    "netconf_plugins",
    "strategy_plugins",
    "terminal_plugins",
    "test_plugins",
    "vars_plugins",
];

/// Where Ansible looks by default, below no home.
const DEFAULTS: &[&str] = &["/usr/share/ansible", "/etc/ansible/roles"];

/// What Ansible looks for beside an inventory.
const BESIDE_INVENTORY: &[&str] = &["group_vars", "host_vars"];

/// What it looks for beside a playbook.
const BESIDE_PLAYBOOK: &[&str] = &[
    "group_vars",
    "host_vars",
    "roles",
    "collections",
    "library",
    "module_utils",
    "action_plugins",
    "callback_plugins",
    "filter_plugins",
    "lookup_plugins",
    "test_plugins",
    "vars_plugins",
    "files",
    "handlers",
    "tasks",
    "templates",
    "vars",
];

/// All of them, whether they exist or not.
pub(super) fn paths(project: &Project, config: &Config, playbook: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = DEFAULTS.iter().map(PathBuf::from).collect();
    for key in PATH_LISTS {
        paths.extend(config.paths("defaults", key, ':'));
    }
    let inventories = match &project.inventory {
        Some(inventory) => vec![inventory.clone()],
        None => config.paths("defaults", "inventory", ','),
    };
    for inventory in inventories {
        if let Some(dir) = inventory.parent().filter(|_| !inventory.is_dir()) {
            paths.extend(BESIDE_INVENTORY.iter().map(|name| dir.join(name)));
        }
        paths.push(inventory);
    }
    if let Some(dir) = playbook.parent() {
        paths.extend(BESIDE_PLAYBOOK.iter().map(|name| dir.join(name)));
        // What it imports or includes, most likely.
        paths.extend(
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "yml" || e == "yaml" || e == "json")),
        );
    }
    paths.push(playbook.to_owned());
    paths.iter().map(|path| plain(path)).collect()
}
