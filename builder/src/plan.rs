//! What a provision would do, and why: the same keys and records, and nothing that changes anything.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rootbuild_cache::{Digest, LayerKey, Record, Store};
use rootbuild_playbooks::inputs::{self, Reader};
use rootbuild_playbooks::toolchain;

use crate::definition::{BaseKind, Definition, Playbook, Root};
use crate::engine::contents::{self, Change};
use crate::engine::history::{self, History, Latest};
use crate::engine::layer::requirements;
use crate::engine::lookup::{Lookup, Reason, changes, lookup};
use crate::engine::parts::{self, Part};
use crate::engine::step::{self, PlaybookStep};
use crate::engine::{Forced, Step, StepError, base, base_of, known_root, remember};

pub use crate::engine::reach::Reach;

/// What would happen to a layer.
#[derive(Debug, Clone, Default)]
pub struct PlannedLayer {
    /// The step's name.
    pub step: String,
    /// Its key. Where the layer below has to be built first it only tells layers apart.
    pub key: Option<LayerKey>,
    /// Its tree, if a record holds; `None`: it would be built.
    pub tree: Option<Digest>,
    /// Why it would be built.
    pub reasons: Vec<Reason>,
    /// Whether that is sure. It isn't where the only reason is the layer below: if that comes to the same
    /// tree as before, this one stays.
    pub certain: bool,
    /// How long it took the last time, in seconds, or what remains of that, where it is known.
    pub seconds: Option<f64>,
    /// From where on tasks would run, at best.
    pub reach: Option<Reach>,
    /// Whether diffs are known that this user may not see.
    pub hidden: bool,
    /// The record that holds, or the one that the reasons were found by.
    pub record: Option<Box<Record>>,
    /// What is remembered of the step.
    pub latest: Option<Box<Latest>>,
}

/// What would happen to a root.
#[derive(Debug, Clone)]
pub struct PlannedRoot {
    /// Its name.
    pub name: String,
    /// Its layers, from the base up.
    pub layers: Vec<PlannedLayer>,
}

impl PlannedRoot {
    /// Whether any layer would be built.
    #[must_use]
    pub fn builds(&self) -> bool {
        self.layers.iter().any(|layer| layer.tree.is_none())
    }
}

/// A layer whose key is known.
struct Keyed<'a> {
    root: &'a str,
    index: usize,
    step: String,
    key: LayerKey,
    parts: Vec<Part>,
    /// What the step is made from as a whole.
    whole: Option<String>,
    /// Of the step's inputs, where it has any.
    reader: Option<Arc<Reader>>,
    /// What the names of inputs are relative to.
    dir: &'a Path,
}

/// Plans roots of a definition against a store (`None`: there is none yet). Starts no Ansible and
/// needs no privileges.
pub struct Planner<'a> {
    definition: &'a Definition,
    store: Option<&'a Store>,
    forced: Forced,
    reader: Option<Arc<Reader>>,
    histories: HashMap<String, History>,
}

impl<'a> Planner<'a> {
    /// A planner for one command.
    #[must_use]
    pub fn new(definition: &'a Definition, store: Option<&'a Store>, forced: Forced) -> Self {
        Self { definition, store, forced, reader: None, histories: HashMap::new() }
    }

    /// Plans one root.
    pub fn plan(&mut self, name: &str) -> Result<PlannedRoot, StepError> {
        let root = known_root(self.definition, name);
        let mut layers: Vec<PlannedLayer> = Vec::new();
        for (index, step) in Step::of(root, base_of(self.definition, root)).into_iter().enumerate() {
            let layer = match step {
                Step::Base(below) => match &below.kind {
                    BaseKind::Root(below) => self.standing_on(&step.name(), below)?,
                    BaseKind::Tree(tree) => self.standing_tree(&step.name(), tree.value),
                    _ => {
                        let dir = &self.definition.dir;
                        let key = base::source(below, &self.definition.path).key()?;
                        let (parts, whole) = remember::of_base(below, dir);
                        let (step, reader) = (step.name(), None);
                        self.look(&Keyed { root: name, index, step, key, parts, whole, reader, dir })?
                    }
                },
                Step::Playbook(playbook) => self.playbook(root, playbook, index, &layers)?,
            };
            layers.push(layer);
        }
        Ok(PlannedRoot { name: name.to_owned(), layers })
    }

