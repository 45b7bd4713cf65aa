//! Every object: whether its content is what its name says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{Check, Kind};
use crate::digest::Digest;
use crate::error::Result;

/// What is read at a time.
const PIECE: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// The objects that are there and good, with their lengths.
pub(super) type Sizes = HashMap<Digest, u64>;

pub(super) fn check(check: &Check<'_>) -> Result<Sizes> {
    let dir = check.store.dir().join("objects");
    let sizes = Mutex::new(Sizes::new());
    each(check, &dir, |path, digest| {
        let found = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return check.damaged(Kind::Unreadable, path, error.to_string()),
            Ok(found) if !found.is_file() => return check.damaged(Kind::Content, path, "it is no file"),
            Ok(found) => found,
        };
        let good = check.quick
            || match hash(path) {
                Ok(read) if read == digest => true,
                Ok(_) => {
                    check.damaged(Kind::Content, path, "its content isn't what its name says");
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => {
                    check.damaged(Kind::Unreadable, path, error.to_string());
                    false
                }
            };
        if good {
            sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, found.len());
        }
    });
    Ok(sizes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Looks at everything below `dir` that is named by a digest; what has another name is unknown.
pub(super) fn each(check: &Check<'_>, dir: &Path, look: impl Fn(&Path, Digest) + Sync) {
    check.names(dir).par_iter().for_each(|fan| {
        let Some(first) = fan_name(fan) else { return check.unknown(fan) };
        for path in check.names(fan) {
            let Some(digest) = digest_of(first, &path) else {
                check.unknown(&path);
                continue;
            };
            check.looked();
            look(&path, digest);
        }
    });
}

/// The digest that `path`, in the directory `first` of many, is named by.
pub(super) fn digest_of(first: &str, path: &Path) -> Option<Digest> {
    path.file_name().and_then(|name| format!("b3:{first}{}", name.to_str()?).parse().ok())
}

/// The two digits that a directory of many is named by.
pub(super) fn fan_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (name.len() == 2 && name.bytes().all(digit)).then_some(name)
}

/// The digest of a file's content, read piece by piece.
pub(super) fn hash(path: &Path) -> io::Result<Digest> {
    hash_open(&File::open(path)?)
}

/// The digest of what an open file holds from where it is read next, piece by piece.
///
/// # Errors
/// It can't be read.
pub fn hash_open(mut file: &File) -> io::Result<Digest> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
}
