//! From a base of the definition to what builds it.

use rootbuild_roots::base::archive::{Keyed, Limits};
use rootbuild_roots::base::{ArchiveBase, BaseSource, DebianBase, RpmBase};

use crate::definition::{Base, BaseKind, Located};

/// What builds `base`.
///
/// # Panics
/// When `base` is of source `root`: that is another root's tree, which nobody builds twice.
#[must_use]
pub fn source(base: &Base) -> Box<dyn BaseSource> {
    match &base.kind {
        BaseKind::Rpm(rpm) => Box::new(RpmBase {
            repo_files: values(&rpm.repos),
            packages: values(&rpm.packages),
            lock: value(&rpm.lock),
            arch: rpm.arch.clone(),
            releasever: rpm.releasever.clone(),
            bootstrap: rpm.bootstrap,
        }),
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
            limits: Limits::default(),
            keyed: Keyed::default(),
        }),
        BaseKind::Root(root) => unreachable!("base `{}` is the tree of root `{}`", base.name, root.value),
    }
}

fn values<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

fn value<T: Clone>(located: &Option<Located<T>>) -> Option<T> {
    located.as_ref().map(|located| located.value.clone())
}
