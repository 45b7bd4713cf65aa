//! A checkout for a publication: of a generation that nobody needs, of what was prepared meanwhile, or
//! from nothing.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::fs::FlockOperation;

use rootbuild_cache::{Digest, Staging, Store, Tree, durable};

use super::index::{self, Index};
use super::{Locked, Place, PublishError, failed, lock, mounted_below, renew, users};
use crate::cancel::Cancel;
use crate::checkout::{CheckoutError, checkout};
use crate::fd::Stat;

/// A checkout that a thread of its own writes, for a publication to come. Dropped, it isn't written to
/// its end, and what there is of it is removed.
#[derive(Debug)]
pub struct Prepared {
    thread: Option<JoinHandle<Option<Ready>>>,
    cancel: Cancel,
}

#[derive(Debug)]
struct Ready {
    staging: Staging,
    tree: Tree,
    index: Index,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Begins to check `near` out for the next publication of the root `name`, while a step still works on the
/// tree that will be published: what differs is written then. `None` where there is no need, since
/// there is a generation that it can be made of, or it can't be done; that is no error.
#[must_use]
pub fn prepare(store: &Store, name: &str, near: &Digest) -> Option<Prepared> {
    let place = Place::new(store, name).ok()?;
    let current = place.current().ok()?.map(|(number, _)| number);
    if current.is_some_and(|current| spare(&place, current).is_some()) {
        return None;
    }
    let tree = store.tree(near).ok()?;
    let cancel = Cancel::new();
    let (store, stop) = (store.clone(), cancel.clone());
    let thread = std::thread::Builder::new().name("prepare".to_owned()).spawn(move || {
        let staging = store.staging("prepare").ok()?;
        let root = staging.path().join("root");
        DirBuilder::new().mode(0o700).create(&root).ok()?;
        checkout(&store, &tree, &root, &stop).ok()?;
        let index = Index::take(&root, &tree).ok()?;
        Some(Ready { staging, tree, index })
    });
    Some(Prepared { thread: Some(thread.ok()?), cancel })
}

/// A directory with `root` in it, a checkout of `tree`.
pub(super) fn make(
    store: &Store,
    place: &Place,
    current: Option<u64>,
    tree: &Tree,
    prepared: Option<Prepared>,
    cancel: &Cancel,
) -> Result<Staging, PublishError> {
    let staging = store.staging("publish")?;
    if reuse(store, place, current, tree, &staging, cancel)? {
        return Ok(staging);
    }
    let ready = prepared.and_then(|mut it| it.thread.take()?.join().ok().flatten());
    if let Some(Ready { staging, tree: old, index }) = ready
        && let Ok(stats) = index::stats(&staging.path().join("root"), tree)
        && renewed(store, &staging, (&old, &index), (tree, &stats), cancel)?
    {
        return Ok(staging);
    }
    let root = staging.path().join("root");
    DirBuilder::new().mode(0o700).create(&root).map_err(failed("make", &root))?;
    checkout(store, tree, &root, cancel)?;
    Ok(staging)
}

/// The latest generation before the current one, if it may be known what was done to it.
fn spare(place: &Place, current: u64) -> Option<u64> {
    let number = place.numbers().ok()?.into_iter().rfind(|it| *it < current)?;
    (place.index(number).exists() && place.checkout(number).is_dir()).then_some(number)
}

/// Makes `root` in `staging` a checkout of `tree` from the latest generation but the `current` one, if
/// nobody uses that and it is known what was changed there.
fn reuse(
    store: &Store,
    place: &Place,
    current: Option<u64>,
    tree: &Tree,
    staging: &Staging,
    cancel: &Cancel,
) -> Result<bool, PublishError> {
    let Some(current) = current else { return Ok(false) };
    let Some(number) = spare(place, current) else { return Ok(false) };
    let Some(generation) = place.generation(number)? else { return Ok(false) };
    let Locked::Held(_held) = lock(&place.lock(number), FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(false);
    };
    let (from, root) = (place.checkout(number), staging.path().join("root"));
    let Ok(old) = store.tree(&generation.tree) else { return Ok(false) };
    let Some(index) = Index::read(&place.index(number), &old) else { return Ok(false) };
    // `None`: it is in use.
    let look = |at: &Path| -> Option<Vec<Option<Stat>>> {
        let stats = index::stats(at, tree).ok()?;
        (!users::is_used(users::ending(at), &stats)).then_some(stats)
    };
    if mounted_below(&from) || look(&from).is_none() {
        return Ok(false);
    }
    // Durably: under its old name it must never be found half changed.
    durable::rename(&from, &root)?;
    // From here on nobody finds it any more: who doesn't use it now never will.
    let Some(stats) = look(&root) else {
        fs::rename(&root, &from).map_err(failed("put back", &from))?;
        return Ok(false);
    };
    renewed(store, staging, (&old, &index), (tree, &stats), cancel)
}

/// Makes `root` in `staging`, a checkout of the first tree, one of the second; moves it aside if that
/// can't be done.
fn renewed(
    store: &Store,
    staging: &Staging,
    old: (&Tree, &Index),
    new: (&Tree, &[Option<Stat>]),
    cancel: &Cancel,
) -> Result<bool, PublishError> {
    let root = staging.path().join("root");
    match renew::renew(store, &root, old, new, cancel) {
        Ok(()) => Ok(true),
        Err(CheckoutError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(error) => {
            tracing::info!(root = %root.display(), error = &error as &dyn std::error::Error, "written anew");
            let spoilt = staging.path().join("spoilt");
            fs::rename(&root, &spoilt).map_err(failed("remove", &root))?;
            Ok(false)
        }
    }
}
