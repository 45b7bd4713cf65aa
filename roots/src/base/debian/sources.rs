//! Where packages come from: the host's own apt sources, if it is a Debian.

use std::path::{Path, PathBuf};

use crate::cancel::Cancel;
use crate::process::{self, ProcessError};

/// The keys of Debian's own archive, on the host and in every root that has apt.
pub(super) const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Releases that the ordinary mirrors don't have any more.
const ARCHIVED: [&str; 8] = ["etch", "lenny", "squeeze", "wheezy", "jessie", "stretch", "buster", "sarge"];

/// Names that are Debian's, but no release's: they have no updates and no security archive beside them.
const ROLLING: [&str; 5] = ["sid", "unstable", "testing", "experimental", "rc-buggy"];

/// Releases, and names for them.
const RELEASES: [&str; 8] =
    ["stable", "oldstable", "oldoldstable", "bullseye", "bookworm", "trixie", "forky", "duke"];

/// What the host's own release has beside it, that a root should have too.
const BESIDES: [&str; 3] = ["", "-updates", "-security"];

/// Whether a suite is so old that it was moved away.
pub(super) fn is_archived(suite: &str) -> bool {
    ARCHIVED.contains(&suite)
}

/// One archive in apt's configuration, in either of its formats.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
}

/// Lines for the root's `sources.list`, made from the host's own: its archives, for another suite.
/// `None` where the host is no Debian, its sources say nothing of use, or the suite isn't Debian's.
pub(super) fn from_host(etc: &Path, suite: &str, components: &[String], signed: bool) -> Option<Vec<String>> {
    let release = std::fs::read_to_string(etc.join("os-release")).ok()?;
    if os_release(&release, "ID") != Some("debian") {
        return None;
    }
    // Debian's testing has no name in its os-release.
    let host = os_release(&release, "VERSION_CODENAME").unwrap_or("testing");
    let debians =
        RELEASES.contains(&suite) || ROLLING.contains(&suite) || is_archived(suite) || suite == host;
    if !debians {
        return None;
    }
    let sources = read_sources(etc);
    let alone = ROLLING.contains(&suite) || is_archived(suite);
    let options = if signed { format!("[signed-by={DEBIAN_KEYRING}] ") } else { String::new() };
    let mut lines: Vec<String> = Vec::new();
    for beside in BESIDES.into_iter().filter(|beside| beside.is_empty() || !alone) {
        let found = sources.iter().find(|source| {
            let (name, rest) = split(&source.suite);
            rest == beside
                && (name == host || RELEASES.contains(&name) || ROLLING.contains(&name))
                && source.components.iter().any(|component| component == "main")
        });
        if let Some(source) = found {
            lines.push(format!("deb {options}{} {suite}{beside} {}", source.uri, components.join(" ")));
        } else if beside.is_empty() {
            return None;
        }
    }
    Some(lines)
}

/// A suite's release and what stands behind it: `bookworm` and `-security`.
fn split(suite: &str) -> (&str, &str) {
    // Not `rc-buggy`.
    if ROLLING.contains(&suite) {
        return (suite, "");
    }
    suite.split_at(suite.find(['-', '/']).unwrap_or(suite.len()))
}

fn os_release<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// All enabled archives of packages, in the order in which apt reads them.
fn read_sources(etc: &Path) -> Vec<Source> {
    let apt = etc.join("apt");
    let mut files = vec![apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = std::fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    parts.sort();
    files.extend(parts);
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(text.lines().flat_map(one_line)),
            Some("sources") => found.extend(deb822(&text)),
            _ => {}
        }
    }
    // Others (`cdrom:`, `mirror+file:`) are of no use in a root.
    found.retain(|source| source.uri.starts_with("http://") || source.uri.starts_with("https://"));
    found
}

/// `deb [option=value …] URI suite component …`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    if let Some(options) = rest.strip_prefix('[') {
        rest = options.split_once(']')?.1;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suite: words.next()?, components: words.collect() })
}

