//! Whether anything changed in a step's root, without reading a file.
//!
//! Everything that is changed in a mounted overlay shows in its upper side. So its names, types and
//! owners tell, and what the file system counts for each file: inode, length, mtime, ctime. Of a
//! directory mtime and ctime don't count, since they also tell of names that came and went; its
//! attributes do.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;

use rootbuild_cache::{Digest, KeyHasher, Mtime, Tree};

use super::{Side, WorkingError, WorkingRoot, failed};
use crate::capture;
use crate::fd::{self, Dir, Stat};

/// What changes with each change in a root, and with nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Digest);

impl WorkingRoot {
    /// A fingerprint of what was changed so far, while the root is mounted; nobody may write in it
    /// meanwhile. Two that are equal were taken with no change in between.
    ///
    /// `None` where the root is a plain directory, or when more than `most` names were changed: then
    /// looking takes longer than it is worth (about a microsecond a name).
    pub fn fingerprint(&self, most: usize) -> Result<Option<Fingerprint>, WorkingError> {
        let Side::Overlay { upper, tree, .. } = &self.side else { return Ok(None) };
        look(upper, tree, most).map_err(failed("read", upper))
    }
}

fn look(upper: &Path, lower: &Tree, most: usize) -> io::Result<Option<Fingerprint>> {
    let mut hasher = KeyHasher::new("fingerprint", 1);
    let mut newest = Mtime::default();
    let mut seen = 0;
    // With each directory, whether nothing on the way to it is renamed or hides what is below.
    let mut below: Vec<(Arc<Dir>, bool)> = vec![(Dir::top(upper)?, true)];
    while let Some((dir, plain)) = below.pop() {
        let fd = dir.fd()?;
        let mut names: Vec<Vec<u8>> = fd::children(&fd)?.into_iter().map(|it| it.name).collect();
        names.sort_unstable();
        seen += names.len();
        if seen > most {
            return Ok(None);
        }
        let stat = fd::stat(&fd)?;
        newest = newest.max(stat.ctime);
        let path = dir.path();
        let (xattrs, marks) = capture::xattrs_and_marks(&fd)?;
        // A directory in which something came and went stays here, the same as it is below.
        let plain = plain && marks.is_none();
        let same = plain
            && lower.get(&path).is_some_and(|entry| {
                let meta = &entry.meta;
                entry.is_directory()
                    && (meta.mode, meta.uid, meta.gid) == (stat.mode, stat.uid, stat.gid)
                    && meta.xattrs == xattrs
            });
        if !same {
            hasher.bytes("directory", &path);
            for number in [stat.mode, stat.uid, stat.gid] {
                hasher.number("", number.into());
            }
            hasher.text("marks", &format!("{marks:?}"));
            hasher.list("attributes", xattrs.iter().flat_map(|(name, value)| [name, value]));
        }
        for name in names {
            let stat = fd::stat_at(&fd, &name)?;
            if stat.kind == FileType::Directory {
                below.push((dir.child(&name)?.0, plain));
                continue;
            }
            hasher.bytes("in", &path).bytes("name", &name);
            newest = newest.max(stat.ctime);
            let Stat { id, size, mtime, ctime, .. } = stat;
            // Owner, mode, attributes, even the type: none changes but with the ctime.
            for number in [id.0, id.1, size] {
                hasher.number("", number);
            }
            for time in [mtime, ctime] {
                hasher.number("", time.seconds.cast_unsigned()).number("", time.nanoseconds.into());
            }
        }
    }
    fd::settle(upper, newest);
    Ok(Some(Fingerprint(hasher.finish())))
}
