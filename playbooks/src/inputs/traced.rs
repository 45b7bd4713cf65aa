//! From a trace to inputs: what each name was when it was first used, and whether it still is that.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use rayon::prelude::*;
use rootbuild_cache::{Digest, Input};

use super::kind;
use super::reader::{Reader, exists};
use crate::trace::{self, Content, Look, Target, Trace, Use};

/// The inputs of a run that was traced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traced {
    /// Each with what it was when the run first used it, sorted by kind and name.
    pub inputs: Vec<Input>,
    /// The number of the task that was current at an input's first use, by its name.
    pub first_use: BTreeMap<String, u32>,
    /// Inputs that somebody else changed during the run: what it has really read isn't known.
    pub changed: Vec<String>,
}

/// One input, or the name of something that isn't what it was.
enum Found {
    Input(Input),
    Changed(String),
}

impl Reader {
    /// The inputs that a trace shows. Each is looked at again: to be called when the run has ended.
    #[must_use]
    pub fn settle(&self, trace: &Trace) -> Traced {
        // The run itself may have changed what was read before.
        self.refresh();
        let written: HashSet<&Path> =
            trace.uses.iter().filter(|used| used.written).filter_map(|used| used.path.parent()).collect();
        let passing: HashSet<&Path> =
            trace.uses.iter().filter(|used| is_passing(used)).map(|used| used.path.as_path()).collect();
        let found: Vec<(u32, Vec<Found>)> = trace
            .uses
            .par_iter()
            .filter(|used| !used.path.ancestors().any(|path| passing.contains(path)))
            .filter(|used| !self.filter().drops(self.names(), &used.path))
            .map(|used| (used.task, self.found(used, written.contains(used.path.as_path()))))
            .collect();
        let mut inputs: BTreeMap<(String, String), Option<Digest>> = BTreeMap::new();
        let (mut changed, mut first_use) = (BTreeSet::new(), BTreeMap::new());
        for (task, found) in found {
            for one in found {
                match one {
                    Found::Changed(name) => {
                        changed.insert(name);
                    }
                    Found::Input(Input { kind, name, digest }) => {
                        let first = first_use.entry(name.clone()).or_insert(task);
                        *first = task.min(*first);
                        // Two spellings of one name.
                        if inputs.insert((kind, name.clone()), digest).is_some_and(|other| other != digest) {
                            changed.insert(name);
                        }
                    }
                }
            }
        }
        // Where there is none, Ansible is given an empty one, and doesn't look for the project's.
        let config = crate::config::path(&self.names().dir);
        let name = self.names().name(&config);
        if !first_use.contains_key(&name) && !self.filter().drops(self.names(), &config) {
            if config.exists() {
                changed.insert(name);
            } else {
                inputs.insert((kind::ABSENT.to_owned(), name), None);
            }
        }
        for (name, digest) in &trace.environment {
            inputs.insert((kind::ENVIRONMENT.to_owned(), name.clone()), *digest);
        }
        if let Some(interpreter) = trace.interpreter.as_ref().and_then(|path| path.canonicalize().ok()) {
            let digest = self.file(&interpreter, None);
            inputs.insert((kind::PYTHON.to_owned(), super::names::text(&interpreter)), digest);
        }
        let inputs = inputs.into_iter().map(|((kind, name), digest)| Input { kind, name, digest }).collect();
        Traced { inputs, first_use, changed: changed.into_iter().collect() }
    }

    /// What one use comes to. `filled`: the run wrote something in this directory.
    fn found(&self, used: &Use, filled: bool) -> Vec<Found> {
        let name = self.names().name(&used.path);
        let input =
            |kind: &str, digest| Found::Input(Input { kind: kind.to_owned(), name: name.clone(), digest });
        let mut found = Vec::new();
        let mut sound = true;
        if let Some(Target::Link(target)) = &used.target {
            found.push(input(kind::LINK, Some(Digest::of(target))));
            sound &= used.written || trace::target(&used.path) == Target::Link(target.clone());
        }
        if let Some(listing) = &used.list {
            let digest = self.filter().listing(self.names(), &used.path, listing);
            found.push(input(kind::DIRECTORY, Some(digest)));
            sound &= used.written
                || filled
                || trace::list(&used.path, |_| false)
                    .is_ok_and(|now| self.filter().listing(self.names(), &used.path, &now) == digest);
        }
        match used.read.or(used.probe).or(plain(used)) {
            None => {}
            Some(Look::Absent) => {
                found.push(input(kind::ABSENT, None));
                sound &= used.written || trace::look(&used.path) == Look::Absent;
            }
            Some(Look::File(content)) if used.read.is_some() => match self.content(used, content) {
                Some(digest) => found.push(input(kind::FILE, Some(digest))),
                None => sound = false,
            },
            Some(Look::Dir) if used.list.is_some() => {}
            Some(look) => {
                found.push(input(kind::EXISTS, exists(look)));
                sound &= used.written || exists(trace::look(&used.path)) == exists(look);
            }
        }
        if used.written && self.names().inside(&used.path).is_some() {
            found.push(input(kind::OUTPUT, self.output(&used.path)));
        }
        if !sound {
            found.push(Found::Changed(name.clone()));
        }
        found
    }

    /// The digest of what was read; nothing if that is no longer known.
    fn content(&self, used: &Use, content: Content) -> Option<Digest> {
        if used.written {
            return content.digest;
        }
        let Look::File(now) = trace::look(&used.path) else { return None };
        if now.stamp != content.stamp {
            return None;
        }
        let digest = self.file(&used.path, Some(now.stamp))?;
        content.digest.is_none_or(|before| before == digest).then_some(digest)
    }
}

/// Whether it came and went with the run.
fn is_passing(used: &Use) -> bool {
    let mut before = [used.read, used.probe, plain(used)].into_iter().flatten();
    used.written
        && used.list.is_none()
        && before.all(|look| look == Look::Absent)
        && trace::target(&used.path) == Target::Plain(Look::Absent)
}

fn plain(used: &Use) -> Option<Look> {
    match &used.target {
        Some(Target::Plain(look)) => Some(*look),
        _ => None,
    }
}
