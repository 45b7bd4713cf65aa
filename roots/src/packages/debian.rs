//! dpkg's database, read from the tree's objects.

use rootbuild_cache::{Kind, Store, Tree};

use super::{Family, Package, PackagesError, one_line, within};

/// The directory of the database.
pub(super) const PLACE: &str = "var/lib/dpkg";

/// A database larger than this isn't one.
const MOST: u64 = 256 << 20;

/// The installed packages; `None` where there is no database. Images without dpkg itself have one file for each
/// package in `status.d` instead.
pub(super) fn packages(store: &Store, tree: &Tree) -> Result<Option<Vec<Package>>, PackagesError> {
    let mut known = None;
    if let Some(text) = within::text(store, tree, &format!("{PLACE}/status"), MOST)? {
        known = Some(installed(&text, true));
    }
    let parts = within::find(tree, &format!("{PLACE}/status.d"));
    for child in parts.into_iter().flat_map(|dir| tree.children(&dir.path)) {
        let Some(entry) = child.entries.first() else { continue };
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        if matches!(entry.kind, Kind::File { .. }) && !path.ends_with(".md5sums") {
            let text = within::text(store, tree, &path, MOST)?.unwrap_or_default();
            known.get_or_insert_default().extend(installed(&text, false));
        }
    }
    Ok(known)
}

/// The packages in a database's text; with `status`, those that it says are installed.
fn installed(text: &str, status: bool) -> Vec<Package> {
    let mut packages = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |key: &str| {
            let mut values = paragraph.lines().filter_map(|line| line.split_once(':'));
            values.find(|(name, _)| name.eq_ignore_ascii_case(key)).and_then(|(_, value)| one_line(value))
        };
        if status && !field("Status").is_some_and(|status| status.ends_with(" installed")) {
            continue;
        }
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { continue };
        let source = field("Source").map(|source| with_version(&source, &version));
        let (epoch, version) = match version.split_once(':') {
            Some((epoch, version)) => (Some(epoch.to_owned()), version.to_owned()),
            None => (None, version),
        };
        packages.push(Package {
            family: Family::Debian,
            name,
            epoch,
            version,
            release: None,
            arch: field("Architecture").unwrap_or_else(|| "all".to_owned()),
            source,
            license: None,
            vendor: field("Maintainer"),
            homepage: field("Homepage"),
        });
    }
    packages
}

/// `Source: glibc` means the version of the package itself, `Source: gcc-12 (12.2.0-14)` another one.
fn with_version(source: &str, version: &str) -> String {
    match source.split_once(" (").and_then(|(name, rest)| Some((name, rest.strip_suffix(')')?))) {
        Some((name, version)) => format!("{name} {version}"),
        None => format!("{source} {version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_has_installed_is_told_with_epoch_source_and_maintainer() {
        let status = "Package: b\nStatus: install ok installed\nArchitecture: amd64\nSource: bb (1.0)\nVersion: 1:2-3\n\
                      Maintainer: A  B <a@b.example>\nDescription: x\n Version: 9\nHomepage: https://b.example/\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
                      Package: half\nStatus: install ok half-installed\nArchitecture: all\nVersion: 1\n\n\
                      Package: a\nStatus: install ok installed\nSource: aa\nVersion: 1\nArchitecture: all\n";
        let packages = installed(status, true);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(packages.len(), 2);
        let b = &packages[0];
        assert_eq!((b.name.as_str(), b.full_version()), ("b", "1:2-3".to_owned()));
        assert_eq!((b.epoch.clone(), b.version.as_str()), (text("1"), "2-3"));
        assert_eq!((b.source.clone(), b.vendor.clone()), (text("bb 1.0"), text("A B <a@b.example>")));
        assert_eq!(b.homepage, text("https://b.example/"));
        assert_eq!((packages[1].arch.as_str(), packages[1].source.clone()), ("all", text("aa 1")));
        assert_eq!(installed(status, false).len(), 4);
        assert!(installed("", true).is_empty() && installed("Package: \0\n\nx", false).is_empty());
    }
}
