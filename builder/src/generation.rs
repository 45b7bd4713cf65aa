//! Generations: which tree each root of a project had at one provision, and what made it.
//!
//! `<store>/generations/<project>/<n>.json`, numbered upward; a provision that changes nothing
//! writes none. Readable without privileges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rootbuild_cache::{Digest, LayerKey, Record, Result, Store, durable};
use serde::{Deserialize, Serialize};

use crate::engine::RootReport;

/// The version of the files' form.
const SCHEMA: u32 = 1;

/// How many generations of a project are kept.
const KEPT: usize = 50;

/// After so long nobody goes back to a project whose definition is gone.
const FORGOTTEN: Duration = Duration::from_secs(14 * 24 * 3600);

/// A layer of a root, as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The step's name.
    pub step: String,
    /// The layer's key, under which the store has its record.
    pub key: LayerKey,
    /// Its tree.
    pub tree: Digest,
}

impl Layer {
    /// What the store still says of the layer.
    #[must_use]
    pub fn record(&self, store: &Store) -> Option<Record> {
        store.records(&self.key).ok()?.into_iter().find(|record| record.tree == self.tree)
    }
}

/// A root, as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Its tree.
    pub tree: Digest,
    /// When it got this tree, RFC 3339 in UTC.
    pub created: String,
    /// Its layers, from the base up.
    pub layers: Vec<Layer>,
}

/// A generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The version of this form.
    pub schema: u32,
    /// The definition, absolute; for people, since what isn't UTF-8 is replaced.
    #[serde(serialize_with = "crate::event::lossy")]
    pub definition: PathBuf,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// Every root of the project that was ever provisioned.
    pub roots: BTreeMap<String, Root>,
}

/// The directory of a project's generations.
fn directory(store_dir: &Path, definition: &Path) -> PathBuf {
    store_dir.join("generations").join(project_name(definition))
}

/// What a definition's project is called in the store.
pub(crate) fn project_name(definition: &Path) -> String {
    Digest::of(definition.as_os_str().as_encoded_bytes()).hex()[..16].to_owned()
}

/// A project's generations by number, oldest first.
fn numbers(dir: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn load(dir: &Path, number: u64) -> Option<Generation> {
    let path = dir.join(format!("{number}.json"));
    let read = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Generation>(&bytes).ok());
    let known = read.filter(|generation| generation.schema == SCHEMA);
    if known.is_none() {
        tracing::warn!("passing over `{}`, which is no generation this version knows", path.display());
    }
    known
}

/// The newest generation of a project.
#[must_use]
pub fn newest(store: &Store, definition: &Path) -> Option<Generation> {
    let dir = directory(store.dir(), definition);
    numbers(&dir).into_iter().rev().find_map(|number| load(&dir, number))
}

/// The trees of every layer in the newest generation of each project on the store: what the next edit of
/// any of them builds on.
#[must_use]
pub fn layer_trees(store: &Store) -> Vec<Digest> {
    let projects = fs::read_dir(store.dir().join("generations"));
    projects
        .into_iter()
        .flatten()
        .filter_map(|project| {
            let dir = project.ok()?.path();
            numbers(&dir).into_iter().rev().find_map(|number| load(&dir, number))
        })
        .flat_map(|generation| generation.roots.into_values())
        .flat_map(|root| root.layers)
        .map(|layer| layer.tree)
        .collect()
}

/// Each root of each project as it stands, and as it was before, `keep` different trees in all, with what that is for
/// people. Projects whose definition is gone count as long as one that knows it may come back: for [`FORGOTTEN`].
#[must_use]
pub fn window(store: &Store, keep: usize) -> Vec<(String, Root)> {
    let mut found = Vec::new();
    for project in fs::read_dir(store.dir().join("generations")).into_iter().flatten().flatten() {
        let dir = project.path();
        let numbers = numbers(&dir);
        let newest = numbers.last().and_then(|number| fs::metadata(dir.join(format!("{number}.json"))).ok());
        let age = newest.and_then(|it| it.modified().ok()).and_then(|it| it.elapsed().ok());
        let is_old = age.is_some_and(|age| age > FORGOTTEN);
        let mut trees: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for number in numbers.into_iter().rev() {
            let Some(generation) = load(&dir, number) else { continue };
            if is_old && !generation.definition.exists() {
                break;
            }
            for (name, root) in generation.roots {
                let seen = trees.entry(name.clone()).or_default();
                if seen.len() < keep.max(1) && !seen.contains(&root.tree) {
                    seen.push(root.tree);
                    let back = seen.len() - 1;
                    let when =
                        if back == 0 { String::new() } else { format!(", {back} before the current one") };
                    found.push((
                        format!("root `{name}` of `{}`{when}", generation.definition.display()),
                        root,
                    ));
                }
            }
        }
    }
    found
}

