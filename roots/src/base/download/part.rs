//! A download on its way: kept by its digest, so that whoever wants the same goes on with it.
//!
//! `packages/xx/<sha256>.part` is its own kernel lock: who holds it downloads, all others wait. It loses its name
//! only by becoming `packages/xx/<sha256>`; a killed download leaves it, and the next one continues.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rootbuild_cache::lock::locked_file;
use sha2::{Digest as _, Sha256};

/// Where the bytes so far came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// There are none.
    Nowhere,
    /// All from the URL of this number.
    One(usize),
    /// From several, or from an earlier run.
    Mixed,
}

/// A partial download that only we write.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    hasher: Sha256,
    len: u64,
    origin: Origin,
}

/// The name of the partial download of `target`.
pub(super) fn path_of(target: &Path) -> PathBuf {
    target.with_extension("part")
}

impl Part {
    /// Takes the partial download of `target`, with what an earlier run left (unless that is longer than `size`
    /// bytes); `None` while somebody else has it.
    pub(super) fn take(target: &Path, size: u64) -> io::Result<Option<Self>> {
        let path = path_of(target);
        let Some(file) = locked_file(&path, true).map_err(|(_, error)| error)? else { return Ok(None) };
        let found = file.metadata()?.len();
        let (target, hasher) = (target.to_owned(), Sha256::new());
        let mut part = Self { file, path, target, hasher, len: 0, origin: Origin::Nowhere };
        if found > size {
            part.restart()?;
        } else if found > 0 {
            part.read_again(found)?;
        }
        Ok(Some(part))
    }

    /// Hashes what is there.
    fn read_again(&mut self, len: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut start = (&self.file).take(len);
        self.len = io::copy(&mut start, &mut self.hasher)?;
        self.origin = Origin::Mixed;
        Ok(())
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where they came from.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Appends what came from the URL of the number `from`.
    pub(super) fn append(&mut self, bytes: &[u8], from: usize) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        self.origin = match self.origin {
            Origin::Nowhere => Origin::One(from),
            Origin::One(other) if other == from => Origin::One(from),
            _ => Origin::Mixed,
        };
        Ok(())
    }

    /// Drops what there is.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.hasher, self.len, self.origin) = (Sha256::new(), 0, Origin::Nowhere);
        Ok(())
    }

    /// The sha256 of what there is, as hex.
    pub(super) fn sha256(&self) -> String {
        super::hex(self.hasher.clone())
    }

    /// Gives it its final name, durably but for the directory.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o644))?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)
    }

    /// Removes it: it isn't needed any more.
    pub(super) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}
