//! What lock files of all kinds of bases have in common: TOML that is read with a line for each error, and written
//! as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;

use super::{BaseError, Place};

/// What stands at the top of the file.
const HEADER: &str = "\
# Written by rootbuild: the exact packages of a base. Keep it with the definition.
# `rootbuild lock BASE` writes it anew where the definition asks for something else; packages move only with
# `rootbuild lock BASE --update PACKAGE`.

";

/// The line (from 1; 0: the whole) and what is wrong there.
pub(super) type Wrong = (usize, String);

/// Reads a lock file and its bytes; `None` where there is none. `owner` has what would be locked anew: `the archive has`.
pub(super) fn read<L>(
    path: &Path,
    owner: &str,
    parse: impl FnOnce(&str) -> Result<L, Wrong>,
) -> Result<Option<(L, Vec<u8>)>, BaseError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BaseError::file(path, format!("can't read the lock file: {error}"))),
    };
    let lock = parse(&String::from_utf8_lossy(&bytes)).map_err(|(line, message)| BaseError::Definition {
        place: Place { file: path.to_owned(), line },
        message,
        hint: Some(format!(
            "restore it from version control, or take what {owner} now: `rootbuild lock --update`"
        )),
    })?;
    Ok(Some((lock, bytes)))
}

/// The file's text.
pub(super) fn text(lock: &impl Serialize) -> Result<String, toml::ser::Error> {
    Ok(format!("{HEADER}{}", toml::to_string_pretty(lock)?))
}

/// Writes the file, all of it or nothing.
pub(super) fn write(path: &Path, lock: &impl Serialize) -> Result<(), BaseError> {
    let text = text(lock).map_err(|error| BaseError::io("write", path)(io::Error::other(error)))?;
    // A link to a lock that projects share stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".rootbuild-lock-").tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        as_before(file.as_file(), &target, dir)?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(BaseError::io("write the lock file", path))
}

/// Gives a new file the owner and permissions of the one that it replaces, else the owner of its directory:
/// who runs `sudo rootbuild` wants to go on editing his project.
fn as_before(file: &File, target: &Path, dir: &Path) -> io::Result<()> {
    let before = fs::metadata(target);
    let mode = before.as_ref().map_or(0o644, |data| data.mode() & 0o777);
    if rustix::process::geteuid().is_root() {
        let like = before.or_else(|_| fs::metadata(dir))?;
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// What no TOML, or not that of a lock, is told as.
pub(super) fn no_lock(text: &str, error: &toml::de::Error) -> Wrong {
    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    (line, format!("this is no lock file: {}", error.message()))
}

/// What a lock of a later version is told as.
pub(super) fn newer(text: &str, version: u32, known: u32) -> Wrong {
    let message =
        format!("the lock file has version {version}, which is newer than this rootbuild: it knows {known}");
    (line_of(text, "version"), message)
}

/// The first line that begins like this.
pub(super) fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.starts_with(start)).map_or(0, |index| index + 1)
}

/// The line in which the table of this number (from 0) begins in a list of tables.
pub(super) fn table(text: &str, header: &str, index: usize) -> usize {
    let mut blocks = text.lines().enumerate().filter(|(_, line)| line.trim() == header);
    blocks.nth(index).map_or(0, |(line, _)| line + 1)
}
