//! One layer: found by its records, or built under the key's lock.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rootbuild_cache::{Digest, Input, LayerKey, Record, Tree};
use rootbuild_playbooks::event::{RunEvent, TaskStatus};
use rootbuild_playbooks::inputs::{Project, Reader};
use rootbuild_playbooks::run::{Expected, PlaybookRun, RunFailed};
use rootbuild_playbooks::{run, toolchain};
use rootbuild_roots::StepEvent;
use rootbuild_roots::base::repos::Declared;
use rootbuild_roots::base::{BaseContext, BaseSource};
use rootbuild_roots::publish;
use rootbuild_roots::sandbox::{Network, Nspawn};
use rootbuild_roots::working::{self, WorkingRoot};
use serde_json::json;

use super::lookup::{Lookup, Reason, lookup};
use super::reach::Reach;
use super::reads::{Reads, Watched};
use super::verify::{Differs, differences};
use super::{Engine, LayerReport, StepError, blocking, contents, parts, step, top};
use crate::definition::{Ansible, Base, Playbook, Root};
use crate::event::{Event, LayerStatus};

/// The project's own hash-pinned requirements, if the definition names any.
pub(crate) fn requirements(ansible: &Ansible) -> Option<&Path> {
    ansible.requirements.as_ref().map(|path| path.value.as_path())
}

/// Whether a base has a lock file by now.
fn has_lock(base: &Base) -> bool {
    base.lock().is_some_and(|lock| lock.exists())
}

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How a step is built.
#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    /// As far as journals don't answer for the root; where it is expected to leave what they know.
    Replay(Option<Expected>),
    /// All of it.
    Whole,
}

/// What a step gave: its tree, and what the record says beside it.
struct Built {
    tree: Digest,
    /// Tasks that the root had a part in, and those that journals answered for.
    tasks: (u64, u64),
    /// Whether journals answered for all of it.
    replayed: bool,
    /// Whether they answered for any of it.
    answered: bool,
    facts: serde_json::Value,
    /// What it read.
    inputs: Vec<Input>,
    /// Whether that was the same before and after: only then a record may be written.
    sound: bool,
    /// The key that the next lookup will use, where building changed it (a lock file was written).
    next_key: Option<LayerKey>,
}

type Outcome = Result<LayerReport, Arc<StepError>>;

impl Engine {
    pub(super) async fn base_layer(self: &Arc<Self>, root: &Root, base: &Base, index: usize) -> Outcome {
        let source: Arc<dyn BaseSource> = super::base::source(base, &self.definition.path).into();
        let asked = source.inputs_key().and_then(|inputs| Ok((inputs, has_lock(base), source.key()?)));
        let (inputs_before, was_locked, key) = asked.map_err(|error| Arc::new(StepError::from(error)))?;
        let name = format!("base:{}", base.name);
        let step_name = name.clone();
        let (engine, root_name) = (Arc::clone(self), root.name.clone());
        let files: Vec<PathBuf> = parts::files_of_base(base).into_iter().map(Path::to_owned).collect();
        let teller = Arc::clone(&source);
        let layer = self.layer(&root.name, index, &name, key, None, move |_| {
            let working = WorkingRoot::empty(&engine.store)?;
            let directory = match working.mount() {
                working::RootMount::Plain(directory) => directory,
                working::RootMount::Overlay { upper, .. } => upper,
            };
            let sink = |event: StepEvent| engine.step_event(&root_name, event);
            let mut facts = source.build(
                BaseContext {
                    store: &engine.store,
                    cancel: &engine.cancel,
                    sink: &sink,
                    scratch: working.scratch(),
                    offline: engine.options.offline,
                    mirror: engine.options.mirror.as_ref(),
                },
                &directory,
            )?;
            engine.phase(&root_name, "capturing");
            let begin = |tree: &Tree| engine.prepare_tree(&root_name, tree);
            let tree = working.finish_telling(&engine.store, &engine.cancel, &begin)?;
            // Building may have written the base's lock file, which is part of the key from now on. Nothing else
            // may have changed since the key was made, or what was built belongs under no key.
            let next_key = source.key()?;
            let sound = source.inputs_key()? == inputs_before && (next_key == key || !was_locked);
            if !sound {
                engine.changed(&root_name, "a file of the base", &step_name);
            }
            let dir = &engine.definition.dir;
            let names: Vec<_> =
                files.iter().map(|path| path.strip_prefix(dir).unwrap_or(path).to_string_lossy()).collect();
            contents::keep(&engine.store, dir, names.iter().map(AsRef::as_ref), &mut facts)?;
            let (tasks, replayed, answered) = ((0, 0), false, false);
            let (inputs, next_key) = (Vec::new(), Some(next_key));
            Ok(Built { tree, tasks, replayed, answered, facts, inputs, sound, next_key })
        });
        let report = layer.await?;
        // Who only finds a base that nobody checked is told like the one who built it.
        if report.status == LayerStatus::Cached {
            for text in teller.warnings().map_err(|error| Arc::new(StepError::from(error)))? {
                self.sink.event(&Event::Warning { root: root.name.clone(), text });
            }
        }
        Ok(report)
    }

