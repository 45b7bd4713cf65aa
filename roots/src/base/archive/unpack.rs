//! Writing members below a directory, and nowhere else: every name is walked from the top's
//! descriptor, through directories only.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;

use rootbuild_cache::Meta;
use rootbuild_cache::limits::Sums;

use super::error::{Problem, Refusal};
use super::names::{self, show};
use super::reader::{Kind, Member, Reader};
use super::sparse::Piece;
use super::{ArchiveBase, Limits};
use crate::fd::{self, open_beneath, set_metadata, stat_at, stat_if_there};

/// Read and written at once. A part of a file of this size, beginning at a multiple of it, that is
/// all zeros becomes a hole.
const CHUNK: usize = 64 * 1024;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Members, those that were passed over included.
    pub members: u64,
    /// Bytes in files, holes included.
    pub bytes: u64,
}

/// Writes members below one directory.
pub(super) struct Unpacker {
    top: OwnedFd,
    strip: u32,
    devices: bool,
    limits: Limits,
    sums: Sums,
    /// The directory that the last member went to: most go where the one before went.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories' owners, modes, times: given to them last, when nothing more is written there.
    directories: BTreeMap<Vec<u8>, Meta>,
    /// Device nodes below `/dev` that weren't made.
    skipped: HashSet<Vec<u8>>,
    unpacked: Unpacked,
    image: Image,
    buffer: Vec<u8>,
}

/// What tells a container image from a root.
#[derive(Debug, Default)]
struct Image {
    marker: Option<&'static str>,
    is_root: bool,
}

