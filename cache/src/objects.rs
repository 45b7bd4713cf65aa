//! Objects: the content of one regular file, stored once.
//!
//! An object that is put is written under a temporary name in a staging directory of this process,
//! and gets its own name only in [`Store::sync`], after its content is on the disk. So whatever dies,
//! process or machine, a name in `objects/` never stands for anything but its content.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, SeekFrom, linkat, seek};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::staging::Staging;
use crate::store::{Store, make_directory};

/// Files up to this size are read once, into memory (of each thread that puts objects); larger ones in pieces.
const IN_MEMORY: usize = 2 << 20;
/// What is read at a time of larger files.
const PIECE: usize = 1 << 20;
/// Files from this size on (in bytes) are hashed by all threads of the caller's rayon pool, smaller ones by the
/// caller's thread alone. Who puts many objects in a pool had better put these one after the other: a thread
/// that waits for a part takes on other work meanwhile, another such file for one.
pub const MANY_THREADS: u64 = 16 << 20;
/// From this size on (in bytes) a new object is cloned rather than written, where the file system can: a clone
/// first writes to the disk what was only just written, which for small files is dearer than a copy.
const CLONED: u64 = 1 << 20;
/// No hole is smaller than a block.
const SMALLEST_HOLE: u64 = 512;

static ZEROS: [u8; PIECE] = [0; PIECE];

thread_local! {
    /// One read buffer per thread: fresh pages for every file would cost more than reading it.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends `work` this thread's buffer, of at least `size` bytes. Taken out and not borrowed, since a
/// rayon thread that waits for others' hashing may be given the next file meanwhile.
fn with_buffer<T>(size: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// Objects that were put and aren't durable yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    staging: Option<Staging>,
    objects: HashMap<Digest, Waiting>,
    next: u64,
    /// What [`Store::begin_sync`] began.
    early: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Clone)]
struct Waiting {
    path: PathBuf,
    size: u64,
    /// There is an object of that name, but of the wrong size.
    replace: bool,
}

/// A file under a temporary name, removed unless it is kept.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

enum Known {
    Yes,
    No { replace: bool },
}

