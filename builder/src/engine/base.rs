//! From a base of the definition to what builds it.

use std::path::Path;

use rootbuild_roots::base::archive::Keyed;
use rootbuild_roots::base::rpm::Written;
use rootbuild_roots::base::{ArchiveBase, BaseSource, DebianBase, RpmBase};

use crate::definition::{self, Base, BaseKind, Located};

/// What builds `base`, which `definition` (a file) defines.
///
/// # Panics
/// When `base` is of source `root`: that is another root's tree, which nobody builds twice.
#[must_use]
pub fn source(base: &Base, definition: &Path) -> Box<dyn BaseSource> {
    match &base.kind {
        BaseKind::Rpm(rpm) => Box::new(self::rpm(base, rpm, definition)),
        BaseKind::Debian(debian) => Box::new(DebianBase {
            name: base.name.clone(),
            suite: debian.suite.value.clone(),
            packages: values(&debian.packages),
            mirror: value(&debian.mirror),
            components: values(&debian.components),
            variant: value(&debian.variant),
            keyring: value(&debian.keyring),
        }),
        BaseKind::Archive(archive) => Box::new(ArchiveBase {
            name: base.name.clone(),
            file: archive.file.value.clone(),
            sha256: value(&archive.sha256),
            strip_components: archive.strip_components,
            devices: archive.devices,
            limits: None,
            keyed: Keyed::default(),
        }),
        BaseKind::Root(root) => unreachable!("base `{}` is the tree of root `{}`", base.name, root.value),
    }
}

/// A base from RPM repositories, which `definition` (a file) defines.
#[must_use]
pub fn rpm(base: &Base, rpm: &definition::RpmBase, definition: &Path) -> RpmBase {
    RpmBase {
        repo_files: values(&rpm.repos),
        packages: values(&rpm.packages),
        lock: value(&rpm.lock),
        arch: rpm.arch.value.clone(),
        releasever: rpm.releasever.value.clone(),
        bootstrap: rpm.bootstrap,
        written: Written {
            name: base.name.clone(),
            file: definition.to_owned(),
            base: base.span.line,
            repos: rpm.repos.first().map_or(0, |file| file.span.line),
            packages: rpm.packages.iter().map(|package| package.span.line).collect(),
            lock: rpm.lock.as_ref().map_or(0, |file| file.span.line),
            releasever: rpm.releasever.span.line,
            arch: rpm.arch.span.line,
        },
    }
}

fn values<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

fn value<T: Clone>(located: &Option<Located<T>>) -> Option<T> {
    located.as_ref().map(|located| located.value.clone())
}
