//! Where Debian packages come from: told, or taken from the host's own apt sources. A host behind a
//! proxy or with a mirror beside it has said there already how its archive is reached.

use std::fs;
use std::path::Path;

/// An archive as apt's sources name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) uri: String,
    pub(super) suite: String,
    pub(super) components: Vec<String>,
    /// `signed-by` as it was given: a keyring's path.
    pub(super) signed_by: Option<String>,
}

impl Entry {
    /// As a line of sources.list.
    pub(super) fn line(&self) -> String {
        let options = self.signed_by.as_ref().map_or_else(String::new, |path| format!("[signed-by={path}] "));
        format!("deb {options}{} {} {}", self.uri, self.suite, self.components.join(" "))
    }
}

/// What the suites of one release end in, beside nothing.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];

/// Suites that have no pockets.
const ROLLING: [&str; 4] = ["sid", "unstable", "experimental", "rc-buggy"];

/// The entries for `suite` as this host would reach it; none where it isn't of the host's family.
pub(super) fn of_host(etc: &Path, distro_info: &Path, suite: &str, components: &[String]) -> Vec<Entry> {
    let release = fs::read_to_string(etc.join("os-release")).unwrap_or_default();
    let field = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
    };
    let (family, codename) = (field("ID"), field("VERSION_CODENAME"));
    if !is_of_family(distro_info, &family, suite) {
        return Vec::new();
    }
    let entries = read(etc);
    let mut found = Vec::new();
    for pocket in POCKETS {
        if !pocket.is_empty() && ROLLING.contains(&suite) {
            continue;
        }
        let own = format!("{codename}{pocket}");
        let is_own = |entry: &&Entry| entry.suite == own && entry.components.iter().any(|c| c == "main");
        for entry in entries.iter().filter(is_own) {
            let mut entry = entry.clone();
            entry.suite = format!("{suite}{pocket}");
            entry.components = components.to_vec();
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

/// Whether `suite` is one of the distribution `family`, as distro-info knows.
fn is_of_family(distro_info: &Path, family: &str, suite: &str) -> bool {
    if family == "debian" && (ROLLING.contains(&suite) || ["stable", "testing", "oldstable"].contains(&suite))
    {
        return true;
    }
    let known = |family: &str| {
        let table = fs::read_to_string(distro_info.join(format!("{family}.csv"))).unwrap_or_default();
        // version,codename,series,created,...
        table.lines().skip(1).any(|line| line.split(',').nth(2) == Some(suite))
    };
    ["debian", "ubuntu"].contains(&family) && known(family)
}

/// All entries for binary packages in the host's apt sources.
fn read(etc: &Path) -> Vec<Entry> {
    let apt = etc.join("apt");
    let mut files = vec![apt.join("sources.list")];
    if let Ok(dir) = fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let mut entries = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(text.lines().filter_map(one_line)),
            Some("sources") => entries.extend(stanzas(&text)),
            _ => {}
        }
    }
    entries
}

/// A line of sources.list.
fn one_line(line: &str) -> Option<Entry> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Entry { uri, suite, components: words.collect(), signed_by: signed_by.map(str::to_owned) })
}

/// The stanzas of a deb822 file.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(stanza(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn stanza(fields: &[(String, String)]) -> Vec<Entry> {
    let get = |name: &str| fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let enabled = !["no", "false", "0", "off"].contains(&get("enabled").to_ascii_lowercase().as_str());
    if !enabled || !get("types").split_whitespace().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // A key may stand in the field itself; only a file can be handed on.
    let signed_by =
        Some(get("signed-by")).filter(|value| value.starts_with('/') && !value.contains(['\n', ' ']));
    let components: Vec<String> = get("components").split_whitespace().map(str::to_owned).collect();
    let mut entries = Vec::new();
    for uri in get("uris").split_whitespace() {
        for suite in get("suites").split_whitespace() {
            entries.push(Entry {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                components: components.clone(),
                signed_by: signed_by.map(str::to_owned),
            });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
        write(
            "debian.csv",
            "version,codename,series\n12,Bookworm,bookworm\n11,Bullseye,bullseye\n,Sid,sid\n",
        );
        write("ubuntu.csv", "version,codename,series\n22.04,Jammy,jammy\n");
        write(
            "apt/sources.list",
            "deb [arch=amd64 signed-by=/k.gpg] http://other/debian bookworm main # our mirror\n# deb http://no x main\n",
        );
        write(
            "apt/sources.list.d/debian.sources",
            "Types: deb deb-src\nURIs: http://mirror/debian/\nSuites: bookworm\n bookworm-updates\nComponents: main contrib\n\n\
             # with a comment\nTypes: deb\nURIs: http://mirror/security\nSuites: bookworm-security\nComponents: main\n\n\
             Types: deb\nEnabled: no\nURIs: http://off/\nSuites: bookworm\nComponents: main\n\n\
             Types: deb\nURIs: http://third/party\nSuites: bookworm\nComponents: stuff\n",
        );
        dir
    }

    fn lines(suite: &str) -> Vec<String> {
        let dir = host();
        let entries = of_host(dir.path(), dir.path(), suite, &["main".to_owned()]);
        entries.iter().map(Entry::line).collect()
    }

    #[test]
    fn the_hosts_mirrors_serve_its_whole_family() {
        let expected = [
            "deb [signed-by=/k.gpg] http://other/debian bullseye main",
            "deb http://mirror/debian/ bullseye main",
            "deb http://mirror/debian/ bullseye-updates main",
            "deb http://mirror/security bullseye-security main",
        ];
        assert_eq!(lines("bullseye"), expected);
    }

    #[test]
    fn rolling_suites_have_no_pockets() {
        let expected =
            ["deb [signed-by=/k.gpg] http://other/debian sid main", "deb http://mirror/debian/ sid main"];
        assert_eq!(lines("sid"), expected);
    }

    #[test]
    fn another_familys_suite_is_not_asked_of_the_hosts_mirrors() {
        assert!(lines("jammy").is_empty() && lines("nonsense").is_empty());
    }
}