impl Store {
    /// Stores the content of `file`, an open regular file read from its start, holes kept as holes.
    /// Returns its digest and size in bytes. Nothing is written when the object is there already.
    ///
    /// The file's offset is anywhere afterwards. A file that changes meanwhile is an error. The object
    /// can be opened through this `Store` (and its clones) at once; it is there for others, and stays,
    /// from the next [`Store::sync`] on.
    pub fn put_object(&self, file: &File) -> Result<(Digest, u64)> {
        self.writable()?;
        self.begin_lease()?;
        let before = file.metadata().map_err(reading(file))?;
        if !before.is_file() {
            return Err(reading(file)(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let size = before.len();
        let unchanged = || match file.metadata() {
            Ok(now) if same_state(&before, &now) => Ok(()),
            Ok(_) => Err(changed(file)),
            Err(error) => Err(reading(file)(error)),
        };
        let in_memory = usize::try_from(size).ok().filter(|size| *size <= IN_MEMORY);
        if let Some(length) = in_memory.filter(|_| !has_holes(file, size)) {
            // One byte more, to see that the file ends there.
            return with_buffer(length + 1, |buffer| {
                read_piece(file, &mut buffer[..length], 0)?;
                if file.read_at(&mut buffer[length..=length], size).map_err(reading(file))? > 0 {
                    return Err(changed(file));
                }
                unchanged()?;
                Ok((self.put_bytes(&buffer[..length], Some(file))?, size))
            });
        }
        // A clone is private: what it holds can't change any more, so that it is read once.
        let (target, temporary) = self.temporary()?;
        if rustix::fs::ioctl_ficlone(&target, file).is_ok() {
            if target.metadata().map_err(reading(&target))?.len() != size {
                return Err(changed(file));
            }
            let digest = stream(&target, size, None)?;
            unchanged()?;
            if let Known::No { replace } = self.known(&digest, size) {
                self.add(digest, size, replace, temporary);
            }
            return Ok((digest, size));
        }
        let digest = stream(file, size, None)?;
        let Known::No { replace } = self.known(&digest, size) else {
            unchanged()?;
            return Ok((digest, size));
        };
        let copied = stream(file, size, Some((&target, &temporary.path)))?;
        unchanged()?;
        if copied != digest {
            return Err(changed(file));
        }
        self.add(digest, size, replace, temporary);
        Ok((digest, size))
    }

    /// [`Store::put_object`] for a file that nobody writes to from now on: where that is possible the object is one
    /// more name of it, with its owner, mode and times, and nothing has to be written.
    ///
    /// Whoever writes to the file all the same damages the store.
    pub fn adopt_object(&self, file: &File) -> Result<(Digest, u64)> {
        self.writable()?;
        self.begin_lease()?;
        let before = file.metadata().map_err(reading(file))?;
        let path = self.temporary_path()?;
        // By descriptor: what stands under the file's name by now is another question.
        if !before.is_file() || linkat(file, "", CWD, &path, AtFlags::EMPTY_PATH).is_err() {
            return self.put_object(file);
        }
        let temporary = Temporary { path, kept: false };
        let linked = file.metadata().map_err(reading(file))?;
        let size = linked.len();
        let digest = digest(file, size)?;
        if !same_state(&linked, &file.metadata().map_err(reading(file))?) {
            return Err(changed(file));
        }
        if let Known::No { replace } = self.known(&digest, size) {
            self.add(digest, size, replace, temporary);
        }
        Ok((digest, size))
    }

    /// Stores bytes as an object, like [`Store::put_object`].
    ///
    /// Unlike what files hold, which trees name, it isn't collected while this process lives.
    pub fn put_object_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        self.writable()?;
        self.hold_object(&Digest::of(bytes))?;
        self.put_bytes(bytes, None)
    }

    /// Opens an object for reading.
    pub fn open_object(&self, digest: &Digest) -> Result<File> {
        let path = self.object_path(digest);
        let mut looked_again = false;
        loop {
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other.map_err(Error::io("open", &path)),
            }
            let waiting = self.waiting().objects.get(digest).map(|waiting| waiting.path.clone());
            match waiting.map(File::open) {
                Some(Ok(file)) => return Ok(file),
                // A sync moved it to its place meanwhile.
                _ if !looked_again => looked_again = true,
                _ => match self.set_aside("objects", digest) {
                    Some(path) => return File::open(&path).map_err(Error::io("open", &path)),
                    None => return Err(Error::Missing { what: format!("object {digest}") }),
                },
            }
        }
    }

    /// Whether the object is there. (False where its directory can't be read.)
    #[must_use]
    pub fn has_object(&self, digest: &Digest) -> bool {
        // From here on it is only ever set aside.
        if self.writable().is_ok() && self.begin_lease().is_err() {
            return false;
        }
        self.object_path(digest).exists()
            || self.waiting().objects.contains_key(digest)
            // A sync may have moved it between the two looks.
            || self.object_path(digest).exists()
    }

    /// Makes every object put so far durable and gives it its name: one syncfs for the contents, one
    /// for the names. To be called before a tree that names them is put.
    pub fn sync(&self) -> Result<()> {
        self.writable()?;
        self.end_early_sync()?;
        let _one_at_a_time = self.syncing().lock().unwrap_or_else(PoisonError::into_inner);
        let objects = self.dir().join("objects");
        let opened = File::open(&objects).map_err(Error::io("open", &objects))?;
        let flush = || rustix::fs::syncfs(&opened).map_err(|error| Error::io("sync", &objects)(error.into()));
        let waiting: Vec<(Digest, Waiting)> =
            self.waiting().objects.iter().map(|(digest, waiting)| (*digest, waiting.clone())).collect();
        flush()?;
        if waiting.is_empty() {
            return Ok(());
        }
        waiting.par_iter().try_for_each(|(digest, object)| -> Result<()> {
            self.give_name(digest, object)?;
            self.waiting().objects.remove(digest);
            Ok(())
        })?;
        flush()
    }

    /// Begins to write to the disk what the file system of the store has to write anyway, and doesn't wait: the next
    /// [`Store::sync`] does, and tells if it failed. For work that soon ends in one.
    pub fn begin_sync(&self) {
        let Ok(opened) = File::open(self.dir()) else { return };
        let dir = self.dir().to_owned();
        let flush =
            move || rustix::fs::syncfs(&opened).map_err(|error| Error::io("sync", &dir)(error.into()));
        let mut pending = self.waiting();
        if pending.early.is_none() {
            // Where there is no thread to be had, all is written later.
            pending.early = std::thread::Builder::new().name("sync".to_owned()).spawn(flush).ok();
        }
    }

    fn end_early_sync(&self) -> Result<()> {
        let early = self.waiting().early.take();
        // The kernel tells each failure once: who comes later wouldn't hear of it.
        early.map_or(Ok(()), |early| early.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// Stores `bytes`, which may be the content of `file`.
    fn put_bytes(&self, bytes: &[u8], file: Option<&File>) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let size = bytes.len() as u64;
        if let Known::No { replace } = self.known(&digest, size) {
            let (target, temporary) = self.temporary()?;
            let file = file.filter(|_| size >= CLONED);
            if !file.is_some_and(|file| cloned(file, &target, &digest, size)) {
                target
                    .set_len(0)
                    .and_then(|()| target.write_all_at(bytes, 0))
                    .map_err(Error::io("write", &temporary.path))?;
            }
            self.add(digest, size, replace, temporary);
        }
        Ok(digest)
    }

    fn known(&self, digest: &Digest, size: u64) -> Known {
        if self.waiting().objects.get(digest).is_some_and(|waiting| waiting.size == size) {
            return Known::Yes;
        }
        match self.object_path(digest).symlink_metadata() {
            Ok(there) if there.is_file() && there.len() == size => Known::Yes,
            // Damaged from outside; here is the content to mend it with.
            Ok(_) => Known::No { replace: true },
            Err(_) => Known::No { replace: false },
        }
    }

    /// A new file in this process' staging directory.
    fn temporary(&self) -> Result<(File, Temporary)> {
        let path = self.temporary_path()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)
            .map_err(Error::io("make", &path))?;
        Ok((file, Temporary { path, kept: false }))
    }

    fn add(&self, digest: Digest, size: u64, replace: bool, mut temporary: Temporary) {
        let mut pending = self.waiting();
        // Another thread may have put the same meanwhile; then this copy goes.
        if let std::collections::hash_map::Entry::Vacant(place) = pending.objects.entry(digest) {
            place.insert(Waiting { path: temporary.path.clone(), size, replace });
            temporary.kept = true;
        }
    }

    fn give_name(&self, digest: &Digest, object: &Waiting) -> Result<()> {
        let path = self.object_path(digest);
        let rename = || {
            if object.replace {
                fs::rename(&object.path, &path)
            } else {
                durable::rename_noreplace(&object.path, &path)
            }
        };
        let renamed = match rename() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(durable::parent(&path), 0o700)?;
                rename()
            }
            other => other,
        };
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Another process was first; equal names are equal contents.
                fs::remove_file(&object.path).map_err(Error::io("remove", &object.path))
            }
            other => other.map_err(Error::io("write", &path)),
        }
    }

    fn object_path(&self, digest: &Digest) -> PathBuf {
        by_digest(&self.dir().join("objects"), digest)
    }

    fn waiting(&self) -> MutexGuard<'_, Pending> {
        self.pending().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh name in this process' staging directory for files.
    pub(crate) fn temporary_path(&self) -> Result<PathBuf> {
        let mut pending = self.waiting();
        if pending.staging.is_none() {
            pending.staging = Some(self.staging("objects")?);
        }
        pending.next += 1;
        let name = pending.next.to_string();
        Ok(pending.staging.as_ref().map(|staging| staging.path().join(name)).unwrap_or_default())
    }

    /// Whether objects were put that [`Store::sync`] hasn't seen.
    pub(crate) fn has_pending(&self) -> bool {
        !self.waiting().objects.is_empty()
    }
}