/// The tree that a root of a project had before it got the last `back` ones.
#[must_use]
pub fn back(store: &Store, definition: &Path, root: &str, back: usize) -> Option<Digest> {
    let dir = directory(store.dir(), definition);
    let mut trees: Vec<Digest> = Vec::new();
    for number in numbers(&dir).into_iter().rev() {
        let tree = load(&dir, number).and_then(|mut it| it.roots.remove(root)).map(|root| root.tree);
        trees.extend(tree.filter(|tree| trees.last() != Some(tree)));
        if trees.len() > back {
            break;
        }
    }
    trees.get(back).copied()
}

/// The tree that a root of a project had before it got `tree`, or before all that is known where it never had.
#[must_use]
pub fn before(store: &Store, definition: &Path, root: &str, tree: &Digest) -> Option<Digest> {
    let dir = directory(store.dir(), definition);
    let mut found = false;
    for number in numbers(&dir).into_iter().rev() {
        let Some(it) = load(&dir, number).and_then(|mut it| it.roots.remove(root)) else { continue };
        match it.tree == *tree {
            true => found = true,
            false if found => return Some(it.tree),
            false => {}
        }
    }
    None
}

/// The generation of a project with this number.
#[must_use]
pub fn numbered(store: &Store, definition: &Path, number: u64) -> Option<Generation> {
    let dir = directory(store.dir(), definition);
    numbers(&dir).contains(&number).then(|| load(&dir, number)).flatten()
}

/// The numbers of the first and the last generation of a project that are known.
#[must_use]
pub fn span(store: &Store, definition: &Path) -> Option<(u64, u64)> {
    let numbers = numbers(&directory(store.dir(), definition));
    Some((*numbers.first()?, *numbers.last()?))
}

/// The number of the last generation of a project in which a root had this tree.
#[must_use]
pub fn number_of(store: &Store, definition: &Path, root: &str, tree: &Digest) -> Option<u64> {
    let dir = directory(store.dir(), definition);
    let has = |number: &u64| {
        load(&dir, *number).is_some_and(|it| it.roots.get(root).is_some_and(|it| it.tree == *tree))
    };
    numbers(&dir).into_iter().rev().find(has)
}

/// Writes a new generation when `reports` change anything in the newest one.
pub fn record(store: &Store, definition: &Path, reports: &[&RootReport]) -> Result<()> {
    let dir = directory(store.dir(), definition);
    let _lock = store.lock_for("generations", "writing down a generation", None, &|_| (), &|| false)?;
    let before = newest(store, definition);
    let now = jiff::Timestamp::now().to_string();
    let mut roots = before.as_ref().map(|generation| generation.roots.clone()).unwrap_or_default();
    for report in reports {
        let layers: Vec<Layer> = report
            .layers
            .iter()
            .map(|layer| Layer { step: layer.step.clone(), key: layer.key, tree: layer.record.tree })
            .collect();
        match roots.get_mut(&report.name) {
            Some(root) if root.tree == report.tree => root.layers = layers,
            _ => {
                let root = Root { tree: report.tree, created: now.clone(), layers };
                roots.insert(report.name.clone(), root);
            }
        }
    }
    if before.is_some_and(|generation| generation.roots == roots) {
        return Ok(());
    }
    fs::create_dir_all(&dir).map_err(rootbuild_cache::Error::io("create", &dir))?;
    let known = numbers(&dir);
    let number = known.last().map_or(1, |last| last + 1);
    let generation = Generation { schema: SCHEMA, definition: definition.to_owned(), created: now, roots };
    let text = serde_json::to_vec_pretty(&generation).expect("a generation is plain data");
    let file = dir.join(format!("{number}.json"));
    durable::sweep_beside(&file);
    durable::write_atomic(&file, &text, 0o644)?;
    for old in known.iter().take((known.len() + 1).saturating_sub(KEPT)) {
        let _ = fs::remove_file(dir.join(format!("{old}.json")));
    }
    Ok(())
}
