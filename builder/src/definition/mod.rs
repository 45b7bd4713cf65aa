//! The definition, `rootbuild.toml`: which bases and roots there are, and what makes them.
//!
//! [`Definition::load`] finds it, reads it and checks it. Whatever is wrong comes back together, each
//! with its place ([`Diagnostic`]); a definition that loads names only things that exist.

use std::fmt;
use std::path::{Path, PathBuf};

mod diagnostic;
mod find;
mod model;
mod parse;
mod repos;
mod run;
mod suggest;
mod table;
mod validate;
mod vars;

pub use diagnostic::{At, Diagnostic};
pub use find::FILE_NAME;
pub(crate) use find::plain;
pub use model::{Ansible, ArchiveBase, Base, BaseKind, DebianBase, Located, Playbook, Root, RpmBase, Run};
use rootbuild_roots::units::Cluster;
pub use suggest::nearest;

/// A definition that is right as far as can be told without building.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The file, absolute.
    pub path: PathBuf,
    /// The directory it lies in; its relative paths start here.
    pub dir: PathBuf,
    /// The bases, in the order of the file.
    pub bases: Vec<Base>,
    /// `[ansible]`; always there when a root has playbooks.
    pub ansible: Option<Ansible>,
    /// `[limits]`: how much a root may hold.
    pub limits: rootbuild_cache::Limits,
    /// `[cluster]`: what the roots have together when they run on a host.
    pub cluster: Cluster,
    /// The roots, in the order of the file; at least one.
    pub roots: Vec<Root>,
    /// What was read, for errors that are met later.
    source: diagnostic::Source,
}

/// Everything that is wrong with a definition; at least one diagnostic, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.diagnostics.as_slice() {
            [] => write!(f, "the definition is wrong"),
            [only] => write!(f, "{}", only.message),
            [first, ..] => {
                write!(f, "{} errors in `{}`", self.diagnostics.len(), first.path.display())
            }
        }
    }
}

impl std::error::Error for DefinitionError {}

impl From<Diagnostic> for DefinitionError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// Roots were asked for that aren't defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no root {} in `{}`", unknown_names(unknown), path.display())]
pub struct SelectError {
    /// The definition.
    pub path: PathBuf,
    /// Names that aren't defined, each with the nearest one that is.
    pub unknown: Vec<(String, Option<String>)>,
    /// All names that are defined.
    pub known: Vec<String>,
}

fn unknown_names(unknown: &[(String, Option<String>)]) -> String {
    unknown.iter().map(|(name, _)| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", ")
}

impl SelectError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let near: Vec<&str> = self.unknown.iter().filter_map(|(_, near)| near.as_deref()).collect();
        if near.is_empty() || near.len() < self.unknown.len() {
            let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
            format!("roots are {}", table::list(&known))
        } else {
            format!("did you mean {}?", table::list(&near))
        }
    }
}

impl Definition {
    /// Loads the definition in file or directory `named`, or else the nearest one upward from `cwd`,
    /// which must be absolute.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(named: Option<&Path>, cwd: &Path) -> Result<Self, DefinitionError> {
        let path = find::locate(named, cwd)?;
        parse::parse(find::read(&path)?)
    }

    /// The roots that were asked for (all, if none was named) with the roots that they stand on: each
    /// after what it stands on, otherwise in the order of the file.
    ///
    /// # Errors
    /// Names that aren't defined, all of them.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Root>, SelectError> {
        let mut unknown: Vec<(String, Option<String>)> = Vec::new();
        for name in names.iter().filter(|name| self.root(name).is_none()) {
            if unknown.iter().all(|(seen, _)| seen != name) {
                let near = nearest(name, self.roots.iter().map(|root| root.name.as_str()));
                unknown.push((name.clone(), near.map(str::to_owned)));
            }
        }
        if !unknown.is_empty() {
            let known = self.roots.iter().map(|root| root.name.clone()).collect();
            return Err(SelectError { path: self.path.clone(), unknown, known });
        }
        let mut selected: Vec<&Root> = Vec::new();
        for root in self.roots.iter().filter(|root| names.is_empty() || names.contains(&root.name)) {
            // Loading refused circles, so this ends.
            let mut chain = vec![root];
            while let Some(parent) = self.parent(chain[chain.len() - 1]) {
                chain.push(parent);
            }
            for root in chain.into_iter().rev() {
                if selected.iter().all(|seen| seen.name != root.name) {
                    selected.push(root);
                }
            }
        }
        Ok(selected)
    }

    /// A root by its name.
    #[must_use]
    pub fn root(&self, name: &str) -> Option<&Root> {
        self.roots.iter().find(|root| root.name == name)
    }

    /// A base by its name.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<&Base> {
        self.bases.iter().find(|base| base.name == name)
    }

    /// The root whose tree a root starts from, if its base is of source `root`.
    #[must_use]
    pub fn parent(&self, root: &Root) -> Option<&Root> {
        match &self.base(&root.base)?.kind {
            BaseKind::Root(parent) => self.root(parent),
            BaseKind::Rpm(_) | BaseKind::Debian(_) | BaseKind::Archive(_) | BaseKind::Tree(_) => None,
        }
    }

    /// Says that something is wrong at a place of this definition.
    #[must_use]
    pub fn diagnostic(&self, at: At, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(at, message)
    }
}
