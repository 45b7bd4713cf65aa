//! Leases: what running commands have found in the store, so that nobody collects it under them.
//!
//! Each command that writes has a file `<store>/leases/<id>`, locked for its whole life, to which it
//! appends what it found or made before it relies on it. Who takes things away reads all leases, and does
//! so behind the [gate](Gate): shared for who adds to a lease or names things in a new tree, exclusive for
//! who takes away. So what is added is either seen before anything goes, or looked for after that.
//!
//! Contents that a capture finds are too many to be written down one by one. Instead whatever is taken away while a
//! lease is held is only set aside, in `<store>/condemned/`, and a mark in the lease says so: from then on
//! its command looks whether all that a new tree names is there, and puts back what was set aside. What
//! is set aside is deleted once every lease of that time has ended.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::lock::{Lock, locked_file};
use crate::objects::by_digest;
use crate::remove::remove_tree;
use crate::store::{Store, make_directory};

/// The lock that whoever collects, or looks for damage, holds all the while.
pub const GC_LOCK: &str = "gc";

const TREE: u8 = b't';
const OBJECT: u8 = b'o';
/// Something was set aside since the lease began.
const MARK: u8 = b'c';
/// An entry: what it is, and the digest.
const ENTRY: usize = 33;

/// The lease of this process on a store.
#[derive(Debug)]
pub(crate) struct Lease {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashSet<(u8, Digest)>,
    /// Bytes that we wrote: the file is longer once somebody left a mark.
    written: u64,
}

impl Lease {
    fn begin(store: &Store) -> Result<Self> {
        let dir = store.dir().join(LEASES);
        let _gate = Gate::shared(store)?;
        loop {
            let path = dir.join(durable::unique());
            let locked =
                locked_file(&path, true).map_err(|(action, error)| Error::io(action, &path)(error))?;
            // `None`: a sweeper took the fresh file for a leftover. It is welcome to it.
            let Some(file) = locked else { continue };
            return Ok(Self { file, path, state: Mutex::default() });
        }
    }

    fn add(&self, entries: &[(u8, Digest)]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        for (tag, digest) in entries.iter().filter(|entry| !state.held.contains(*entry)) {
            bytes.push(*tag);
            bytes.extend_from_slice(digest.as_bytes());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // Marks are appended too: both go to the end as it is then.
        let end = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0))
            .map_err(|error| Error::io("write", &self.path)(error.into()))?;
        if let Err(error) = (&self.file).write_all(&bytes) {
            // Behind half an entry nobody would find the next. Marks don't come meanwhile: we are behind the gate.
            let whole = self.file.set_len(end);
            return Err(Error::io("write", &self.path)(whole.err().unwrap_or(error)));
        }
        state.written += bytes.len() as u64;
        state.held.extend(entries);
        Ok(())
    }

    fn is_held(&self, entry: (u8, Digest)) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).held.contains(&entry)
    }

    /// Whether something was set aside since the lease began.
    fn is_marked(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.metadata().map_or(true, |now| now.len() != state.written)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Who collects just now may not have seen all that this command wrote: what the lease says holds
        // until that has ended.
        let Some(store) = self.path.parent().and_then(Path::parent) else { return };
        let gc = store.join("locks").join(GC_LOCK);
        if let Ok(Some(_nobody)) = Lock::try_acquire(&gc, true, "ending a lease") {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(crate) const LEASES: &str = "leases";
pub(crate) const CONDEMNED: &str = "condemned";
/// In a directory of what was set aside: the leases that are to end first.
const AWAITED: &str = "awaited";

/// What stands between adding to leases and taking away: a kernel lock on `<store>/leases`.
#[derive(Debug)]
pub(crate) struct Gate(#[expect(dead_code, reason = "closing it lets go")] File);

impl Gate {
    /// For who adds: many at a time.
    pub(crate) fn shared(store: &Store) -> Result<Self> {
        Self::pass(store, FlockOperation::LockShared)
    }

    /// For who takes away: alone, and not for long.
    pub(crate) fn exclusive(store: &Store) -> Result<Self> {
        Self::pass(store, FlockOperation::LockExclusive)
    }

    fn pass(store: &Store, operation: FlockOperation) -> Result<Self> {
        let path = store.dir().join(LEASES);
        let dir = File::open(&path).map_err(Error::io("open", &path))?;
        loop {
            match flock(&dir, operation) {
                Ok(()) => return Ok(Self(dir)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("lock", &path)(error.into())),
            }
        }
    }
}

impl Store {
    /// Begins this command's lease, unless it has begun: from then on nothing that is found in the store
    /// goes away for good. Whatever finds something begins it by itself.
    pub fn begin_lease(&self) -> Result<()> {
        self.lease().map(drop)
    }

    pub(crate) fn lease(&self) -> Result<&Lease> {
        let cell = self.lease_cell();
        if let Some(lease) = cell.get() {
            return Ok(lease);
        }
        // Two threads may come here at once: the second one's goes at once.
        let lease = Lease::begin(self)?;
        Ok(cell.get_or_init(|| lease))
    }

    /// Keeps a tree from being collected while this process lives, if it is there; whether it is. Nothing
    /// is written where the store was opened for reading only: then it may go any time.
    pub(crate) fn hold_tree(&self, digest: &Digest) -> Result<()> {
        self.hold(TREE, digest)
    }

    /// Keeps an object from being collected, like [`Store::hold_tree`].
    pub(crate) fn hold_object(&self, digest: &Digest) -> Result<()> {
        self.hold(OBJECT, digest)
    }

    fn hold(&self, tag: u8, digest: &Digest) -> Result<()> {
        if self.writable().is_err() {
            return Ok(());
        }
        let lease = self.lease()?;
        if lease.is_held((tag, *digest)) {
            return Ok(());
        }
        let _gate = Gate::shared(self)?;
        lease.add(&[(tag, *digest)])
    }

    /// Sees to it that these objects are there, and are when the gate is passed the next time: to be called
    /// behind it. Costs nothing as long as nobody has taken anything away.
    pub(crate) fn secure<'d>(&self, objects: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        if !self.lease()?.is_marked() {
            return Ok(());
        }
        for digest in objects {
            let path = by_digest(&self.dir().join("objects"), digest);
            if path.symlink_metadata().is_ok() {
                continue;
            }
            let Some(aside) = self.set_aside("objects", digest) else {
                return Err(Error::Missing { what: format!("object {digest}") });
            };
            make_directory(durable::parent(&path), 0o700)?;
            match durable::rename_noreplace(&aside, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("put back", &path)(error));
                }
                _ => durable::fsync_dir(durable::parent(&path))?,
            }
        }
        Ok(())
    }

    /// Where something that was set aside is.
    pub(crate) fn set_aside(&self, kind: &str, digest: &Digest) -> Option<PathBuf> {
        let listed = fs::read_dir(self.dir().join(CONDEMNED)).ok()?;
        let found = listed.flatten().map(|entry| by_digest(&entry.path().join(kind), digest));
        found.into_iter().find(|path| path.symlink_metadata().is_ok())
    }
}

