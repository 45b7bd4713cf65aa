//! What is in a root, written down for other programs: its packages, and the layer that brought each.
//!
//! A document is a function of the root's layers and of this program's version: no time of day, nothing random.

mod cyclonedx;
mod purl;
mod spdx;

use std::collections::BTreeMap;

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::packages::{self, Distribution, Package, PackagesError};

pub use cyclonedx::cyclonedx;
pub use spdx::spdx;

/// A layer of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its step, as `plan` shows it; `ROOT:STEP` for one of the root that this one stands on.
    pub step: String,
    /// Its tree.
    pub tree: Digest,
}

/// A package, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The package.
    pub package: Package,
    /// The layer that brought it, by its place in [`Bill::layers`]; `None` where the layers aren't known.
    pub layer: Option<usize>,
}

/// What is in a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// The root's name.
    pub root: String,
    /// Its tree.
    pub tree: Digest,
    /// What it says it is.
    pub distribution: Option<Distribution>,
    /// Its layers, from the base up; empty where they aren't known.
    pub layers: Vec<Layer>,
    /// Its packages, sorted.
    pub packages: Vec<Found>,
    /// Whether it has a package database.
    pub known: bool,
}

impl Bill {
    /// Looks into the tree of a root, and into that of every layer that changed a package database.
    ///
    /// # Errors
    /// As [`packages::installed`].
    pub fn of(
        store: &Store,
        root: &str,
        tree: Digest,
        layers: Vec<Layer>,
        cancel: &Cancel,
    ) -> Result<Self, PackagesError> {
        let mut brought = Brought::default();
        let (mut before, mut known) = (None, false);
        for (index, layer) in layers.iter().enumerate() {
            let fingerprint = packages::fingerprint(&store.tree(&layer.tree)?);
            if before.as_ref() == Some(&fingerprint) {
                continue;
            }
            let installed = packages::installed(store, &layer.tree, cancel)?;
            known = installed.known;
            brought.layer(Some(index), installed.packages);
            before = Some(fingerprint);
        }
        if layers.is_empty() {
            let installed = packages::installed(store, &tree, cancel)?;
            known = installed.known;
            brought.layer(None, installed.packages);
        }
        let distribution = packages::distribution(store, &store.tree(&tree)?)?;
        let packages = brought.0.into_iter().map(|(package, layer)| Found { package, layer }).collect();
        Ok(Self { root: root.to_owned(), tree, distribution, layers, packages, known })
    }
}

/// Packages, each with the layer since which it has been there just like that.
#[derive(Debug, Default)]
struct Brought(BTreeMap<Package, Option<usize>>);

impl Brought {
    /// With layer `index` exactly `packages` are installed.
    fn layer(&mut self, index: Option<usize>, packages: Vec<Package>) {
        let before = std::mem::take(&mut self.0);
        self.0 = packages
            .into_iter()
            .map(|package| {
                let since = before.get(&package).copied().unwrap_or(index);
                (package, since)
            })
            .collect();
    }
}

/// This program, as documents name it.
const TOOL: &str = env!("CARGO_PKG_NAME");

/// Its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A UUID (version 8: of the program's own making) that stands for `text`.
fn uuid(text: &str) -> String {
    let hex = Digest::of(text.as_bytes()).hex();
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
}

#[cfg(test)]
mod tests {
    use rootbuild_roots::packages::Family;

    use super::*;

    pub(super) fn package(name: &str, version: &str) -> Package {
        Package {
            family: Family::Rpm,
            name: name.to_owned(),
            epoch: None,
            version: version.to_owned(),
            release: Some("1.el7".to_owned()),
            arch: "x86_64".to_owned(),
            source: Some(format!("{name}-{version}-1.el7.src.rpm")),
            license: Some("GPLv2+ & \"others\"".to_owned()),
            vendor: Some("CentOS".to_owned()),
            homepage: Some("https://example.org/".to_owned()),
        }
    }

    pub(super) fn bill() -> Bill {
        let layer = |step: &str| Layer { step: step.to_owned(), tree: Digest::of(step.as_bytes()) };
        let debian = Package {
            family: Family::Debian,
            epoch: Some("1".to_owned()),
            release: None,
            license: None,
            source: None,
            homepage: Some("not a url".to_owned()),
            vendor: Some("A <a@b.example>".to_owned()),
            ..package("libstdc++6", "12.2~a-3")
        };
        Bill {
            root: "hgweb".to_owned(),
            tree: Digest::of(b"site.yml"),
            distribution: Some(Distribution { id: "centos".to_owned(), version: Some("7".to_owned()) }),
            layers: vec![layer("base:centos7"), layer("site.yml")],
            packages: vec![
                Found { package: debian, layer: None },
                Found { package: package("bash", "4.2"), layer: Some(0) },
                Found { package: package("httpd", "2.4"), layer: Some(1) },
            ],
            known: true,
        }
    }

    #[test]
    fn a_package_came_with_the_layer_since_which_it_is_there_just_like_that() {
        let mut brought = Brought::default();
        let [kept, old, new, gone] =
            [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1")].map(|(n, v)| package(n, v));
        brought.layer(Some(0), vec![kept.clone(), old.clone(), gone.clone()]);
        brought.layer(Some(2), vec![kept.clone(), new.clone()]);
        assert_eq!(brought.0, BTreeMap::from([(kept.clone(), Some(0)), (new.clone(), Some(2))]));
        // Downgraded and put back again, they came with the last.
        brought.layer(Some(3), vec![kept.clone(), old.clone(), gone.clone()]);
        assert_eq!(brought.0, BTreeMap::from([(kept, Some(0)), (old, Some(3)), (gone, Some(3))]));
    }

    #[test]
    fn an_identifier_is_a_uuid_and_follows_from_the_text() {
        let one = uuid("a");
        assert_eq!(one, uuid("a"));
        assert_ne!(one, uuid("b"));
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!((&one[14..15], &one[19..20]), ("8", "8"));
    }
}
