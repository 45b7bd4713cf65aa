//! A finished root is handed over: `<store>/roots/<name>`, a link that is swapped by rename.
//!
//! Each publication is a generation of its own: `<store>/checkouts/<name>/<n>/`, private to the root
//! (services and users may write there), with `<n>.json` beside it. What bears a final name is whole
//! and on disk: a generation is written in staging, synced, renamed, and only then linked. The
//! current generation and the one before it are kept; who uses an older one holds a [`Lease`].

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use rootbuild_cache::{Digest, Staging, Store, durable};

use crate::cancel::{Cancel, Cancelled};
use crate::checkout::{CheckoutError, checkout};

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
}

/// `<n>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Generation {
    tree: Digest,
    created: String,
    /// The generation that was current before this one.
    previous: Option<u64>,
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

/// Where the things of one root are.
struct Place {
    name: String,
    link: PathBuf,
    home: PathBuf,
}

impl Place {
    fn new(store: &Store, name: &str) -> Result<Self, InvalidName> {
        check_name(name)?;
        let (link, home) = (store.dir().join("roots").join(name), store.dir().join("checkouts").join(name));
        Ok(Self { name: name.to_owned(), link, home })
    }

    fn checkout(&self, number: u64) -> PathBuf {
        self.home.join(number.to_string())
    }

    fn json(&self, number: u64) -> PathBuf {
        self.home.join(format!("{number}.json"))
    }

    /// The number of the generation that the link points at; `None` where it points nowhere of ours.
    fn linked(&self) -> Result<Option<u64>, PublishError> {
        let target = match fs::read_link(&self.link) {
            Ok(target) => target,
            // Not a link, or nothing at all.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("read", &self.link)(error)),
        };
        let expected = Path::new("..").join("checkouts").join(&self.name);
        let number = target.strip_prefix(expected).ok().and_then(Path::to_str);
        Ok(number.and_then(|number| number.parse().ok()))
    }

    /// A generation, if it is there and whole.
    fn generation(&self, number: u64) -> Result<Option<Generation>, PublishError> {
        let path = self.json(number);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let is_there = self.checkout(number).symlink_metadata().is_ok_and(|it| it.is_dir());
        Ok(serde_json::from_slice(&text).ok().filter(|_| is_there))
    }

    fn current(&self) -> Result<Option<(u64, Generation)>, PublishError> {
        let Some(number) = self.linked()? else { return Ok(None) };
        Ok(self.generation(number)?.map(|generation| (number, generation)))
    }

    fn published(&self, number: u64, generation: Generation) -> Published {
        Published {
            name: self.name.clone(),
            tree: generation.tree,
            path: self.link.clone(),
            checkout: self.checkout(number),
            created: generation.created,
        }
    }

