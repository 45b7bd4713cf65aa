//! Each layer that a provision came to is remembered, with how and why: see [`super::history`].

use rootbuild_playbooks::toolchain;

use super::history::{Came, History, Latest, Made, Told, complete};
use super::layer::requirements;
use super::lookup::changes;
use super::parts::{self, Part};
use super::step::{self, PlaybookStep, Step};
use super::{Engine, LayerReport, StepError, top};
use crate::definition::{Base, BaseKind, Root};
use crate::event::LayerStatus;

impl Engine {
    /// Remembers a layer of `root`. That this fails is no reason to fail: it costs an explanation.
    pub(super) fn remember(
        &self,
        history: &mut History,
        root: &Root,
        step: &Step<'_>,
        index: usize,
        below: &[LayerReport],
        layer: &LayerReport,
    ) {
        let done = self.parts(root, step, below).map(|(parts, whole)| {
            let latest = history.step(index, &layer.step);
            let made = (layer.status != LayerStatus::Cached).then(|| Made {
                status: layer.status,
                at: jiff::Timestamp::now().to_string(),
                seconds: layer.seconds,
                tasks_run: layer.tasks_run,
                tasks_replayed: layer.tasks_replayed,
                reasons: self.why(layer, latest, &parts, whole.as_deref()),
            });
            let made_for = layer.made_for.as_deref();
            let (step, key, record) = (layer.step.as_str(), layer.key, layer.record.as_ref());
            history.remember(index, Came { step, key, record, made_for, parts, made })
        });
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a layer isn't remembered"),
            Err(error) => tracing::warn!(%error, "a layer isn't remembered"),
        }
    }

    /// Why a layer was made, in full.
    fn why(
        &self,
        layer: &LayerReport,
        latest: Option<&Latest>,
        parts: &[Part],
        whole: Option<&str>,
    ) -> Vec<Told> {
        let mut reasons = complete(layer.reasons.clone(), latest, &layer.key, parts, whole);
        let is_new = layer.reasons.iter().all(|reason| reason.kind == "new");
        // Another key, and what the step read for the one before may have changed too.
        if is_new
            && let Some(reader) = self.reader.get()
            && let Some(record) = latest.and_then(|latest| latest.record(&self.store))
        {
            reasons.extend(changes(reader, &record.inputs));
        }
        reasons.iter().map(Told::from).collect()
    }

    /// The parts of a layer's key, and what the step is made from as a whole.
    fn parts(
        &self,
        root: &Root,
        step: &Step<'_>,
        below: &[LayerReport],
    ) -> Result<(Vec<Part>, Option<String>), StepError> {
        let definition = &self.definition;
        Ok(match step {
            Step::Base(base) => of_base(base, &definition.dir),
            Step::Playbook(playbook) => {
                let ansible = definition.ansible.as_ref().expect("the definition was validated");
                let project = step::project(definition, ansible, self.store.dir(), &self.options.outputs);
                let identity = toolchain::identity(&ansible.core, requirements(ansible))?;
                let step = PlaybookStep::new(top(below), root, playbook, &project, &identity);
                let parent = below.last().map_or("", |layer| layer.step.as_str());
                (parts::of_playbook(&step, parent), None)
            }
        })
    }
}

/// The parts of a base's key, and what it is made from as a whole. The tree of another root has no parts: it
/// is as that root is.
pub(crate) fn of_base(base: &Base, dir: &std::path::Path) -> (Vec<Part>, Option<String>) {
    match &base.kind {
        BaseKind::Root(_) => (Vec::new(), None),
        _ => (parts::of_base(base, dir), parts::source_of_base(base, dir)),
    }
}
