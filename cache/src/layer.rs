//! Layers: what a step gave on a parent tree, and the records that prove it still holds.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The definition key of a layer: H(key version, step version, parent tree, what the step is).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerKey(pub Digest);

/// One thing a step read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What kind of thing: `file`, `directory`, `absent`, `environment`.
    pub kind: String,
    /// Its name: a path relative to the project (or absolute outside it), or a variable's name.
    pub name: String,
    /// Its content's digest (`None` for `absent`).
    pub digest: Option<Digest>,
}

/// Everything a step read, and the tree that it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The tree the step gave.
    pub tree: Digest,
    /// What it read, sorted by kind and name.
    pub inputs: Vec<Input>,
    /// How long the step took, in seconds.
    pub seconds: f64,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// Facts about the run that people ask for (task counts, deferred services, package lists,
    /// host, rootbuild version), never part of a key. A JSON object.
    pub facts: serde_json::Value,
}
