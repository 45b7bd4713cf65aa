//! What a provision would do, and why: the same keys and records, and nothing that changes anything.

use std::collections::HashMap;
use std::sync::Arc;

use rootbuild_cache::{Digest, Input, LayerKey, Store};
use rootbuild_playbooks::{inputs, toolchain};

use crate::definition::{BaseKind, Definition, Playbook, Root};
use crate::engine::layer::requirements;
use crate::engine::lookup::{Lookup, Reason, lookup};
use crate::engine::{Step, StepError, base, base_of, known_root, step};

/// What would happen to a layer.
#[derive(Debug, Clone)]
pub struct PlannedLayer {
    /// The step's name.
    pub step: String,
    /// Its tree, if a record holds; `None`: it would be built.
    pub tree: Option<Digest>,
    /// Why it would be built.
    pub reasons: Vec<Reason>,
    /// How long it took the last time, in seconds, where that is known.
    pub seconds: Option<f64>,
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

/// Plans roots of a definition against a store (`None`: there is none yet). Starts no Ansible and
/// needs no privileges.
pub struct Planner<'a> {
    definition: &'a Definition,
    store: Option<&'a Store>,
    inputs: HashMap<std::path::PathBuf, Arc<Vec<Input>>>,
}

impl<'a> Planner<'a> {
    /// A planner for one command.
    #[must_use]
    pub fn new(definition: &'a Definition, store: Option<&'a Store>) -> Self {
        Self { definition, store, inputs: HashMap::new() }
    }

    /// Plans one root.
    pub fn plan(&mut self, name: &str) -> Result<PlannedRoot, StepError> {
        let root = known_root(self.definition, name);
        let mut layers: Vec<PlannedLayer> = Vec::new();
        for step in Step::of(root, base_of(self.definition, root)) {
            let layer = match step {
                Step::Base(below) => match &below.kind {
                    BaseKind::Root(below) => self.standing_on(&step.name(), below)?,
                    _ => self.look(base::source(below).key()?, &[], &step.name())?,
                },
                Step::Playbook(playbook) => self.playbook(root, playbook, &layers)?,
            };
            layers.push(layer);
        }
        Ok(PlannedRoot { name: name.to_owned(), layers })
    }

    fn standing_on(&mut self, step: &str, below: &str) -> Result<PlannedLayer, StepError> {
        let planned = self.plan(below)?;
        let tree = planned.layers.last().and_then(|layer| layer.tree);
        let reasons =
            if tree.is_some() { Vec::new() } else { vec![Reason::new("parent", format!("root {below}"))] };
        Ok(PlannedLayer { step: step.to_owned(), tree, reasons, seconds: None })
    }

    fn playbook(
        &mut self,
        root: &Root,
        playbook: &Playbook,
        below: &[PlannedLayer],
    ) -> Result<PlannedLayer, StepError> {
        let parent = below.last().expect("a root has at least its base");
        let Some(tree) = parent.tree else {
            let reasons = vec![Reason::new("parent", &parent.step)];
            return Ok(PlannedLayer { step: playbook.name.clone(), tree: None, reasons, seconds: None });
        };
        let ansible = self.definition.ansible.as_ref().expect("the definition was validated");
        let store_dir = self.store.map(|store| store.dir().to_owned()).unwrap_or_default();
        let project = step::project(self.definition, ansible, &store_dir, &step::own_outputs());
        let identity = toolchain::identity(&ansible.core, requirements(ansible))?;
        let key = step::playbook_key(&tree, root, playbook, &project, &identity);
        let inputs = match self.inputs.get(&playbook.path) {
            Some(inputs) => Arc::clone(inputs),
            None => {
                let inputs = Arc::new(inputs::inputs(&project, &playbook.path)?);
                self.inputs.insert(playbook.path.clone(), Arc::clone(&inputs));
                inputs
            }
        };
        self.look(key, &inputs, &playbook.name)
    }

    fn look(&self, key: LayerKey, inputs: &[Input], step: &str) -> Result<PlannedLayer, StepError> {
        let Some(store) = self.store else {
            let reasons = vec![Reason::new("new", step)];
            return Ok(PlannedLayer { step: step.to_owned(), tree: None, reasons, seconds: None });
        };
        Ok(match lookup(store, &key, inputs, step)? {
            Lookup::Hit(record) => PlannedLayer {
                step: step.to_owned(),
                tree: Some(record.tree),
                reasons: Vec::new(),
                seconds: Some(record.seconds),
            },
            Lookup::Miss { reasons, seconds } => {
                PlannedLayer { step: step.to_owned(), tree: None, reasons, seconds }
            }
        })
    }
}
