//! The store's directory.
//!
//! ```text
//! <store>/                  0755
//!   format                  "rootbuild-store 1\n"; written last, so its absence tells a killed creation
//!   objects/xx/<62 hex>     0700, files 0400: contents by BLAKE3; may be secret
//!   links/xx/<62 hex>       0700: files that checkouts share, with owner, mode, attributes and time
//!   trees/xx/<62 hex>       0755, files 0644: listings of roots, by their Merkle digest
//!   layers/xx/<62 hex>/<n>.json   0755, files 0644: records under a layer's key, the highest n newest
//!   locks/<name>            0700: kernel locks
//!   leases/<id>             0700: what running commands have found
//!   condemned/<id>/         0700: what was collected beside them, until they end
//!   pins/ refs/             0755: trees that are kept, by name and by a file elsewhere
//!   staging/<id>[.lock]     0700: work in progress, swept once its lock is free
//!   roots/<name>            0755: links to the current checkouts
//!   checkouts/ lowers/ failed/ ansible/ logs/      0700
//!   packages/ toolchains/   0755
//! ```
//!
//! The whole format is in `cache/FORMAT.md`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{Access, OFlags};

use crate::durable;
use crate::error::{Error, Result};
use crate::lease::{self, Lease};
use crate::limits::Limits;
use crate::objects::Pending;
use crate::space;
use crate::staging;
use crate::tree::Tree;

/// The store format that this crate reads and writes.
pub const STORE_VERSION: u32 = 1;

const FORMAT: &str = "format";
/// Becomes `format` when all else is there.
const UNFINISHED: &str = "rootbuild-store.unfinished";
const SIGNATURE: &str = "rootbuild-store ";

/// Directories of a store, and their modes.
const LAYOUT: [(&str, u32); 18] = [
    ("objects", 0o700),
    ("links", 0o700),
    ("trees", 0o755),
    ("layers", 0o755),
    ("locks", 0o700),
    ("leases", 0o700),
    ("condemned", 0o700),
    ("pins", 0o755),
    ("refs", 0o755),
    ("staging", 0o700),
    ("roots", 0o755),
    ("checkouts", 0o700),
    ("lowers", 0o700),
    ("failed", 0o700),
    ("packages", 0o755),
    ("toolchains", 0o755),
    ("ansible", 0o700),
    ("logs", 0o700),
];

/// An open store. Cheap to clone; used from many threads.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    limits: Limits,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    read_only: bool,
    /// What keeps from being collected what this process found.
    lease: OnceLock<Lease>,
    pending: Mutex<Pending>,
    /// A tree that was just stored, for who needs it next.
    in_hand: Mutex<Option<Tree>>,
    guard: space::Guard,
    /// Held while objects become durable, so that two syncs don't publish the same ones.
    syncing: Mutex<()>,
}

/// The directories of a store, and their modes.
pub(crate) fn layout() -> &'static [(&'static str, u32)] {
    &LAYOUT
}

/// What a directory is, seen from a store.
enum Found {
    Nothing,
    Unfinished,
    Store,
}

