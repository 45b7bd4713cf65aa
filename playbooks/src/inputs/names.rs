//! Names of inputs: paths as text, relative to the project where they lie in it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What stands before a name that is no UTF-8, or that looks as if it weren't.
const ESCAPED: &str = "bytes:";

/// A path as text. Every path has its own, and is found again by it.
pub(super) fn text(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(ESCAPED) => text.to_owned(),
        _ => format!("{ESCAPED}{}", path.as_os_str().as_bytes().escape_ascii()),
    }
}

/// The path that a text stands for.
pub(super) fn path(text: &str) -> PathBuf {
    let Some(escaped) = text.strip_prefix(ESCAPED) else { return PathBuf::from(text) };
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0);
                bytes.push(u8::try_from(digit() * 16 + digit()).unwrap_or(0));
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The project's directory under both of its names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) dir: PathBuf,
    real: PathBuf,
}

impl Names {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), real: dir.canonicalize().unwrap_or_else(|_| dir.to_owned()) }
    }

    /// Where a path is below the project, if it is.
    pub(super) fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.dir).or_else(|_| path.strip_prefix(&self.real)).ok()
    }

    /// The input's name for an absolute path; the project itself is `.`.
    pub(super) fn name(&self, path: &Path) -> String {
        match self.inside(path) {
            Some(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
            Some(inside) => text(inside),
            None => text(path),
        }
    }

    /// Where the input with this name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        // What a link that leaves the project leads to has the link's name and a dot.
        let name = name.strip_suffix("/.").unwrap_or(name);
        if name == "." { self.dir.clone() } else { self.dir.join(path(name)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_again_by_their_names() {
        let names = Names { dir: "/link".into(), real: "/data/project".into() };
        let odd = PathBuf::from(OsString::from_vec(b"/link/a\xff\\x\n'\"bytes:".to_vec()));
        for (path, expected) in [
            (Path::new("/link/roles/x"), "roles/x"),
            (Path::new("/data/project/roles/x"), "roles/x"),
            (Path::new("/link"), "."),
            (Path::new("/etc/x"), "/etc/x"),
            (Path::new("/link/bytes:x"), "bytes:bytes:x"),
            (&odd, r#"bytes:a\xff\\x\n\'\"bytes:"#),
        ] {
            let name = names.name(path);
            assert_eq!(name, expected);
            let again = names.path(&name);
            assert!(again == path || again == Path::new("/link").join(names.inside(path).unwrap()), "{name}");
        }
        assert_eq!(names.path("outside/."), Path::new("/link/outside"));
    }
}
