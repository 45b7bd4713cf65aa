//! What is installed in a tree, by the tree's own package databases.
//!
//! Nothing is looked up on the host, nor in a checkout that services may have changed: dpkg's database is read
//! from the tree's objects, rpm's by the tree's own rpm in the sandbox, in a view of the tree that is thrown
//! away, without a network.

mod debian;
mod release;
mod rpm;
mod within;

use std::io;

use rootbuild_cache::{Digest, Store, Tree};

use crate::cancel::{Cancel, Cancelled};
use crate::sandbox::SandboxError;
use crate::working::WorkingError;

pub use release::Distribution;

/// The package manager that a package was installed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// dpkg.
    Debian,
    /// rpm.
    Rpm,
}

/// A package that is installed. Two are equal only if all that their databases say of them is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    /// Its package manager.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// The epoch, where it has one.
    pub epoch: Option<String>,
    /// The version, without epoch; Debian's revision is part of it.
    pub version: String,
    /// rpm's release.
    pub release: Option<String>,
    /// The architecture ("x86_64", "noarch"; "amd64", "all").
    pub arch: String,
    /// What it was built from: a source RPM's file name, or a Debian source package with its version.
    pub source: Option<String>,
    /// The licence, in the package's own words.
    pub license: Option<String>,
    /// Who made it: rpm's vendor, Debian's maintainer.
    pub vendor: Option<String>,
    /// The project's page.
    pub homepage: Option<String>,
}

impl Package {
    /// Version and release, without epoch: `4.2.46-35.el7_9`.
    #[must_use]
    pub fn version_release(&self) -> String {
        match &self.release {
            Some(release) => format!("{}-{release}", self.version),
            None => self.version.clone(),
        }
    }

    /// The whole version: `1:4.2.46-35.el7_9`.
    #[must_use]
    pub fn full_version(&self) -> String {
        let version = self.version_release();
        match &self.epoch {
            Some(epoch) => format!("{epoch}:{version}"),
            None => version,
        }
    }
}

/// What is installed in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The packages, sorted. Keys that rpm lists as packages aren't among them.
    pub packages: Vec<Package>,
    /// Whether there is a package database at all.
    pub known: bool,
}

/// What is installed couldn't be told.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// The tree couldn't be made ready for its rpm.
    #[error(transparent)]
    Working(#[from] WorkingError),
    /// The tree's rpm couldn't be run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A database couldn't be read.
    #[error("can't read `/{path}` of the root")]
    Read {
        /// In the root, without leading slash.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is a database of rpm and nothing in the tree that reads it.
    #[error("the root has an rpm database, but no rpm that could read it")]
    NoRpm,
    /// The tree's rpm didn't say what is installed.
    #[error("the root's rpm doesn't say what is installed: {0}")]
    Rpm(String),
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What is installed in the tree `digest`. Needs root privileges and a store that can be written to.
///
/// # Errors
/// A database is there but can't be read, or the store or the sandbox refuse.
pub fn installed(store: &Store, digest: &Digest, cancel: &Cancel) -> Result<Installed, PackagesError> {
    let tree = store.tree(digest)?;
    let mut found = Installed::default();
    if let Some(packages) = debian::packages(store, &tree)? {
        found.known = true;
        found.packages.extend(packages);
    }
    if rpm::has_database(&tree) {
        found.known = true;
        found.packages.extend(rpm::packages(store, digest, &tree, cancel)?);
    }
    found.packages.sort();
    found.packages.dedup();
    Ok(found)
}

/// Which distribution a tree says it is, by its os-release.
///
/// # Errors
/// The store refuses.
pub fn distribution(store: &Store, tree: &Tree) -> Result<Option<Distribution>, PackagesError> {
    release::distribution(store, tree)
}

/// What tells whether two trees can have different packages: where this is equal, so are they.
#[must_use]
pub fn fingerprint(tree: &Tree) -> Vec<Digest> {
    let places = rpm::PLACES.iter().chain(&[debian::PLACE]);
    places
        .map(|place| {
            let found = within::find(tree, place).and_then(|entry| tree.directory_digest(&entry.path));
            found.unwrap_or_else(|| Digest::of(b""))
        })
        .collect()
}

/// A text from a package in one line; `None` where it says nothing.
fn one_line(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let line = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    (!line.is_empty() && line != "(none)").then_some(line)
}
