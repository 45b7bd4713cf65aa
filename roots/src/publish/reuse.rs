//! A checkout for a publication: of what was prepared meanwhile, of a generation that nobody needs, or from
//! nothing.
//!
//! What is prepared is made of the generation that nobody needs, too: it is moved to staging, where nobody finds
//! it any more, looked through, and made a checkout of what the next tree will differ little from. What
//! was learnt of it stays true from then on, so that a publication has only the difference of two trees to write.
//! If no publication comes, it becomes `<n>.spare` for the next time.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::fs::FlockOperation;

use rootbuild_cache::{Digest, Staging, Store, Tree, durable};

use super::index::{self, Index, Known};
use super::place::{Locked, Place, lock, mounted_below};
use super::renew::{self, Found};
use super::{PublishError, failed, users};
use crate::cancel::Cancel;
use crate::checkout::{Areas, CheckoutError, Fresh, Sharing, checkout_as};

/// A checkout that a thread of its own makes, for a publication to come. Dropped, it isn't written to
/// its end, and what there is of it is removed, or put back where it was made of a generation.
#[derive(Debug)]
pub struct Prepared {
    thread: Option<JoinHandle<Option<Ready>>>,
    cancel: Cancel,
}

/// A checkout in staging that nobody could come to since its index was taken.
#[derive(Debug)]
struct Ready {
    staging: Staging,
    tree: Tree,
    index: Index,
    private: Option<Areas>,
    /// The generation that it was made of.
    of: Option<Taken>,
}

/// The generation that something is made of: locked, so that nobody takes it for a leftover.
#[derive(Debug)]
struct Taken {
    index: PathBuf,
    spare: PathBuf,
    _held: File,
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

impl Prepared {
    /// Whether nothing more is to be done before a publication.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn ready(mut self) -> Option<Ready> {
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.cancel.cancel();
        // What isn't made of a generation stops soon, and leaves nothing behind.
        if let Some(ready) = self.thread.take().and_then(|thread| thread.join().ok().flatten()) {
            ready.put_back();
        }
    }
}

impl Ready {
    /// Keeps what was made of a generation for the next time.
    fn put_back(self) {
        let Some(taken) = &self.of else { return };
        let root = self.staging.path().join("root");
        // While the directory isn't there, the index is nobody's.
        let kept = self.index.write(&taken.index).and_then(|()| fs::rename(&root, &taken.spare));
        if let Err(error) = kept {
            tracing::info!(root = %taken.spare.display(), %error, "not kept");
        }
    }
}

/// [`prepare_as`] for a root whose files are all private.
#[must_use]
pub fn prepare(store: &Store, name: &str, near: &Digest) -> Option<Prepared> {
    prepare_as(store, name, near, None)
}

/// Begins to check `near` out for the next publication of the root `name`, while a step still works on the
/// tree that will be published: what differs is written then. `private` are its private areas, as for
/// [`super::Wanted`]. `None` where it can't be done; that is no error.
///
/// The generation before the current one becomes that checkout, if nobody uses it: its directory is
/// gone from here on, like after the publication.
#[must_use]
pub fn prepare_as(store: &Store, name: &str, near: &Digest, private: Option<&Areas>) -> Option<Prepared> {
    if !store.has_tree(near) {
        return None;
    }
    let near = *near;
    begin(store, name, private, move |store| store.tree(&near).ok())
}

/// [`prepare_as`] of a tree whose contents can be read, which itself needn't be in the store yet.
#[must_use]
pub fn prepare_tree(store: &Store, name: &str, tree: &Tree, private: Option<&Areas>) -> Option<Prepared> {
    let tree = tree.clone();
    begin(store, name, private, move |_| Some(tree))
}

fn begin(
    store: &Store,
    name: &str,
    private: Option<&Areas>,
    tree: impl FnOnce(&Store) -> Option<Tree> + Send + 'static,
) -> Option<Prepared> {
    let place = Place::new(store, name).ok()?;
    let cancel = Cancel::new();
    let (store, private) = (store.clone(), private.cloned());
    let stop = cancel.clone();
    let thread = std::thread::Builder::new()
        .name("prepare".to_owned())
        .spawn(move || ready(&store, &place, (tree(&store)?, private), &stop));
    Some(Prepared { thread: Some(thread.ok()?), cancel })
}

fn ready(
    store: &Store,
    place: &Place,
    (tree, private): (Tree, Option<Areas>),
    stop: &Cancel,
) -> Option<Ready> {
    let areas = private.as_ref();
    stop.check().ok()?;
    let reused = reuse(store, place, (&tree, areas), &Cancel::new()).ok().flatten();
    let (Made { staging, fresh, known }, of) = match reused {
        Some((made, taken)) => (made, Some(taken)),
        None => (from_nothing(store, (&tree, areas), stop).ok()?, None),
    };
    let root = staging.path().join("root");
    // So that there is little to be written when others wait for it; and it may be kept for later.
    let dir = File::open(&root).ok()?;
    rustix::fs::syncfs(&dir).ok()?;
    fresh.share(store, &root).ok()?;
    let index = Index::take(&root, &tree, known).ok()?;
    Some(Ready { staging, tree, index, private, of })
}

