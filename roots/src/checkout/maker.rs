//! Makes single entries of a tree.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};

use rootbuild_cache::{Digest, Entry, Kind, Store, Tree};

use super::CheckoutError;
use super::sharing::{Farm, Fresh, Linked, Sharing};
use crate::fd::{self, Copier};

/// Makes entries below `target`.
pub(crate) struct Maker<'a> {
    store: &'a Store,
    objects: OwnedFd,
    target: &'a Path,
    /// Who owns what is made in the target.
    owner: (u32, u32),
    copier: Copier,
    farm: Option<Farm>,
}

impl<'a> Maker<'a> {
    /// One that makes every file anew.
    pub(crate) fn new(store: &'a Store, target: &'a Path, owner: (u32, u32)) -> Result<Self, CheckoutError> {
        let path = store.dir().join("objects");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let objects = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| CheckoutError::Io {
            action: "open",
            path,
            source: error.into(),
        })?;
        Ok(Self { store, objects, target, owner, copier: Copier::new(), farm: None })
    }

    /// One that shares files of `tree` with other checkouts, as `sharing` says.
    pub(super) fn sharing(mut self, tree: &Tree, sharing: Sharing<'_>) -> Result<Self, CheckoutError> {
        if let Sharing::Linked(private) = sharing {
            self.farm = Some(Farm::new(self.store, tree, private)?);
        }
        Ok(self)
    }

    /// One that shares at most the files of `tree` whose numbers are in `made` with other checkouts, where all
    /// others are there already, maybe shared.
    pub(crate) fn sharing_some(
        mut self,
        tree: &Tree,
        sharing: Sharing<'_>,
        made: &[usize],
    ) -> Result<Self, CheckoutError> {
        if let Sharing::Linked(private) = sharing {
            self.farm = Some(Farm::of_some(self.store, tree, private, made)?);
        }
        Ok(self)
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// What was made that others could share.
    pub(crate) fn into_fresh(self) -> Fresh {
        self.farm.map(Farm::into_fresh).unwrap_or_default()
    }

    pub(crate) fn failed(
        &self,
        action: &'static str,
        entry: &Entry,
    ) -> impl FnOnce(io::Error) -> CheckoutError + use<> {
        let path = self.shown(entry);
        move |source| CheckoutError::Io { action, path, source }
    }

    fn shown(&self, entry: &Entry) -> PathBuf {
        self.target.join(Path::new(std::ffi::OsStr::from_bytes(&entry.path)))
    }

    /// Makes the entry of number `at`, if it is no directory and no further name of a file.
    pub(crate) fn make(
        &self,
        dir: &impl AsFd,
        name: &[u8],
        at: usize,
        entry: &Entry,
    ) -> Result<(), CheckoutError> {
        let meta = &entry.meta;
        let owned = (meta.uid, meta.gid) == self.owner;
        let made = match &entry.kind {
            Kind::File { object, size } => {
                let linked = self.farm.as_ref().map(|farm| farm.link(dir, name, at)).transpose();
                let linked = linked.map_err(|error| self.failed("link", entry)(error))?;
                if let Some(Linked::Yes) = linked {
                    return Ok(());
                }
                let from = if *size == 0 { None } else { Some(self.object(object)?) };
                let made = self.file(dir, name, entry, owned, from.as_ref(), *size)?;
                if let (Some(farm), Some(Linked::Wanted { link, replace })) = (&self.farm, linked) {
                    let kept = farm.made(&made, entry, (link, replace));
                    kept.map_err(|error| self.failed("look at", entry)(error))?;
                }
                return Ok(());
            }
            Kind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), dir, name),
            Kind::CharDevice { major, minor } => {
                node(dir, name, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                node(dir, name, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::Fifo => node(dir, name, FileType::Fifo, 0),
            Kind::Directory | Kind::Hardlink { .. } => return Ok(()),
        };
        let symlink = matches!(entry.kind, Kind::Symlink { .. });
        made.map_err(io::Error::from)
            .and_then(|()| fd::set_metadata(dir, Some(name), meta, owned, symlink))
            .map_err(|error| self.failed("make", entry)(error))
    }

    fn object(&self, digest: &Digest) -> Result<File, CheckoutError> {
        let mut path = digest.hex();
        path.insert(2, '/');
        match rustix::fs::openat(&self.objects, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            // It may wait for its name.
            Err(_) => Ok(self.store.open_object(digest)?),
        }
    }

    fn file(
        &self,
        dir: &impl AsFd,
        name: &[u8],
        entry: &Entry,
        owned: bool,
        from: Option<&File>,
        size: u64,
    ) -> Result<File, CheckoutError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| self.failed("make", entry)(error.into()))?;
        let file = File::from(file);
        if let Some(from) = from {
            let found = self.copier.copy(from, &file).map_err(|error| self.failed("write", entry)(error))?;
            if found != size {
                return Err(CheckoutError::Length { path: self.shown(entry), expected: size, found });
            }
        }
        fd::set_metadata(&file, None, &entry.meta, owned, false)
            .map_err(|error| self.failed("set owner, mode and attributes of", entry)(error))?;
        Ok(file)
    }
}

fn node(dir: &impl AsFd, name: &[u8], kind: FileType, device: u64) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device)
}
