//! Unpacking packages into a directory, without running anything of theirs: enough of a root for its own
//! rpm to run in. Owners, capabilities and times don't matter there.
//!
//! Packages mean paths as they are inside a root (`/lib64/x` where `/lib64` is a link to `usr/lib64`), so links
//! are followed, but by the kernel and below the directory only, whatever they say.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::super::{BaseContext, BaseError};
use super::super::RpmError;
use super::header::{Header, PackageFile, wrong};
use super::payload::{Member, Members, decompress};
use crate::cancel::Cancel;
use crate::fd::split;

const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;
const DIRINDEXES: u32 = 1116;
const FILEMODES: u32 = 1030;
const FILELINKTOS: u32 = 1036;
const FILEFLAGS: u32 = 1037;
/// A file that a package owns and doesn't hold.
const GHOST: u32 = 1 << 6;

/// Most bytes of a path.
const PATH_MAX: usize = 4095;
/// Most bytes of all files together.
const BYTES_MAX: u64 = 64 << 30;
/// How many dangling links may lead to each other.
const LINKS_MAX: u32 = 16;
/// Directories that have something mounted on them when the root runs.
const MOUNT_POINTS: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// Unpacks package files, each with its name for messages, into `into`, an empty directory.
pub(super) fn unpack(
    context: BaseContext<'_>,
    packages: &[(String, PathBuf)],
    into: &Path,
) -> Result<(), BaseError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(into, flags, Mode::empty())
        .map_err(|error| BaseError::io("open", into)(error.into()))?;
    let writer = Writer { top, bytes: AtomicU64::new(0), cancel: context.cancel };
    let failed = |package: &str| {
        let package = package.to_owned();
        move |error: io::Error| BaseError::from(RpmError::Unpack { package, message: error.to_string() })
    };
    writer.mount_points().map_err(BaseError::io("make directories in", into))?;
    // What leads elsewhere must be there before anything goes through it, whichever package it is from.
    let mut shape = Vec::new();
    for (package, file) in packages {
        context.cancel.check()?;
        let opened = PackageFile::open(file).and_then(|file| listed(&file.header));
        for (path, made) in opened.map_err(failed(package))? {
            shape.push((path.iter().filter(|byte| **byte == b'/').count(), path, made, package));
        }
    }
    shape.sort_by(|(depth, path, made, _), (other_depth, other, other_made, _)| {
        (depth, path, made.is_none()).cmp(&(other_depth, other, other_made.is_none()))
    });
    for (_, path, made, package) in &shape {
        let done = match made {
            Some(target) => writer.link(path, target),
            None => writer.directory(path, 0o755),
        };
        done.map_err(failed(package))?;
    }
    let one = |(package, file): &(String, PathBuf)| -> Result<(), BaseError> {
        context.cancel.check()?;
        let unpacked = PackageFile::open(file).and_then(|file| writer.package(file));
        context.cancel.check()?;
        unpacked.map_err(failed(package))
    };
    packages.par_iter().try_for_each(one)
}

/// A path, and where it leads if it is a link (else it is a directory).
type Shape = (Vec<u8>, Option<Vec<u8>>);

/// The links and directories that a package brings.
pub(super) fn listed(header: &Header) -> io::Result<Vec<Shape>> {
    let (names, dirs) = (header.strings(BASENAMES)?, header.strings(DIRNAMES)?);
    let (indexes, modes) = (header.numbers(DIRINDEXES)?, header.numbers(FILEMODES)?);
    let (targets, flags) = (header.strings(FILELINKTOS)?, header.numbers(FILEFLAGS)?);
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let dir = indexes.get(at).and_then(|index| dirs.get(*index as usize));
        let (Some(dir), Some(mode)) = (dir, modes.get(at)) else {
            return Err(wrong("its list of files has holes"));
        };
        if flags.get(at).is_some_and(|flags| flags & GHOST != 0) {
            continue;
        }
        // One long directory's name for many files would be more than there is memory.
        if dir.len() + name.len() > PATH_MAX {
            return Err(wrong("a name in its list of files is too long"));
        }
        let path = [*dir, *name].concat();
        match (FileType::from_raw_mode(*mode), targets.get(at)) {
            (FileType::Symlink, Some(target)) => found.push((path, Some(target.to_vec()))),
            (FileType::Directory, _) => found.push((path, None)),
            _ => {}
        }
    }
    Ok(found)
}

struct Writer<'a> {
    top: OwnedFd,
    bytes: AtomicU64,
    cancel: &'a Cancel,
}