impl Unpacker {
    /// `root` is the caller's own: its path may lead through links.
    pub(super) fn new(root: &Path, base: &ArchiveBase, limits: Limits) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self {
            top,
            strip: base.strip_components,
            devices: base.devices,
            limits,
            sums: Sums::default(),
            parent: None,
            directories: BTreeMap::new(),
            skipped: HashSet::new(),
            unpacked: Unpacked::default(),
            image: Image::default(),
            buffer: vec![0; CHUNK],
        })
    }

    /// Unpacks everything.
    pub(super) fn run<R: Read>(mut self, reader: &mut Reader<R>) -> Result<Unpacked, Problem> {
        while let Some(member) = reader.next()? {
            self.unpacked.members += 1;
            self.image.see(&member);
            let path = names::path(&member.name, self.strip, self.limits.depth);
            if let Some(path) = path.map_err(|refusal| Problem::member(&member.name, refusal))? {
                self.count(&member, &path)?;
                self.put(&member, &path, reader)?;
            }
        }
        if let Some(marker) = self.image.marker
            && !self.image.is_root
        {
            return Err(Problem::Image { marker });
        }
        if self.unpacked.members == 0 {
            return Err(Problem::Empty);
        }
        self.finish()?;
        Ok(self.unpacked)
    }

    /// Counts what stays in memory, and on the disk, of a member.
    fn count(&self, member: &Member, path: &[u8]) -> Result<(), Problem> {
        let attributes: usize = member.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let (target, content) = match &member.kind {
            Kind::Symlink(target) | Kind::Hardlink(target) => (target.len(), 0),
            Kind::File { size, .. } => (0, *size),
            _ => (0, 0),
        };
        let bytes = (path.len() as u64, attributes as u64, target as u64);
        Ok(self.sums.add(&self.limits.root, bytes, content, || show(&member.name))?)
    }

    fn put<R: Read>(&mut self, member: &Member, path: &[u8], reader: &mut Reader<R>) -> Result<(), Problem> {
        let refuse = |refusal| Problem::member(&member.name, refusal);
        let failed = Problem::write(&member.name);
        if let Kind::Symlink(target) = &member.kind {
            names::symlink_target(target).map_err(refuse)?;
        }
        if path.is_empty() {
            if member.kind != Kind::Directory {
                return Err(refuse(Refusal::Top));
            }
            self.directories.insert(Vec::new(), member.meta.clone());
            return Ok(());
        }
        if let Kind::CharDevice(..) | Kind::BlockDevice(..) = member.kind {
            // What is in /dev isn't kept in a root: it is made anew where one runs.
            if path.starts_with(b"dev/") {
                self.skipped.insert(path.to_vec());
                return Ok(());
            }
            match member.kind {
                Kind::CharDevice(..) if !self.devices => return Err(refuse(Refusal::Device("character"))),
                Kind::BlockDevice(..) if !self.devices => return Err(refuse(Refusal::Device("block"))),
                Kind::CharDevice(0, 0) => return Err(refuse(Refusal::Whiteout)),
                _ => {}
            }
        }
        let (directory, name) = fd::split(path);
        if let Kind::Hardlink(target) = &member.kind {
            return self.hardlink(member, target, path);
        }
        self.enter(directory, &member.name)?;
        match &member.kind {
            Kind::Directory => self.directory(member, path, name),
            Kind::File { size, pieces } => {
                let file = File::from(self.make(member, path, |parent| {
                    let flags =
                        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
                })?);
                self.content(member, *size, pieces, &file, reader)?;
                set_metadata(&file, None, &member.meta, false, false).map_err(failed)
            }
            Kind::Symlink(target) => {
                self.make(member, path, |parent| rustix::fs::symlinkat(target.as_slice(), parent, name))?;
                self.metadata(member, name, true)
            }
            Kind::CharDevice(major, minor) => {
                self.node(member, path, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::BlockDevice(major, minor) => {
                self.node(member, path, FileType::BlockDevice, (*major, *minor))
            }
            Kind::Fifo => self.node(member, path, FileType::Fifo, (0, 0)),
            Kind::Hardlink(_) => Ok(()),
        }
    }

    fn directory(&mut self, member: &Member, path: &[u8], name: &[u8]) -> Result<(), Problem> {
        let failed = Problem::write(&member.name);
        let parent = self.parent(member)?;
        let there = stat_if_there(parent, name).map_err(&failed)?;
        if there.is_none_or(|there| there.kind != FileType::Directory) {
            self.make(member, path, |parent| rustix::fs::mkdirat(parent, name, Mode::RWXU))?;
        }
        self.directories.insert(path.to_vec(), member.meta.clone());
        Ok(())
    }

    fn node(
        &mut self,
        member: &Member,
        path: &[u8],
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), Problem> {
        let (_, name) = fd::split(path);
        let device: Dev = rustix::fs::makedev(major, minor);
        self.make(member, path, |parent| rustix::fs::mknodat(parent, name, kind, Mode::RUSR, device))?;
        self.metadata(member, name, false)
    }

    fn metadata(&self, member: &Member, name: &[u8], symlink: bool) -> Result<(), Problem> {
        let parent = self.parent(member)?;
        set_metadata(parent, Some(name), &member.meta, false, symlink).map_err(Problem::write(&member.name))
    }

    /// Another name for something that was unpacked before. The link's own header says nothing more.
    fn hardlink(&mut self, member: &Member, target: &[u8], path: &[u8]) -> Result<(), Problem> {
        let refuse = |refusal| Problem::member(&member.name, refusal);
        let failed = Problem::write(&member.name);
        let shown = || show(target);
        let found = names::path(target, self.strip, self.limits.depth);
        let found = found.map_err(|_| refuse(Refusal::LinkLeaves(shown())))?;
        let Some(found) = found else { return Err(refuse(Refusal::LinkMissing(shown()))) };
        if found.is_empty() {
            return Err(refuse(Refusal::LinkDirectory(shown())));
        }
        if self.skipped.contains(&found) && path.starts_with(b"dev/") {
            self.skipped.insert(path.to_vec());
            return Ok(());
        }
        let (directory, name) = fd::split(&found);
        let from = match open_beneath(self.top.as_fd(), directory) {
            Ok(from) => from,
            Err(error) => {
                return Err(match self.obstacle(directory) {
                    Some((link, true)) => {
                        refuse(Refusal::LinkThroughLink { target: shown(), link: show(&link) })
                    }
                    _ if is_lookup_error(&error) => refuse(Refusal::LinkMissing(shown())),
                    _ => failed(error),
                });
            }
        };
        let target_stat = match stat_if_there(&from, name).map_err(&failed)? {
            None => return Err(refuse(Refusal::LinkMissing(shown()))),
            Some(stat) if stat.kind == FileType::Directory => {
                return Err(refuse(Refusal::LinkDirectory(shown())));
            }
            Some(stat) => stat,
        };
        let (directory, new_name) = fd::split(path);
        self.enter(directory, &member.name)?;
        let there = stat_if_there(self.parent(member)?, new_name).map_err(&failed)?;
        // Already the same: its own name again, or the link a second time.
        if there.is_some_and(|there| there.id == target_stat.id) {
            return Ok(());
        }
        // Without following: a link to a symbolic link is one to the link itself.
        self.make(member, path, |parent| rustix::fs::linkat(&from, name, parent, new_name, AtFlags::empty()))
    }

    /// Writes a file's pieces where they belong; what isn't written stays a hole.
    fn content<R: Read>(
        &mut self,
        member: &Member,
        size: u64,
        pieces: &[Piece],
        file: &File,
        reader: &mut Reader<R>,
    ) -> Result<(), Problem> {
        let failed = Problem::write(&member.name);
        self.unpacked.bytes = self.unpacked.bytes.saturating_add(size);
        if self.unpacked.bytes > self.limits.bytes {
            return Err(reader.limit("bytes", self.limits.bytes));
        }
        let mut end = 0;
        for (offset, length) in pieces {
            let mut at = *offset;
            let stop = offset + length;
            while at < stop {
                let to_boundary = CHUNK as u64 - at % CHUNK as u64;
                let part = usize::try_from(to_boundary.min(stop - at)).unwrap_or(CHUNK);
                let buffer = &mut self.buffer[..part];
                reader.read_data(buffer, &member.name)?;
                if buffer != &ZEROS[..part] || part < CHUNK {
                    file.write_all_at(buffer, at).map_err(&failed)?;
                    end = at + part as u64;
                }
                at += part as u64;
            }
        }
        if end < size {
            file.set_len(size).map_err(&failed)?;
        }
        Ok(())
    }

    /// Makes something in the present directory, in place of what has its name.
    fn make<T>(
        &mut self,
        member: &Member,
        path: &[u8],
        call: impl Fn(&OwnedFd) -> rustix::io::Result<T>,
    ) -> Result<T, Problem> {
        let failed = Problem::write(&member.name);
        match call(self.parent(member)?) {
            Err(Errno::EXIST) => {}
            done => return done.map_err(|error| failed(error.into())),
        }
        let (_, name) = fd::split(path);
        let parent = self.parent(member)?;
        let removed_directory = stat_at(parent, name).map_err(&failed)?.kind == FileType::Directory;
        let flags = if removed_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(parent, name, flags) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return Err(Problem::member(&member.name, Refusal::ReplacesDirectory));
            }
            done => done.map_err(|error| failed(error.into()))?,
        }
        if removed_directory {
            self.directories.remove(path);
        }
        call(self.parent(member)?).map_err(|error| failed(error.into()))
    }

    fn parent(&self, member: &Member) -> Result<&OwnedFd, Problem> {
        let none = || Problem::write(&member.name)(Errno::BADF.into());
        self.parent.as_ref().map(|(_, fd)| fd).ok_or_else(none)
    }

    /// Makes `directory` the present one. What is missing of it is made, as `tar` does.
    fn enter(&mut self, directory: &[u8], member: &[u8]) -> Result<(), Problem> {
        if self.parent.as_ref().is_some_and(|(present, _)| present == directory) {
            return Ok(());
        }
        let failed = Problem::write(member);
        self.parent = None;
        let opened = match open_beneath(self.top.as_fd(), directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_missing(directory, member)?;
                open_beneath(self.top.as_fd(), directory)
            }
            done => done,
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(error) => {
                return Err(match self.obstacle(directory) {
                    Some((link, true)) => Problem::member(member, Refusal::ThroughLink(show(&link))),
                    Some((file, false)) => Problem::member(member, Refusal::ThroughFile(show(&file))),
                    None => failed(error),
                });
            }
        };
        self.parent = Some((directory.to_vec(), fd));
        Ok(())
    }

    fn make_missing(&mut self, directory: &[u8], member: &[u8]) -> Result<(), Problem> {
        let failed = Problem::write(member);
        let ends = directory.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([directory.len()]) {
            let path = &directory[..end];
            let (above, name) = fd::split(path);
            // Whatever is in the way is found and told by the caller.
            let Ok(above) = open_beneath(self.top.as_fd(), above) else { return Ok(()) };
            match rustix::fs::mkdirat(&above, name, Mode::RWXU) {
                Ok(()) => {
                    let meta = Meta { mode: 0o755, ..Meta::default() };
                    self.directories.insert(path.to_vec(), meta);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }

    /// The first part of a path that is no directory, and whether it is a symbolic link.
    fn obstacle(&self, path: &[u8]) -> Option<(Vec<u8>, bool)> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (above, name) = fd::split(&path[..end]);
            let above = open_beneath(self.top.as_fd(), above).ok()?;
            let stat = stat_if_there(&above, name).ok()??;
            if stat.kind != FileType::Directory {
                return Some((path[..end].to_vec(), stat.kind == FileType::Symlink));
            }
        }
        None
    }

    /// Gives the directories what the archive says of them, the deepest first.
    fn finish(&self) -> Result<(), Problem> {
        for (path, meta) in self.directories.iter().rev() {
            let failed = Problem::write(if path.is_empty() { b"./" } else { path });
            let directory = open_beneath(self.top.as_fd(), path).map_err(&failed)?;
            set_metadata(&directory, None, meta, false, false).map_err(&failed)?;
        }
        Ok(())
    }
}

impl Image {
    fn see(&mut self, member: &Member) {
        let name = member.name.strip_prefix(b"./").unwrap_or(&member.name);
        let top = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        self.is_root |= matches!(top, b"etc" | b"usr" | b"bin" | b"lib");
        let marker = ["oci-layout", "index.json", "manifest.json"].into_iter().find(|m| m.as_bytes() == name);
        if let (Kind::File { .. }, Some(marker)) = (&member.kind, marker) {
            self.marker = Some(marker);
        }
    }
}

fn is_lookup_error(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
