//! The parallel scan: one task per directory, further ones where a directory holds many files.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::Scope;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use rootbuild_cache::limits::Sums;
use rootbuild_cache::objects::MANY_THREADS;
use rootbuild_cache::{Kind, Limit, Meta, Mtime, Store};

use super::CaptureError;
use super::known::{Known, KnownFile};
use super::xattrs::{self, Marks};
use crate::cancel::Cancel;
use crate::checkout::Areas;
use crate::fd::{self, Dir, Stat, Xattrs};

/// So many names of one directory are worked on by one task.
const CHUNK: usize = 64;

/// A name as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub path: Vec<u8>,
    pub meta: Meta,
    pub what: What,
    /// What overlayfs says, on directories of an upper side.
    pub marks: Marks,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Entry {
        kind: Kind,
        /// Device and inode where the file has (or may have) further names. All but one of them
        /// have [`AGAIN`] as their kind.
        file: Option<(u64, u64)>,
    },
    Socket,
    Whiteout,
}

impl Found {
    /// Whether it is a further name of a file that was found by another.
    pub(super) fn is_again(&self) -> bool {
        matches!(&self.what, What::Entry { kind, .. } if *kind == AGAIN)
    }
}

/// The kind of a further name of a file whose first name was taken already.
pub(super) const AGAIN: Kind = Kind::Hardlink { target: Vec::new() };