impl Writer<'_> {
    /// Directories of our own, before any package could bring a link of that name.
    fn mount_points(&self) -> io::Result<()> {
        for name in MOUNT_POINTS {
            rustix::fs::mkdirat(&self.top, name, Mode::from_raw_mode(0o755))?;
        }
        Ok(())
    }

    fn package(&self, mut file: PackageFile) -> io::Result<()> {
        let mut members = Members::new(decompress(&mut file.payload)?);
        // Files of several names: only the last member of each has the content.
        let mut several: HashMap<u64, Several> = HashMap::new();
        while let Some(member) = members.next()? {
            match FileType::from_raw_mode(member.mode) {
                FileType::Directory => self.directory(&member.name, member.mode).map_err(about(&member))?,
                FileType::Symlink => {
                    let mut target = vec![0; usize::try_from(member.size).unwrap_or(usize::MAX).min(4096)];
                    let mut read = 0;
                    while let part @ 1.. = members.content(&mut target[read..])? {
                        read += part;
                    }
                    target.truncate(read);
                    self.link(&member.name, &target).map_err(about(&member))?;
                }
                FileType::RegularFile if member.links > 1 => {
                    let known = several.entry(member.inode).or_default();
                    if member.size > 0 {
                        self.file(&member, &mut members).map_err(about(&member))?;
                        known.whole.get_or_insert(member.name);
                    } else {
                        known.names.push((member.name, member.mode));
                    }
                }
                FileType::RegularFile => self.file(&member, &mut members).map_err(about(&member))?,
                // Made anew where a root runs.
                _ => {}
            }
        }
        for Several { whole, names } in several.into_values() {
            let mut names = names.into_iter();
            let whole = match (whole, names.next()) {
                (Some(whole), Some((name, _))) => {
                    self.hardlink(&whole, &name)?;
                    whole
                }
                // All of them are empty.
                (None, Some((name, mode))) => {
                    self.create(&name, mode)?;
                    name
                }
                (_, None) => continue,
            };
            names.try_for_each(|(name, _)| self.hardlink(&whole, &name))?;
        }
        Ok(())
    }

    fn file<R: Read>(&self, member: &Member, members: &mut Members<R>) -> io::Result<()> {
        let mut file = self.create(&member.name, member.mode)?;
        let mut buffer = vec![0; 128 << 10];
        while let read @ 1.. = members.content(&mut buffer)? {
            if self.bytes.fetch_add(read as u64, Ordering::Relaxed) > BYTES_MAX {
                return Err(wrong("the packages hold more than anybody would install"));
            }
            self.cancel.check().map_err(io::Error::other)?;
            file.write_all(&buffer[..read])?;
        }
        Ok(())
    }

    /// An empty file, in place of what has its name.
    fn create(&self, path: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.place(path, |dir, name| {
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
        })?;
        // Nobody needs to become root in there.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok(file)
    }

    fn hardlink(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        self.place(to, |dir, name| rustix::fs::linkat(&from_dir, &from_name, dir, name, AtFlags::empty()))
    }

    /// A symbolic link; where something has its name already, that stays.
    fn link(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::symlinkat(target, &dir, &name) {
            Err(Errno::EXIST) => Ok(()),
            done => Ok(done?),
        }
    }

    /// A directory, or whatever link to one has its name.
    fn directory(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let path = clean(path)?;
        if path.is_empty() {
            return Ok(());
        }
        let (dir, name) = self.parent(&path)?;
        match rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(mode & 0o777 | 0o700)) {
            Err(Errno::EXIST) => self.open_or_make(&path, 0).map(drop),
            done => Ok(done?),
        }
    }

    /// Makes something, in place of a file that has its name.
    fn place<T>(
        &self,
        path: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (dir, name) = self.parent(path)?;
        // Several packages may bring the same file at the same time.
        for _ in 0..8 {
            match make(&dir, &name) {
                Err(Errno::EXIST) => match rustix::fs::unlinkat(&dir, &*name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                },
                done => return Ok(done?),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// The directory that a path is in, made where it is missing, and the path's last component.
    fn parent(&self, path: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
        let path = clean(path)?;
        let (dir, name) = split(&path);
        if name.is_empty() {
            return Err(wrong("its payload replaces the root itself"));
        }
        Ok((self.open_or_make(dir, 0)?, name.to_vec()))
    }

    fn open(&self, dir: &[u8]) -> rustix::io::Result<OwnedFd> {
        let dir = if dir.is_empty() { b"." } else { dir };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // Renames elsewhere on the host make the kernel ask for another try.
        loop {
            match rustix::fs::openat2(&self.top, dir, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// Opens a directory; what is missing of it is made, where links lead to nothing yet as well.
    fn open_or_make(&self, dir: &[u8], links: u32) -> io::Result<OwnedFd> {
        match self.open(dir) {
            Err(Errno::NOENT) if links < LINKS_MAX => {}
            done => return Ok(done?),
        }
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([dir.len()]) {
            let (above, name) = split(&dir[..end]);
            if name.is_empty() || !matches!(self.open(&dir[..end]), Err(Errno::NOENT)) {
                continue;
            }
            let parent = self.open(above)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => {}
                done => {
                    done?;
                    continue;
                }
            }
            // Somebody else has made it, or it is a link to what isn't there.
            match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                Ok(target) if target.as_bytes().starts_with(b"/") => {
                    self.open_or_make(target.as_bytes(), links + 1)?;
                }
                Ok(target) => {
                    let target = [above, target.as_bytes()].join(&b'/');
                    self.open_or_make(&target, links + 1)?;
                }
                Err(_) => {}
            }
        }
        Ok(self.open(dir)?)
    }
}

/// A file of several names.
#[derive(Default)]
struct Several {
    /// The name that has the content.
    whole: Option<Vec<u8>>,
    /// The others.
    names: Vec<(Vec<u8>, u32)>,
}

/// A path from the root's top, without what says nothing.
fn clean(path: &[u8]) -> io::Result<Vec<u8>> {
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if path.contains(&0) || parts.contains(&&b".."[..]) {
        return Err(wrong("a name in its payload leads out of it"));
    }
    Ok(parts.join(&b'/'))
}

/// Says which member an error is about.
fn about(member: &Member) -> impl FnOnce(io::Error) -> io::Error {
    let name = member.name.escape_ascii().to_string();
    move |error| io::Error::new(error.kind(), format!("`{name}`: {error}"))
}

#[cfg(test)]
mod tests;
