//! Doing what a plan says.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::ledger::Ledger;
use super::plan::{Candidate, plan};
use super::{Class, Item, Need, Outcome, Policy, Share, Standing, Told, records};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lease::{self, Aside, Gate, Leased};
use crate::lock::{Holder, Lock};
use crate::remove::remove_tree;
use crate::store::Store;
use crate::usage::Usage;

/// How many names are taken away at a time: for so long nobody else can add any.
const BATCH: usize = 512;

/// Who is told how far it is.
pub trait Telling: Sync {
    /// It begins with something, in words ("marking").
    fn phase(&self, text: &str);
    /// So many files and directories are deleted.
    fn deleted(&self, count: u64);
}

impl Telling for () {
    fn phase(&self, _: &str) {}
    fn deleted(&self, _: u64) {}
}

/// A collection that nobody else disturbs by another one; what dead commands left is swept. Needs and items are to be
/// gathered while it lives.
#[derive(Debug)]
pub struct Collection {
    store: Store,
    began: SystemTime,
    _lock: Option<Lock>,
}

impl Collection {
    /// Begins, once no other collection runs. The arguments are as for [`Store::lock`].
    pub fn begin(
        store: &Store,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let lock = store.lock_for(lease::GC_LOCK, "collecting", timeout, waiting, cancelled)?;
        lease::sweep_alone(store)?;
        lease::sweep_aside_alone(store.dir())?;
        Ok(Self { store: store.clone(), began: SystemTime::now(), _lock: Some(lock) })
    }

    /// Only looks: what is told may be different at once.
    #[must_use]
    pub fn look(store: &Store) -> Self {
        Self { store: store.clone(), began: SystemTime::now(), _lock: None }
    }

    /// How many other commands that may have found something run.
    pub fn others(&self) -> Result<usize> {
        lease::alive(&self.store)
    }
}

/// Takes away what nothing needs, as the policy says, or only tells that: where `collection` only looks. `total` is
/// what the store takes, in bytes; it matters where the policy has a size.
///
/// Whatever goes is moved away first and deleted afterwards, in several threads, while the next is looked
/// at. Should the process die, the next command deletes the rest.
pub fn collect<'a>(
    collection: &Collection,
    needs: &[Need],
    items: Vec<Item<'a>>,
    policy: Policy,
    total: u64,
    telling: &dyn Telling,
) -> Result<Outcome> {
    telling.phase("marking");
    let store = &collection.store;
    let mut ledger = Ledger::new(store, collection.began)?;
    let mut holders: Vec<Digest> = needs.iter().map(|need| need.tree).collect();
    holders.extend(items.iter().flat_map(|item| item.trees.iter().copied()));
    ledger.hold(&holders)?;
    for object in items.iter().flat_map(|item| &item.objects) {
        ledger.hold_object(object);
    }
    // What nothing holds goes in any case.
    let loose: Usage = ledger.usage().iter().map(|(free, _)| *free).sum();
    let candidates = candidates(&ledger, &items, policy)?;
    let decisions = plan(&candidates, policy, collection.began, total.saturating_sub(loose.disk), |at| {
        let mut freed = items[at].usage.disk;
        for tree in &items[at].trees {
            freed += ledger.release(tree)?.disk;
        }
        freed += items[at].objects.iter().map(|object| ledger.release_object(object).disk).sum::<u64>();
        Ok::<_, Error>(freed)
    })?;
    let mut outcome = Outcome::default();
    for (item, why) in items.iter().zip(decisions) {
        let unused = collection.began.duration_since(item.last_used).unwrap_or_default();
        outcome.items.push(Told {
            class: item.class,
            name: item.name.clone(),
            goes: why.goes(),
            why,
            usage: item.usage,
            unused: unused.as_secs(),
        });
    }
    if collection._lock.is_some() {
        sweep(store, &mut ledger, items, &mut outcome, telling)?;
    } else {
        for (class, (free, kept)) in [Class::Trees, Class::Objects].into_iter().zip(ledger.usage()) {
            outcome.classes.insert(class, Share { kept, freed: free });
        }
    }
    for told in &outcome.items {
        let share = outcome.classes.entry(told.class).or_default();
        *(if told.goes { &mut share.freed } else { &mut share.kept }) += told.usage;
    }
    outcome.left = policy.max_size.map(|_| total.saturating_sub(outcome.freed().disk));
    Ok(outcome)
}

fn candidates(ledger: &Ledger<'_>, items: &[Item<'_>], policy: Policy) -> Result<Vec<Candidate>> {
    let of = |item: &Item<'_>| {
        // Only an order asks for it, and it takes a look at each tree.
        let ordered = policy.max_size.is_some() && item.standing == Standing::Cached;
        let held = if ordered { ledger.share(&item.trees, &item.objects)? } else { 0 };
        Ok(Candidate {
            standing: item.standing.clone(),
            last_used: item.last_used,
            seconds: item.seconds,
            share: item.usage.disk + held,
        })
    };
    items.iter().map(of).collect()
}

/// Counts what is deleted.
struct Deleting<'t> {
    telling: &'t dyn Telling,
    count: AtomicU64,
}

impl Deleting<'_> {
    fn delete(&self, path: &Path) {
        if let Err(error) = remove_tree(path) {
            tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "left behind");
        }
        self.telling.deleted(self.count.fetch_add(1, Ordering::Relaxed) + 1);
    }
}

