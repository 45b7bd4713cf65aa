//! A base unpacked from a tar archive: plain, or compressed with gzip, xz or zstd.
//!
//! An archive is hostile until it is unpacked. Nothing is written outside the root whatever its names
//! and links say, what can't be kept as it is refused by name, and nothing in it is looked up on the
//! host: owners are numbers.

mod acl;
mod error;
mod fuzz;
mod header;
mod input;
mod names;
mod pax;
mod reader;
mod sparse;
mod unpack;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rootbuild_cache::{KeyHasher, LayerKey, Limit};

use super::{BaseContext, BaseError, BaseSource};
use crate::cancel::Cancel;
use crate::progress::{StepEvent, StepSink};

pub use error::{ArchiveError, Problem, Refusal};
#[doc(hidden)]
pub use fuzz::fuzz;

use input::Source;
use reader::Reader;
use unpack::Unpacker;

/// The semantic version of unpacking: part of every key, raised when the same archive would give
/// another root.
const VERSION: u32 = 1;

/// A base unpacked from a tar archive.
#[derive(Debug, Clone)]
pub struct ArchiveBase {
    /// The base's name, for messages.
    pub name: String,
    /// The archive.
    pub file: PathBuf,
    /// The sha256 that the archive must have, 64 hexadecimal digits. Where it is given, planning
    /// needn't read the archive.
    pub sha256: Option<String>,
    /// How many leading components are taken off each member's name, as `tar --strip-components` does;
    /// members with fewer are passed over.
    pub strip_components: u32,
    /// Whether device nodes are made. (Those below `/dev` are passed over in any case.)
    pub devices: bool,
    /// How much the archive may hold; `None`: what the store's limits say.
    pub limits: Option<Limits>,
    /// What the last key was made for.
    pub keyed: Keyed,
}

/// The content of an archive when its key was made: `build` of the same value takes no other.
#[derive(Debug, Clone, Default)]
pub struct Keyed(Arc<Mutex<Option<String>>>);

impl Keyed {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, digest: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest.to_owned());
    }
}

/// The sha256 of a regular file, 64 lower-case hexadecimal digits.
///
/// # Errors
/// It isn't one, or can't be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    // Looked at first: opening a FIFO would wait for somebody to write to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it isn't a regular file"));
    }
    Source::new(&File::open(path)?, &Cancel::new(), &|_| ()).and_then(Source::digest)
}

/// How much an archive may hold, so that a small one can't fill a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most members, extended headers included.
    pub entries: u64,
    /// Most bytes in all files together, holes included.
    pub bytes: u64,
    /// Most components of a name.
    pub depth: u32,
    /// How many times as large it may become when it is decompressed; small archives may more.
    pub ratio: u64,
    /// What the root that comes out may be.
    pub root: rootbuild_cache::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&rootbuild_cache::Limits::default())
    }
}

impl Limits {
    /// Those of a store.
    #[must_use]
    pub fn of(limits: &rootbuild_cache::Limits) -> Self {
        Self {
            entries: limits.get(Limit::ArchiveMembers),
            bytes: limits.get(Limit::ArchiveSize),
            depth: u32::try_from(limits.get(Limit::Depth)).unwrap_or(u32::MAX),
            ratio: limits.get(Limit::ArchiveRatio),
            root: *limits,
        }
    }
}

impl BaseSource for ArchiveBase {
    fn key(&self) -> Result<LayerKey, BaseError> {
        let digest = self.expected()?;
        self.keyed.set(&digest);
        Ok(self.key_of(&digest))
    }

    fn inputs_key(&self) -> Result<LayerKey, BaseError> {
        Ok(self.key_of(&self.expected()?))
    }

    fn build(&self, context: BaseContext<'_>, root: &Path) -> Result<serde_json::Value, BaseError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BaseError::NotRoot);
        }
        let file = self.open()?;
        let shown = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (context.sink)(StepEvent::Phase(format!("checking {shown}")));
        let digest = self.digest(&file, context.cancel, context.sink)?;
        if let Some(expected) = &self.sha256
            && !expected.eq_ignore_ascii_case(&digest)
        {
            return Err(self.error(Problem::Sha256 { expected: expected.clone(), found: digest }));
        }
        if self.keyed.get().is_some_and(|keyed| keyed != digest) {
            return Err(self.error(Problem::Changed));
        }

