//! A finished root is handed over: `<store>/roots/<name>`, a link that is swapped by rename.
//!
//! Each publication is a generation of its own: `<store>/checkouts/<name>/<n>/`, private to the root
//! (services and users may write there), with `<n>.lock` beside it. Only root gets through
//! `checkouts/`: what is setuid in a root is none of the host's users' business. What they may know of a
//! generation is in `<store>/published/<name>/<n>.json`. What bears a final name is whole and on disk: a
//! generation is written in staging, synced, renamed, and only then linked. The current generation
//! and the one before it are kept; who uses an older one holds a [`Lease`].
//!
//! A generation isn't written from nothing if it needn't be: the one that would be removed afterwards,
//! if nobody uses it, is moved to staging and what differs is written anew ([`renew`]). What services
//! wrote there counts as a difference, by what the file system said of each file at its publication
//! (`<n>.index`, [`index`]).

pub mod check;
mod index;
pub mod mend;
pub mod old;
mod place;
mod renew;
mod reuse;
pub mod running;
mod users;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use rootbuild_cache::{Digest, Staging, Store, durable};

use crate::cancel::{Cancel, Cancelled};
use crate::checkout::{Areas, CheckoutError};
use crate::wait::Wait;
use index::Index;
use place::{Generation, Locked, Place, lock, mounted_below};
use reuse::Made;

pub(crate) use index::stats;
pub use reuse::{Prepared, prepare, prepare_as, prepare_tree};

/// A name that can't be a root's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` can't be a root's name: letters, digits, `_`, `.` and `-`, at most 100, the first a letter or digit"
)]
pub struct InvalidName {
    /// The name.
    pub name: String,
}

/// A root couldn't be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] rootbuild_cache::Error),
    /// The tree couldn't be checked out.
    #[error("can't check out the root")]
    Checkout(#[from] CheckoutError),
    /// A file or directory couldn't be read or written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A name that can't be a root's.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The name belongs to another definition that stands.
    #[error(
        "the root `{name}` of this store belongs to another definition, `{}` (this one is `{}`)",
        owner.display(),
        definition.display()
    )]
    Owned {
        /// The root's name.
        name: String,
        /// The definition that published it.
        owner: PathBuf,
        /// The one that wants to.
        definition: PathBuf,
    },
    /// The generation was removed before it could be leased: ask for the current one again.
    #[error("the checkout `{}` is gone", path.display())]
    Gone {
        /// The generation's directory.
        path: PathBuf,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl PublishError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Owned { .. } => Some(OWNED_HINT.to_owned()),
            _ => None,
        }
    }

    /// Whether the definition is wrong, rather than the world.
    #[must_use]
    pub fn is_definition_error(&self) -> bool {
        matches!(self, Self::Owned { .. } | Self::Name(_))
    }
}

/// What to do about a name that belongs to another definition.
const OWNED_HINT: &str = "rename the root, or name another store with `--store`; \
                          a name is free once the definition that it belongs to is removed";

/// Whether what `owner` published may not be replaced for `definition`: they are two files, and both are
/// there.
pub(crate) fn is_others(owner: &Path, definition: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    match id(owner) {
        _ if owner == definition => false,
        // Gone, or the directory that it was in.
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        Ok(owner) => id(definition).ok() != Some(owner),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io { action, path, source }
}

/// A root as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// The tree that was checked out.
    pub tree: Digest,
    /// `<store>/roots/<name>`, the link that users follow.
    pub path: PathBuf,
    /// The directory the link points at.
    pub checkout: PathBuf,
    /// When it was published, RFC 3339 in UTC.
    pub created: String,
    /// Where its users may write: whoever starts something in it has to keep the rest read-only. `None`:
    /// everywhere.
    pub private: Option<Areas>,
}

/// What is to be published, and how.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The tree.
    pub tree: &'a Digest,
    /// The absolute path of the definition that the root belongs to.
    pub definition: &'a Path,
    /// The parts of the root in which its users may write: where contents can't be shared, files
    /// elsewhere are then shared with other checkouts, and have to be kept read-only by whoever starts
    /// something in the root. `None`: every file is the root's own.
    pub private: Option<&'a Areas>,
    /// What was begun before.
    pub prepared: Option<Prepared>,
}

/// Keeps a generation from being removed, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

/// Whether `name` can be a root's name: it becomes part of paths and unit names.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidName> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.len() <= 100 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(InvalidName { name: name.to_owned() })
}

/// Makes `tree` the current checkout of the root `name`. Returns it and whether anything changed;
/// nothing is touched when the tree is current already and its directory stands.
///
/// `definition` is the absolute path of the definition that the root belongs to. As long as that
/// file is there, no other definition takes the name: [`PublishError::Owned`]. Two publications of one
/// name at a time wait for each other, as `wait` says.
///
/// Generations before the previous one are moved to staging and removed by a thread of their own:
/// should the process end before, the next one to open the store removes the rest.
pub fn publish<'a>(
    store: &Store,
    name: &str,
    tree: &Digest,
    definition: &Path,
    wait: impl Into<Wait<'a>>,
) -> Result<(Published, bool), PublishError> {
    publish_prepared(store, name, tree, definition, wait, None)
}

