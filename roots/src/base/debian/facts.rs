//! What is in a root, by its own package database.

use std::io::{self, Read, Write as _};
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::FileType;
use serde_json::{Value, json};

use super::super::inroot::{create_in, open_in, remove_in};
use crate::fd::{Dir, children, open_beneath, stat_if_there};

/// A database larger than this isn't one.
const STATUS_MAX: u64 = 256 << 20;

/// Name, version and architecture of every installed package, by name.
pub(super) fn packages(root: &Path) -> io::Result<Vec<Value>> {
    let mut text = Vec::new();
    open_in(root, "var/lib/dpkg/status")?.take(STATUS_MAX).read_to_end(&mut text)?;
    Ok(installed(&String::from_utf8_lossy(&text)))
}

fn installed(status: &str) -> Vec<Value> {
    let mut packages: Vec<[&str; 3]> = status
        .split("\n\n")
        .filter_map(|paragraph| {
            let field = |key: &str| {
                let value = |line: &'_ str| {
                    line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).map(str::len)
                };
                let line = paragraph.lines().find(|line| value(line).is_some())?;
                Some(line[key.len() + 1..].trim())
            };
            let installed = field("Status")?.ends_with(" installed");
            installed.then_some([field("Package")?, field("Version")?, field("Architecture")?])
        })
        .collect();
    packages.sort_unstable();
    packages
        .iter()
        .map(|[name, version, arch]| json!({ "name": name, "version": version, "arch": arch }))
        .collect()
}

/// Writes what the root's apt asks, and who asked for its packages. Where a package has put a link in their place,
/// that is replaced.
pub(super) fn write_apt_state(root: &Path, sources: &str, states: &str) -> io::Result<()> {
    for (dir, name, text) in
        [("etc/apt", "sources.list", sources), ("var/lib/apt", "extended_states", states)]
    {
        remove_in(root, dir, name)?;
        if !text.is_empty() {
            create_in(root, dir, name)?.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// Takes away what mmdebstrap copied from the host: its name and its name servers. Where a package has
/// put a link in their place, that stays.
pub(super) fn remove_what_is_the_hosts(root: &Path) -> io::Result<()> {
    for name in ["hostname", "resolv.conf"] {
        let top = Dir::top(root)?;
        let etc = open_beneath(top.fd()?.as_fd(), b"etc")?;
        let there = stat_if_there(etc, name.as_bytes())?;
        if there.is_some_and(|there| there.kind == FileType::RegularFile) {
            remove_in(root, "etc", name)?;
        }
    }
    Ok(())
}

/// Whether a package has made the keys by which others know this machine.
pub(super) fn has_ssh_host_keys(root: &Path) -> bool {
    let keys = || {
        let top = Dir::top(root)?;
        children(open_beneath(top.fd()?.as_fd(), b"etc/ssh")?)
    };
    keys().is_ok_and(|keys| {
        keys.iter().any(|key| key.name.starts_with(b"ssh_host_") && key.name.ends_with(b"_key"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed_by_name() {
        let status = "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nDescription: x\n Version: 9\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
                      Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
        let expected = [
            json!({ "name": "a", "version": "1", "arch": "all" }),
            json!({ "name": "b", "version": "1:2-3", "arch": "amd64" }),
        ];
        assert_eq!(installed(status), expected);
    }
}