    fn standing_on(&mut self, step: &str, below: &str) -> Result<PlannedLayer, StepError> {
        let planned = self.plan(below)?;
        let top = planned.layers.into_iter().last().unwrap_or_default();
        let reasons = match top.tree {
            Some(_) => Vec::new(),
            None => vec![Reason::new("parent", format!("root {below}"))],
        };
        Ok(PlannedLayer {
            step: step.to_owned(),
            key: top.key,
            tree: top.tree,
            reasons,
            certain: top.certain,
            ..PlannedLayer::default()
        })
    }

    fn standing_tree(&self, step: &str, tree: Digest) -> PlannedLayer {
        let is_there = self.store.is_some_and(|store| store.has_tree(&tree));
        let lost = Reason { old: Some(tree.to_string()), ..Reason::new("lost", step) };
        PlannedLayer {
            step: step.to_owned(),
            key: Some(step::tree_key(&tree)),
            tree: is_there.then_some(tree),
            reasons: if is_there { Vec::new() } else { vec![lost] },
            certain: true,
            ..PlannedLayer::default()
        }
    }

    fn playbook(
        &mut self,
        root: &'a Root,
        playbook: &Playbook,
        index: usize,
        below: &[PlannedLayer],
    ) -> Result<PlannedLayer, StepError> {
        let parent = below.last().expect("a root has at least its base");
        let ansible = self.definition.ansible.as_ref().expect("the definition was validated");
        let store_dir = self.store.map(|store| store.dir().to_owned()).unwrap_or_default();
        let project = step::project(self.definition, ansible, &store_dir, &step::own_outputs());
        let identity = toolchain::identity(&ansible.core, requirements(ansible))?;
        let cache = self.store.map(|store| inputs::cache_in(store.dir()));
        let reader = self.reader.get_or_insert_with(|| Arc::new(Reader::new(&project, cache.as_deref())));
        let reader = Some(Arc::clone(reader));
        // Without a tree below there is no key, but all other parts of one, and something to tell it by.
        let unknown = || parent.key.map_or_else(|| Digest::of(b""), |key| key.0);
        let below = parent.tree.unwrap_or_else(unknown);
        let keyed_by = PlaybookStep::new(below, root, playbook, &project, &identity);
        let keyed = Keyed {
            root: &root.name,
            index,
            step: playbook.name.clone(),
            key: keyed_by.key(),
            parts: parts::of_playbook(&keyed_by, &parent.step),
            whole: None,
            reader,
            dir: &ansible.project,
        };
        if parent.tree.is_some() {
            self.look(&keyed)
        } else {
            Ok(self.above_the_unknown(&keyed, &parent.step))
        }
    }

    /// A layer whose parent has to be built first: what else is known of it.
    fn above_the_unknown(&mut self, keyed: &Keyed<'_>, parent: &str) -> PlannedLayer {
        let latest = self.latest(keyed);
        let record = self.store.zip(latest.as_ref()).and_then(|(store, latest)| latest.record(store));
        let mut reasons = vec![Reason::new("parent", parent)];
        if self.forced.is(keyed.root, &keyed.step) {
            reasons.push(Reason::new("forced", &keyed.step));
        }
        match &latest {
            Some(latest) => {
                let changed = history::differences(&latest.parts, &keyed.parts);
                reasons.extend(changed.into_iter().filter(|reason| reason.kind != "parent"));
            }
            None => reasons.push(Reason::new("new", &keyed.step)),
        }
        if let Some((record, reader)) = record.as_ref().zip(keyed.reader.as_deref()) {
            reasons.extend(changes(reader, &record.inputs));
        }
        let certain = reasons.len() > 1;
        let (step, key) = (keyed.step.clone(), Some(keyed.key));
        let missed = PlannedLayer { step, key, reasons, certain, ..PlannedLayer::default() };
        self.shown(missed, keyed, record, latest)
    }

