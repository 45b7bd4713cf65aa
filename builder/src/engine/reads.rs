//! What a playbook reads: traced where that is possible, else everything that it may read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rootbuild_cache::Input;
use rootbuild_playbooks::inputs::{self, Project, Reader, Traced};
use rootbuild_playbooks::trace::{self, Launcher, Trace, Untraced};

use super::{Engine, StepError};
use crate::event::Event;

/// What a run read.
pub(super) struct Reads {
    /// Everything, sorted by kind and name.
    pub(super) inputs: Vec<Input>,
    /// Why that may not be everything, or not what was really read.
    pub(super) unsound: Option<String>,
    /// The number of the task that first used an input, by its name.
    pub(super) first_use: BTreeMap<String, u32>,
    /// Where the run connected to.
    pub(super) connections: Vec<String>,
}

/// A run whose reading is watched.
pub(super) struct Watched {
    project: Project,
    playbook: PathBuf,
    /// What traces it; else everything that it may read, before it ran.
    how: Result<Launcher, Vec<Input>>,
}

impl Watched {
    /// Gets ready, before the run. Where nothing can be traced that is said, once.
    pub(super) fn before(
        engine: &Engine,
        root: &str,
        project: &Project,
        playbook: &Path,
    ) -> Result<Self, StepError> {
        let how = match engine.launcher(root) {
            Some(launcher) => Ok(launcher),
            None => Err(inputs::inputs(project, playbook)?),
        };
        Ok(Self { project: project.clone(), playbook: playbook.to_owned(), how })
    }

    /// What lets the run be traced.
    pub(super) fn launcher(&self) -> Option<Launcher> {
        self.how.as_ref().ok().cloned()
    }

    /// What the run read, right after it.
    pub(super) fn after(
        self,
        trace: Option<Result<Trace, Untraced>>,
        reader: &Reader,
    ) -> Result<Reads, StepError> {
        // It may have written files that others read.
        reader.refresh();
        let Err(before) = self.how else { return Ok(settle(trace, reader)) };
        let after = inputs::inputs(&self.project, &self.playbook)?;
        let unsound = (after != before).then(|| changed(&differing(&before, &after)));
        let inputs = inputs::whole(&self.project, &self.playbook, after);
        Ok(Reads { inputs, unsound, first_use: BTreeMap::new(), connections: Vec::new() })
    }
}

fn settle(trace: Option<Result<Trace, Untraced>>, reader: &Reader) -> Reads {
    let trace = match trace {
        Some(Ok(trace)) => trace,
        Some(Err(untraced)) => return unknown(&untraced.why),
        None => return unknown("it wasn't traced"),
    };
    if let Some(gap) = trace.gaps.first() {
        return unknown(gap);
    }
    let Traced { inputs, first_use, changed: names } = reader.settle(&trace);
    let unsound = (!names.is_empty()).then(|| changed(&names));
    Reads { inputs, unsound, first_use, connections: trace.connections }
}

fn unknown(why: &str) -> Reads {
    Reads {
        inputs: Vec::new(),
        unsound: Some(format!("what it read isn't known, since {why}")),
        first_use: BTreeMap::new(),
        connections: Vec::new(),
    }
}

/// The first few of some names, which have changed.
fn changed(names: &[String]) -> String {
    let mut told: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    if names.len() > told.len() {
        told.push("…".to_owned());
    }
    format!("{} changed while it ran", told.join(", "))
}

/// The names of inputs that aren't the same in both; all sorted by kind and name.
fn differing(before: &[Input], after: &[Input]) -> Vec<String> {
    let only = |these: &[Input], those: &[Input]| -> Vec<String> {
        these.iter().filter(|input| !those.contains(input)).map(|input| input.name.clone()).collect()
    };
    let mut names = only(before, after);
    names.extend(only(after, before));
    names.sort();
    names.dedup();
    names
}

impl Engine {
    /// The reader of the project's inputs: one for all roots.
    pub(super) fn reader(&self, project: &Project) -> Arc<Reader> {
        let cache = inputs::cache_in(self.store.dir());
        Arc::clone(self.reader.get_or_init(|| Arc::new(Reader::new(project, Some(&cache)))))
    }

    /// What lets a run be traced, if this machine can. If it can't, that is said once in a command.
    fn launcher(&self, root: &str) -> Option<Launcher> {
        let launcher = self.options.launcher.as_ref()?;
        let mut possible = self.traceable.lock().unwrap_or_else(PoisonError::into_inner);
        let known = possible.get_or_insert_with(|| {
            let tried = trace::possible(launcher);
            if let Err(why) = &tried {
                let text = format!(
                    "what Ansible reads can't be traced, so any change of the project makes its layers anew: {why}"
                );
                self.sink.event(&Event::Warning { root: root.to_owned(), text });
            }
            tried.is_ok()
        });
        known.then(|| launcher.clone())
    }
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::Digest;

    use super::*;

    #[test]
    fn what_differs_is_named_once() {
        let input = |name: &str, content: &str| Input {
            kind: "file".into(),
            name: name.into(),
            digest: Some(Digest::of(content.as_bytes())),
        };
        let before = [input("a", "1"), input("b", "1"), input("c", "1")];
        let after = [input("a", "1"), input("b", "2"), input("d", "1")];
        assert_eq!(differing(&before, &after), ["b", "c", "d"]);
    }
}