/// What leases say.
#[derive(Debug, Default)]
pub(crate) struct Leased {
    pub(crate) trees: HashSet<Digest>,
    pub(crate) objects: HashSet<Digest>,
    /// The leases that are held just now.
    pub(crate) alive: Vec<String>,
}

/// Reads all leases, those of dead commands too, and leaves a mark in the living ones: to be called behind
/// the gate, before something is taken away. The lease of this process counts for nothing.
pub(crate) fn read_and_mark(store: &Store) -> Result<Leased> {
    let mut leased = Leased::default();
    let own = store.lease_cell().get().map(|lease| lease.path.clone());
    for path in list(&store.dir().join(LEASES))? {
        if own.as_ref() == Some(&path) {
            continue;
        }
        let mut file = match File::options().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("open", &path))?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let mut rest = bytes.as_slice();
        let mut marked = false;
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            if *tag == MARK {
                marked = true;
                continue;
            }
            let Some((digest, after)) = rest.split_first_chunk::<{ ENTRY - 1 }>() else { break };
            rest = after;
            let digest = Digest::from_bytes(*digest);
            match *tag {
                TREE => leased.trees.insert(digest),
                _ => leased.objects.insert(digest),
            };
        }
        if is_held(&path) {
            leased.alive.extend(name(&path));
            if !marked {
                file.write_all(&[MARK]).map_err(Error::io("write", &path))?;
            }
        }
    }
    Ok(leased)
}

fn name(path: &Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("read", dir))?,
    };
    entries.map(|entry| Ok(entry.map_err(Error::io("read", dir))?.path())).collect()
}

/// Whether a lease's command lives.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    // Opened anew, so it is let go with the file.
    !matches!(flock(&file, FlockOperation::NonBlockingLockShared), Ok(()))
}

/// How many leases of others are held just now.
pub(crate) fn alive(store: &Store) -> Result<usize> {
    let own = store.lease_cell().get().map(|lease| lease.path.clone());
    let leases = list(&store.dir().join(LEASES))?;
    Ok(leases.iter().filter(|path| own.as_ref() != Some(*path) && is_held(path)).count())
}

