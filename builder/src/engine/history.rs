//! The latest layer of each step of each root: what its key was made of, and how it came. So that a key
//! that changed can be told by the part that changed, and `explain` knows what happened the last time.
//!
//! `<store>/latest/<project>/<root>/<index>.json` is for everybody to read. Values of variables are only in
//! `<index>.private.json` beside it, which is root's: the other file has digests in their places. Both are
//! only told from, never built from: one that is lost or can't be read costs an explanation.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, LayerKey, Record, Store, durable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lookup::Reason;
use super::parts::Part;
use crate::event::LayerStatus;
use crate::generation::project_name;

/// The version of the files' form.
const SCHEMA: u32 = 1;

/// Kinds of reasons whose values only root may see.
const PRIVATE: &[&str] = &["variable", "environment"];

/// A reason as it was told then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// As [`Reason::kind`].
    pub kind: String,
    /// As [`Reason::subject`].
    pub subject: String,
    /// As [`Reason::old`].
    pub old: Option<String>,
    /// As [`Reason::new`].
    pub new: Option<String>,
}

impl From<&Reason> for Told {
    fn from(reason: &Reason) -> Self {
        let Reason { kind, subject, old, new, .. } = reason;
        Self { kind: (*kind).to_owned(), subject: subject.clone(), old: old.clone(), new: new.clone() }
    }
}

/// How a layer was made, when it was made last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// How it came; never `cached`.
    pub status: LayerStatus,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Tasks that ran in the root.
    pub tasks_run: u64,
    /// Tasks that a journal answered.
    pub tasks_replayed: u64,
    /// Why it was made.
    pub reasons: Vec<Told>,
}

/// The latest layer of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    schema: u32,
    /// The step's name.
    pub step: String,
    /// The layer's key.
    pub key: LayerKey,
    /// Its tree.
    pub tree: Digest,
    /// When its record was made, as it is written there.
    pub recorded: String,
    /// The root for which it was made, if that was another one in the same provision.
    pub made_for: Option<String>,
    /// What the key was made of. A part of a private kind has the digest of its value.
    pub parts: Vec<Part>,
    /// How it was made, if it was since it last had another key or tree.
    pub made: Option<Made>,
    /// How long the step took when it last ran whole, in seconds.
    #[serde(default)]
    pub whole: Option<f64>,
}

/// What only root may see of a [`Latest`] with the same key.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Private {
    key: Option<LayerKey>,
    /// The values of parts, by kind and subject.
    values: BTreeMap<String, BTreeMap<String, Option<String>>>,
    reasons: Vec<Told>,
}

impl Latest {
    /// The record that the store has of it.
    #[must_use]
    pub fn record(&self, store: &Store) -> Option<Record> {
        let records = store.records(&self.key).ok()?;
        let same = |record: &Record| record.tree == self.tree && record.created == self.recorded;
        let found =
            records.iter().position(same).or_else(|| records.iter().position(|it| it.tree == self.tree));
        records.into_iter().nth(found?)
    }

    fn is_same_layer(&self, other: &Self) -> bool {
        self.step == other.step && self.key == other.key && self.tree == other.tree
    }
}

/// A layer as it came just now, to be remembered.
#[derive(Debug)]
pub struct Came<'a> {
    /// The step's name.
    pub step: &'a str,
    /// Its key, as the next plan will find it.
    pub key: LayerKey,
    /// Its record.
    pub record: &'a Record,
    /// The root for which it was made, if that was another one in the same provision.
    pub made_for: Option<&'a str>,
    /// What the key was made of.
    pub parts: Vec<Part>,
    /// How it was made, with all that was told of why; `None` if it was found.
    pub made: Option<Made>,
}

/// What is remembered of a root of a definition.
#[derive(Debug, Clone)]
pub struct History {
    dir: PathBuf,
    layers: Vec<Latest>,
}