    pub(super) async fn playbook_layer(
        self: &Arc<Self>,
        root: &Root,
        playbook: &Playbook,
        index: usize,
        below: &[LayerReport],
    ) -> Outcome {
        let parent = top(below);
        let (key, project) = self.prepare(root, playbook, parent).map_err(Arc::new)?;
        let reader = self.reader(&project);
        let (engine, root, playbook) = (Arc::clone(self), root.clone(), playbook.clone());
        let (root_name, step_name) = (root.name.clone(), playbook.name.clone());
        let may_replay = !self.options.no_replay && !self.options.forced.is(&root_name, &step_name);
        let shared = Arc::clone(&reader);
        self.layer(&root_name, index, &step_name, key, Some(shared), move |how| {
            let how = if may_replay { how } else { How::Whole };
            engine.run_playbook(&root, &playbook, &project, parent, &reader, how)
        })
        .await
    }

    /// Runs a playbook on `parent`.
    fn run_playbook(
        &self,
        root: &Root,
        playbook: &Playbook,
        project: &Project,
        parent: Digest,
        reader: &Reader,
        how: How,
    ) -> Result<Built, StepError> {
        let toolchain = self.toolchain(&root.name)?;
        let watched = Watched::before(self, &root.name, project, &playbook.path)?;
        self.phase(&root.name, "preparing the root");
        // Whatever differs will be seen in the tree, as far as anybody knows: then there is something to hand over, and
        // what stands can be made ready for it meanwhile.
        let differs = how == How::Replay(None);
        if differs && publish::current(&self.store, &root.name).is_ok_and(|it| it.is_some()) {
            self.prepare_checkout(&root.name, parent);
        }
        let spec = PlaybookRun {
            root_name: root.name.clone(),
            project: project.clone(),
            playbook: playbook.path.clone(),
            host: root.host.value.clone(),
            vars: serde_json::Value::Object(root.vars.clone()),
            toolchain,
            parent,
            replay: how != How::Whole,
            expected: match how {
                How::Replay(expected) => expected,
                How::Whole => None,
            },
            cache: self.store.dir().join("ansible"),
            network: root.network,
            repos: (root.network == Network::Repos).then(|| Declared {
                root: root.name.clone(),
                urls: root.repos.clone(),
                mirrors: super::base::locked_mirrors(&self.definition, root),
                offline: self.options.offline,
                mirror: self.options.mirror.clone(),
            }),
            boot: root.boot,
            services: root.services,
            log: self.logs.path(&root.name),
            verbosity: self.options.verbosity,
            launcher: watched.launcher(),
        };
        let ran = self.waiting(&root.name, |wait| {
            run::run(&spec, &self.store, &Nspawn, wait, &|event| {
                if matches!(event, RunEvent::Result { status: TaskStatus::Changed, replayed: false, .. }) {
                    // There will be something to hand over.
                    self.prepare_checkout(&root.name, parent);
                }
                self.run_event(&root.name, event);
            })
        });
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(RunFailed { error, root: left }) => {
                if let Some(left) = left {
                    self.keep_failed(*left, &root.name);
                }
                return Err(error.into());
            }
        };
        let reads = watched.after(outcome.trace, reader)?;
        if let Some(why) = &reads.unsound {
            self.unsound(&root.name, &playbook.name, why);
        }
        let Reads { inputs, unsound, first_use, connections } = reads;
        let deferred: Vec<_> = outcome
            .deferred
            .iter()
            .map(|(service, state)| json!({"service": service, "state": state}))
            .collect();
        let mut facts = json!({
            "tasks": outcome.tasks,
            "changed": outcome.changed,
            "deferred": deferred,
            "host": root.host.value,
            "tasks_run": outcome.tasks_run,
            "tasks_replayed": outcome.tasks_replayed,
            "replay": outcome.replay,
            "first_use": first_use,
            "connections": connections,
        });
        if !outcome.fetched.is_empty() {
            facts["fetched"] = json!(outcome.fetched);
        }
        let files = inputs.iter().filter(|input| input.kind == "file").map(|input| input.name.as_str());
        contents::keep(&self.store, &project.dir, files, &mut facts)?;
        let tasks = (outcome.tasks_run, outcome.tasks_replayed);
        let (replayed, answered) = (outcome.replay.is_whole(), outcome.replay.answered > 0);
        let (tree, sound) = (outcome.tree, unsound.is_none());
        Ok(Built { tree, tasks, replayed, answered, facts, inputs, sound, next_key: None })
    }

    /// Key and project of a playbook's layer.
    fn prepare(
        &self,
        root: &Root,
        playbook: &Playbook,
        parent: Digest,
    ) -> Result<(LayerKey, Project), StepError> {
        let ansible = self.definition.ansible.as_ref().expect("the definition was validated");
        let project = step::project(&self.definition, ansible, self.store.dir(), &self.options.outputs);
        let identity = toolchain::identity(&ansible.core, requirements(ansible))?;
        let key = step::playbook_key(&parent, root, playbook, &project, &identity);
        Ok((key, project))
    }

    /// Finds the layer `key`, or builds it once: other roots of this process wait for the first,
    /// other processes for the key's lock.
    async fn layer(
        self: &Arc<Self>,
        root: &str,
        index: usize,
        name: &str,
        key: LayerKey,
        reader: Option<Arc<Reader>>,
        build: impl Fn(How) -> Result<Built, StepError> + Send + Sync + 'static,
    ) -> Outcome {
        let (owner, memo) = {
            let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            // One that is to be built whatever is known isn't the one that another root may take as it is.
            let forced = self.options.forced.is(root, name);
            memo.entry((key, forced)).or_insert_with(|| (root.to_owned(), Arc::default())).clone()
        };
        if owner != root && memo.get().is_none() {
            self.sink.event(&Event::Waiting {
                root: root.to_owned(),
                step: name.to_owned(),
                index,
                holder: format!("root `{owner}`"),
            });
        }
        let mut mine = false;
        let shared = memo
            .get_or_init(|| {
                mine = true;
                async { self.find_or_build(root, index, name, key, reader, build).await.map_err(Arc::new) }
            })
            .await
            .clone()?;
        let report = if mine {
            shared
        } else {
            LayerReport {
                step: name.to_owned(),
                status: LayerStatus::Cached,
                tasks_run: 0,
                tasks_replayed: 0,
                seconds: 0.0,
                reasons: Vec::new(),
                made_for: Some(owner).filter(|owner| owner != root),
                ..shared
            }
        };
        self.sink.event(&Event::LayerFinished {
            root: root.to_owned(),
            step: name.to_owned(),
            index,
            status: report.status,
            tree: report.record.tree,
            tasks: report.tasks_run,
            tasks_replayed: report.tasks_replayed,
            verified: report.verified,
            seconds: report.seconds,
        });
        Ok(report)
    }

    async fn find_or_build(
        self: &Arc<Self>,
        root: &str,
        index: usize,
        name: &str,
        key: LayerKey,
        reader: Option<Arc<Reader>>,
        build: impl Fn(How) -> Result<Built, StepError> + Send + Sync + 'static,
    ) -> Result<LayerReport, StepError> {
        let start = Instant::now();
        let cached = |record: Box<Record>| LayerReport {
            step: name.to_owned(),
            status: LayerStatus::Cached,
            key,
            record: Arc::new(*record),
            reasons: Vec::new(),
            verified: false,
            made_for: None,
            tasks_run: 0,
            tasks_replayed: 0,
            seconds: start.elapsed().as_secs_f64(),
        };
        let find = || {
            if self.options.forced.is(root, name) {
                Ok(Lookup::Miss { reasons: vec![Reason::new("forced", name)], record: None })
            } else {
                lookup(&self.store, &key, reader.as_deref(), name)
            }
        };
        let build = Arc::new(build);
        // Bases don't replay anything.
        let verify = self.options.verify_replay && reader.is_some();
        if let Lookup::Hit(record) = find()? {
            if verify {
                self.verify_cached(root, index, name, record.tree, Arc::clone(&build)).await?;
            }
            return Ok(LayerReport { verified: verify, ..cached(record) });
        }
        let _lock = self.lock_layer(root, index, name, key).await?;
        // Whoever held the lock may have built just this.
        let (reasons, near) = match find()? {
            Lookup::Hit(record) => return Ok(cached(record)),
            Lookup::Miss { reasons, record } => (reasons, record),
        };
        let expected = near.and_then(|record| Reach::of(&reasons, &record)).and_then(Reach::expected);
        let _permit = self.permit().await?;
        let log = self.logs.path(root);
        self.sink.event(&Event::LayerStarted { root: root.to_owned(), step: name.to_owned(), index, log });
        let (engine, root_name, step) = (Arc::clone(self), root.to_owned(), name.to_owned());
        let (record, tasks, replayed, verified, key) = blocking(move || {
            let started = Instant::now();
            let built = build(How::Replay(expected))?;
            let seconds = started.elapsed().as_secs_f64();
            // Before it gets a record.
            let verified = verify && built.answered;
            if verified {
                engine.verify(&root_name, &step, "replayed", built.tree, build.as_ref())?;
            }
            let record = Record {
                tree: built.tree,
                inputs: built.inputs,
                seconds,
                created: jiff::Timestamp::now().to_string(),
                facts: built.facts,
            };
            if built.sound {
                engine.store.add_record(&key, &record)?;
                if let Some(next) = built.next_key.filter(|next| *next != key) {
                    engine.store.add_record(&next, &record)?;
                    return Ok((record, built.tasks, built.replayed, verified, next));
                }
            }
            Ok((record, built.tasks, built.replayed, verified, key))
        })
        .await?;
        Ok(LayerReport {
            step: name.to_owned(),
            status: if replayed { LayerStatus::Replayed } else { LayerStatus::Built },
            key,
            tasks_run: tasks.0,
            tasks_replayed: tasks.1,
            // What it took, without the time that it waited for its turn.
            seconds: record.seconds,
            record: Arc::new(record),
            reasons,
            verified,
            made_for: None,
        })
    }

    /// Runs a step whole, and compares what comes out with the tree that its record names.
    async fn verify_cached(
        self: &Arc<Self>,
        root: &str,
        index: usize,
        name: &str,
        tree: Digest,
        build: Arc<impl Fn(How) -> Result<Built, StepError> + Send + Sync + 'static>,
    ) -> Result<(), StepError> {
        let _permit = self.permit().await?;
        let log = self.logs.path(root);
        self.sink.event(&Event::LayerStarted { root: root.to_owned(), step: name.to_owned(), index, log });
        let (engine, root, name) = (Arc::clone(self), root.to_owned(), name.to_owned());
        blocking(move || engine.verify(&root, &name, "cached", tree, build.as_ref())).await
    }

    /// Runs a step whole, and compares what comes out with `tree`, which came as `how` says.
    fn verify(
        &self,
        root: &str,
        step: &str,
        how: &'static str,
        tree: Digest,
        build: &impl Fn(How) -> Result<Built, StepError>,
    ) -> Result<(), StepError> {
        self.phase(root, "running it whole, to compare");
        let whole = build(How::Whole)?;
        let paths = differences(&self.store, &tree, &whole.tree)?;
        if paths.is_empty() {
            return Ok(());
        }
        Err(StepError::Differs(Box::new(Differs { step: step.to_owned(), how, paths })))
    }

    async fn lock_layer(
        self: &Arc<Self>,
        root: &str,
        index: usize,
        name: &str,
        key: LayerKey,
    ) -> Result<rootbuild_cache::Lock, StepError> {
        let (engine, root, name) = (Arc::clone(self), root.to_owned(), name.to_owned());
        blocking(move || {
            Ok(engine.store.lock_for(
                &format!("layer-{}", key.0.hex()),
                &format!("building {name} for {root}"),
                engine.options.lock_timeout,
                &|holder| {
                    engine.sink.event(&Event::Waiting {
                        root: root.clone(),
                        step: name.clone(),
                        index,
                        holder: holder.to_string(),
                    });
                },
                &|| engine.cancel.is_cancelled(),
            )?)
        })
        .await
    }

    /// ansible-core for this definition, installed at its first use.
    fn toolchain(&self, root: &str) -> Result<toolchain::Toolchain, StepError> {
        let ansible = self.definition.ansible.as_ref().expect("the definition was validated");
        let sink = |event: StepEvent| self.step_event(root, event);
        if self.options.offline {
            let installed = toolchain::installed(&self.store, &ansible.core, requirements(ansible))?;
            return installed.ok_or_else(|| StepError::OfflineToolchain(ansible.core.value.clone()));
        }
        Ok(toolchain::ensure(&self.store, &ansible.core, requirements(ansible), &self.cancel, &sink)?)
    }

    /// Keeps what a failed playbook left, for `rootbuild shell --failed`. That this can fail too (a
    /// full disk) must not hide why the playbook failed.
    fn keep_failed(&self, working: WorkingRoot, root: &str) {
        if self.cancel.is_cancelled() {
            return;
        }
        if let Err(error) = working.keep_failed(&self.store, root, &self.definition.path) {
            let text = format!("the failed root can't be kept: {error}");
            self.sink.event(&Event::Warning { root: root.to_owned(), text });
        }
    }

    /// Says why a layer that was built isn't kept.
    fn unsound(&self, root: &str, step: &str, why: &str) {
        let text = format!("the layer of `{step}` is not kept: {why}");
        self.sink.event(&Event::Warning { root: root.to_owned(), text });
    }

    /// Says that a step's inputs changed while it ran, so that its layer can't be kept.
    fn changed(&self, root: &str, what: &str, step: &str) {
        let text = format!("{what} changed while `{step}` ran: its layer is not kept");
        self.sink.event(&Event::Warning { root: root.to_owned(), text });
    }

    fn step_event(&self, root: &str, event: StepEvent) {
        if let StepEvent::Progress { done, total, .. } = event
            && done < total
            && !self.is_due(root)
        {
            return;
        }
        let root = root.to_owned();
        self.sink.event(&match event {
            StepEvent::Phase(text) => Event::Phase { root, text },
            StepEvent::Progress { done, total, bytes } => Event::Progress { root, done, total, bytes },
            StepEvent::Warning(text) => Event::Warning { root, text },
            StepEvent::Line(text) => Event::Line { root, text },
        });
    }

    /// Whether it is time to tell how far a root is: progress comes far more often than anybody looks.
    fn is_due(&self, root: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.get(root).is_some_and(|last| now.duration_since(*last) < PROGRESS_EVERY) {
            return false;
        }
        told.insert(root.to_owned(), now);
        true
    }

    fn run_event(&self, root: &str, event: RunEvent) {
        let root = root.to_owned();
        self.sink.event(&match event {
            RunEvent::Play { name } => Event::Phase { root, text: format!("play {name}") },
            RunEvent::Task { name, source, .. } => Event::Task { root, name, source },
            RunEvent::Result { name, status, replayed, seconds, detail, source } => {
                Event::TaskEnded { root, name, source, status, replayed, seconds, detail }
            }
            RunEvent::Deferred { service, state } => Event::ServiceDeferred { root, service, state },
            RunEvent::Phase { text } => Event::Phase { root, text },
            RunEvent::Warning { text } => Event::Warning { root, text },
        });
    }
}
