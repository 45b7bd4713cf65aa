//! The engine: builds the roots of a definition side by side, each layer once.
//!
//! A root is a chain of layers (base, then playbooks); a layer is found by its records or built.
//! Roots share what they share: equal keys are built once in this process (a memo) and once among
//! processes (a kernel lock on the key, after which the records are asked again).

pub mod base;
pub mod contents;
pub mod failure;
pub mod forced;
pub mod history;
pub(crate) mod layer;
pub mod lookup;
pub mod parts;
pub mod reach;
mod reads;
pub(crate) mod remember;
pub mod step;
pub mod verify;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rootbuild_cache::{Digest, Holder, LayerKey, Record, Store, Tree};
use rootbuild_playbooks::inputs::Reader;
use rootbuild_playbooks::trace::Launcher;
use rootbuild_roots::base::Mirror;
use rootbuild_roots::publish::{self, Prepared, Published, Wanted};
use rootbuild_roots::{Cancel, Cancelled, Wait, working};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use crate::definition::{Base, BaseKind, Definition, Root};
use crate::event::{Event, EventSink, LayerStatus};
use crate::logs::Logs;

use history::History;
use lookup::Reason;

pub use failure::{Cause, RootFailure, StepError};
pub use forced::{Forced, Rebuild};
pub use step::Step;

/// How a provision is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many steps may work at the same time.
    pub jobs: usize,
    /// How long to wait for another process's lock; `None`: for ever.
    pub lock_timeout: Option<Duration>,
    /// How many `-v` Ansible gets.
    pub verbosity: u8,
    /// Which layers are built whole, whatever is known of them.
    pub forced: Forced,
    /// Ask no journal: playbooks that run, run whole.
    pub no_replay: bool,
    /// Use no network for bases: what isn't in the store is an error.
    pub offline: bool,
    /// Has what well-known hosts have, for bases.
    pub mirror: Option<Mirror>,
    /// Build every playbook's layer whole beside the record or the journal, and compare the trees.
    pub verify_replay: bool,
    /// Files that this command writes while it works (its output, its events): no inputs.
    pub outputs: Vec<PathBuf>,
    /// This program, so that it can trace what Ansible reads.
    pub launcher: Option<Launcher>,
    /// Whether what is built is to be handed over, so that checking it out may begin early.
    pub hand_over: bool,
}

/// A layer of a root that was provisioned.
#[derive(Debug, Clone)]
pub struct LayerReport {
    /// The step's name.
    pub step: String,
    /// How it came.
    pub status: LayerStatus,
    /// Its key.
    pub key: LayerKey,
    /// What the store says of it.
    pub record: Arc<Record>,
    /// Whether its playbook was run whole as well, and gave the same tree.
    pub verified: bool,
    /// Why it was made just now; empty for one that was found.
    pub reasons: Vec<Reason>,
    /// The root of this command that made or found it first, where that is another one.
    pub made_for: Option<String>,
    /// Tasks that ran in the root just now.
    pub tasks_run: u64,
    /// Tasks that a journal answered just now.
    pub tasks_replayed: u64,
    /// Seconds it took just now.
    pub seconds: f64,
}

/// A root that was provisioned.
#[derive(Debug, Clone)]
pub struct RootReport {
    /// Its name.
    pub name: String,
    /// Its tree.
    pub tree: Digest,
    /// `<store>/roots/<name>`.
    pub path: PathBuf,
    /// Whether the path shows another tree than before.
    pub changed: bool,
    /// Its layers, from the base up.
    pub layers: Vec<LayerReport>,
}

/// A layer as the memo keeps it: who made it first in this process, and what came out.
type Memo = Arc<OnceCell<Result<LayerReport, Arc<StepError>>>>;
/// A root's layers up to the top, or why there are none.
type Layers = Result<Arc<Vec<LayerReport>>, RootFailure>;

