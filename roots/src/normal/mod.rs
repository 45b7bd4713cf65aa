//! What tools write differently each time, though the root is the same: made equal before capture.
//!
//! A root's tree names its content, so two builds of the same thing must write the same bytes. Most files do
//! that by themselves; the databases of package managers hold times, identities made at random and
//! leftovers of memory. What is done to each is listed in [`FILES`] (and in `docs/reproducible.md`).
//!
//! The content is the root's and may be hostile: what isn't understood in full is left as it is.

mod bdb;
mod fuzz;
mod header;
mod left_over;
mod sqlite;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags};

use crate::fd::{self, Dir};

#[doc(hidden)]
pub use fuzz::fuzz;
pub(crate) use left_over::{unequal, write_unequal};

/// Bigger ones are left as they are; EL7's largest has some tens of megabytes.
const LARGEST: u64 = 1 << 30;

/// How a file's bytes are made equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// rpm's packages in Berkeley DB: times of installation become times of building.
    Packages,
    /// rpm's index of transactions in Berkeley DB: one transaction.
    Transactions,
    /// Another index of rpm's in Berkeley DB: identity and unused bytes.
    Index,
    /// rpm's database in sqlite.
    RpmSqlite,
    /// dnf's history of transactions in sqlite.
    DnfHistory,
}

/// Directories, the file names in them (`*`: all others), and their formats; the first that fits counts.
const FILES: &[(&str, &str, Format)] = &[
    ("var/lib/rpm", "Packages", Format::Packages),
    ("var/lib/rpm", "Installtid", Format::Transactions),
    ("var/lib/rpm", "rpmdb.sqlite", Format::RpmSqlite),
    ("var/lib/rpm", "*", Format::Index),
    ("usr/lib/sysimage/rpm", "Packages", Format::Packages),
    ("usr/lib/sysimage/rpm", "Installtid", Format::Transactions),
    ("usr/lib/sysimage/rpm", "rpmdb.sqlite", Format::RpmSqlite),
    ("usr/lib/sysimage/rpm", "*", Format::Index),
    ("var/lib/dnf", "history.sqlite", Format::DnfHistory),
    ("usr/lib/sysimage/libdnf5", "transaction_history.sqlite", Format::DnfHistory),
];

/// What sqlite puts beside a database: the changes not yet in it, and an index of those.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The format of a file by its path in the root.
fn format_of(path: &[u8]) -> Option<Format> {
    let (dir, name) = fd::split(path);
    let named = |wanted: &str| wanted == "*" || wanted.as_bytes() == name;
    FILES.iter().find(|(d, n, _)| d.as_bytes() == dir && named(n)).map(|(.., format)| *format)
}

/// A file's content made equal, with what sqlite had not yet put into it; `None` where it is so already, or
/// isn't what its name says.
fn normal(name: &str, format: Format, content: &[u8], wal: Option<&[u8]>) -> Option<Vec<u8>> {
    let made = match format {
        Format::Packages => bdb::packages(name, content),
        Format::Transactions => bdb::transactions(name, content),
        Format::Index => bdb::index(name, content),
        Format::RpmSqlite => sqlite::rpm(content, wal),
        Format::DnfHistory => sqlite::dnf(content, wal),
    }?;
    (made != content).then_some(made)
}

/// Makes equal what stands in a directory: a whole root or the upper side of an overlay. Never follows a
/// symbolic link. Times of files stay.
pub(crate) fn normalise(root: &Path) -> io::Result<()> {
    let top = Dir::top(root)?;
    let mut dirs: Vec<&str> = FILES.iter().map(|(dir, ..)| *dir).collect();
    dirs.dedup();
    for path in dirs {
        let Some(dir) = directory(&top, path)? else { continue };
        for listed in fd::children(dir.fd()?)? {
            if listed.kind == FileType::RegularFile
                && let Some(format) = format_of(&fd::join(path.as_bytes(), &listed.name))
            {
                one(&dir, &listed.name, format)?;
            }
        }
    }
    Ok(())
}

fn directory(top: &Arc<Dir>, path: &str) -> io::Result<Option<Arc<Dir>>> {
    let mut dir = Arc::clone(top);
    for name in path.split('/').map(str::as_bytes) {
        match fd::stat_if_there(dir.fd()?, name)? {
            Some(stat) if stat.kind == FileType::Directory => dir = dir.child(name)?.0,
            _ => return Ok(None),
        }
    }
    Ok(Some(dir))
}

fn one(dir: &Arc<Dir>, name: &[u8], format: Format) -> io::Result<()> {
    let Ok(text) = std::str::from_utf8(name) else { return Ok(()) };
    let Some((file, content)) = read(dir, name)? else { return Ok(()) };
    let beside: Vec<Vec<u8>> = BESIDE.iter().map(|end| [name, end.as_bytes()].concat()).collect();
    let wal = match format {
        Format::RpmSqlite | Format::DnfHistory => read(dir, &beside[0])?.map(|(_, content)| content),
        Format::Packages | Format::Transactions | Format::Index => None,
    };
    let Some(made) = normal(text, format, &content, wal.as_deref()) else { return Ok(()) };
    let mtime = fd::stat(&file)?.mtime;
    file.write_all_at(&made, 0)?;
    file.set_len(made.len() as u64)?;
    fd::set_times(&file, None, mtime)?;
    if matches!(format, Format::RpmSqlite | Format::DnfHistory) {
        let time = fd::stat(dir.fd()?)?.mtime;
        for name in beside {
            match rustix::fs::unlinkat(dir.fd()?, &name, AtFlags::empty()) {
                Err(error) if error != rustix::io::Errno::NOENT => return Err(error.into()),
                _ => {}
            }
        }
        fd::set_times(dir.fd()?, None, time)?;
    }
    Ok(())
}

/// A regular file of a sensible size that has no other name.
fn read(dir: &Arc<Dir>, name: &[u8]) -> io::Result<Option<(File, Vec<u8>)>> {
    let fits =
        |stat: &fd::Stat| stat.kind == FileType::RegularFile && stat.links == 1 && stat.size <= LARGEST;
    if !fd::stat_if_there(dir.fd()?, name)?.is_some_and(|stat| fits(&stat)) {
        return Ok(None);
    }
    // A file that is bound over it belongs to somebody else.
    let mut file = File::from(fd::open_file(dir.fd()?, name, OFlags::RDWR)?);
    if !fits(&fd::stat(&file)?) {
        return Ok(None);
    }
    let mut content = Vec::new();
    (&mut file).take(LARGEST + 1).read_to_end(&mut content)?;
    Ok(Some((file, content)))
}

#[cfg(test)]
mod tests;