/// Removes the leases of dead commands, unless somebody collects just now, who goes by them.
pub(crate) fn sweep(store: &Path) -> Result<()> {
    let leases = list(&store.join(LEASES))?;
    if leases.is_empty() {
        return Ok(());
    }
    let gc = store.join("locks").join(GC_LOCK);
    if let Some(_nobody) = Lock::try_acquire(&gc, true, "removing old leases")? {
        remove_dead(&leases);
    }
    Ok(())
}

/// Removes the leases of dead commands; for who collects, before anything is marked.
pub(crate) fn sweep_alone(store: &Store) -> Result<()> {
    remove_dead(&list(&store.dir().join(LEASES))?);
    Ok(())
}

fn remove_dead(leases: &[PathBuf]) {
    for path in leases.iter().filter(|path| path.exists()) {
        if let Ok(Some(_dead)) = locked_file(path, true) {
            let _ = fs::remove_file(path);
        }
    }
}

/// A directory for what is set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    dir: PathBuf,
    awaited: HashSet<String>,
    moved: u64,
}

impl Aside {
    pub(crate) fn new(store: &Store) -> Result<Self> {
        let home = store.dir().join(CONDEMNED);
        make_directory(&home, 0o700)?;
        let dir = home.join(durable::unique());
        make_directory(&dir, 0o700)?;
        let aside = Self { dir, awaited: HashSet::new(), moved: 0 };
        aside.write()?;
        Ok(aside)
    }

    /// Says that these leases are to end before anything is deleted: before it is set aside.
    pub(crate) fn await_all(&mut self, leases: &[String]) -> Result<()> {
        let before = self.awaited.len();
        self.awaited.extend(leases.iter().cloned());
        if self.awaited.len() == before { Ok(()) } else { self.write() }
    }

    fn write(&self) -> Result<()> {
        let text: String = self.awaited.iter().flat_map(|id| [id, "\n"]).collect();
        durable::write_atomic(&self.dir.join(AWAITED), text.as_bytes(), 0o600)
    }

    /// Sets aside what is named by `digest` in `<store>/<kind>`; whether it was there. Behind the gate.
    pub(crate) fn take(&mut self, store: &Store, kind: &str, digest: &Digest) -> Result<bool> {
        let from = by_digest(&store.dir().join(kind), digest);
        let to = by_digest(&self.dir.join(kind), digest);
        let done = match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if from.symlink_metadata().is_err() {
                    return Ok(false);
                }
                make_directory(&self.dir.join(kind), 0o700)?;
                make_directory(durable::parent(&to), 0o700)?;
                fs::rename(&from, &to)
            }
            done => done,
        };
        done.map_err(Error::io("set aside", &from))?;
        self.moved += 1;
        Ok(true)
    }

    /// Deletes it all, if nobody needs to be awaited; whether it did.
    pub(crate) fn finish(self, store: &Store) -> Result<bool> {
        if self.moved > 0 && self.awaited.iter().any(|id| is_held(&store.dir().join(LEASES).join(id))) {
            return Ok(false);
        }
        discard(&self.dir)?;
        Ok(true)
    }
}

/// Deletes what was set aside, in several threads.
fn discard(dir: &Path) -> Result<()> {
    use rayon::prelude::*;
    let fans: Vec<PathBuf> =
        ["objects", "trees"].iter().flat_map(|kind| list(&dir.join(kind)).unwrap_or_default()).collect();
    fans.par_iter().try_for_each(|fan| remove_tree(fan))?;
    remove_tree(dir)
}

/// What was set aside and isn't awaited by anybody any more.
fn unawaited(store: &Path) -> Result<Vec<PathBuf>> {
    let mut free = Vec::new();
    for dir in list(&store.join(CONDEMNED))? {
        let awaited = match fs::read_to_string(dir.join(AWAITED)) {
            // Its maker is only just making it, or didn't get far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(_) => continue,
            Ok(text) => text,
        };
        if !awaited.lines().any(|id| is_held(&store.join(LEASES).join(id))) {
            free.push(dir);
        }
    }
    Ok(free)
}

/// Deletes what was set aside and isn't awaited any more, unless somebody collects just now.
pub(crate) fn sweep_aside(store: &Path) -> Result<()> {
    if unawaited(store)?.is_empty() {
        return Ok(());
    }
    let gc = store.join("locks").join(GC_LOCK);
    if let Some(_nobody) = Lock::try_acquire(&gc, true, "deleting what was set aside")? {
        sweep_aside_alone(store)?;
    }
    Ok(())
}

/// Deletes what was set aside and isn't awaited any more; for who collects.
pub(crate) fn sweep_aside_alone(store: &Path) -> Result<()> {
    for dir in unawaited(store)? {
        discard(&dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
