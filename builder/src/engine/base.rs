//! From a base of the definition to what builds it.

use std::path::Path;

use rootbuild_roots::base::archive::Keyed;
use rootbuild_roots::base::debian;
use rootbuild_roots::base::rpm::{Bootstrap, Written};
use rootbuild_roots::base::{
    ArchiveBase, BaseContext, BaseError, BaseSource, DebianBase, LockState, Relocked, RpmBase, Update,
};

use crate::definition::{self, Base, BaseKind, Definition, Located};

/// What builds `base`, which `definition` (a file) defines.
///
/// # Panics
/// When `base` is of source `root` or `tree`: that is a tree which is there, and nobody builds.
#[must_use]
pub fn source(base: &Base, definition: &Path) -> Box<dyn BaseSource> {
    match &base.kind {
        BaseKind::Rpm(rpm) => Box::new(self::rpm(base, rpm, definition)),
        BaseKind::Debian(debian) => Box::new(self::debian(base, debian, definition)),
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
        BaseKind::Tree(tree) => unreachable!("base `{}` is the tree `{}`", base.name, tree.value),
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

/// A base from a Debian archive, which `definition` (a file) defines.
#[must_use]
pub fn debian(base: &Base, debian: &definition::DebianBase, definition: &Path) -> DebianBase {
    let line = |located: &Option<Located<String>>| located.as_ref().map_or(0, |located| located.span.line);
    DebianBase {
        name: base.name.clone(),
        suite: debian.suite.value.clone(),
        packages: values(&debian.packages),
        mirror: values(&debian.mirror),
        components: values(&debian.components),
        variant: value(&debian.variant),
        keyring: value(&debian.keyring),
        lock: value(&debian.lock),
        written: debian::Written {
            file: definition.to_owned(),
            base: base.span.line,
            suite: debian.suite.span.line,
            packages: debian.packages.iter().map(|package| package.span.line).collect(),
            mirror: debian.mirror.first().map_or(0, |mirror| mirror.span.line),
            components: debian.components.first().map_or(0, |component| component.span.line),
            variant: line(&debian.variant),
            lock: debian.lock.as_ref().map_or(0, |file| file.span.line),
        },
    }
}

/// What the lock of the base that a root stands on, maybe by way of other roots, has of lists of mirrors.
#[must_use]
pub(super) fn locked_mirrors(definition: &Definition, root: &definition::Root) -> Vec<String> {
    let mut base = super::base_of(definition, root);
    // References are known to lead somewhere, and not in a circle.
    while let BaseKind::Root(below) = &base.kind {
        base = super::base_of(definition, super::known_root(definition, below));
    }
    match &base.kind {
        BaseKind::Rpm(rpm) => self::rpm(base, rpm, &definition.path).locked_mirrors(),
        _ => Vec::new(),
    }
}

/// A base that has a lock, or could have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lockable {
    /// From RPM repositories.
    Rpm(RpmBase),
    /// From a Debian archive.
    Debian(DebianBase),
}

impl Lockable {
    /// What can be locked of `base`, which `definition` (a file) defines; `None` where that is made of what is there.
    #[must_use]
    pub fn of(base: &Base, definition: &Path) -> Option<Self> {
        match &base.kind {
            BaseKind::Rpm(rpm) => Some(Self::Rpm(self::rpm(base, rpm, definition))),
            BaseKind::Debian(debian) => Some(Self::Debian(self::debian(base, debian, definition))),
            BaseKind::Archive(_) | BaseKind::Root(_) | BaseKind::Tree(_) => None,
        }
    }

    /// The lock file, if one is named.
    #[must_use]
    pub fn lock(&self) -> Option<&Path> {
        match self {
            Self::Rpm(base) => base.lock.as_deref(),
            Self::Debian(base) => base.lock.as_deref(),
        }
    }

    /// Whether both ask for the same packages, wherever they are kept and written.
    #[must_use]
    pub fn asks_as(&self, other: &Self) -> bool {
        let plain = |base: &Self| {
            let mut base = base.clone();
            match &mut base {
                Self::Rpm(base) => {
                    (base.lock, base.written, base.bootstrap) =
                        (None, Written::default(), Bootstrap::default());
                }
                Self::Debian(base) => {
                    (base.lock, base.written) = (None, debian::Written::default());
                    base.name.clear();
                }
            }
            base
        };
        plain(self) == plain(other)
    }

    /// How the lock stands to the definition; with a `context`, as far as keys on this host say, too.
    ///
    /// # Errors
    /// A file that is named is wrong.
    pub fn lock_state(&self, context: Option<BaseContext<'_>>) -> Result<LockState, BaseError> {
        match self {
            Self::Rpm(base) => base.lock_state(context),
            Self::Debian(base) => base.lock_state(),
        }
    }

    /// The names of the packages that are locked.
    ///
    /// # Errors
    /// The lock can't be read.
    pub fn locked_names(&self) -> Result<Vec<String>, BaseError> {
        match self {
            Self::Rpm(base) => base.locked_names(),
            Self::Debian(base) => base.locked_names(),
        }
    }

    /// Writes the lock where that is needed, or where packages are to move.
    ///
    /// # Errors
    /// The definition is wrong, or packages can't be chosen.
    pub fn relock(&self, context: BaseContext<'_>, update: &Update) -> Result<Relocked, BaseError> {
        match self {
            Self::Rpm(base) => base.relock(context, update),
            Self::Debian(base) => base.relock(context, update),
        }
    }
}

fn values<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

fn value<T: Clone>(located: &Option<Located<T>>) -> Option<T> {
    located.as_ref().map(|located| located.value.clone())
}
