//! Digests of files that haven't changed since they were hashed, kept between commands.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rootbuild_cache::Digest;

use crate::trace::Stamp;

/// The first bytes: name and version.
const MAGIC: &[u8] = b"rootbuild inputs 1\n";

/// How long a file must have been left alone before its stamp proves anything.
const SETTLED: Duration = Duration::from_secs(2);

/// How many files are remembered; beyond, only those of the last command are.
const MOST: usize = 100_000;

/// One file's bytes in the cache, without its path.
const FIXED: usize = 8 * 3 + 16 * 2 + 4 + 32;

#[derive(Debug, Clone, Copy)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    used: bool,
}

/// Digests by path and stamp.
#[derive(Debug, Default)]
pub(super) struct Stats {
    file: Option<PathBuf>,
    known: HashMap<PathBuf, Known>,
    changed: bool,
}

impl Stats {
    /// What is remembered in `file`; nothing if it is damaged.
    pub(super) fn load(file: &Path) -> Self {
        let known = fs::read(file).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { file: Some(file.to_owned()), known, changed: false }
    }

    pub(super) fn get(&mut self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        let known = self.known.get_mut(path).filter(|known| known.stamp == *stamp)?;
        known.used = true;
        Some(known.digest)
    }

    /// Remembers that the file with this stamp has this digest.
    pub(super) fn put(&mut self, path: &Path, stamp: Stamp, digest: Digest) {
        if !stamp.is_fresh(SETTLED) {
            self.known.insert(path.to_owned(), Known { stamp, digest, used: true });
            self.changed = true;
        }
    }

    /// Writes what has been learnt. Who can't has to learn it again, nothing more.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return Ok(()) };
        if self.known.len() > MOST {
            self.known.retain(|_, known| known.used);
        }
        let dir = file.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new().prefix(".inputs-").tempfile_in(dir)?;
        new.write_all(&bytes(&self.known))?;
        new.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        // Not synced: after a crash its checksum tells that it is damaged, and it is made anew.
        new.persist(file).map_err(|error| error.error)?;
        self.changed = false;
        Ok(())
    }
}

fn bytes(known: &HashMap<PathBuf, Known>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (path, Known { stamp, digest, .. }) in known {
        let path = path.as_os_str().as_bytes();
        bytes.extend(u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(path);
        for number in [stamp.dev, stamp.ino, stamp.size] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(stamp.mtime.to_le_bytes());
        bytes.extend(stamp.ctime.to_le_bytes());
        bytes.extend(stamp.mode.to_le_bytes());
        bytes.extend(digest.as_bytes());
    }
    let sum = blake3::hash(&bytes);
    bytes.extend(sum.as_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<HashMap<PathBuf, Known>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(content) != blake3::Hash::from_bytes(sum.try_into().ok()?) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut known = HashMap::with_capacity(rest.len() / (FIXED + 64));
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk()?;
        let (path, mut after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let mut number = || -> Option<u64> {
            let (number, next) = after.split_first_chunk()?;
            after = next;
            Some(u64::from_le_bytes(*number))
        };
        let (dev, ino, size) = (number()?, number()?, number()?);
        let mut time = || -> Option<i128> {
            let (number, next) = after.split_first_chunk()?;
            after = next;
            Some(i128::from_le_bytes(*number))
        };
        let (mtime, ctime) = (time()?, time()?);
        let (mode, next) = after.split_first_chunk()?;
        let (digest, next) = next.split_first_chunk()?;
        let stamp = Stamp { dev, ino, size, mtime, ctime, mode: u32::from_le_bytes(*mode) };
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        known.insert(path, Known { stamp, digest: Digest::from_bytes(*digest), used: false });
        rest = next;
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64, mtime: i128) -> Stamp {
        Stamp { dev: 1, ino: 2, size, mtime, ctime: 4, mode: 0o100_644 }
    }

    #[test]
    fn digests_are_found_again_by_stamp_and_only_whole_files_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inputs");
        let (path, digest) = (Path::new("/a/b"), Digest::of(b"x"));
        let mut stats = Stats::load(&file);
        stats.put(path, stamp(7, 3), digest);
        stats.put(Path::new("/c"), stamp(0, -1), digest);
        stats.save().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let mut stats = Stats::load(&file);
        assert_eq!(stats.get(path, &stamp(7, 3)), Some(digest));
        assert_eq!(stats.get(Path::new("/c"), &stamp(0, -1)), Some(digest));
        assert_eq!(stats.get(path, &stamp(8, 3)), None);
        let mut damaged = fs::read(&file).unwrap();
        damaged[40] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert_eq!(Stats::load(&file).get(path, &stamp(7, 3)), None);
    }

    #[test]
    fn what_changed_just_now_is_not_remembered() {
        let mut stats = Stats::default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let fresh = stamp(1, i128::try_from(now.as_nanos()).unwrap());
        stats.put(Path::new("/a"), fresh, Digest::of(b""));
        assert_eq!(stats.get(Path::new("/a"), &fresh), None);
    }
}
