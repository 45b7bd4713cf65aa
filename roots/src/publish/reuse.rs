//! A checkout for a publication: of a generation that nobody needs, of what was prepared meanwhile, or
//! from nothing.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::fs::FlockOperation;

use rootbuild_cache::{Digest, Staging, Store, Tree, durable};

use super::index::Known;
use super::index::{self, Index};
use super::{Locked, Place, PublishError, failed, lock, mounted_below, renew, users};
use crate::cancel::Cancel;
use crate::checkout::{Areas, CheckoutError, Fresh, Sharing, checkout_as};
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
    private: Option<Areas>,
}

/// A checkout in staging.
pub(super) struct Made {
    /// It is `root` in there.
    pub staging: Staging,
    /// What others could share, once it is on disk.
    pub fresh: Fresh,
    /// What is known of it.
    pub known: Known,
}

/// How a root whose private areas are these gets its files: all are private where none are named.
fn sharing<'a>(store: &Store, target: &Path, private: Option<&'a Areas>) -> Sharing<'a> {
    private.map_or(Sharing::Private, |private| Sharing::where_needed(store, target, private))
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// [`prepare_as`] for a root whose files are all private.
#[must_use]
pub fn prepare(store: &Store, name: &str, near: &Digest) -> Option<Prepared> {
    prepare_as(store, name, near, None)
}

/// Begins to check `near` out for the next publication of the root `name`, while a step still works on the
/// tree that will be published: what differs is written then. `private` are its private areas, as for
/// [`super::Wanted`]. `None` where there is no need, since there is a generation that it can be made of, or
/// it can't be done; that is no error.
#[must_use]
pub fn prepare_as(store: &Store, name: &str, near: &Digest, private: Option<&Areas>) -> Option<Prepared> {
    let place = Place::new(store, name).ok()?;
    let current = place.current().ok()?.map(|(number, _)| number);
    if current.is_some_and(|current| spare(&place, current).is_some()) {
        return None;
    }
    let tree = store.tree(near).ok()?;
    let cancel = Cancel::new();
    let (store, stop, private) = (store.clone(), cancel.clone(), private.cloned());
    let thread = std::thread::Builder::new().name("prepare".to_owned()).spawn(move || {
        let staging = store.checkout_staging("prepare").ok()?;
        let root = staging.path().join("root");
        DirBuilder::new().mode(0o700).create(&root).ok()?;
        let fresh =
            checkout_as(&store, &tree, &root, sharing(&store, &root, private.as_ref()), &stop).ok()?;
        if !fresh.is_empty() {
            store.sync().ok()?;
            fresh.share(&store, &root).ok()?;
        }
        let index = Index::take(&root, &tree, Known::default()).ok()?;
        Some(Ready { staging, tree, index, private })
    });
    Some(Prepared { thread: Some(thread.ok()?), cancel })
}

/// A checkout of `tree`.
pub(super) fn make(
    store: &Store,
    place: &Place,
    current: Option<u64>,
    tree: &Tree,
    (private, prepared): (Option<&Areas>, Option<Prepared>),
    cancel: &Cancel,
) -> Result<Made, PublishError> {
    let staging = store.checkout_staging("publish")?;
    if let Some((fresh, known)) = reuse(store, place, current, (tree, private), &staging, cancel)? {
        return Ok(Made { staging, fresh, known });
    }
    let ready = prepared.and_then(|mut it| it.thread.take()?.join().ok().flatten());
    if let Some(Ready { staging, tree: old, index, private: its }) = ready
        && its.as_ref() == private
        && let Ok(stats) = index::stats(&staging.path().join("root"), tree)
        && let Some((fresh, known)) =
            renewed(store, &staging, (&old, &index), (tree, private, stats), cancel)?
    {
        return Ok(Made { staging, fresh, known });
    }
    let root = staging.path().join("root");
    DirBuilder::new().mode(0o700).create(&root).map_err(failed("make", &root))?;
    let fresh = checkout_as(store, tree, &root, sharing(store, &root, private), cancel)?;
    Ok(Made { staging, fresh, known: Known::default() })
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
    (tree, private): (&Tree, Option<&Areas>),
    staging: &Staging,
    cancel: &Cancel,
) -> Result<Option<(Fresh, Known)>, PublishError> {
    let Some(current) = current else { return Ok(None) };
    let Some(number) = spare(place, current) else { return Ok(None) };
    let Some(generation) = place.generation(number)? else { return Ok(None) };
    if generation.private() != private.cloned() {
        return Ok(None);
    }
    let Locked::Held(_held) = lock(&place.lock(number), FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(None);
    };
    let (from, root) = (place.checkout(number), staging.path().join("root"));
    let Ok(old) = store.tree(&generation.tree) else { return Ok(None) };
    let Some(index) = Index::read(&place.index(number), &old) else { return Ok(None) };
    let inodes = index.inodes();
    if mounted_below(&from) || users::uses(&from, &inodes) {
        return Ok(None);
    }
    // Durably: under its old name it must never be found half changed.
    durable::rename(&from, &root)?;
    // From here on nobody finds it any more: who doesn't use it now never will.
    let stats = if users::uses(&root, &inodes) { None } else { index::stats(&root, tree).ok() };
    let Some(stats) = stats else {
        fs::rename(&root, &from).map_err(failed("put back", &from))?;
        return Ok(None);
    };
    renewed(store, staging, (&old, &index), (tree, private, stats), cancel)
}

/// Makes `root` in `staging`, a checkout of the first tree, one of the second; moves it aside if that
/// can't be done.
fn renewed(
    store: &Store,
    staging: &Staging,
    old: (&Tree, &Index),
    (tree, private, stats): (&Tree, Option<&Areas>, Vec<Option<Stat>>),
    cancel: &Cancel,
) -> Result<Option<(Fresh, Known)>, PublishError> {
    let root = staging.path().join("root");
    let sharing = sharing(store, &root, private);
    match renew::renew(store, &root, old, (tree, stats), sharing, cancel) {
        Ok(done) => Ok(Some(done)),
        Err(CheckoutError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(error) => {
            tracing::info!(root = %root.display(), error = &error as &dyn std::error::Error, "written anew");
            let spoilt = staging.path().join("spoilt");
            fs::rename(&root, &spoilt).map_err(failed("remove", &root))?;
            Ok(None)
        }
    }
}