/// `<dir>/xx/<62 hex>`
pub(crate) fn by_digest(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    dir.join(&hex[..2]).join(&hex[2..])
}

/// Whether `target` is now a clone of `file` that holds what it should.
fn cloned(file: &File, target: &File, digest: &Digest, size: u64) -> bool {
    rustix::fs::ioctl_ficlone(target, file).is_ok()
        && target.metadata().is_ok_and(|clone| clone.len() == size)
        && stream(target, size, None).is_ok_and(|found| found == *digest)
}

/// Wraps an error of reading `file`, of which only the descriptor is known.
fn reading(file: &File) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| {
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let path = fs::read_link(&descriptor).unwrap_or(descriptor);
        Error::io("read", &path)(source)
    }
}

fn changed(file: &File) -> Error {
    reading(file)(io::Error::other("it changed while it was read"))
}

fn same_state(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    let state = |m: &fs::Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    state(a) == state(b)
}

/// Whether there is a hole before the end of the file.
fn has_holes(file: &File, size: u64) -> bool {
    size >= SMALLEST_HOLE && seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < size)
}

/// Fills `piece` from `offset` on; an end before that means that the file shrank.
fn read_piece(file: &File, piece: &mut [u8], offset: u64) -> Result<()> {
    file.read_exact_at(piece, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => changed(file),
        _ => reading(file)(error),
    })
}