impl Store {
    /// Opens the store in `dir`, making it if there is none. Sweeps leftovers of dead processes.
    ///
    /// A directory that is neither empty nor a store is refused and left as it is.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = absolute(dir)?;
        match look(&dir)? {
            Found::Store => {
                rustix::fs::access(&dir, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|error| Error::io("write to", &dir)(error.into()))?;
                make_directories(&dir)?;
            }
            Found::Nothing | Found::Unfinished => create(&dir)?,
        }
        staging::sweep(&dir.join("staging"))?;
        lease::sweep(&dir)?;
        lease::sweep_aside(&dir)?;
        Ok(Self::of(dir, false))
    }

    /// Opens the store for reading only, without locks or writes (works unprivileged for trees and
    /// layers); `None` where there is no store yet.
    pub fn open_read_only(dir: &Path) -> Result<Option<Self>> {
        let dir = absolute(dir)?;
        match look(&dir)? {
            Found::Store => Ok(Some(Self::of(dir, true))),
            Found::Nothing | Found::Unfinished => Ok(None),
        }
    }

    fn of(dir: PathBuf, read_only: bool) -> Self {
        let inner = Inner {
            dir,
            read_only,
            lease: OnceLock::new(),
            pending: Mutex::default(),
            in_hand: Mutex::default(),
            guard: space::Guard::default(),
            syncing: Mutex::default(),
        };
        Self { inner: Arc::new(inner), limits: Limits::default() }
    }

    /// The store's directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The same store, which takes roots that are within these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How much a root may hold that comes into the store.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fails when the store was opened for reading only.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.inner.read_only { Err(Error::ReadOnly { path: self.dir().to_owned() }) } else { Ok(()) }
    }

    pub(crate) fn lease_cell(&self) -> &OnceLock<Lease> {
        &self.inner.lease
    }

    pub(crate) fn in_hand(&self) -> &Mutex<Option<Tree>> {
        &self.inner.in_hand
    }

    pub(crate) fn pending(&self) -> &Mutex<Pending> {
        &self.inner.pending
    }

    pub(crate) fn guard(&self) -> &space::Guard {
        &self.inner.guard
    }

    pub(crate) fn syncing(&self) -> &Mutex<()> {
        &self.inner.syncing
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).map_err(Error::io("find", dir))?;
    if dir.to_str().is_none() {
        return Err(Error::NotText { path: dir });
    }
    Ok(dir)
}

fn look(dir: &Path) -> Result<Found> {
    let format = dir.join(FORMAT);
    match File::open(&format) {
        Ok(file) => {
            check_format(dir, &format, file)?;
            return Ok(Found::Store);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", &format)(error)),
    }
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        other => other.map_err(Error::io("read", dir))?,
    };
    let mut foreign = false;
    for entry in entries {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        if name == UNFINISHED {
            return Ok(Found::Unfinished);
        }
        // A file system of its own is as good as an empty directory.
        foreign |= name != "lost+found";
    }
    // Another process may have finished it between the two looks.
    if foreign && !format.exists() {
        return Err(Error::NotAStore { path: dir.to_owned() });
    }
    Ok(if foreign { Found::Store } else { Found::Nothing })
}

fn check_format(dir: &Path, format: &Path, file: File) -> Result<()> {
    let mut text = Vec::new();
    file.take(256).read_to_end(&mut text).map_err(Error::io("read", format))?;
    let text = String::from_utf8_lossy(&text);
    if text == signature() {
        return Ok(());
    }
    let line = text.lines().next().unwrap_or_default();
    let found = line.strip_prefix(SIGNATURE).unwrap_or(line).to_owned();
    Err(Error::Format { path: dir.to_owned(), found, known: STORE_VERSION })
}

fn signature() -> String {
    format!("{SIGNATURE}{STORE_VERSION}\n")
}

/// Makes a store, or completes one whose creation was killed. Several processes may do this at once:
/// each step is the same for all, and harmless when done twice.
fn create(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => set_mode(dir, 0o755)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
            set_mode(dir, 0o755)?;
        }
        Err(error) => return Err(Error::io("make", dir)(error)),
    }
    let unfinished = dir.join(UNFINISHED);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(signature().as_bytes())?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()
        })
        .map_err(Error::io("write", &unfinished))?;
    make_directories(dir)?;
    durable::fsync_dir(dir)?;
    let format = dir.join(FORMAT);
    match fs::rename(&unfinished, &format) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound && format.exists() => {}
        Err(error) => return Err(Error::io("write", &format)(error)),
    }
    durable::fsync_dir(dir)?;
    durable::fsync_dir(durable::parent(dir))
}

fn make_directories(dir: &Path) -> Result<()> {
    for (name, mode) in LAYOUT {
        make_directory(&dir.join(name), mode)?;
    }
    Ok(())
}

/// Makes a directory with exactly the permissions `mode`, unless it is there; tells whether it was
/// made.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => set_mode(path, mode).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("make", path)(error)),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}

#[cfg(test)]
mod tests;
