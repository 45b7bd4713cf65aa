//! The content of one file into another: shared where the file system can, else copied with its
//! holes.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Up to this size one read and one write are quicker than anything clever.
const SMALL: u64 = 128 * 1024;
const CHUNK: u64 = 1 << 30;

/// Copies contents, and remembers what this pair of file systems can't do.
#[derive(Debug)]
pub(crate) struct Copier {
    reflink: AtomicBool,
    range: AtomicBool,
}

impl Copier {
    pub(crate) fn new() -> Self {
        Self { reflink: AtomicBool::new(true), range: AtomicBool::new(true) }
    }

    /// Makes the content of `to`, an empty file, that of `from`; returns its length in bytes. The
    /// file positions don't matter and aren't kept.
    pub(crate) fn copy(&self, from: &File, to: &File) -> io::Result<u64> {
        let stat = super::stat(from)?;
        if stat.size == 0 {
            return Ok(0);
        }
        if self.reflink.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(stat.size),
                Err(
                    Errno::NOTSUP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM,
                ) => {
                    self.reflink.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if stat.allocated >= stat.size {
            self.range(from, to, 0, stat.size)?;
            return Ok(stat.size);
        }
        // Length first: what is never written stays a hole, at the end too.
        rustix::fs::ftruncate(to, stat.size)?;
        let mut offset = 0;
        while offset < stat.size {
            let start = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(stat.size);
            self.range(from, to, start, end)?;
            offset = end;
        }
        Ok(stat.size)
    }

    fn range(&self, from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
        let mut at = start;
        while at < end && end - start > SMALL && self.range.load(Ordering::Relaxed) {
            let (mut source, mut sink) = (at, at);
            let length = usize::try_from((end - at).min(CHUNK)).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut sink), length) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(copied) => at += copied as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => {
                    self.range.store(false, Ordering::Relaxed);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = vec![0; usize::try_from((end - at).min(SMALL)).unwrap_or(0)];
        while at < end {
            let wanted = usize::try_from((end - at).min(SMALL)).unwrap_or(0);
            let got = match rustix::io::pread(from, &mut buffer[..wanted], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut written = 0;
            while written < got {
                match rustix::io::pwrite(to, &buffer[written..got], at + written as u64) {
                    Ok(count) => written += count,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            at += got as u64;
        }
        Ok(())
    }
}