impl History {
    /// What is remembered of `root`; nothing where there is nothing, or nothing that can be read.
    #[must_use]
    pub fn of(store: &Store, definition: &Path, root: &str) -> Self {
        let dir = store.dir().join("latest").join(project_name(definition)).join(root);
        let mut layers = Vec::new();
        while let Some(latest) = load::<Latest>(&public(&dir, layers.len())).filter(|it| it.schema == SCHEMA)
        {
            let private = load::<Private>(&private(&dir, layers.len()));
            layers.push(uncovered(latest, private));
        }
        Self { dir, layers }
    }

    /// The latest layer of a step: the one of this name, at this place if there are several.
    #[must_use]
    pub fn step(&self, index: usize, step: &str) -> Option<&Latest> {
        let here = self.layers.get(index).filter(|latest| latest.step == step);
        here.or_else(|| self.layers.iter().find(|latest| latest.step == step))
    }

    /// Remembers a layer. Writes only what changed.
    pub fn remember(&mut self, index: usize, came: Came<'_>) -> rootbuild_cache::Result<()> {
        let Came { step, key, record, made_for, parts, made } = came;
        let mut latest = Latest {
            schema: SCHEMA,
            step: step.to_owned(),
            key,
            tree: record.tree,
            recorded: record.created.clone(),
            made_for: made_for.map(str::to_owned),
            parts,
            made,
            whole: None,
        };
        let ran_whole = latest.made.as_ref().filter(|made| made.tasks_replayed == 0);
        latest.whole = match ran_whole.filter(|made| made.status == LayerStatus::Built) {
            Some(made) => Some(made.seconds),
            None => self.step(index, step).and_then(|before| before.whole),
        };
        let before = self.layers.get(index).filter(|before| before.is_same_layer(&latest));
        if let Some(before) = before.filter(|_| latest.made.is_none()) {
            latest.made.clone_from(&before.made);
            latest.made_for = latest.made_for.or_else(|| before.made_for.clone());
        }
        if self.layers.get(index) == Some(&latest) {
            return Ok(());
        }
        make_directory(&self.dir)?;
        let (told, secret) = covered(latest.clone());
        write(&private(&self.dir, index), &secret, 0o600)?;
        write(&public(&self.dir, index), &told, 0o644)?;
        if index < self.layers.len() {
            self.layers[index] = latest;
        } else if index == self.layers.len() {
            self.layers.push(latest);
        }
        Ok(())
    }

    /// Forgets the layers that come after the first `kept`: the root has no such steps any more.
    pub fn forget_after(&mut self, kept: usize) {
        for index in kept..self.layers.len() {
            // The first one last would leave a gap that hides the others: they go from the top.
            let index = self.layers.len() - 1 - (index - kept);
            let _ = fs::remove_file(public(&self.dir, index));
            let _ = fs::remove_file(private(&self.dir, index));
        }
        self.layers.truncate(kept);
    }
}

/// Why a layer has to be made, in full: what a lookup under its key told, and how the key differs from that
/// of the latest layer of this step. `whole` is what the step is made from as a whole, named when nothing
/// else differs.
#[must_use]
pub fn complete(
    missed: Vec<Reason>,
    latest: Option<&Latest>,
    key: &LayerKey,
    parts: &[Part],
    whole: Option<&str>,
) -> Vec<Reason> {
    let is_new = missed.iter().all(|reason| reason.kind == "new");
    let Some(latest) = latest.filter(|_| is_new) else { return missed };
    if latest.key == *key {
        // It was there, and its record isn't any more.
        let old = Some(latest.tree.to_string());
        return vec![Reason { old, ..Reason::new("lost", &latest.step) }];
    }
    let reasons = differences(&latest.parts, parts);
    match (reasons.is_empty(), whole) {
        (false, _) => reasons,
        (true, Some(whole)) => vec![Reason::new("file", whole)],
        // The version of the step or of keys: rootbuild itself does it otherwise now.
        (true, None) => vec![Reason::new("rootbuild", env!("CARGO_PKG_VERSION"))],
    }
}

