//! What a name stands for at one moment.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rootbuild_cache::Digest;

use crate::inputs::digest;

/// What tells that a file is the same and unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime: i128,
    /// Nanoseconds since 1970.
    pub(crate) ctime: i128,
    /// Type and permissions.
    pub(crate) mode: u32,
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
        }
    }

    /// Whether it changed less than `span` ago, so that another change may not show.
    pub(crate) fn is_fresh(&self, span: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let span = i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
        self.mtime.max(self.ctime) > now - span
    }
}

/// A file's content: hashed at once, or to be hashed once nobody reads it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) stamp: Stamp,
    pub(crate) digest: Option<Digest>,
}

/// What is at a name, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing, or a link to nothing, or something that can't be reached.
    Absent,
    File(Content),
    Dir,
    /// A socket, a device; the number is its mode.
    Other(u32),
}

/// What the name itself is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A link to this.
    Link(Vec<u8>),
    /// No link.
    Plain(Look),
}

/// The names in a directory with their types, as one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing(pub(crate) Vec<u8>);

/// Kernels stamp files with the time of the last tick, which may be so long ago.
const TICK: Duration = Duration::from_millis(20);

/// Looks, following links.
pub(crate) fn look(path: &Path) -> Look {
    fs::metadata(path).map_or(Look::Absent, |meta| what(&meta))
}

/// Looks at the name itself.
pub(crate) fn target(path: &Path) -> Target {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::read_link(path)
            .map_or(Target::Plain(Look::Absent), |target| Target::Link(target.into_os_string().into_vec())),
        Ok(meta) => Target::Plain(what(&meta)),
        Err(_) => Target::Plain(Look::Absent),
    }
}

fn what(meta: &Metadata) -> Look {
    if meta.is_file() {
        Look::File(Content { stamp: Stamp::of(meta), digest: None })
    } else if meta.is_dir() {
        Look::Dir
    } else {
        Look::Other(meta.mode())
    }
}

impl Look {
    /// The same, with the content hashed if a later look couldn't tell that it has changed.
    pub(super) fn settled(self, path: &Path) -> Self {
        match self {
            Self::File(content) if content.stamp.is_fresh(TICK) => self.hashed(path),
            _ => self,
        }
    }

    /// The same, with the content hashed now.
    pub(super) fn hashed(self, path: &Path) -> Self {
        match self {
            Self::File(Content { stamp, digest: None }) => {
                Self::File(Content { stamp, digest: digest::file(path).ok() })
            }
            _ => self,
        }
    }
}

/// Lists a directory but for the names that `left_out` names.
pub(crate) fn list(path: &Path, left_out: impl Fn(&[u8]) -> bool) -> io::Result<Listing> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kind = if kind.is_file() {
            b'f'
        } else if kind.is_dir() {
            b'd'
        } else if kind.is_symlink() {
            b'l'
        } else if kind.is_fifo() || kind.is_socket() {
            b's'
        } else {
            b'b'
        };
        let name = entry.file_name();
        if !left_out(name.as_bytes()) {
            names.push((name.into_vec(), kind));
        }
    }
    names.sort();
    let mut text = Vec::new();
    for (name, kind) in names {
        text.push(kind);
        text.extend(name);
        text.push(0);
    }
    Ok(Listing(text))
}