/// [`publish`], with what [`prepare`] began.
pub fn publish_prepared<'a>(
    store: &Store,
    name: &str,
    tree: &Digest,
    definition: &Path,
    wait: impl Into<Wait<'a>>,
    prepared: Option<Prepared>,
) -> Result<(Published, bool), PublishError> {
    publish_as(store, name, Wanted { tree, definition, private: None, prepared }, wait)
}

/// [`publish`], in all ways that there are. A root that stands with other private areas is made anew.
pub fn publish_as<'a>(
    store: &Store,
    name: &str,
    wanted: Wanted<'_>,
    wait: impl Into<Wait<'a>>,
) -> Result<(Published, bool), PublishError> {
    let Wanted { tree, definition, private, prepared } = wanted;
    let (place, wait) = (Place::new(store, name)?, wait.into());
    let lock: Result<_, PublishError> =
        wait.lock(store, &format!("publish-{name}"), &format!("publishing {name}"));
    let _lock = lock?;
    // Nobody else publishes under this name just now.
    durable::sweep_beside(&place.link);
    let mut current = place.current()?;
    // JSON can't hold any path: one that it can't is one that isn't there.
    let definition = PathBuf::from(definition.to_string_lossy().into_owned());
    if let Some((number, generation)) = &mut current
        && generation.definition.as_ref() != Some(&definition)
    {
        if let Some(owner) = generation.definition.replace(definition.clone())
            && is_others(&owner, &definition)
        {
            return Err(PublishError::Owned { name: name.to_owned(), owner, definition });
        }
        if generation.tree == *tree {
            place.describe(&place.json(*number), generation)?;
        }
    }
    if let Some((number, generation)) = &current
        && generation.tree == *tree
        && generation.private() == private.cloned()
    {
        let published = place.published(*number, generation.clone());
        remove_older(store, &place, *number, generation.previous)?;
        return Ok((published, false));
    }
    let number = place.numbers()?.last().copied().max(place.linked()?).unwrap_or(0) + 1;
    let previous = current.map(|(number, _)| number);
    let created = now();
    let areas = private.map(|it| it.paths().map(|path| String::from_utf8_lossy(path).into_owned()).collect());
    let generation =
        Generation { tree: *tree, created, previous, definition: Some(definition), private: areas };
    write(store, &place, number, &generation, (prepared, true), wait.cancel)?;
    remove_older(store, &place, number, previous)?;
    Ok((place.published(number, generation), true))
}

fn write(
    store: &Store,
    place: &Place,
    number: u64,
    generation: &Generation,
    (prepared, link): (Option<Prepared>, bool),
    cancel: &Cancel,
) -> Result<(), PublishError> {
    let tree = store.tree_in_hand(&generation.tree)?;
    let private = generation.private();
    let Made { staging, fresh, known } =
        reuse::make(store, place, (&tree, private.as_ref()), prepared, cancel)?;
    let root = staging.path().join("root");
    cancel.check()?;
    // Users of the host come to the links and the descriptions; to checkouts only root does, who starts
    // services with one of them as their root directory.
    for (dir, mode) in [
        (parent(&place.home), 0o700),
        (place.home.as_path(), 0o755),
        (parent(&place.link), 0o755),
        (parent(&place.told), 0o755),
        (place.told.as_path(), 0o755),
    ] {
        if make_dir(dir, mode)? {
            durable::fsync_dir(parent(dir))?;
        }
    }
    let described = staging.path().join("described");
    fs::write(&described, generation.text(&described)?).map_err(failed("write", &described))?;
    fs::set_permissions(&described, Permissions::from_mode(0o644)).map_err(failed("write", &described))?;
    let lock = place.lock(number);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .map_err(failed("make", &lock))?;
    let dir = File::open(&root).map_err(failed("open", &root))?;
    rustix::fs::syncfs(&dir).map_err(|error| failed("sync", &root)(error.into()))?;
    fresh.share(store, &root)?;
    // Before anybody can write there. Without it the next publication takes longer, nothing else.
    let index = Index::take(&root, &tree, known);
    let path = place.index(number);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = index.and_then(|it| it.write(&path)) {
                tracing::info!(root = place.name, %error, "no index of the checkout");
            }
            // Freeing a tree takes as long as reading one.
            drop(tree);
        });
        name(place, number, generation, &staging)?;
        if link { hand_over(store, place, number) } else { Ok(()) }
    })
}