    fn look(&mut self, keyed: &Keyed<'_>) -> Result<PlannedLayer, StepError> {
        let latest = self.latest(keyed);
        let step = keyed.step.clone();
        let missed = PlannedLayer { step, key: Some(keyed.key), certain: true, ..PlannedLayer::default() };
        let Some(store) = self.store else {
            return Ok(PlannedLayer { reasons: vec![Reason::new("new", &keyed.step)], ..missed });
        };
        let forced = self.forced.is(keyed.root, &keyed.step);
        let forced = forced.then(|| vec![Reason::new("forced", &keyed.step)]);
        let (reasons, nearest) = match lookup(store, &keyed.key, keyed.reader.as_deref(), &keyed.step)? {
            Lookup::Hit(record) if forced.is_some() => (Vec::new(), Some(record)),
            Lookup::Hit(record) => {
                return Ok(PlannedLayer {
                    tree: Some(record.tree),
                    seconds: Some(record.seconds),
                    record: Some(record),
                    latest: latest.map(Box::new),
                    ..missed
                });
            }
            Lookup::Miss { reasons, record } => (reasons, record),
        };
        let reasons = forced.unwrap_or(reasons);
        // The record that the reasons are about: the nearest under this key, or the step's latest one.
        let is_known = nearest.is_some();
        let record = nearest.map(|record| *record).or_else(|| latest.as_ref()?.record(store));
        let whole = keyed.whole.as_deref();
        let mut reasons = history::complete(reasons, latest.as_ref(), &keyed.key, &keyed.parts, whole);
        if !is_known
            && let Some((record, reader)) = record.as_ref().zip(keyed.reader.as_deref())
            && !reasons.iter().any(|reason| matches!(reason.kind, "lost" | "forced"))
        {
            reasons.extend(changes(reader, &record.inputs));
        }
        Ok(self.shown(PlannedLayer { reasons, ..missed }, keyed, record, latest))
    }

    /// Adds what can be shown and reckoned by the record that the reasons are about.
    fn shown(
        &self,
        mut layer: PlannedLayer,
        keyed: &Keyed<'_>,
        record: Option<Record>,
        latest: Option<Latest>,
    ) -> PlannedLayer {
        if let (Some(store), Some(record)) = (self.store, &record) {
            for reason in layer.reasons.iter_mut().filter(|reason| reason.kind == "file") {
                match contents::change(store, record, keyed.dir, &reason.subject) {
                    Change::Diff(diff) => reason.diff = Some(diff),
                    Change::Permissions => reason.kind = "permissions",
                    Change::Hidden => layer.hidden = true,
                    Change::Unknown => {}
                }
            }
            layer.reach = Reach::of(&layer.reasons, record);
            let part = layer.reach.as_ref().and_then(Reach::part).unwrap_or(1.0);
            // A record of a run that was replayed tells nothing of how long tasks take.
            let whole = latest.as_ref().and_then(|latest| latest.whole).unwrap_or(record.seconds);
            layer.seconds = Some(whole.max(record.seconds) * part);
        }
        layer.record = record.map(Box::new);
        layer.latest = latest.map(Box::new);
        layer
    }

    fn latest(&mut self, keyed: &Keyed<'_>) -> Option<Latest> {
        let store = self.store?;
        let history = self
            .histories
            .entry(keyed.root.to_owned())
            .or_insert_with(|| History::of(store, &self.definition.path, keyed.root));
        history.step(keyed.index, &keyed.step).cloned()
    }
}
