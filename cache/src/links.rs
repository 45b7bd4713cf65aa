//! The link farm: inodes that several checkouts share.
//!
//! Where contents can't be shared (no reflink), checkouts whose users can't write share whole files:
//! `links/xx/<62 hex>` is a file with content, owner, mode, attributes and time, and a checkout gets one
//! more name of it. It is named by all of these, and by an *ordinal*: the n-th equal file of a root gets the
//! n-th inode, so that what was apart in a root stays apart.
//!
//! The farm is a cache. A name in it stands for a whole file whose content is on disk; files are made in
//! checkouts, and get their names here afterwards ([`Links::add`]).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::{Store, make_directory};
use crate::tree::Meta;

const DOMAIN: &[u8] = b"rootbuild link 1\n";

/// The name of a shared inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkName(Digest);

impl LinkName {
    /// The name of the file with the content `object` and all that `meta` says, for its use number
    /// `ordinal` in one root.
    #[must_use]
    pub fn new(object: &Digest, meta: &Meta, ordinal: u32) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(object.as_bytes());
        for number in [ordinal, meta.mode, meta.uid, meta.gid] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&meta.mtime.seconds.to_le_bytes());
        bytes.extend_from_slice(&meta.mtime.nanoseconds.to_le_bytes());
        for part in meta.xattrs.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Self(Digest::of(&bytes))
    }

    /// As what it stands in the farm.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    fn path(&self) -> String {
        let mut path = self.0.hex();
        path.insert(2, '/');
        path
    }
}

/// What became of a wish for a shared inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// The name is there.
    Done,
    /// There is no such inode yet.
    Missing,
    /// It has as many names as the file system allows. One that is made now may take its place.
    Full,
    /// It can't have names there: another file system, or another mount of this one.
    Elsewhere,
}

/// The open farm.
#[derive(Debug)]
pub struct Links {
    dir: OwnedFd,
    path: PathBuf,
}

impl Store {
    /// Opens the farm.
    pub fn links(&self) -> Result<Links> {
        self.writable()?;
        let path = self.dir().join("links");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| Error::io("open", &path)(error.into()))?;
        Ok(Links { dir, path })
    }
}

