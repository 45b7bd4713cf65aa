//! Digests of single inputs.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rootbuild_cache::{Digest, Input, KeyHasher};
use rustix::fs::OFlags;

use super::walk::{Entry, Kind};
use super::{InputsError, names};

/// Bumped when the same file would get another digest.
const VERSION: u32 = 2;

/// How much is read at once, in bytes.
const PIECE: usize = 1 << 17;

/// The input with its digest.
pub(super) fn input(entry: Entry) -> Result<Input, InputsError> {
    let Entry { name, path, kind } = entry;
    let (kind, digest) = match kind {
        Kind::File => ("file", file(&path)?),
        Kind::Link => {
            let target = std::fs::read_link(&path).map_err(InputsError::io("read", &path))?;
            ("link", Digest::of(target.as_os_str().as_bytes()))
        }
        Kind::Dir => ("directory", Digest::of(b"")),
    };
    Ok(Input { kind: kind.to_owned(), name: names::text(&name), digest: Some(digest) })
}

/// The digest of a file: its content and its permissions.
pub(crate) fn file(path: &Path) -> Result<Digest, InputsError> {
    let failed = |error| InputsError::io("read", path)(error);
    // It was a file a moment ago; a FIFO would wait for somebody to write to it.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no longer a regular file")));
    }
    // All of them: `mode: preserve` hands them on.
    let permissions = metadata.mode() & 0o7777;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => break,
            n => hasher.update(&piece[..n]),
        };
    }
    let content = Digest::from_bytes(*hasher.finalize().as_bytes());
    Ok(KeyHasher::new("input file", VERSION)
        .digest("content", &content)
        .number("permissions", u64::from(permissions))
        .finish())
}