/// Builds roots. Shared by all tasks of one command.
pub struct Engine {
    definition: Arc<Definition>,
    store: Store,
    options: Options,
    sink: Arc<dyn EventSink>,
    cancel: Cancel,
    logs: Arc<Logs>,
    permits: Semaphore,
    /// Layers by key, and by whether they are made whatever is known of them.
    memo: Mutex<HashMap<(LayerKey, bool), (String, Memo)>>,
    roots: Mutex<HashMap<String, Arc<OnceCell<Layers>>>>,
    /// Of the project's inputs.
    reader: OnceLock<Arc<Reader>>,
    /// Whether Ansible can be traced, once that was tried.
    traceable: Mutex<Option<bool>>,
    /// What is checked out for a root while its playbooks run.
    prepared: Mutex<HashMap<String, Prepared>>,
    /// When each root last told how far it is.
    told: Mutex<HashMap<String, Instant>>,
}

impl Engine {
    /// An engine for one command.
    pub fn new(
        definition: Arc<Definition>,
        store: Store,
        options: Options,
        sink: Arc<dyn EventSink>,
        logs: Arc<Logs>,
        cancel: Cancel,
    ) -> Arc<Self> {
        Arc::new(Self {
            definition,
            store,
            permits: Semaphore::new(options.jobs.max(1)),
            options,
            sink,
            cancel,
            logs,
            memo: Mutex::default(),
            roots: Mutex::default(),
            reader: OnceLock::new(),
            traceable: Mutex::default(),
            prepared: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Provisions `names`, side by side. Every root is tried; the outcomes come in the order of
    /// `names`.
    pub async fn provision(self: &Arc<Self>, names: &[String]) -> Vec<Result<RootReport, RootFailure>> {
        let start = Instant::now();
        self.sink.event(&Event::Started { roots: names.to_vec() });
        let mut tasks = JoinSet::new();
        for (index, name) in names.iter().cloned().enumerate() {
            let engine = Arc::clone(self);
            tasks.spawn(async move { (index, engine.root(&name).await) });
        }
        let mut outcomes: Vec<Option<_>> = names.iter().map(|_| None).collect();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((index, outcome)) => outcomes[index] = Some(outcome),
                // A panic in a task is a bug: let it end the process as one (exit code 70).
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        if let Some(reader) = self.reader.get() {
            reader.save();
        }
        // What roots that failed, or didn't change, have no use for is kept for the next time.
        let unused = std::mem::take(&mut *self.prepared());
        drop(unused);
        self.sink.event(&Event::Finished { seconds: start.elapsed().as_secs_f64() });
        outcomes.into_iter().flatten().collect()
    }

    /// Builds one root, and hands nothing over: its layers, from the base up.
    pub async fn build(self: &Arc<Self>, name: &str) -> Result<Arc<Vec<LayerReport>>, RootFailure> {
        let start = Instant::now();
        self.sink.event(&Event::Started { roots: vec![name.to_owned()] });
        let outcome = self.layers(name).await.inspect_err(|failure| self.failed(failure));
        if let Some(reader) = self.reader.get() {
            reader.save();
        }
        self.sink.event(&Event::Finished { seconds: start.elapsed().as_secs_f64() });
        outcome
    }

    fn failed(&self, failure: &RootFailure) {
        self.sink.event(&Event::RootFailed {
            root: failure.root.clone(),
            step: failure.step.clone(),
            message: failure.error.to_string(),
            stopped: failure.error.is_cancelled(),
            log: failure.log.clone(),
        });
    }

    /// One root: its layers, then the hand-over.
    async fn root(self: &Arc<Self>, name: &str) -> Result<RootReport, RootFailure> {
        let start = Instant::now();
        let outcome: Result<_, RootFailure> = async {
            let layers = self.layers(name).await?;
            let tree = top(&layers);
            let published =
                self.publish(name, tree).await.map_err(|error| self.failure(name, None, error))?;
            Ok((layers, published))
        }
        .await;
        match outcome {
            Ok((layers, (published, changed))) => {
                self.sink.event(&Event::RootFinished {
                    root: name.to_owned(),
                    tree: published.tree,
                    path: published.path.clone(),
                    changed,
                    seconds: start.elapsed().as_secs_f64(),
                });
                Ok(RootReport {
                    name: name.to_owned(),
                    tree: published.tree,
                    path: published.path,
                    changed,
                    layers: layers.to_vec(),
                })
            }
            Err(failure) => {
                self.failed(&failure);
                Err(failure)
            }
        }
    }

    async fn publish(self: &Arc<Self>, name: &str, tree: Digest) -> Result<(Published, bool), StepError> {
        let (engine, name) = (Arc::clone(self), name.to_owned());
        let _permit = self.permit().await?;
        blocking(move || {
            engine.phase(&name, "checking out");
            let definition = &engine.definition.path;
            let prepared = engine.prepared().remove(&name);
            let private = engine.definition.root(&name).and_then(|root| root.private.as_ref());
            let wanted = Wanted { tree: &tree, definition, private, prepared };
            let published =
                engine.waiting(&name, |wait| publish::publish_as(&engine.store, &name, wanted, wait))?;
            // What failed before is of no more use, but to who looks around in it.
            if !working::drop_failed(&engine.store, &name, definition)? {
                let text = "the failed root is still looked around in, and stays".to_owned();
                engine.sink.event(&Event::Warning { root: name, text });
            }
            Ok(published)
        })
        .await
    }

    fn prepared(&self) -> std::sync::MutexGuard<'_, HashMap<String, Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to check out what the next tree of a root will differ little from: what stands, or else
    /// what its playbook begins with.
    fn prepare_checkout(&self, name: &str, parent: Digest) {
        if !self.options.hand_over {
            return;
        }
        let near = publish::current(&self.store, name).ok().flatten().map_or(parent, |it| it.tree);
        let private = self.definition.root(name).and_then(|root| root.private.as_ref());
        let mut prepared = self.prepared();
        if !prepared.contains_key(name)
            && let Some(begun) = publish::prepare_as(&self.store, name, &near, private)
        {
            prepared.insert(name.to_owned(), begun);
        }
    }

    /// Begins to check out what a root without playbooks will be, while that becomes durable.
    fn prepare_tree(&self, name: &str, tree: &Tree) {
        let root = self.definition.root(name).filter(|root| root.playbooks.is_empty());
        let Some(root) = root.filter(|_| self.options.hand_over) else { return };
        let current = publish::current(&self.store, name).ok().flatten();
        if current.is_none_or(|current| current.tree != tree.digest())
            && let Some(begun) = publish::prepare_tree(&self.store, name, tree, root.private.as_ref())
        {
            self.prepared().entry(name.to_owned()).or_insert(begun);
        }
    }

    /// The layers of a root, made once however many roots stand on it.
    fn layers<'a>(
        self: &'a Arc<Self>,
        name: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Layers> + Send + 'a>> {
        Box::pin(async move {
            let cell = {
                let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(roots.entry(name.to_owned()).or_default())
            };
            cell.get_or_init(|| self.build_layers(name)).await.clone()
        })
    }

    async fn build_layers(self: &Arc<Self>, name: &str) -> Layers {
        let definition = Arc::clone(&self.definition);
        let root = known_root(&definition, name);
        let base = base_of(&definition, root);
        let steps = Step::of(root, base);
        self.sink.event(&Event::RootStarted {
            root: name.to_owned(),
            steps: steps.iter().map(Step::name).collect(),
        });
        let mut layers = Vec::new();
        let mut history = History::of(&self.store, &definition.path, name);
        for (index, step) in steps.iter().enumerate() {
            let layer = match step {
                Step::Base(base) => match &base.kind {
                    BaseKind::Root(below) => self.standing_on(name, below).await,
                    BaseKind::Tree(tree) => self.standing_tree(base, tree.value),
                    _ => self.base_layer(root, base, index).await,
                },
                Step::Playbook(playbook) => self.playbook_layer(root, playbook, index, &layers).await,
            };
            let layer = layer.map_err(|error| self.failure(name, Some(step.name()), error))?;
            self.remember(&mut history, root, step, index, &layers, &layer);
            layers.push(layer);
        }
        history.forget_after(steps.len());
        Ok(Arc::new(layers))
    }

    /// The layer of a root that stands on another root: the other's topmost, under this step's name.
    async fn standing_on(self: &Arc<Self>, name: &str, below: &str) -> Result<LayerReport, Arc<StepError>> {
        self.phase(name, &format!("waiting for root `{below}`"));
        match self.layers(below).await {
            Ok(layers) => {
                let top = layers.last().expect("a root has at least its base");
                Ok(LayerReport {
                    step: format!("base:{}", known_root(&self.definition, name).base.value),
                    status: LayerStatus::Cached,
                    tasks_run: 0,
                    tasks_replayed: 0,
                    seconds: 0.0,
                    reasons: Vec::new(),
                    verified: false,
                    made_for: Some(below.to_owned()),
                    ..top.clone()
                })
            }
            Err(failure) if failure.error.is_cancelled() => Err(failure.error),
            Err(_) => Err(Arc::new(StepError::Dependency(below.to_owned()))),
        }
    }

    /// The layer of a root that stands on a tree which is there.
    fn standing_tree(&self, base: &Base, tree: Digest) -> Result<LayerReport, Arc<StepError>> {
        if !self.store.has_tree(&tree) {
            return Err(Arc::new(StepError::LostBase(tree)));
        }
        let record = Record {
            tree,
            inputs: Vec::new(),
            seconds: 0.0,
            created: jiff::Timestamp::now().to_string(),
            facts: serde_json::json!({}),
        };
        Ok(LayerReport {
            step: format!("base:{}", base.name),
            status: LayerStatus::Cached,
            key: step::tree_key(&tree),
            record: Arc::new(record),
            verified: false,
            reasons: Vec::new(),
            made_for: None,
            tasks_run: 0,
            tasks_replayed: 0,
            seconds: 0.0,
        })
    }

    fn failure(&self, root: &str, step: Option<String>, error: impl Into<Arc<StepError>>) -> RootFailure {
        let error = error.into();
        // One layer can fail for several roots: log and failed root are under the name of the first.
        let owner = self.owner_of(&error).filter(|owner| owner != root);
        let of = owner.as_deref().unwrap_or(root);
        RootFailure {
            root: root.to_owned(),
            step,
            kept: (error.leaves_something()
                && working::failed_exists(&self.store, of, &self.definition.path))
            .then(|| of.to_owned()),
            error,
            log: match &owner {
                Some(owner) => self.logs.share(root, owner),
                None => self.logs.existing(root),
            },
        }
    }

    /// The root for which a layer that failed was to be made.
    fn owner_of(&self, error: &Arc<StepError>) -> Option<String> {
        let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.values().find_map(|(owner, outcome)| match outcome.get() {
            Some(Err(failed)) if Arc::ptr_eq(failed, error) => Some(owner.clone()),
            _ => None,
        })
    }

    /// Does what may have to wait for another process, as the options say.
    fn waiting<T>(&self, root: &str, work: impl FnOnce(Wait<'_>) -> T) -> T {
        let told = |holder: &Holder| self.phase(root, &format!("waiting for {holder}"));
        work(Wait { timeout: self.options.lock_timeout, told: &told, cancel: &self.cancel })
    }

    fn phase(&self, root: &str, text: &str) {
        self.sink.event(&Event::Phase { root: root.to_owned(), text: text.to_owned() });
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, StepError> {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        self.cancel.check()?;
        Ok(permit)
    }
}

/// The tree at the top of a root's layers.
fn top(layers: &[LayerReport]) -> Digest {
    layers.last().expect("a root has at least its base").record.tree
}

/// Runs blocking work on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StepError::Cancelled(Cancelled)),
    }
}

/// The root `name` of a definition in which it is known to exist.
pub(crate) fn known_root<'a>(definition: &'a Definition, name: &str) -> &'a Root {
    definition.root(name).expect("the name came from the definition")
}

/// The base of a root.
pub(crate) fn base_of<'a>(definition: &'a Definition, root: &Root) -> &'a Base {
    definition.base(&root.base).expect("the definition was validated")
}
