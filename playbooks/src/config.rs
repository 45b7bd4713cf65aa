//! The project's `ansible.cfg`, read as Ansible reads it, as far as rootbuild must know it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// `ansible.cfg`: values by section and key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Config {
    /// The directory that relative paths in it are relative to.
    dir: PathBuf,
    values: BTreeMap<(String, String), String>,
}

impl Config {
    /// The project's `ansible.cfg`; empty where there is none.
    pub(crate) fn of_project(dir: &Path) -> io::Result<Self> {
        let text = match std::fs::read(path(dir)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { dir: dir.to_owned(), values: parse(&text) })
    }

    /// A value, if it is set and not empty.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.values.get(&(section.to_owned(), key.to_owned()))?.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// A list of names ("callbacks_enabled = a, b").
    pub(crate) fn names(&self, section: &str, key: &str) -> Option<Vec<String>> {
        let value = self.get(section, key)?;
        Some(value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
    }

    /// A list of paths ("roles_path = roles:../shared/roles"), absolute. Those below Ansible's own
    /// home are left out: a run has an empty one.
    pub(crate) fn paths(&self, section: &str, key: &str, separator: char) -> Vec<PathBuf> {
        let value = self.get(section, key).unwrap_or_default();
        value.split(separator).filter_map(|path| self.path(path.trim())).collect()
    }

    /// A path as Ansible resolves it: relative to the file's directory.
    fn path(&self, path: &str) -> Option<PathBuf> {
        let path = path.trim_matches(['"', '\'']);
        if path.is_empty() || path.starts_with('~') || path.contains("ANSIBLE_HOME") {
            return None;
        }
        for current in ["{{CWD}}", "{{ CWD }}"] {
            if let Some(rest) = path.strip_prefix(current) {
                return Some(self.dir.join(rest.trim_start_matches('/')));
            }
        }
        Some(self.dir.join(path))
    }
}

/// Where a project's configuration is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("ansible.cfg")
}

/// Python's `ConfigParser(inline_comment_prefixes=(';',))`, without interpolation. Lines that it
/// would refuse are passed over: Ansible itself will complain about them.
fn parse(text: &str) -> BTreeMap<(String, String), String> {
    let mut values = BTreeMap::new();
    let mut section = String::new();
    let mut last: Option<((String, String), usize)> = None;
    for line in text.lines() {
        let stripped = without_comment(line);
        let content = stripped.trim();
        let indent = stripped.len() - stripped.trim_start().len();
        if content.is_empty() {
            // An empty line ends nothing: values may go on after it.
            continue;
        }
        if let Some((key, of)) = &last
            && indent > *of
        {
            let value: &mut String = values.entry(key.clone()).or_default();
            value.push('\n');
            value.push_str(content);
            continue;
        }
        if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            name.0.clone_into(&mut section);
            last = None;
        } else {
            let (key, value) = content.split_once(['=', ':']).unwrap_or((content, ""));
            let key = (section.clone(), key.trim().to_lowercase());
            values.insert(key.clone(), value.trim().to_owned());
            last = Some((key, indent));
        }
    }
    values
}

/// The line without a comment: a whole line after `#` or `;`, or what follows " ;".
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with(['#', ';']) {
        return "";
    }
    let cut = line.char_indices().find(|&(at, c)| c == ';' && line[..at].ends_with(char::is_whitespace));
    &line[..cut.map_or(line.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config { dir: "/project".into(), values: parse(text) }
    }

    #[test]
    fn values_are_read_as_pythons_parser_reads_them() {
        let config = config(
            "# comment\n[defaults]\nroles_path = roles : ../shared ; not this\nInventory: hosts\nempty =\n\
             ; comment\ncallbacks_enabled = timer,\n    profile_tasks\n[ssh_connection]\npipelining=True#kept\n",
        );
        assert_eq!(config.get("defaults", "inventory"), Some("hosts"));
        assert_eq!(config.get("defaults", "empty"), None);
        assert_eq!(config.get("ssh_connection", "pipelining"), Some("True#kept"));
        assert_eq!(config.names("defaults", "callbacks_enabled").unwrap(), ["timer", "profile_tasks"]);
        let paths = config.paths("defaults", "roles_path", ':');
        assert_eq!(paths, [PathBuf::from("/project/roles"), PathBuf::from("/project/../shared")]);
    }

    #[test]
    fn paths_below_a_home_are_nobodys() {
        let config =
            config("[defaults]\nlibrary = ~/modules:{{ANSIBLE_HOME}}/modules:{{CWD}}/mine:/usr/share/x");
        let paths = config.paths("defaults", "library", ':');
        assert_eq!(paths, [PathBuf::from("/project/mine"), PathBuf::from("/usr/share/x")]);
    }
}
