//! Finding a layer by its records: what `provision` uses and what `plan` shows.

use std::collections::HashMap;

use rootbuild_cache::{Digest, Input, LayerKey, Record, Result, Store};
use serde::Serialize;

/// Why a layer has to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What kind of reason: `new` (never built like this), `file` (an input has other content),
    /// `appeared`, `vanished`, `parent` (the layer below has to be built first), `lost` (the store
    /// no longer has the tree), `forced`.
    pub kind: &'static str,
    /// What it is about: a file, a step.
    pub subject: String,
    /// The old value, if there is one.
    pub old: Option<String>,
    /// The new value, if there is one.
    pub new: Option<String>,
    /// How a file's text differs, as a unified diff, where that is known and may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

impl Reason {
    /// A reason without values.
    pub fn new(kind: &'static str, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), old: None, new: None, diff: None }
    }
}

/// What the store has for a layer.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// A record holds: this is the layer.
    Hit(Box<Record>),
    /// None does.
    Miss {
        /// Why the newest doesn't.
        reasons: Vec<Reason>,
        /// How long the newest took, in seconds, if there is one.
        seconds: Option<f64>,
    },
}

/// How many changed files a reason list names before it says "and N more".
const NAMED_FILES: usize = 20;

/// Looks for a record under `key` whose inputs are `inputs` and whose tree is still there.
pub fn lookup(store: &Store, key: &LayerKey, inputs: &[Input], step: &str) -> Result<Lookup> {
    let records = store.records(key)?;
    let mut lost = None;
    for record in &records {
        if record.inputs == inputs {
            if store.has_tree(&record.tree) {
                return Ok(Lookup::Hit(Box::new(record.clone())));
            }
            lost = Some(record.tree);
        }
    }
    let seconds = records.first().map(|record| record.seconds);
    let reasons = match (lost, records.first()) {
        (Some(tree), _) => {
            vec![Reason { old: Some(tree.to_string()), ..Reason::new("lost", step) }]
        }
        (None, Some(newest)) => changes(&newest.inputs, inputs),
        (None, None) => vec![Reason::new("new", step)],
    };
    Ok(Lookup::Miss { reasons, seconds })
}

/// How `new` differs from `old`; both are sorted by kind and name.
pub(crate) fn changes(old: &[Input], new: &[Input]) -> Vec<Reason> {
    let text = |digest: &Option<Digest>| digest.as_ref().map(ToString::to_string);
    let index = |list: &'_ [Input]| -> HashMap<(String, String), Option<Digest>> {
        list.iter().map(|input| ((input.kind.clone(), input.name.clone()), input.digest)).collect()
    };
    let (before, after) = (index(old), index(new));
    let mut reasons = Vec::new();
    for input in new {
        match before.get(&(input.kind.clone(), input.name.clone())) {
            Some(digest) if *digest == input.digest => {}
            Some(digest) => reasons.push(Reason {
                old: text(digest),
                new: text(&input.digest),
                ..Reason::new("file", &input.name)
            }),
            None => reasons.push(Reason { new: text(&input.digest), ..Reason::new("appeared", &input.name) }),
        }
    }
    for input in old {
        if !after.contains_key(&(input.kind.clone(), input.name.clone())) {
            reasons.push(Reason { old: text(&input.digest), ..Reason::new("vanished", &input.name) });
        }
    }
    if reasons.len() > NAMED_FILES {
        let more = reasons.len() - NAMED_FILES;
        reasons.truncate(NAMED_FILES);
        reasons.push(Reason::new("file", format!("and {more} more")));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, content: &str) -> Input {
        Input { kind: "file".into(), name: name.into(), digest: Some(Digest::of(content.as_bytes())) }
    }

    #[test]
    fn every_changed_new_and_gone_file_is_named() {
        let old = [input("a", "1"), input("b", "1"), input("c", "1")];
        let new = [input("a", "1"), input("b", "2"), input("d", "1")];
        let told: Vec<_> = changes(&old, &new).into_iter().map(|r| (r.kind, r.subject)).collect();
        assert_eq!(told, [("file", "b".into()), ("appeared", "d".into()), ("vanished", "c".into())]);
    }
}