/// A checkout of `tree`.
pub(super) fn make(
    store: &Store,
    place: &Place,
    (tree, private): (&Tree, Option<&Areas>),
    prepared: Option<Prepared>,
    cancel: &Cancel,
) -> Result<Made, PublishError> {
    if let Some(ready) = prepared.and_then(Prepared::ready)
        && ready.private.as_ref() == private
    {
        let Ready { staging, tree: old, index, .. } = ready;
        let found = (tree, private, Found::AsIndexed);
        let made = renewed(store, &staging, (&old, &index), found, cancel)?;
        // Freeing a tree takes as long as reading one, and others wait.
        std::thread::spawn(move || drop((old, index)));
        if let Some((fresh, known)) = made {
            return Ok(Made { staging, fresh, known });
        }
    }
    if let Some((made, _)) = reuse(store, place, (tree, private), cancel)? {
        return Ok(made);
    }
    from_nothing(store, (tree, private), cancel)
}

fn from_nothing(
    store: &Store,
    (tree, private): (&Tree, Option<&Areas>),
    cancel: &Cancel,
) -> Result<Made, PublishError> {
    let staging = store.checkout_staging("publish")?;
    let root = staging.path().join("root");
    DirBuilder::new().mode(0o700).create(&root).map_err(failed("make", &root))?;
    let fresh = checkout_as(store, tree, &root, sharing(store, &root, private), cancel)?;
    Ok(Made { staging, fresh, known: Known::default() })
}

/// The latest generation before the current one, if it may be known what was done to it, and where its
/// checkout is.
fn spare(place: &Place) -> Result<Option<(u64, PathBuf)>, PublishError> {
    let Some((current, _)) = place.current()? else { return Ok(None) };
    let number = place.numbers()?.into_iter().rfind(|it| *it < current);
    // What runs is what somebody may want back.
    let Some(number) = number.filter(|it| place.running() != Some(*it)) else { return Ok(None) };
    let places = [place.checkout(number), place.spare(number)];
    Ok(places.into_iter().find(|it| it.is_dir()).map(|it| (number, it)))
}

/// Makes the latest generation but the current one, if nobody uses that and it is known what was changed there,
/// a checkout of `tree` in staging.
fn reuse(
    store: &Store,
    place: &Place,
    (tree, private): (&Tree, Option<&Areas>),
    cancel: &Cancel,
) -> Result<Option<(Made, Taken)>, PublishError> {
    let Some((number, from)) = spare(place)? else { return Ok(None) };
    let Some(generation) = place.description(number)? else { return Ok(None) };
    if generation.private() != private.cloned() {
        return Ok(None);
    }
    let Locked::Held(held) = lock(&place.lock(number), FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(None);
    };
    // Somebody else may have published meanwhile.
    if spare(place)? != Some((number, from.clone())) {
        return Ok(None);
    }
    let Some(index) = Index::read(&place.index(number)) else { return Ok(None) };
    let inodes = index.inodes();
    let (old, in_use) =
        rayon::join(|| store.tree(index.tree()), || mounted_below(&from) || users::uses(&from, &inodes));
    let Some(old) = old.ok().filter(|old| index.is_of(old) && !in_use) else { return Ok(None) };
    let staging = store.checkout_staging("publish")?;
    let root = staging.path().join("root");
    fs::rename(&from, &root).map_err(failed("rename", &from))?;
    // From here on nobody finds it any more: who doesn't use it now never will.
    // (We would be found ourselves while we look at it.)
    let (gone, in_use) = rayon::join(
        // Durably: under its old name it must never be found half changed.
        || durable::fsync_dir(staging.path()).and_then(|()| durable::fsync_dir(&place.home)),
        || users::uses(&root, &inodes),
    );
    let stats = if in_use { None } else { index::stats(&root, tree).ok() };
    let (Some(stats), Ok(())) = (stats, &gone) else {
        fs::rename(&root, &from).map_err(failed("put back", &from))?;
        return Ok(gone.map(|()| None)?);
    };
    let taken = Taken { index: place.index(number), spare: place.spare(number), _held: held };
    let made = renewed(store, &staging, (&old, &index), (tree, private, Found::Stats(stats)), cancel)?;
    std::thread::spawn(move || drop((old, index)));
    Ok(made.map(|(fresh, known)| (Made { staging, fresh, known }, taken)))
}

/// Makes `root` in `staging`, a checkout of the first tree, one of the second; `None` if that can't be done.
fn renewed(
    store: &Store,
    staging: &Staging,
    old: (&Tree, &Index),
    (tree, private, found): (&Tree, Option<&Areas>, Found),
    cancel: &Cancel,
) -> Result<Option<(Fresh, Known)>, PublishError> {
    let root = staging.path().join("root");
    let sharing = sharing(store, &root, private);
    match renew::renew(store, &root, old, (tree, &found), sharing, cancel) {
        Ok(done) => Ok(Some(done)),
        Err(CheckoutError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(error) => {
            tracing::info!(root = %root.display(), error = &error as &dyn std::error::Error, "written anew");
            Ok(None)
        }
    }
}