/// How the parts of a key differ from what they were.
#[must_use]
pub fn differences(before: &[Part], now: &[Part]) -> Vec<Reason> {
    let find = |parts: &[Part], kind: &str, subject: &str| {
        // There is one parent, whatever it is called.
        let same = |part: &&Part| part.kind == kind && (part.subject == subject || kind == "parent");
        parts.iter().find(same).cloned()
    };
    let mut reasons = Vec::new();
    for part in now {
        let Some(kind) = known_kind(&part.kind) else { continue };
        let old = find(before, kind, &part.subject);
        // Of a private value without the right to see it only the digest is known.
        let hidden = old.as_ref().is_some_and(|old| is_digest(kind, old));
        let same = match &old {
            Some(old) if hidden => old.value == cover(part).value,
            Some(old) => old.value == part.value,
            None => part.value.is_none(),
        };
        if !same {
            let (old, new) = match old {
                _ if hidden => (None, None),
                old => (old.and_then(|old| old.value), part.value.clone()),
            };
            reasons.push(Reason { old, new, ..Reason::new(kind, &part.subject) });
        }
    }
    for part in before {
        let Some(kind) = known_kind(&part.kind) else { continue };
        if find(now, kind, &part.subject).is_none() && part.value.is_some() {
            let old = part.value.clone().filter(|_| !is_digest(kind, part));
            reasons.push(Reason { old, ..Reason::new("unset", &part.subject) });
        }
    }
    reasons
}

/// Kinds of parts as reasons name them.
fn known_kind(kind: &str) -> Option<&'static str> {
    const KINDS: &[&str] = &[
        "parent",
        "playbook",
        "inventory",
        "host",
        "variable",
        "network",
        "boot",
        "services",
        "ansible-core",
        "option",
        "file",
    ];
    KINDS.iter().find(|known| **known == kind).copied()
}

fn is_digest(kind: &str, part: &Part) -> bool {
    PRIVATE.contains(&kind) && part.value.as_ref().is_some_and(|value| value.starts_with("b3:"))
}

/// A part with nothing in it that isn't for everybody.
fn cover(part: &Part) -> Part {
    let mut part = part.clone();
    if PRIVATE.contains(&part.kind.as_str())
        && let Some(value) = &mut part.value
    {
        let text = format!("{}\0{}\0{value}", part.kind, part.subject);
        *value = Digest::of(text.as_bytes()).to_string();
    }
    part
}

/// Splits what everybody may read from the rest.
fn covered(mut latest: Latest) -> (Latest, Private) {
    let mut secret = Private { key: Some(latest.key), ..Private::default() };
    for part in &mut latest.parts {
        let open = cover(part);
        if open != *part {
            let values = secret.values.entry(part.kind.clone()).or_default();
            values.insert(part.subject.clone(), part.value.clone());
            *part = open;
        }
    }
    if let Some(made) = &mut latest.made {
        secret.reasons.clone_from(&made.reasons);
        for told in &mut made.reasons {
            if PRIVATE.contains(&told.kind.as_str()) || told.kind == "unset" {
                (told.old, told.new) = (None, None);
            }
        }
    }
    (latest, secret)
}

/// The opposite of [`covered`], as far as there is anything private that belongs to it.
fn uncovered(mut latest: Latest, private: Option<Private>) -> Latest {
    let Some(private) = private.filter(|private| private.key == Some(latest.key)) else { return latest };
    for part in &mut latest.parts {
        if let Some(value) = private.values.get(&part.kind).and_then(|values| values.get(&part.subject)) {
            part.value.clone_from(value);
        }
    }
    if let Some(made) = &mut latest.made {
        made.reasons = private.reasons;
    }
    latest
}

fn public(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index}.json"))
}

fn private(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index}.private.json"))
}

fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
                tracing::warn!(path = %path.display(), %error, "passed over what is remembered of a layer");
            }
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "passed over what is remembered"))
        .ok()
}

fn write(path: &Path, value: &impl Serialize, mode: u32) -> rootbuild_cache::Result<()> {
    let text = serde_json::to_vec_pretty(value).expect("it is plain data");
    durable::write_atomic(path, &text, mode)
}

fn make_directory(dir: &Path) -> rootbuild_cache::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(rootbuild_cache::Error::io("make", dir))
}

#[cfg(test)]
mod tests;