/// Paragraphs of `Key: value`, where lines that begin with a space go on.
fn deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            found.extend(paragraph(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

fn paragraph(fields: &[(String, String)]) -> Vec<Source> {
    let words = |key: &str| -> Vec<String> {
        let value = fields.iter().find(|(found, _)| found == key).map_or("", |(_, value)| value);
        value.split_whitespace().map(str::to_owned).collect()
    };
    let disabled = words("enabled").first().is_some_and(|word| {
        ["no", "false", "without", "off", "disable", "0"].contains(&word.to_ascii_lowercase().as_str())
    });
    if disabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let (uris, components) = (words("uris"), words("components"));
    let of = |suite: String| {
        let components = components.clone();
        uris.iter().map(move |uri| Source {
            uri: uri.clone(),
            suite: suite.clone(),
            components: components.clone(),
        })
    };
    words("suites").into_iter().flat_map(of).collect()
}

/// Proxies that the host's apt is configured to use, as environment variables, where the caller's
/// environment doesn't name any: the apt that installs a root reads nothing of the host's configuration.
pub(super) fn host_proxies(cancel: &Cancel) -> Result<Vec<(&'static str, String)>, ProcessError> {
    let mut command = process::tool("apt-config");
    command.args(["dump", "--format", "%F=%v%n", "Acquire::http::Proxy", "Acquire::https::Proxy"]);
    let output = process::capture(command, b"", cancel, &|_| ())?;
    let unset = |name: &str| std::env::var_os(name).is_none();
    Ok(proxies(&String::from_utf8_lossy(&output.stdout)).filter(|(name, _)| unset(name)).collect())
}

fn proxies(dump: &str) -> impl Iterator<Item = (&'static str, String)> {
    dump.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let name = match key {
            "Acquire::http::Proxy" => "http_proxy",
            "Acquire::https::Proxy" => "https_proxy",
            // For one host only.
            _ => return None,
        };
        (!value.is_empty() && value != "DIRECT").then(|| (name, value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// An `/etc` with these files.
    fn etc(files: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir_all(dir.path().join("apt/sources.list.d")).expect("writable");
        let release =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        for (name, text) in [("os-release", release)].iter().chain(files) {
            fs::write(dir.path().join(name), text).expect("writable");
        }
        dir
    }

    fn lines(etc: &TempDir, suite: &str) -> Option<Vec<String>> {
        from_host(etc.path(), suite, &["main".to_owned(), "contrib".to_owned()], false)
    }

    #[test]
    fn the_hosts_archives_are_used_for_the_roots_suite() {
        let etc = etc(&[(
            "apt/sources.list.d/debian.sources",
            "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n# another\n bookworm-backports\nComponents: main\n\n\
             Types: deb\nEnabled: no\nURIs: http://off.example/security\nSuites: bookworm-security\nComponents: main\n\n\
             Types: deb\nURIs: http://security.example/security\nSuites: bookworm-security\nComponents: main\n",
        )]);
        assert_eq!(
            lines(&etc, "trixie").expect("a Debian"),
            [
                "deb http://mirror.example/debian trixie main contrib",
                "deb http://mirror.example/debian trixie-updates main contrib",
                "deb http://security.example/security trixie-security main contrib",
            ]
        );
        assert_eq!(
            lines(&etc, "sid").expect("a Debian"),
            ["deb http://mirror.example/debian sid main contrib"]
        );
        assert_eq!(lines(&etc, "jammy"), None);
        let signed = from_host(etc.path(), "sid", &["main".to_owned()], true).expect("a Debian");
        assert_eq!(
            signed,
            [format!("deb [signed-by={DEBIAN_KEYRING}] http://mirror.example/debian sid main")]
        );
    }

    #[test]
    fn both_formats_of_apt_are_read() {
        let etc = etc(&[(
            "apt/sources.list",
            "#deb http://off.example/debian bookworm main\ndeb cdrom:[Debian 12]/ bookworm main\n\
             deb-src http://src.example/debian bookworm main\ndeb\t[arch=amd64 signed-by=/k] https://one.example/debian  bookworm   main # main\n\
             deb http://other.example/tool bookworm tool\n",
        )]);
        assert_eq!(
            lines(&etc, "bookworm").expect("a Debian"),
            ["deb https://one.example/debian bookworm main contrib"]
        );
    }

    #[test]
    fn the_proxy_of_the_hosts_apt_is_used() {
        let dump = "Acquire::http::Proxy=http://cache.example:3142\nAcquire::http::Proxy::m.example=DIRECT\nAcquire::https::Proxy=DIRECT\n";
        assert_eq!(
            proxies(dump).collect::<Vec<_>>(),
            [("http_proxy", "http://cache.example:3142".to_owned())]
        );
    }

    #[test]
    fn a_host_that_is_no_debian_or_says_nothing_is_of_no_use() {
        assert_eq!(lines(&etc(&[("os-release", "ID=fedora\nVERSION_CODENAME=\"\"\n")]), "bookworm"), None);
        assert_eq!(lines(&etc(&[]), "bookworm"), None);
        assert_eq!(
            lines(&etc(&[("apt/sources.list", "deb http://x.example/tool bookworm tool\n")]), "bookworm"),
            None
        );
    }
}
