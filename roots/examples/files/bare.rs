//! The system calls that a checkout can't do without, and nothing else: what it is measured against.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::Outcome;

/// A directory, and what is directly in it but directories.
struct Directory {
    path: OsString,
    depth: usize,
    meta: fs::Metadata,
    names: Vec<Name>,
}

struct Name {
    name: OsString,
    meta: fs::Metadata,
    /// Of a symbolic link.
    target: Option<OsString>,
}

/// Makes `to` like `from`: files linked, cloned, or copied.
pub(crate) fn run(how: &str, from: &Path, to: &Path, threads: usize) -> Outcome<()> {
    let mut directories = Vec::new();
    list(from, OsString::from("."), 0, &mut directories)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    fs::create_dir(to)?;
    let (from, to) = (open(rustix::fs::CWD, from.as_os_str())?, open(rustix::fs::CWD, to.as_os_str())?);
    let deepest = directories.iter().map(|it| it.depth).max().unwrap_or(0);
    let start = Instant::now();
    pool.install(|| -> rustix::io::Result<()> {
        for depth in 1..=deepest {
            directories
                .par_iter()
                .filter(|it| it.depth == depth)
                .try_for_each(|it| rustix::fs::mkdirat(&to, it.path.as_os_str(), Mode::RWXU))?;
        }
        directories.par_iter().try_for_each(|it| fill(how, &from, &to, it))
    })?;
    println!("{:.1}", start.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

fn list(path: &Path, name: OsString, depth: usize, found: &mut Vec<Directory>) -> Outcome<()> {
    let mut directory = Directory { path: name, depth, meta: path.symlink_metadata()?, names: Vec::new() };
    let mut below = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            below.push(entry.file_name());
        } else {
            let target = meta.is_symlink().then(|| fs::read_link(entry.path())).transpose()?;
            directory.names.push(Name { name: entry.file_name(), meta, target: target.map(Into::into) });
        }
    }
    let own = directory.path.clone();
    found.push(directory);
    for name in below {
        let mut path_below = own.clone();
        path_below.push("/");
        path_below.push(&name);
        list(&path.join(&name), path_below, depth + 1, found)?;
    }
    Ok(())
}

fn open(at: impl rustix::fd::AsFd, path: &std::ffi::OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fill(how: &str, from: &OwnedFd, to: &OwnedFd, directory: &Directory) -> rustix::io::Result<()> {
    let (from, to) = (open(from, &directory.path)?, open(to, &directory.path)?);
    for Name { name, meta, target } in &directory.names {
        if let Some(target) = target {
            rustix::fs::symlinkat(target.as_os_str(), &to, name.as_os_str())?;
            rustix::fs::utimensat(&to, name.as_os_str(), &times(meta), AtFlags::SYMLINK_NOFOLLOW)?;
        } else if how == "links" {
            rustix::fs::linkat(&from, name.as_os_str(), &to, name.as_os_str(), AtFlags::empty())?;
        } else if meta.is_file() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let source =
                rustix::fs::openat(&from, name.as_os_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let file = rustix::fs::openat(&to, name.as_os_str(), flags, Mode::from_raw_mode(0o600))?;
            contents(how, &source.into(), &file, meta.len())?;
            finish(&file, meta)?;
        }
    }
    finish(&to, &directory.meta)
}

fn contents(how: &str, source: &File, target: &OwnedFd, length: u64) -> rustix::io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    if how == "clones" {
        return rustix::fs::ioctl_ficlone(target, source);
    }
    let mut left = length;
    let mut buffer = vec![0; usize::try_from(left.min(1 << 20)).unwrap_or(1 << 20)];
    while left > 0 {
        let got = rustix::io::read(source, &mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        rustix::io::write(target, &buffer[..got])?;
        left -= got as u64;
    }
    Ok(())
}

fn finish(file: &OwnedFd, meta: &fs::Metadata) -> rustix::io::Result<()> {
    if (meta.uid(), meta.gid()) != (0, 0) {
        rustix::fs::fchown(file, Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode() & 0o7777))?;
    rustix::fs::futimens(file, &times(meta))
}

fn times(meta: &fs::Metadata) -> Timestamps {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps {
        last_access: now,
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
    }
}