/// Gives what is in `staging`, and on disk, its names.
fn name(place: &Place, number: u64, generation: &Generation, staging: &Staging) -> Result<(), PublishError> {
    let (json, described) = (place.json(number), staging.path().join("described"));
    // Which of them comes first doesn't matter, as long as no link leads there: nobody takes one without the other for
    // a generation.
    let elsewhere = match fs::rename(&described, &json) {
        Ok(()) => false,
        // Checkouts are on another file system.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => true,
        Err(error) => return Err(failed("rename to", &json)(error)),
    };
    durable::rename_new(&staging.path().join("root"), &place.checkout(number))?;
    if elsewhere {
        place.describe(&json, generation)?;
    } else {
        durable::fsync_dir(&place.told)?;
    }
    Ok(())
}

/// Has the link lead to a generation that has its names.
fn hand_over(store: &Store, place: &Place, number: u64) -> Result<(), PublishError> {
    // Whatever stands there that isn't our link (a directory somebody made) is moved out of the way.
    let mut replaced = None;
    if place.link.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        let aside = replaced.insert(store.staging("replaced")?).path().join("aside");
        fs::rename(&place.link, &aside).map_err(failed("replace", &place.link))?;
    }
    let target = Path::new("..").join("checkouts").join(&place.name).join(number.to_string());
    Ok(durable::replace_symlink(&place.link, &target)?)
}

/// Makes a directory with exactly these permissions; one that is there stays as it is. Returns whether it was made.
fn make_dir(dir: &Path, mode: u32) -> Result<bool, PublishError> {
    match DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(failed("make", dir))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("make", dir)(error)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Removes all generations but these two, and those that are leased.
fn remove_older(
    store: &Store,
    place: &Place,
    current: u64,
    previous: Option<u64>,
) -> Result<(), PublishError> {
    let mut trash: Option<Staging> = None;
    let running = place.running();
    for number in place.numbers()? {
        let wanted = number == current || Some(number) == previous || Some(number) == running;
        let checkout = place.checkout(number);
        if wanted || mounted_below(&checkout) || users::is_mounted(users::ending(&checkout)) {
            continue;
        }
        let lock_file = place.lock(number);
        let held = match lock(&lock_file, FlockOperation::NonBlockingLockExclusive)? {
            Locked::Held(file) => Some(file),
            Locked::Missing => None,
            Locked::Busy => continue,
        };
        // The directories first: while the others are there, they will be found again.
        for from in [place.checkout(number), place.spare(number)].iter().filter(|it| it.is_dir()) {
            let trash = match &trash {
                Some(trash) => trash,
                None => trash.insert(store.checkout_trash("old-generations")?),
            };
            let name = from.file_name().unwrap_or_default();
            fs::rename(from, trash.path().join(name)).map_err(failed("remove", from))?;
        }
        for path in [place.json(number), place.index(number), lock_file] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        drop(held);
    }
    if let Some(trash) = trash {
        std::thread::spawn(move || drop(trash));
    }
    Ok(())
}

/// The root `name` as it stands, `None` when it was never published (or its checkout was removed by
/// hand).
pub fn current(store: &Store, name: &str) -> Result<Option<Published>, PublishError> {
    let place = Place::new(store, name)?;
    Ok(place.current()?.map(|(number, generation)| place.published(number, generation)))
}

/// The root `name` as it stands, if it belongs to `definition` (its absolute path); [`PublishError::Owned`]
/// where it belongs to another one that stands.
pub fn current_of(store: &Store, name: &str, definition: &Path) -> Result<Option<Published>, PublishError> {
    let place = Place::new(store, name)?;
    let Some((number, generation)) = place.current()? else { return Ok(None) };
    // As in `publish`: JSON can't hold any path.
    let definition = PathBuf::from(definition.to_string_lossy().into_owned());
    if let Some(owner) = &generation.definition
        && is_others(owner, &definition)
    {
        return Err(PublishError::Owned { name: name.to_owned(), owner: owner.clone(), definition });
    }
    Ok(Some(place.published(number, generation)))
}

/// Keeps the generation of `published` from being removed as long as the lease lives, however many
/// are published meanwhile. [`PublishError::Gone`] where it was removed already.
pub fn lease(store: &Store, published: &Published) -> Result<Lease, PublishError> {
    let place = Place::new(store, &published.name)?;
    let gone = || PublishError::Gone { path: published.checkout.clone() };
    let number = published.checkout.file_name().and_then(|name| name.to_str()?.parse().ok());
    let number = number.ok_or_else(gone)?;
    loop {
        match lock(&place.lock(number), FlockOperation::NonBlockingLockShared)? {
            Locked::Held(file) if place.generation(number)?.is_some() => return Ok(Lease { _file: file }),
            // Whoever has it may just look whether it is used, or have taken it, for as long as a step takes.
            Locked::Busy if place.generation(number)?.is_some() => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return Err(gone()),
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| jiff::Timestamp::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_anywhere_are_refused() {
        for good in ["hgweb", "a", "0", "a.b-c_d", "X9"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", "a\0", &"a".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
