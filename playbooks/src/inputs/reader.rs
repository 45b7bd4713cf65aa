//! Does an input still read the same?

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rootbuild_cache::{Digest, Input, KeyHasher};
use sha2::{Digest as _, Sha256};

use super::names::Names;
use super::stats::Stats;
use super::{Filter, Project, digest, kind};
use crate::trace::{self, Look, Stamp, Target};

/// Reads inputs of one project, each once as long as nothing is built, and files that haven't changed
/// since an earlier command not at all. For any number of threads.
#[derive(Debug)]
pub struct Reader {
    project: Project,
    names: Names,
    filter: Filter,
    stats: Mutex<Stats>,
    memo: Mutex<HashMap<(String, String), Option<Digest>>>,
}

impl Reader {
    /// A reader for a project. `cache` is the file that digests are kept in between commands.
    #[must_use]
    pub fn new(project: &Project, cache: Option<&Path>) -> Self {
        Self {
            project: project.clone(),
            names: Names::of(&project.dir),
            filter: Filter::of(project),
            stats: Mutex::new(cache.map(Stats::load).unwrap_or_default()),
            memo: Mutex::default(),
        }
    }

    /// What the input reads now: its digest, or nothing if it isn't there.
    pub fn now(&self, input: &Input) -> Option<Digest> {
        let key = (input.kind.clone(), input.name.clone());
        if let Some(known) = held(&self.memo).get(&key) {
            return *known;
        }
        let now = self.read(&input.kind, &input.name);
        held(&self.memo).insert(key, now);
        now
    }

    /// Whether all of them read the same as ever.
    #[must_use]
    pub fn holds(&self, inputs: &[Input]) -> bool {
        // Nearly always everything is known already, and threads would cost more than they save.
        let mut unknown = Vec::new();
        for input in inputs {
            let now = match input.kind.as_str() {
                kind::FILE => self.known(input),
                _ => Some(self.now(input)),
            };
            match now {
                Some(now) if now == input.digest => {}
                Some(_) => return false,
                None => unknown.push(input),
            }
        }
        unknown.into_par_iter().all(|input| self.now(input) == input.digest)
    }

    /// Those that don't read the same, with what they read now.
    #[must_use]
    pub fn changed<'a>(&self, inputs: &'a [Input]) -> Vec<(&'a Input, Option<Digest>)> {
        let now = inputs.par_iter().map(|input| (input, self.now(input)));
        now.filter(|(input, now)| *now != input.digest).collect()
    }

    /// Forgets what this command has read, since something may have changed it.
    pub fn refresh(&self) {
        held(&self.memo).clear();
    }

    /// Keeps what was learnt for the next command. Without the rights to do so nothing happens.
    pub fn save(&self) {
        if let Err(error) = held(&self.stats).save() {
            tracing::debug!(%error, "digests of inputs aren't kept");
        }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What a file reads now, if that can be told without reading it.
    fn known(&self, input: &Input) -> Option<Option<Digest>> {
        let key = (input.kind.clone(), input.name.clone());
        if let Some(known) = held(&self.memo).get(&key) {
            return Some(*known);
        }
        let path = self.names.path(&input.name);
        let now = match stamp_of(&path) {
            Some(stamp) => Some(held(&self.stats).get(&path, &stamp)?),
            None => None,
        };
        held(&self.memo).insert(key, now);
        Some(now)
    }

    fn read(&self, kind: &str, name: &str) -> Option<Digest> {
        let path = self.names.path(name);
        match kind {
            kind::FILE | kind::PYTHON => self.file(&path, None),
            kind::ABSENT => match trace::look(&path) {
                Look::Absent => None,
                _ => Some(Digest::of(b"there")),
            },
            kind::EXISTS => exists(trace::look(&path)),
            kind::LINK => match trace::target(&path) {
                Target::Link(target) => Some(Digest::of(&target)),
                Target::Plain(_) => None,
            },
            kind::DIRECTORY => {
                let listing = trace::list(&path, |_| false).ok()?;
                Some(self.filter.listing(&self.names, &path, &listing))
            }
            kind::OUTPUT => self.output(&path),
            kind::ENVIRONMENT => environment(name),
            kind::PROJECT => self.project(&path),
            // Of a later rootbuild: nobody here knows whether it is as it was.
            _ => Some(Digest::of(b"unknown")),
        }
    }

    /// The digest of a file's content and permissions. `stamp` is its stamp, if that is known.
    pub(super) fn file(&self, path: &Path, stamp: Option<Stamp>) -> Option<Digest> {
        let stamp = match stamp {
            Some(stamp) => stamp,
            None => stamp_of(path)?,
        };
        if let Some(known) = held(&self.stats).get(path, &stamp) {
            return Some(known);
        }
        let digest = digest::file(path).ok()?;
        if stamp_of(path) == Some(stamp) {
            held(&self.stats).put(path, stamp, digest);
        }
        Some(digest)
    }

    /// What a run has left at a path.
    pub(super) fn output(&self, path: &Path) -> Option<Digest> {
        match trace::target(path) {
            Target::Link(target) => Some(Digest::of(&target)),
            Target::Plain(Look::File(content)) => self.file(path, Some(content.stamp)),
            Target::Plain(other) => exists(other),
        }
    }

    /// The names of everything that the playbook may read.
    fn project(&self, playbook: &Path) -> Option<Digest> {
        let inputs = super::inputs(&self.project, playbook).ok()?;
        Some(names_of(&inputs))
    }
}

/// The digest of inputs' names alone.
pub(super) fn names_of(inputs: &[Input]) -> Digest {
    let mut hasher = KeyHasher::new("input project", 1);
    hasher.list("kinds", inputs.iter().map(|input| &input.kind));
    hasher.list("names", inputs.iter().map(|input| &input.name));
    hasher.finish()
}

/// The digest of what is there without what is in it: its type, of files the permissions too.
pub(super) fn exists(look: Look) -> Option<Digest> {
    let (what, mode) = match look {
        Look::Absent => return None,
        Look::File(content) => ("file", content.stamp.mode & 0o7777),
        Look::Dir => ("directory", 0),
        Look::Other(mode) => ("other", mode & 0o170_000),
    };
    let mut hasher = KeyHasher::new("input exists", 1);
    Some(hasher.text("type", what).number("mode", u64::from(mode)).finish())
}

/// The digest of a variable of our own environment: the SHA-256 of its value, as the lookup plugin
/// tells it as well.
fn environment(name: &str) -> Option<Digest> {
    let value = std::env::var_os(name)?;
    Some(Digest::from_bytes(Sha256::digest(value.as_encoded_bytes()).into()))
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    match trace::look(path) {
        Look::File(content) => Some(content.stamp),
        _ => None,
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a store keeps digests of inputs.
#[must_use]
pub fn cache_in(store: &Path) -> PathBuf {
    store.join("ansible-inputs")
}