/// The digest of a file of that size.
fn digest(file: &File, size: u64) -> Result<Digest> {
    match usize::try_from(size) {
        Ok(length) if length <= IN_MEMORY => with_buffer(length, |buffer| {
            read_piece(file, &mut buffer[..length], 0)?;
            Ok(Digest::of(&buffer[..length]))
        }),
        _ => stream(file, size, None),
    }
}

/// Hashes the first `size` bytes of `source`, and writes to `copy` what is hashed: holes stay holes.
fn stream(source: &File, size: u64, copy: Option<(&File, &Path)>) -> Result<Digest> {
    if let Some((target, path)) = copy {
        // A clone that failed half-way may have left something.
        target.set_len(0).and_then(|()| target.set_len(size)).map_err(Error::io("write", path))?;
    }
    let mut hasher = blake3::Hasher::new();
    let many = size >= MANY_THREADS;
    let mut update = |bytes: &[u8]| {
        if many {
            hasher.update_rayon(bytes);
        } else {
            hasher.update(bytes);
        }
    };
    with_buffer(PIECE, |buffer| -> Result<()> {
        let mut at = 0;
        while at < size {
            let (data, end) = next_data(source, at, size)?;
            while at < data {
                let zeros = piece_length(at, data);
                update(&ZEROS[..zeros]);
                at += zeros as u64;
            }
            while at < end {
                let piece = &mut buffer[..piece_length(at, end)];
                read_piece(source, piece, at)?;
                update(piece);
                if let Some((target, path)) = copy {
                    target.write_all_at(piece, at).map_err(Error::io("write", path))?;
                }
                at += piece.len() as u64;
            }
        }
        Ok(())
    })?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

fn piece_length(from: u64, to: u64) -> usize {
    usize::try_from(to - from).map_or(PIECE, |length| length.min(PIECE))
}

/// Where the data at or after `at` starts and ends; both are `size` when only a hole is left.
fn next_data(file: &File, at: u64, size: u64) -> Result<(u64, u64)> {
    let data = match seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.min(size),
        Err(Errno::NXIO) => return Ok((size, size)),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((at, size)),
        Err(error) => return Err(reading(file)(error.into())),
    };
    let end = seek(file, SeekFrom::Hole(data)).map_or(size, |end| end.min(size));
    Ok((data.max(at), end.max(data)))
}

#[cfg(test)]
mod tests;