        (context.sink)(StepEvent::Phase(format!("unpacking {shown}")));
        let mut source =
            Source::new(&file, context.cancel, context.sink).map_err(BaseError::io("read", &self.file))?;
        let limits = self.limits.unwrap_or_else(|| Limits::of(context.store.limits()));
        let unpacked = self.unpack(&mut source, limits, root);
        context.cancel.check()?;
        let (unpacked, compression, tar_bytes) = unpacked.map_err(|problem| self.error(problem))?;
        if source.digest().map_err(BaseError::io("read", &self.file))? != digest {
            return Err(self.error(Problem::Changed));
        }
        Ok(serde_json::json!({
            "source": "archive",
            "file": shown,
            "sha256": digest,
            "compression": compression.name(),
            "entries": unpacked.members,
            "bytes": unpacked.bytes,
            "archive_bytes": tar_bytes,
        }))
    }
}

impl ArchiveBase {
    /// The digest that the archive must have when it is unpacked.
    fn expected(&self) -> Result<String, BaseError> {
        let file = self.open()?;
        match &self.sha256 {
            // `build` takes no other content.
            Some(sha256) => Ok(sha256.to_ascii_lowercase()),
            None => self.digest(&file, &Cancel::new(), &|_| ()),
        }
    }

    fn key_of(&self, digest: &str) -> LayerKey {
        let mut key = KeyHasher::new("base archive", VERSION);
        key.text("sha256", digest)
            .number("strip", self.strip_components.into())
            .number("devices", self.devices.into());
        LayerKey(key.finish())
    }

    fn unpack(
        &self,
        source: &mut Source<'_>,
        limits: Limits,
        root: &Path,
    ) -> Result<(unpack::Unpacked, input::Compression, u64), Problem> {
        let packed = source.size();
        let (input, compression) = input::open(source)?;
        let mut reader = Reader::new(input, limits).packed(packed);
        let unpacker = Unpacker::new(root, self, limits).map_err(Problem::write(b"./"))?;
        let unpacked = unpacker.run(&mut reader)?;
        Ok((unpacked, compression, reader.position()))
    }

    fn open(&self) -> Result<File, BaseError> {
        let wrong = |message: String| BaseError::file(&self.file, message);
        let what = format!("the archive of the base `{}`", self.name);
        // Looked at first: opening a FIFO would wait for somebody to write to it.
        let metadata = std::fs::metadata(&self.file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => wrong(format!("{what} doesn't exist")),
            _ => wrong(format!("can't read {what}: {error}")),
        })?;
        if metadata.is_dir() {
            return Err(wrong(format!("{what} is a directory")));
        }
        if !metadata.is_file() {
            return Err(wrong(format!("{what} isn't a regular file")));
        }
        File::open(&self.file).map_err(|error| wrong(format!("can't read {what}: {error}")))
    }

    /// The file's sha256, remembered within this process as long as the file looks unchanged. One that was
    /// changed just now isn't remembered: with the clock's resolution its next change could look the same.
    fn digest(&self, file: &File, cancel: &Cancel, sink: StepSink<'_>) -> Result<String, BaseError> {
        static KNOWN: Mutex<Option<HashMap<Looks, String>>> = Mutex::new(None);
        let failed = || BaseError::io("read", &self.file);
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = file.metadata().map_err(failed())?;
        let (before, settled) = (looks(&metadata), is_settled(&metadata));
        if let Some(digest) = known().get_or_insert_default().get(&before) {
            return Ok(digest.clone());
        }
        let digest = Source::new(file, cancel, sink).and_then(Source::digest);
        cancel.check()?;
        let digest = digest.map_err(failed())?;
        if settled && looks(&file.metadata().map_err(failed())?) == before {
            known().get_or_insert_default().insert(before, digest.clone());
        }
        Ok(digest)
    }

    fn error(&self, problem: Problem) -> BaseError {
        ArchiveError { archive: self.file.clone(), problem }.into()
    }
}

/// What changes when a file's content does: device, inode, size, mtime and ctime.
type Looks = (u64, u64, u64, (i64, i64), (i64, i64));

fn looks(file: &Metadata) -> Looks {
    let (mtime, ctime) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    (file.dev(), file.ino(), file.size(), mtime, ctime)
}

/// Whether the file's last change is so long ago that another one would have another time.
fn is_settled(file: &Metadata) -> bool {
    let Ok(seconds) = u64::try_from(file.ctime()) else { return true };
    let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.saturating_add(3));
    settled <= SystemTime::now()
}
