//! The second look, at the tree as captured: what lies in the lower side of an overlay (a checkpoint's raw
//! tree) wasn't made equal by the first.

use std::io::{self, Read};
use std::path::Path;

use rootbuild_cache::{Digest, Kind, Store, Tree};

use super::{BESIDE, FILES, Format, LARGEST, format_of, normal};
use crate::capture::{CaptureError, Captured, children_of};
use crate::fd;
use crate::scrub::{self, LeftOver};

/// A file that isn't as it should be, and what it should be.
#[derive(Debug)]
pub(crate) struct Unequal {
    path: Vec<u8>,
    content: Vec<u8>,
    /// What has to go with it.
    gone: Vec<Vec<u8>>,
}

/// What a captured tree holds that isn't made equal.
pub(crate) fn unequal(store: &Store, tree: &Tree) -> Result<Vec<Unequal>, CaptureError> {
    let mut found = Vec::new();
    let mut dirs: Vec<&str> = FILES.iter().map(|(dir, ..)| *dir).collect();
    dirs.dedup();
    for entry in dirs.into_iter().flat_map(|dir| children_of(tree, dir.as_bytes())) {
        let (Kind::File { size, object: digest }, Some(format)) = (&entry.kind, format_of(&entry.path))
        else {
            continue;
        };
        let Some(name) = std::str::from_utf8(fd::split(&entry.path).1).ok().filter(|_| *size <= LARGEST)
        else {
            continue;
        };
        let mut wal = None;
        let mut gone = Vec::new();
        if matches!(format, Format::RpmSqlite | Format::DnfHistory) {
            for (index, end) in BESIDE.iter().enumerate() {
                let path = [&entry.path, end.as_bytes()].concat();
                let Some(beside) = tree.get(&path) else { continue };
                if let (0, Kind::File { size: ..=LARGEST, object: digest }) = (index, &beside.kind) {
                    wal = Some(read(store, digest)?);
                }
                gone.push(path);
            }
        }
        if let Some(content) = normal(name, format, &read(store, digest)?, wal.as_deref()) {
            found.push(Unequal { path: entry.path.clone(), content, gone });
        }
    }
    Ok(found)
}

fn read(store: &Store, digest: &Digest) -> Result<Vec<u8>, CaptureError> {
    let mut content = Vec::new();
    let object = store.open_object(digest)?;
    let path = || store.dir().join("objects").join(digest.hex());
    let read = object.take(LARGEST).read_to_end(&mut content);
    read.map_err(|source| CaptureError::Io { action: "read", path: path(), source })?;
    Ok(content)
}

/// Puts it right in the upper side of an overlay over `lower`, as it was captured.
pub(crate) fn write_unequal(
    upper: &Path,
    lower: &Tree,
    captured: &Captured,
    found: &[Unequal],
) -> io::Result<()> {
    for Unequal { path, content, gone } in found {
        scrub::replace(upper, captured, path, content)?;
        let gone =
            gone.iter().map(|path| LeftOver { path: path.clone(), empty_file: None, directory_time: None });
        scrub::remove_left_over(upper, lower, captured, &gone.collect::<Vec<_>>())?;
    }
    Ok(())
}
