//! Private directories for work in progress.
//!
//! `staging/<id>` belongs to whoever holds the kernel lock on `staging/<id>.lock`. The lock is taken
//! before the directory is made and let go after it is gone, so a directory whose lock is free
//! belongs to nobody: its process died, and the next one to open the store removes it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::durable;
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::remove::remove_tree;
use crate::store::{Store, make_directory};

const LOCK_SUFFIX: &str = ".lock";
/// The directory for work in progress in a part of the store that is on another file system.
const ELSEWHERE: &str = ".staging";

/// A private directory for work in progress; removed on drop.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    gone: bool,
    lock: Lock,
}

impl Staging {
    /// Makes a directory in `parent`, which is the store's `staging`.
    pub(crate) fn create(parent: &Path, purpose: &str) -> Result<Self> {
        let label: String =
            purpose.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
        loop {
            let id = format!("{label}-{}", durable::unique());
            let lock = parent.join(format!("{id}{LOCK_SUFFIX}"));
            // `None`: a sweeper took the fresh file for a leftover. It is welcome to it.
            let Some(lock) = Lock::try_acquire(&lock, true, purpose)? else { continue };
            let dir = parent.join(id);
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self { dir, gone: false, lock }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("make", &dir)(error)),
            }
        }
    }

    /// The directory: empty at first, mode 0700, on the store's file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The lock that keeps the directory. A child process that inherits this descriptor keeps it too,
    /// so that nobody removes the directory under a child which outlives this process.
    #[must_use]
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Hands the directory over: renames it to `target`, durably, where nothing may be yet. (What is
    /// in it is not synced by this: see [`Store::sync`].) On failure the directory is removed.
    pub fn keep(mut self, target: &Path) -> Result<()> {
        durable::rename_noreplace(&self.dir, target).map_err(Error::io("rename to", target))?;
        self.gone = true;
        durable::fsync_dir(durable::parent(target))
    }

    /// Removes the directory, and says so if that fails; [`Drop`] only logs it.
    pub fn remove(mut self) -> Result<()> {
        self.gone = true;
        remove_tree(&self.dir)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(path = %self.dir.display(), error = &error as &dyn std::error::Error, "left behind");
        }
    }
}

/// Removes what dead processes left in `parent`, the store's `staging`, and in those of parts on other
/// file systems. What can't be removed is logged and stays.
pub(crate) fn sweep(parent: &Path) -> Result<()> {
    let elsewhere = parent.with_file_name("checkouts").join(ELSEWHERE);
    if elsewhere.is_dir() {
        sweep_one(&elsewhere)?;
    }
    sweep_one(parent)
}

fn sweep_one(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).map_err(Error::io("read", parent))? {
        let entry = entry.map_err(Error::io("read", parent))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let id = name.strip_suffix(LOCK_SUFFIX).unwrap_or(name);
        let lock = parent.join(format!("{id}{LOCK_SUFFIX}"));
        // Dropping the lock removes its file, after the directory.
        let Some(_lock) = Lock::try_acquire(&lock, true, "removing leftovers")? else { continue };
        let dir = parent.join(id);
        match remove_tree(&dir) {
            Ok(()) => tracing::debug!(path = %dir.display(), "removed a leftover"),
            Err(error) => {
                tracing::warn!(path = %dir.display(), error = &error as &dyn std::error::Error, "left behind");
            }
        }
    }
    Ok(())
}

impl Store {
    /// A fresh private directory under `<store>/staging`, held by a kernel lock and removed on drop
    /// (or swept by a later process if this one dies).
    pub fn staging(&self, purpose: &str) -> Result<Staging> {
        self.writable()?;
        self.begin_writing()?;
        Staging::create(&self.dir().join("staging"), purpose)
    }

    /// Like [`Store::staging`], for what is to be removed: however little room there is.
    pub fn trash(&self, purpose: &str) -> Result<Staging> {
        self.writable()?;
        Staging::create(&self.dir().join("staging"), purpose)
    }

    /// [`Store::staging`] for what will be renamed into `checkouts/`, which may be another mount.
    pub fn checkout_staging(&self, purpose: &str) -> Result<Staging> {
        self.writable()?;
        self.begin_writing()?;
        self.beside_checkouts(purpose)
    }

    /// [`Store::trash`] for what is renamed out of `checkouts/`.
    pub fn checkout_trash(&self, purpose: &str) -> Result<Staging> {
        self.writable()?;
        self.beside_checkouts(purpose)
    }

    fn beside_checkouts(&self, purpose: &str) -> Result<Staging> {
        let (usual, home) = (self.dir().join("staging"), self.dir().join("checkouts"));
        if mount(&usual)? == mount(&home)? {
            return Staging::create(&usual, purpose);
        }
        let parent = home.join(ELSEWHERE);
        make_directory(&parent, 0o700)?;
        Staging::create(&parent, purpose)
    }
}

/// What tells whether a rename from one directory to another can work: file system and mount.
fn mount(path: &Path) -> Result<(u32, u32, u64)> {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map_err(|error| Error::io("look at", path)(error.into()))?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
}

#[cfg(test)]
mod tests;
