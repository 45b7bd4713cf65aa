//! Where the things of a root are, and who holds them.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use rootbuild_cache::{Digest, Store, durable};

use super::{InvalidName, PublishError, Published, check_name, failed};
use crate::checkout::Areas;

/// `<n>.json`; for everybody to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Generation {
    pub tree: Digest,
    pub created: String,
    /// The generation that was current before this one.
    pub previous: Option<u64>,
    /// The definition that it belongs to.
    pub definition: Option<PathBuf>,
    /// Where its users may write; `None`: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<Vec<String>>,
}

impl Generation {
    pub(super) fn private(&self) -> Option<Areas> {
        self.private.as_ref().map(Areas::new)
    }

    /// As it is written to `path`.
    pub(super) fn text(&self, path: &Path) -> Result<Vec<u8>, PublishError> {
        serde_json::to_vec(self).map_err(|error| failed("write", path)(error.into()))
    }
}

/// Where the things of one root are.
pub(super) struct Place {
    pub name: String,
    pub link: PathBuf,
    pub home: PathBuf,
    /// Where the descriptions are.
    pub told: PathBuf,
}

impl Place {
    pub(super) fn new(store: &Store, name: &str) -> Result<Self, InvalidName> {
        check_name(name)?;
        let of = |directory| store.dir().join(directory).join(name);
        let (link, home, told) = (of("roots"), of("checkouts"), of("published"));
        Ok(Self { name: name.to_owned(), link, home, told })
    }

    pub(super) fn checkout(&self, number: u64) -> PathBuf {
        self.home.join(number.to_string())
    }

    pub(super) fn json(&self, number: u64) -> PathBuf {
        self.told.join(format!("{number}.json"))
    }

    /// What a lease of a generation locks: where only root can.
    pub(super) fn lock(&self, number: u64) -> PathBuf {
        self.home.join(format!("{number}.lock"))
    }

    /// A checkout that was to become a generation and wasn't needed, of the tree that the index tells. It takes
    /// the place of the generation's own.
    pub(super) fn spare(&self, number: u64) -> PathBuf {
        self.home.join(format!("{number}.spare"))
    }

    /// What the file system said of it when it was published: for root alone.
    pub(super) fn index(&self, number: u64) -> PathBuf {
        self.home.join(format!("{number}.index"))
    }

    /// The number of the generation that the link points at; `None` where it points nowhere of ours.
    pub(super) fn linked(&self) -> Result<Option<u64>, PublishError> {
        let target = match fs::read_link(&self.link) {
            Ok(target) => target,
            // Not a link, or nothing at all.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("read", &self.link)(error)),
        };
        Ok(self.number_of(&target))
    }

    /// The number of the generation that a link of ours leads to.
    pub(super) fn number_of(&self, target: &Path) -> Option<u64> {
        let expected = Path::new("..").join("checkouts").join(&self.name);
        target.strip_prefix(expected).ok().and_then(Path::to_str)?.parse().ok()
    }

    /// A generation, if it is there and whole.
    pub(super) fn generation(&self, number: u64) -> Result<Option<Generation>, PublishError> {
        let is_there = match self.checkout(number).symlink_metadata() {
            Ok(found) => found.is_dir(),
            // Not for us to see.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
        if is_there { self.description(number) } else { Ok(None) }
    }

    /// What is told of a generation, wherever its checkout is.
    pub(super) fn description(&self, number: u64) -> Result<Option<Generation>, PublishError> {
        let path = self.json(number);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Writes a description, durably.
    pub(super) fn describe(&self, path: &Path, generation: &Generation) -> Result<(), PublishError> {
        Ok(durable::write_atomic(path, &generation.text(path)?, 0o644)?)
    }

    pub(super) fn current(&self) -> Result<Option<(u64, Generation)>, PublishError> {
        let Some(number) = self.linked()? else { return Ok(None) };
        Ok(self.generation(number)?.map(|generation| (number, generation)))
    }

    pub(super) fn published(&self, number: u64, generation: Generation) -> Published {
        Published {
            name: self.name.clone(),
            tree: generation.tree,
            path: self.link.clone(),
            checkout: self.checkout(number),
            private: generation.private(),
            created: generation.created,
        }
    }

    /// The numbers of all generations of which anything is left.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, PublishError> {
        let mut numbers = Vec::new();
        for dir in [&self.home, &self.told] {
            let listed = match fs::read_dir(dir) {
                Ok(listed) => listed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("read", dir)(error)),
            };
            for entry in listed {
                let name = entry.map_err(failed("read", dir))?.file_name();
                let name = name.to_string_lossy();
                let number = [".json", ".lock", ".index", ".spare"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix));
                numbers.extend(number.unwrap_or(&name).parse::<u64>());
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

/// Whether something is mounted in a directory: it would be moved along, and can't be removed.
pub(super) fn mounted_below(dir: &Path) -> bool {
    let mut escaped = Vec::new();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => escaped.push(*byte),
        }
    }
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points
        .filter_map(|point| point.strip_prefix(escaped.as_slice()))
        .any(|rest| matches!(rest, [] | [b'/', ..]))
}

/// What came of a wish for a lock.
pub(super) enum Locked {
    Held(File),
    Missing,
    Busy,
}

/// Locks a generation's lock file.
pub(super) fn lock(path: &Path, operation: FlockOperation) -> Result<Locked, PublishError> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Missing),
            Err(error) => return Err(failed("open", path)(error)),
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => return Ok(Locked::Busy),
            Err(error) => return Err(failed("lock", path)(error.into())),
        }
        let ours = file.metadata().map_err(failed("open", path))?;
        match path.symlink_metadata() {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Locked::Held(file));
            }
            // Moved away between the two calls.
            _ => {}
        }
    }
}
