//! By which names roots are known: to each other by a file that each has as its `/etc/hosts`, to the host by lines in
//! its own.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rootbuild_cache::{Error, durable};

use super::Request;

/// What a root and the others of its cluster are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The cluster.
    pub cluster: String,
    /// The text of `/etc/hosts` in all of its roots.
    pub hosts: String,
    /// Where the host reaches this root.
    pub address: Ipv4Addr,
    /// What it is known by there, its whole name first.
    pub names: Vec<String>,
}

impl Names {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let cluster = request.cluster;
        let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        for member in &cluster.members {
            hosts.push_str(&format!("{} {}\n", member.address, member.names.join(" ")));
        }
        let own = cluster.members.iter().find(|member| member.root == request.name);
        Self {
            cluster: cluster.id.clone(),
            hosts,
            address: request.run.address.unwrap_or(Ipv4Addr::LOCALHOST),
            names: own.map(|member| member.names.clone()).unwrap_or_default(),
        }
    }
}

/// Changes a file where it stands: it is mounted in roots, where another of that name would not be seen.
pub(super) fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path);
            fs::create_dir_all(directory)?;
            return durable::write_atomic(path, text.as_bytes(), 0o644).map_err(io::Error::other);
        }
        Err(error) => return Err(error),
    }
    // Nobody finds it empty: the new text first, then the end.
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// The end of the lines of a root in the host's file.
fn mark(root: &str) -> String {
    format!("# rootbuild {root}")
}

/// Puts the names of a root into the host's file of names, in place of those that it has there. Nothing else
/// of it changes. Names that the file gives to somebody else are left to those, and returned.
pub(super) fn tell_host(path: &Path, root: &str, names: Option<&Names>) -> io::Result<Vec<String>> {
    let before = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mark = mark(root);
    let mut after: Vec<u8> = Vec::with_capacity(before.len() + 80);
    let mut theirs: Vec<String> = Vec::new();
    for line in before.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        if text.trim_end().ends_with(&mark) {
            continue;
        }
        let entry = text.split('#').next().unwrap_or_default();
        let mut words = entry.split_whitespace();
        if words.next().is_some_and(|address| address.parse::<IpAddr>().is_ok()) {
            theirs.extend(words.map(str::to_ascii_lowercase));
        }
        after.extend_from_slice(line);
    }
    let mut left = Vec::new();
    if let Some(names) = names {
        let is_theirs = |name: &&String| theirs.contains(&name.to_ascii_lowercase());
        left = names.names.iter().filter(is_theirs).cloned().collect();
        let own: Vec<&str> = names.names.iter().filter(|it| !is_theirs(it)).map(String::as_str).collect();
        if !own.is_empty() {
            if after.last().is_some_and(|byte| *byte != b'\n') {
                after.push(b'\n');
            }
            writeln!(after, "{} {} {mark}", names.address, own.join(" "))?;
        }
    }
    if after.is_empty() && !before.is_empty() {
        // There was none before ours.
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => replace(path, &after)?,
            done => done?,
        }
    } else if after != before {
        replace(path, &after)?;
    }
    Ok(left)
}

/// Replaces the host's file. Where it can't be, since it is mounted itself, or is a link that the administrator wants
/// so, it is changed in place.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let there = fs::symlink_metadata(path).ok();
    let mode = there.as_ref().map_or(0o644, |data| data.mode() & 0o777);
    let is_link = there.is_some_and(|data| data.is_symlink());
    if !is_link {
        match durable::write_atomic(path, text, mode) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {}
            done => return done.map_err(io::Error::other),
        }
    }
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(own: &[&str]) -> Names {
        Names {
            cluster: "x".to_owned(),
            hosts: String::new(),
            address: Ipv4Addr::new(10, 213, 0, 2),
            names: own.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn the_hosts_own_names_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let own = "127.0.0.1 localhost\n# web is not here\n10.0.0.7\tmail Web2 # web\n\n::1 end";
        fs::write(&path, own).unwrap();
        let tell = |root: &str, names: Option<&Names>| tell_host(&path, root, names).unwrap();
        let read = || fs::read_to_string(&path).unwrap();
        assert_eq!(tell("web", Some(&names(&["web.test", "web"]))), [""; 0]);
        assert_eq!(read(), format!("{own}\n10.213.0.2 web.test web # rootbuild web\n"));
        assert_eq!(tell("web", Some(&names(&["web"]))), [""; 0]);
        assert_eq!(read(), format!("{own}\n10.213.0.2 web # rootbuild web\n"));
        assert_eq!(tell("b", Some(&names(&["b", "web2", "localhost"]))), ["web2", "localhost"]);
        assert!(read().ends_with(" web # rootbuild web\n10.213.0.2 b # rootbuild b\n"), "{}", read());
        assert_eq!(tell("web2", None), [""; 0]);
        tell("b", None);
        tell("web", None);
        assert_eq!(read(), format!("{own}\n"));
        fs::remove_file(&path).unwrap();
        tell("web", Some(&names(&["web"])));
        tell("web", None);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_mounted_is_changed_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clusters/x.hosts");
        rewrite(&path, "long long\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for text in ["short\n", "much longer than before\n", "much longer than before\n"] {
            rewrite(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }
}