fn sweep<'a>(
    store: &Store,
    ledger: &mut Ledger<'_>,
    items: Vec<Item<'a>>,
    outcome: &mut Outcome,
    telling: &dyn Telling,
) -> Result<()> {
    telling.phase("removing");
    let trash = store.trash("gc")?;
    let deleting = Deleting { telling, count: AtomicU64::new(0) };
    let result = rayon::in_place_scope(|scope| {
        let mut removed = false;
        for (at, item) in items.into_iter().enumerate() {
            if !outcome.items[at].goes {
                continue;
            }
            let place: PathBuf = trash.path().join(at.to_string());
            fs::create_dir(&place).map_err(Error::io("make", &place))?;
            let kept = match (item.remove)(&place) {
                Ok(true) => None,
                Ok(false) => Some("it is in use".to_owned()),
                Err(error) => {
                    tracing::warn!(
                        item = item.name,
                        error = &*error as &dyn std::error::Error,
                        "not removed"
                    );
                    Some(format!("it can't be removed: {error}"))
                }
            };
            if let Some(why) = kept {
                ledger.hold_new(&item.trees)?;
                item.objects.iter().for_each(|object| ledger.hold_object(object));
                outcome.items[at].goes = false;
                outcome.items[at].why = super::Why::Needed(why);
            }
            removed = true;
            let deleting = &deleting;
            scope.spawn(move |_| deleting.delete(&place));
        }
        if removed {
            {
                let _gate = Gate::exclusive(store)?;
                records::remove_empty(store)?;
            }
            // Before what they name.
            store.sync()?;
        }
        sweep_trees(store, ledger, outcome)
    });
    result?;
    telling.phase("deleting");
    trash.remove()
}

/// Takes away the trees, then the objects, that nothing holds.
fn sweep_trees(store: &Store, ledger: &mut Ledger<'_>, outcome: &mut Outcome) -> Result<()> {
    let mut aside = Aside::new(store)?;
    let mut known = HashSet::new();
    let trees = batches(store, ledger, &mut aside, &mut known, "trees")?;
    if trees.files > 0 {
        store.sync()?;
    }
    let objects = batches(store, ledger, &mut aside, &mut known, "objects")?;
    for ((class, freed), (_, kept)) in
        [(Class::Trees, trees), (Class::Objects, objects)].into_iter().zip(ledger.usage())
    {
        outcome.classes.insert(class, Share { kept, freed });
    }
    if !aside.finish(store)? {
        outcome.waiting = trees.disk + objects.disk;
    }
    Ok(())
}

/// Sets aside what nothing holds, in batches; what that frees. `known`: trees that leases name and that were
/// looked at.
fn batches(
    store: &Store,
    ledger: &mut Ledger<'_>,
    aside: &mut Aside,
    known: &mut HashSet<Digest>,
    kind: &str,
) -> Result<Usage> {
    let is_tree = kind == "trees";
    let mut freed = Usage::default();
    // Most that is leased is looked at before anybody has to wait.
    let mut leased = Leased::default();
    let free = if is_tree { ledger.free_trees() } else { ledger.free_objects() };
    for batch in free.chunks(BATCH) {
        let gate = Gate::exclusive(store)?;
        let mut now = lease::read_and_mark(store)?;
        if now.trees.iter().any(|tree| is_unknown(store, known, tree)) {
            // Looking at trees takes time: not while others wait, but for the last few.
            drop(gate);
            hold_leased(store, ledger, &now, known)?;
            let _gate = Gate::exclusive(store)?;
            now = lease::read_and_mark(store)?;
            hold_leased(store, ledger, &now, known)?;
            freed += take(store, ledger, aside, (&now, kind), batch)?;
        } else {
            freed += take(store, ledger, aside, (&now, kind), batch)?;
        }
        leased = now;
    }
    drop(leased);
    Ok(freed)
}

/// Holds the trees that leases name and that weren't looked at. One that isn't there may be put any time: it is
/// looked at again, until it is. (Who puts it sees, once behind the gate, to what was set aside before.)
pub(super) fn hold_leased(
    store: &Store,
    ledger: &mut Ledger<'_>,
    leased: &Leased,
    known: &mut HashSet<Digest>,
) -> Result<()> {
    let new = leased.trees.iter().filter(|tree| is_unknown(store, known, tree));
    let new: Vec<Digest> = new.copied().collect();
    ledger.hold_new(&new)?;
    known.extend(new);
    Ok(())
}

fn is_unknown(store: &Store, known: &HashSet<Digest>, tree: &Digest) -> bool {
    !known.contains(tree) && store.tree_is_there(tree)
}

/// Sets a batch aside, behind the gate.
fn take(
    store: &Store,
    ledger: &Ledger<'_>,
    aside: &mut Aside,
    (leased, kind): (&Leased, &str),
    batch: &[Digest],
) -> Result<Usage> {
    aside.await_all(&leased.alive)?;
    let mut freed = Usage::default();
    for digest in batch {
        let usage = if kind == "trees" {
            ledger.is_free_tree(digest).then(|| ledger.tree_usage(digest))
        } else {
            ledger.free_object(digest).filter(|_| !leased.objects.contains(digest))
        };
        if let Some(usage) = usage
            && aside.take(store, kind, digest)?
        {
            freed += usage;
        }
    }
    Ok(freed)
}