    /// The numbers of all generations of which anything is left.
    fn numbers(&self) -> Result<Vec<u64>, PublishError> {
        let listed = match fs::read_dir(&self.home) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.home)(error)),
        };
        let mut numbers = Vec::new();
        for entry in listed {
            let name = entry.map_err(failed("read", &self.home))?.file_name();
            let name = name.to_string_lossy();
            numbers.extend(name.strip_suffix(".json").unwrap_or(&name).parse::<u64>());
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

/// Makes `tree` the current checkout of the root `name`. Returns it and whether anything changed;
/// nothing is touched when the tree is current already and its directory stands.
///
/// Generations before the previous one are moved to staging and removed by a thread of their own:
/// should the process end before, the next one to open the store removes the rest.
pub fn publish(
    store: &Store,
    name: &str,
    tree: &Digest,
    cancel: &Cancel,
) -> Result<(Published, bool), PublishError> {
    let place = Place::new(store, name)?;
    let purpose = format!("publishing {name}");
    let lock_name = format!("publish-{name}");
    let lock = store.lock_for(&lock_name, &purpose, None, &|_| (), &|| cancel.is_cancelled());
    cancel.check()?;
    let _lock = lock?;
    let current = place.current()?;
    if let Some((number, generation)) = &current
        && generation.tree == *tree
    {
        let published = place.published(*number, generation.clone());
        remove_older(store, &place, *number, generation.previous)?;
        return Ok((published, false));
    }
    let number = place.numbers()?.last().copied().max(place.linked()?).unwrap_or(0) + 1;
    let previous = current.map(|(number, _)| number);
    let created = now();
    let generation = Generation { tree: *tree, created, previous };
    write(store, &place, number, &generation, cancel)?;
    remove_older(store, &place, number, previous)?;
    Ok((place.published(number, generation), true))
}

fn write(
    store: &Store,
    place: &Place,
    number: u64,
    generation: &Generation,
    cancel: &Cancel,
) -> Result<(), PublishError> {
    let staging = store.staging("publish")?;
    let root = staging.path().join("root");
    DirBuilder::new().mode(0o700).create(&root).map_err(failed("make", &root))?;
    checkout(store, &store.tree(&generation.tree)?, &root, cancel)?;
    cancel.check()?;
    for dir in [place.home.as_path(), parent(&place.home), parent(&place.link)] {
        // Services of any user go through these; what is in them is the roots' own business.
        DirBuilder::new().mode(0o755).recursive(true).create(dir).map_err(failed("make", dir))?;
    }
    let json = staging.path().join("generation.json");
    let text = serde_json::to_vec(generation).map_err(|error| failed("write", &json)(error.into()))?;
    durable::write_atomic(&json, &text, 0o644)?;
    let dir = File::open(&root).map_err(failed("open", &root))?;
    rustix::fs::syncfs(&dir).map_err(|error| failed("sync", &root)(error.into()))?;

    durable::rename_new(&root, &place.checkout(number))?;
    durable::rename_new(&json, &place.json(number))?;
    durable::fsync_dir(parent(&place.home))?;
    // Whatever stands there that isn't our link (a directory somebody made) is moved out of the way.
    if place.link.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        let aside = staging.path().join("aside");
        fs::rename(&place.link, &aside).map_err(failed("replace", &place.link))?;
    }
    let target = Path::new("..").join("checkouts").join(&place.name).join(number.to_string());
    Ok(durable::replace_symlink(&place.link, &target)?)
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
    for number in place.numbers()? {
        let wanted = number == current || Some(number) == previous;
        if wanted || mounted_below(&place.checkout(number)) {
            continue;
        }
        let json = place.json(number);
        let held = match lock(&json, FlockOperation::NonBlockingLockExclusive)? {
            Locked::Held(file) => Some(file),
            Locked::Missing => None,
            Locked::Busy => continue,
        };
        let trash = match &trash {
            Some(trash) => trash,
            None => trash.insert(store.staging("old-generations")?),
        };
        // The directory first: while the description is there, the rest will be found again.
        let to = trash.path().join(number.to_string());
        for (from, to) in [(place.checkout(number), to.clone()), (json, to.with_extension("json"))] {
            match fs::rename(&from, &to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &from)(error)),
            }
        }
        drop(held);
    }
    if let Some(trash) = trash {
        std::thread::spawn(move || drop(trash));
    }
    Ok(())
}

/// Whether something is mounted in a directory: it would be moved along, and can't be removed.
fn mounted_below(dir: &Path) -> bool {
    let mut escaped = Vec::new();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => escaped.push(*byte),
        }
    }
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points
        .filter_map(|point| point.strip_prefix(escaped.as_slice()))
        .any(|rest| matches!(rest, [] | [b'/', ..]))
}

/// The root `name` as it stands, `None` when it was never published (or its checkout was removed by
/// hand).
pub fn current(store: &Store, name: &str) -> Result<Option<Published>, PublishError> {
    let place = Place::new(store, name)?;
    Ok(place.current()?.map(|(number, generation)| place.published(number, generation)))
}

/// Keeps the generation of `published` from being removed as long as the lease lives, however many
/// are published meanwhile. [`PublishError::Gone`] where it was removed already.
pub fn lease(store: &Store, published: &Published) -> Result<Lease, PublishError> {
    let place = Place::new(store, &published.name)?;
    let gone = || PublishError::Gone { path: published.checkout.clone() };
    let number = published.checkout.file_name().and_then(|name| name.to_str()?.parse().ok());
    let number = number.ok_or_else(gone)?;
    match lock(&place.json(number), FlockOperation::LockShared)? {
        Locked::Held(file) if place.generation(number)?.is_some() => Ok(Lease { _file: file }),
        _ => Err(gone()),
    }
}

enum Locked {
    Held(File),
    Missing,
    Busy,
}

/// Locks a generation's description, which is what a generation's lock is.
fn lock(path: &Path, operation: FlockOperation) -> Result<Locked, PublishError> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Missing),
            Err(error) => return Err(failed("open", path)(error)),
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(Locked::Busy),
            Err(error) => return Err(failed("lock", path)(error.into())),
        }
        let ours = file.metadata().map_err(failed("open", path))?;
        match path.symlink_metadata() {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Locked::Held(file));
            }
            // Moved away between the two calls.
            _ => {}
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