impl Links {
    /// Gives the inode of that name one more: `name` in the directory `to`, where nothing may be yet.
    pub fn link(&self, link: &LinkName, to: impl AsFd, name: &[u8]) -> io::Result<Shared> {
        match rustix::fs::linkat(&self.dir, link.path(), to, name, AtFlags::empty()) {
            Ok(()) => Ok(Shared::Done),
            Err(Errno::NOENT) => Ok(Shared::Missing),
            Err(Errno::MLINK) => Ok(Shared::Full),
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::PERM) => Ok(Shared::Elsewhere),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the file `name` in `from` into the farm, if it is the one that `id` tells (device and inode, as `stat`
    /// has them): it has everything that `link` stands for, and its content is on disk. With `replace` it takes
    /// the place of one that is full; else one that is there stays. What can't be linked isn't shared,
    /// that is all.
    pub fn add(
        &self,
        link: &LinkName,
        from: impl AsFd,
        name: &[u8],
        id: (u64, u64),
        replace: bool,
    ) -> Result<()> {
        let path = link.path();
        let held = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |error: Errno| Error::io("link", &self.path.join(&path))(error.into());
        let file = match rustix::fs::openat(from, name, held, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let found = rustix::fs::fstat(&file).map_err(failed)?;
        // Somebody has put something else in its place.
        if (found.st_dev, found.st_ino) != id {
            return Ok(());
        }
        // What is held, whatever has its name by now.
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        let add =
            || rustix::fs::linkat(CWD, held.as_str(), &self.dir, path.as_str(), AtFlags::SYMLINK_FOLLOW);
        let mut added = add();
        if added == Err(Errno::NOENT) {
            make_directory(&self.path.join(&path[..2]), 0o700)?;
            added = add();
        }
        if added == Err(Errno::EXIST) && replace {
            match rustix::fs::unlinkat(&self.dir, path.as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => added = add(),
                Err(error) => added = Err(error),
            }
        }
        match added {
            Ok(()) => Ok(()),
            // Gone meanwhile: a file without any name gets none.
            Err(
                Errno::EXIST | Errno::XDEV | Errno::MLINK | Errno::OPNOTSUPP | Errno::PERM | Errno::NOENT,
            ) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Inodes that only the farm still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnusedLinks {
    /// How many.
    pub files: u64,
    /// The room that they take, in bytes.
    pub bytes: u64,
}

impl Store {
    /// What of the farm no checkout uses (any more); with `remove` it is removed. Safe beside checkouts:
    /// who misses an inode makes another.
    pub fn unused_links(&self, remove: bool) -> Result<UnusedLinks> {
        let top = self.dir().join("links");
        let mut unused = UnusedLinks::default();
        let directories = match fs::read_dir(&top) {
            Ok(listed) => listed,
            // A store of an older rootbuild that nobody has opened for writing since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unused),
            Err(error) => return Err(Error::io("read", &top)(error)),
        };
        for directory in directories {
            let directory = directory.map_err(Error::io("read", &top))?.path();
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let entry = entry.map_err(Error::io("read", &directory))?;
                let path = entry.path();
                let stat = match path.symlink_metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other.map_err(Error::io("read", &path))?,
                };
                if !stat.is_file() || stat.nlink() > 1 {
                    continue;
                }
                if remove {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
                unused.files += 1;
                unused.bytes += stat.blocks() * 512;
            }
        }
        Ok(unused)
    }

    /// Whether a file in the directory `target` can share its content with an object (reflink).
    pub fn shares_contents(&self, target: impl AsFd) -> bool {
        let Ok(from) = File::open(self.dir().join("format")) else { return false };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(target, ".", flags, Mode::RUSR | Mode::WUSR)
            .is_ok_and(|to| rustix::fs::ioctl_ficlone(&to, &from).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Mtime;

    fn meta() -> Meta {
        Meta { mode: 0o644, mtime: Mtime { seconds: 1, nanoseconds: 2 }, ..Meta::default() }
    }

    #[test]
    fn a_known_file_has_a_known_name_and_whatever_differs_shows_in_it() {
        let (object, meta) = (Digest::of(b"x"), meta());
        let name = LinkName::new(&object, &meta, 0);
        assert_eq!(name.0.to_string(), "b3:d7e5b47159c94bbe769c72db71756b5dbcf13621614e8b491f9042a2dee3e61c");
        let other = |change: &dyn Fn(&mut Meta)| {
            let mut meta = meta.clone();
            change(&mut meta);
            LinkName::new(&object, &meta, 0)
        };
        let others = [
            LinkName::new(&Digest::of(b"y"), &meta, 0),
            LinkName::new(&object, &meta, 1),
            other(&|it| it.mode = 0o600),
            other(&|it| it.uid = 1),
            other(&|it| it.gid = 1),
            other(&|it| it.mtime.seconds = 2),
            other(&|it| it.mtime.nanoseconds = 0),
            other(&|it| it.xattrs.push((b"user.a".to_vec(), Vec::new()))),
        ];
        assert!(others.iter().all(|it| *it != name));
    }

    #[test]
    fn who_asks_gets_the_inode_that_was_added_and_what_nobody_uses_can_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let links = store.links().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "x").unwrap();
        let top = File::open(&root).unwrap();
        let name = LinkName::new(&Digest::of(b"x"), &meta(), 0);
        assert_eq!(links.link(&name, &top, b"b").unwrap(), Shared::Missing);
        let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
        let add = |file: &str, replace| {
            let id = (fs::metadata(&root).unwrap().dev(), inode(file));
            links.add(&name, &top, file.as_bytes(), id, replace).unwrap();
        };
        // Another than is meant, and a link to it.
        links.add(&name, &top, b"a", (0, inode("a")), false).unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        let id = (fs::metadata(&root).unwrap().dev(), inode("a"));
        links.add(&name, &top, b"link", id, false).unwrap();
        assert_eq!(links.link(&name, &top, b"b").unwrap(), Shared::Missing);
        add("a", false);
        assert_eq!(links.link(&name, &top, b"b").unwrap(), Shared::Done);
        assert_eq!(inode("a"), inode("b"));
        // The first stays, unless it is to be replaced.
        fs::write(root.join("c"), "x").unwrap();
        add("c", false);
        links.link(&name, &top, b"d").unwrap();
        add("c", true);
        links.link(&name, &top, b"e").unwrap();
        assert_eq!((inode("d"), inode("e")), (inode("a"), inode("c")));
        assert_eq!(store.unused_links(true).unwrap().files, 0);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(store.unused_links(false).unwrap().files, 1);
        assert_eq!(store.unused_links(true).unwrap().files, 1);
        assert_eq!(store.unused_links(true).unwrap(), UnusedLinks::default());
    }
}
