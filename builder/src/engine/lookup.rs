//! Finding a layer by its records: what `provision` uses and what `plan` shows.

use std::collections::HashSet;

use rootbuild_cache::{Digest, Input, LayerKey, Record, Result, Store};
use rootbuild_playbooks::inputs::{Reader, kind};
use serde::Serialize;

/// Why a layer has to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What kind of reason, as `docs/cli.md` lists them: `file` (an input has other content), `appeared`,
    /// `variable`, `parent` (the layer below has to be built first), …
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
        /// Why the one that comes nearest doesn't.
        reasons: Vec<Reason>,
        /// That one, if there is any.
        record: Option<Box<Record>>,
    },
}

/// How many changed files a reason list names before it says "and N more".
const NAMED_FILES: usize = 20;

/// Looks for a record under `key` whose inputs all read the same now and whose tree is still there. Without a
/// `reader` there are no inputs.
pub fn lookup(store: &Store, key: &LayerKey, reader: Option<&Reader>, step: &str) -> Result<Lookup> {
    let records = store.records(key)?;
    let mut lost = None;
    for record in &records {
        if reader.map_or(record.inputs.is_empty(), |reader| reader.holds(&record.inputs)) {
            if store.has_tree(&record.tree) {
                store.record_was_used(key, record);
                return Ok(Lookup::Hit(Box::new(record.clone())));
            }
            lost = Some(record.tree);
        }
    }
    let (reasons, record) = match lost {
        Some(tree) => (vec![Reason { old: Some(tree.to_string()), ..Reason::new("lost", step) }], None),
        None => closest(reader, &records).unwrap_or_else(|| (vec![Reason::new("new", step)], None)),
    };
    let record = record.or_else(|| records.into_iter().next()).map(Box::new);
    Ok(Lookup::Miss { reasons, record })
}

/// The record that says least against, the newer one of two, and what that is.
fn closest(reader: Option<&Reader>, records: &[Record]) -> Option<(Vec<Reason>, Option<Record>)> {
    let told = records.iter().map(|record| {
        (reader.map(|reader| changes(reader, &record.inputs)).unwrap_or_default(), Some(record.clone()))
    });
    told.min_by_key(|(reasons, _)| reasons.len())
}

/// How inputs read now, where that isn't as it was: one reason each, those that say most first.
pub(crate) fn changes(reader: &Reader, inputs: &[Input]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> =
        reader.changed(inputs).into_iter().map(|(input, now)| reason(input, now)).collect();
    // What has appeared or vanished explains why the directory around it lists something else.
    let named: Vec<String> = reasons
        .iter()
        .filter(|reason| matches!(reason.kind, "appeared" | "vanished"))
        .map(|reason| reason.subject.clone())
        .collect();
    reasons.retain(|reason| {
        reason.kind != "listing" || !named.iter().any(|name| lies_in(name, &reason.subject))
    });
    // An output is also what the run has read, mostly.
    let mut seen = HashSet::new();
    reasons.sort_by_key(|reason| rank(reason.kind));
    reasons.retain(|reason| seen.insert(reason.subject.clone()) || reason.kind == kind::ENVIRONMENT);
    if reasons.len() > NAMED_FILES {
        let more = reasons.len() - NAMED_FILES;
        reasons.truncate(NAMED_FILES);
        reasons.push(Reason::new("file", format!("and {more} more")));
    }
    reasons
}

/// Why an input that now reads `now` isn't what it was.
fn reason(input: &Input, now: Option<Digest>) -> Reason {
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string());
    let told = match (input.kind.as_str(), now) {
        (kind::ABSENT, _) => return Reason::new("appeared", &input.name),
        (kind::FILE | kind::EXISTS | kind::LINK | kind::DIRECTORY, None) => "vanished",
        (kind::DIRECTORY, Some(_)) => "listing",
        (kind::LINK, Some(_)) => "link",
        (kind::EXISTS, Some(_)) => "permissions",
        (kind::OUTPUT, _) => "output",
        (kind::ENVIRONMENT, _) => "environment",
        (kind::PYTHON, _) => "python",
        (kind::PROJECT, _) => "project",
        _ => "file",
    };
    Reason { old: text(input.digest), new: text(now), ..Reason::new(told, &input.name) }
}

/// Which of several reasons about one thing is told.
fn rank(kind: &str) -> u8 {
    match kind {
        "output" => 1,
        "listing" | "project" => 2,
        _ => 0,
    }
}

/// Whether a name lies right in a directory; the project itself is `.`.
fn lies_in(name: &str, dir: &str) -> bool {
    let parent = name.rsplit_once('/').map_or(".", |(parent, _)| parent);
    parent == dir
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::fs;

    use rootbuild_playbooks::inputs::Project;

    use super::*;

    #[test]
    fn every_change_is_named_by_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            dir: dir.path().to_owned(),
            inventory: None,
            vault_password_file: None,
            exclude: Vec::new(),
        };
        for name in ["same", "changed", "gone"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("listed")).unwrap();
        fs::create_dir(dir.path().join("filled")).unwrap();
        let reader = Reader::new(&project, None);
        let inputs: Vec<Input> = [
            (kind::ABSENT, "filled/new"),
            (kind::DIRECTORY, "filled"),
            (kind::DIRECTORY, "listed"),
            (kind::ENVIRONMENT, "ROOTBUILD_TEST_THAT_NOBODY_SETS"),
            (kind::FILE, "changed"),
            (kind::FILE, "gone"),
            (kind::FILE, "same"),
            (kind::OUTPUT, "changed"),
        ]
        .into_iter()
        .map(|(kind, name)| {
            let mut input = Input { kind: kind.to_owned(), name: name.to_owned(), digest: None };
            input.digest = reader.now(&input);
            input
        })
        .collect();
        assert!(reader.holds(&inputs) && changes(&reader, &inputs).is_empty());
        fs::write(dir.path().join("changed"), "2").unwrap();
        fs::remove_file(dir.path().join("gone")).unwrap();
        fs::write(dir.path().join("filled/new"), "").unwrap();
        fs::write(dir.path().join("listed/x"), "").unwrap();
        reader.refresh();
        let told: Vec<_> = changes(&reader, &inputs).into_iter().map(|r| (r.kind, r.subject)).collect();
        let expected =
            [("appeared", "filled/new"), ("file", "changed"), ("vanished", "gone"), ("listing", "listed")];
        assert_eq!(told, expected.map(|(kind, name)| (kind, name.to_owned())));
    }
}