/// Scans everything below `root`, and stores the contents of files. A file of several names comes before
/// its other names; otherwise in no order.
///
/// Files that are as `known` says aren't read. Of the upper side of an overlay, it is brought up to date.
pub(super) fn scan(
    store: &Store,
    root: &Path,
    (side, known): (Side<'_>, &mut Known),
    cancel: &Cancel,
) -> Result<Vec<Found>, CaptureError> {
    let upper = side == Side::Upper;
    let top = Dir::top(root).map_err(io_error("open", root.to_owned()))?;
    let scan = Scan {
        store,
        root,
        known,
        upper,
        alone: match side {
            Side::Plain | Side::Upper => None,
            Side::Left(areas) => Some(areas),
        },
        cancel,
        found: Mutex::default(),
        now: Mutex::default(),
        seen: Mutex::default(),
        large: Mutex::default(),
        sums: Sums::default(),
        error: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    fd::in_pool(fd::Work::Read, || {
        rayon::scope(|scope| {
            scan.task(|| {
                let stat =
                    fd::stat(top.fd().map_err(scan.error(&top, b""))?).map_err(scan.error(&top, b""))?;
                scan.directory(scope, &top, &stat)
            });
        });
        // Only now, and one by one: each is worked on by all threads.
        for (dir, name) in std::mem::take(&mut *lock(&scan.large)) {
            scan.task(|| scan.large(&dir, &name));
        }
    });
    if let Some(error) = scan.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut found = scan.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let now = scan.now.into_inner().unwrap_or_else(PoisonError::into_inner);
    if upper {
        *known = now;
    }
    // The thread that met a file first may have been overtaken by one that met its second name.
    found.sort_by_key(Found::is_again);
    Ok(found)
}

/// What is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side<'a> {
    /// A root as it is.
    Plain,
    /// A root that nobody writes to any more: the store takes its files over where they lie, but those that stand
    /// directly in the root or in these parts.
    Left(&'a Areas),
    /// The upper side of an overlay.
    Upper,
}

struct Scan<'a> {
    store: &'a Store,
    root: &'a Path,
    /// What is known of files.
    known: &'a Known,
    /// Whether overlayfs's marks are to be read, and what will be known kept.
    upper: bool,
    /// The parts whose files may not get further names; `None`: no file may.
    alone: Option<&'a Areas>,
    cancel: &'a Cancel,
    found: Mutex<Vec<Found>>,
    /// What will be known of an upper side.
    now: Mutex<Known>,
    /// Files of several names that somebody has taken on.
    seen: Mutex<HashSet<(u64, u64)>>,
    /// Files that are left for later.
    large: Mutex<Vec<(Arc<Dir>, Vec<u8>)>>,
    sums: Sums,
    error: Mutex<Option<CaptureError>>,
    stop: AtomicBool,
}

fn io_error(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> CaptureError {
    move |source| CaptureError::Io { action, path, source }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Scan<'a> {
    /// Runs a part of the scan, unless another failed; keeps the first error.
    fn task(&self, work: impl FnOnce() -> Result<(), CaptureError>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.cancel.check().map_err(CaptureError::from).and_then(|()| work()) {
            self.stop.store(true, Ordering::Relaxed);
            lock(&self.error).get_or_insert(error);
        }
    }

    /// The path for people of `name` in `dir`.
    fn shown(&self, dir: &Dir, name: &[u8]) -> PathBuf {
        self.root.join(Path::new(std::ffi::OsStr::from_bytes(&dir.path_of(name))))
    }

    fn error(&self, dir: &Arc<Dir>, name: &[u8]) -> impl FnOnce(io::Error) -> CaptureError {
        let path = self.shown(dir, name);
        move |source| match Errno::from_io_error(&source) {
            // What was a directory a moment ago isn't one now.
            Some(Errno::STALE | Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => CaptureError::Changed { path },
            _ => CaptureError::Io { action: "read", path, source },
        }
    }

    fn directory<'s>(&'s self, scope: &Scope<'s>, dir: &Arc<Dir>, stat: &Stat) -> Result<(), CaptureError>
    where
        'a: 's,
    {
        let limits = self.store.limits();
        limits.check(Limit::Depth, dir.depth() as u64, || self.root.display().to_string())?;
        let fd = dir.fd().map_err(self.error(dir, b""))?;
        let (meta, marks) = self.metadata(&fd, None, stat).map_err(self.error(dir, b""))?;
        let listed = fd::children(&fd).map_err(self.error(dir, b""))?;
        let hidden = marks.xattr_whiteouts;
        let path = dir.path();
        self.count(dir, b"", path.len(), &meta, 0, 0)?;
        let what = What::Entry { kind: Kind::Directory, file: None };
        lock(&self.found).push(Found { path, meta, what, marks });
        if self.upper {
            let mut now = lock(&self.now);
            now.newest = now.newest.max(stat.ctime);
        }
        let mut names: Vec<Vec<u8>> = listed.into_iter().map(|it| it.name).collect();
        while names.len() > CHUNK {
            let part = names.split_off(names.len() - CHUNK);
            let dir = Arc::clone(dir);
            scope.spawn(move |scope| self.task(|| self.names(scope, &dir, &part, hidden)));
        }
        self.names(scope, dir, &names, hidden)
    }

    fn names<'s>(
        &'s self,
        scope: &Scope<'s>,
        dir: &Arc<Dir>,
        names: &[Vec<u8>],
        hidden: bool,
    ) -> Result<(), CaptureError>
    where
        'a: 's,
    {
        let fd = dir.fd().map_err(self.error(dir, b""))?;
        let path = dir.path();
        let mut found = Vec::with_capacity(names.len());
        let (mut files, mut newest) = (Vec::new(), Mtime::default());
        for name in names {
            self.cancel.check()?;
            let stat = fd::stat_at(&fd, name).map_err(self.error(dir, name))?;
            if stat.mount_root {
                return Err(CaptureError::Mount { path: self.shown(dir, name) });
            }
            if stat.kind == FileType::Directory {
                let (dir, name) = (Arc::clone(dir), name.clone());
                scope.spawn(move |scope| {
                    self.task(|| {
                        let (child, now) = dir.child(&name).map_err(self.error(&dir, &name))?;
                        if now.id != stat.id {
                            return Err(CaptureError::Changed { path: self.shown(&dir, &name) });
                        }
                        self.directory(scope, &child, &now)
                    });
                });
                continue;
            }
            newest = newest.max(stat.ctime);
            if stat.kind == FileType::RegularFile {
                // Told before the file is read: it may have no end.
                let limits = self.store.limits();
                limits.check(Limit::FileSize, stat.size, || self.shown(dir, name).display().to_string())?;
            }
            let (meta, marks, what) = match stat.kind {
                FileType::RegularFile => match self.known_file(&stat) {
                    Some(known) => known,
                    None if stat.size >= MANY_THREADS => {
                        lock(&self.large).push((Arc::clone(dir), name.clone()));
                        continue;
                    }
                    None => self.file(dir, &fd, name, &stat, hidden)?,
                },
                _ => self.other(dir, &fd, name, &stat)?,
            };
            files.extend(self.to_know(&stat, &meta, &marks, &what));
            let length = path.len() + usize::from(!path.is_empty()) + name.len();
            self.count_found(dir, name, length, &meta, &what)?;
            found.push(Found { path: fd::join(&path, name), meta, what, marks });
        }
        lock(&self.found).append(&mut found);
        if self.upper {
            let mut now = lock(&self.now);
            now.extend(files);
            now.newest = now.newest.max(newest);
        }
        Ok(())
    }

    /// Counts a name whose path has `path` bytes.
    fn count(
        &self,
        dir: &Dir,
        name: &[u8],
        path: usize,
        meta: &Meta,
        target: usize,
        content: u64,
    ) -> Result<(), CaptureError> {
        let attributes: usize = meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = (path as u64, attributes as u64, target as u64);
        let place = || self.shown(dir, name).display().to_string();
        Ok(self.sums.add(self.store.limits(), bytes, content, place)?)
    }

    /// Counts what was found under a name whose path has `path` bytes.
    fn count_found(
        &self,
        dir: &Dir,
        name: &[u8],
        path: usize,
        meta: &Meta,
        what: &What,
    ) -> Result<(), CaptureError> {
        let (content, target) = match what {
            What::Entry { kind: Kind::File { size, .. }, .. } => (*size, 0),
            What::Entry { kind: Kind::Symlink { target }, .. } => (0, target.len()),
            _ => (0, 0),
        };
        self.count(dir, name, path, meta, target, content)
    }

    /// A large file, which was left for later.
    fn large(&self, dir: &Arc<Dir>, name: &[u8]) -> Result<(), CaptureError> {
        let fd = dir.fd().map_err(self.error(dir, b""))?;
        let stat = fd::stat_at(&fd, name).map_err(self.error(dir, name))?;
        if stat.kind != FileType::RegularFile {
            return Err(CaptureError::Changed { path: self.shown(dir, name) });
        }
        let (meta, marks, what) = self.file(dir, &fd, name, &stat, false)?;
        let path = dir.path_of(name);
        self.count_found(dir, name, path.len(), &meta, &what)?;
        lock(&self.now).extend(self.to_know(&stat, &meta, &marks, &what).into_iter().collect());
        lock(&self.found).push(Found { path, meta, what, marks });
        Ok(())
    }

    /// What is to be known of something the next time.
    fn to_know(
        &self,
        stat: &Stat,
        meta: &Meta,
        marks: &Marks,
        what: &What,
    ) -> Option<((u64, u64), KnownFile)> {
        match what {
            What::Entry { kind: Kind::File { object, .. }, .. } if self.upper && !marks.whiteout => {
                Some((stat.id, KnownFile::new(stat, meta.xattrs.clone(), *object)))
            }
            _ => None,
        }
    }

    /// A file of which all is known, its content in the store.
    fn known_file(&self, stat: &Stat) -> Option<(Meta, Marks, What)> {
        let known = self.known.file(stat).filter(|it| self.store.has_object(&it.object))?;
        let kind =
            if self.first(stat) { Kind::File { object: known.object, size: stat.size } } else { AGAIN };
        let what = What::Entry { kind, file: (stat.links > 1).then_some(stat.id) };
        Some((meta(stat, known.xattrs.clone()), Marks::default(), what))
    }

    fn metadata(
        &self,
        file: impl rustix::fd::AsFd,
        name: Option<&[u8]>,
        stat: &Stat,
    ) -> io::Result<(Meta, Marks)> {
        let xattrs = fd::list_xattrs(file, name, xattrs::belongs)?;
        let (xattrs, marks) = if self.upper { xattrs::part(xattrs) } else { (xattrs, Marks::default()) };
        Ok((meta(stat, xattrs), marks))
    }

    /// Whether this is the first name met of a file of several; of any other file it is.
    fn first(&self, stat: &Stat) -> bool {
        stat.links < 2 || lock(&self.seen).insert(stat.id)
    }

    /// Whether the store takes a file over instead of copying it.
    fn adopts(&self, dir: &Dir, name: &[u8]) -> bool {
        self.alone.is_some_and(|alone| dir.depth() > 0 && !alone.contains(&dir.path_of(name)))
    }

    fn file(
        &self,
        dir: &Arc<Dir>,
        fd: &fd::DirFd<'_>,
        name: &[u8],
        stat: &Stat,
        hidden: bool,
    ) -> Result<(Meta, Marks, What), CaptureError> {
        let file = open_file(fd, name).map_err(self.error(dir, name))?;
        let opened = fd::stat(&file).map_err(self.error(dir, name))?;
        if opened.id != stat.id || opened.kind != FileType::RegularFile {
            return Err(CaptureError::Changed { path: self.shown(dir, name) });
        }
        let (meta, marks) = self.metadata(&file, None, &opened).map_err(self.error(dir, name))?;
        if marks.metacopy {
            return Err(CaptureError::Metacopy { path: self.shown(dir, name) });
        }
        if marks.whiteout && hidden && opened.size == 0 {
            return Ok((meta, marks, What::Whiteout));
        }
        let kind = if self.first(&opened) {
            let (object, size) = if self.adopts(dir, name) {
                self.store.adopt_object(&file)?
            } else {
                self.store.put_object(&file)?
            };
            let after = fd::stat(&file).map_err(self.error(dir, name))?;
            // Links may come and go (that's the ctime); contents may not.
            if size != opened.size || after.size != size || after.mtime != opened.mtime {
                return Err(CaptureError::Changed { path: self.shown(dir, name) });
            }
            Kind::File { object, size }
        } else {
            AGAIN
        };
        let file = (opened.links > 1).then_some(opened.id);
        Ok((meta, marks, What::Entry { kind, file }))
    }

    /// Links, devices, pipes and sockets: never opened.
    fn other(
        &self,
        dir: &Arc<Dir>,
        fd: &fd::DirFd<'_>,
        name: &[u8],
        stat: &Stat,
    ) -> Result<(Meta, Marks, What), CaptureError> {
        if self.upper && stat.is_whiteout() {
            return Ok((Meta::default(), Marks::default(), What::Whiteout));
        }
        if stat.kind == FileType::Socket {
            return Ok((Meta::default(), Marks::default(), What::Socket));
        }
        let (mut meta, marks) = self.metadata(fd, Some(name), stat).map_err(self.error(dir, name))?;
        let (major, minor) = stat.device;
        let kind = match stat.kind {
            _ if !self.first(stat) => AGAIN,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(fd, name, Vec::new())
                    .map_err(|e| self.error(dir, name)(e.into()))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            _ => {
                let path = self.shown(dir, name);
                return Err(io_error("tell the type of", path)(io::ErrorKind::Unsupported.into()));
            }
        };
        if stat.kind == FileType::Symlink {
            meta.mode = 0o777;
        }
        Ok((meta, marks, What::Entry { kind, file: (stat.links > 1).then_some(stat.id) }))
    }
}

fn meta(stat: &Stat, xattrs: Xattrs) -> Meta {
    Meta { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs }
}

/// Opens a regular file for reading; not even a FIFO put there a moment ago can hang us.
fn open_file(dir: &fd::DirFd<'_>, name: &[u8]) -> io::Result<File> {
    // Reading shouldn't write; but only the owner may ask for that.
    let opened = match fd::open_file(dir, name, OFlags::RDONLY | OFlags::NOATIME) {
        Err(Errno::PERM) => fd::open_file(dir, name, OFlags::RDONLY),
        done => done,
    };
    Ok(File::from(opened?))
}
