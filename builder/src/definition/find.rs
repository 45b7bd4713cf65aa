//! Finding and reading a definition's file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use super::DefinitionError;
use super::diagnostic::{Diagnostic, Source};

/// The file's name.
pub const FILE_NAME: &str = "rootbuild.toml";

/// Far more than anybody writes; keeps a wrong `-f` (a disk image) from being read into memory.
const MAX_BYTES: u64 = 1024 * 1024;

/// The definition that is meant: the one named, or the nearest one upward from `cwd`.
pub(super) fn locate(named: Option<&Path>, cwd: &Path) -> Result<PathBuf, DefinitionError> {
    let Some(named) = named else { return search_upward(cwd) };
    let path = resolve(cwd, named);
    let Ok(metadata) = fs::metadata(&path) else {
        // Whatever is wrong is said when the file is opened.
        return Ok(path);
    };
    if !metadata.is_dir() {
        return Ok(path);
    }
    let inside = path.join(FILE_NAME);
    if inside.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(Diagnostic::file(&path, format!("there is no `{FILE_NAME}` in `{}`", path.display()))
            .with_hint("name the definition's file or its directory after `--file`")
            .into());
    }
    Ok(inside)
}

fn search_upward(cwd: &Path) -> Result<PathBuf, DefinitionError> {
    for dir in cwd.ancestors() {
        let candidate = dir.join(FILE_NAME);
        // symlink_metadata: a dangling link is a definition that can't be read, not "none here".
        match candidate.symlink_metadata() {
            Ok(_) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Diagnostic::file(
                    &candidate,
                    format!("can't look for `{FILE_NAME}`: {}", plain(&error)),
                )
                .with_hint("name the definition's file with `--file`")
                .into());
            }
        }
    }
    Err(Diagnostic::file(
        cwd,
        format!("there is no `{FILE_NAME}` in `{}` or any directory above it", cwd.display()),
    )
    .with_hint("run rootbuild inside a project, or name its definition with `--file`")
    .into())
}

/// Reads the file as text.
pub(super) fn read(path: &Path) -> Result<Source, DefinitionError> {
    let fail = |message: String| Diagnostic::file(path, message);
    if path.to_str().is_none() {
        return Err(fail(format!("the definition's path `{}` isn't UTF-8", path.display()))
            .with_hint("rename its directory: JSON and some of the tools that are run can't name it")
            .into());
    }
    // Asked before it is opened: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| {
        let dangling = error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_ok();
        let why = if dangling { "it is a symbolic link to nothing".to_owned() } else { plain(&error) };
        fail(format!("can't read `{}`: {why}", path.display()))
    })?;
    if !metadata.is_file() {
        return Err(fail(format!("can't read `{}`: it is {}", path.display(), what_is(&metadata))).into());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(format!("can't read `{}`: {}", path.display(), plain(&error))))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(format!("`{}` is larger than 1 MiB", path.display()))
            .with_hint("is this really a definition? name another file with `--file`")
            .into());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(path, &text)),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[offset];
            // Up to the bad byte the text is sound, and so is the place counted in it.
            let source = Source::new(path, &String::from_utf8_lossy(error.as_bytes()));
            let mut diagnostic = source.diagnostic(
                source.at(&(offset..offset)),
                format!("not UTF-8: byte 0x{byte:02x} at offset {offset}"),
            );
            let utf16 =
                error.as_bytes().starts_with(b"\xff\xfe") || error.as_bytes().starts_with(b"\xfe\xff");
            diagnostic.hint = Some(if utf16 {
                "the file looks like UTF-16: save it as UTF-8".to_owned()
            } else {
                "save the file as UTF-8".to_owned()
            });
            Err(diagnostic.into())
        }
    }
}

/// `path` seen from `dir`, without the `.` components; `..` stays, since links may stand before it.
pub(super) fn resolve(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path).components().filter(|component| *component != Component::CurDir).collect()
}

/// What a file is, with its article.
pub(super) fn what_is(metadata: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// An I/O error as we word messages: lower case, without the number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error ").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // "I/O error" keeps its capital, "No such file" doesn't.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
