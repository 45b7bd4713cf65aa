//! Which names are of interest.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Which names a trace notes. By default all of them.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Directories, and whether what is at and below them is noted. The deepest one decides.
    dirs: HashMap<PathBuf, bool>,
    /// Files that aren't noted.
    files: HashSet<PathBuf>,
    /// Directories that aren't noted themselves, while what is in them is.
    bare: HashSet<PathBuf>,
    /// Programs that handle secrets: what they read isn't noted either.
    secrets: HashSet<PathBuf>,
    own: Vec<u8>,
}

impl Scope {
    /// Leaves out what is at and below `dir`.
    #[must_use]
    pub fn without(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dirs.insert(dir.into(), false);
        self
    }

    /// Keeps what is at and below `dir`, although it lies below something that is left out.
    #[must_use]
    pub fn with(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dirs.insert(dir.into(), true);
        self
    }

    /// Leaves out one file.
    #[must_use]
    pub fn without_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.insert(file.into());
        self
    }

    /// Leaves out the directories that lead to `path`: that they are there goes without saying.
    #[must_use]
    pub fn reached(mut self, path: &Path) -> Self {
        self.bare.extend(path.ancestors().skip(1).map(Path::to_owned));
        self
    }

    /// Leaves out a file with a secret; if it is a program, all that it and its children read as well.
    #[must_use]
    pub fn secret(mut self, path: impl Into<PathBuf>) -> Self {
        self.secrets.insert(path.into());
        self
    }

    /// The command line of the program that the trace is about. It looks at many files that it
    /// never reads; a file that any other program looks at counts as read.
    #[must_use]
    pub fn about(mut self, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Self {
        for argument in arguments {
            self.own.extend(argument.as_ref().as_encoded_bytes());
            self.own.push(0);
        }
        self
    }

    pub(super) fn own(&self) -> &[u8] {
        &self.own
    }

    pub(super) fn is_secret(&self, path: &Path) -> bool {
        self.secrets.contains(path)
    }

    /// Whether the name is noted. It is spelt without `.` and `..`.
    pub(super) fn has(&self, path: &Path) -> bool {
        if self.files.contains(path) || self.secrets.contains(path) {
            return false;
        }
        path.ancestors().find_map(|dir| self.dirs.get(dir).copied()).unwrap_or(true)
    }

    /// Whether the directory itself goes without saying (but not what is in it).
    pub(super) fn is_bare(&self, path: &Path) -> bool {
        self.bare.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_directory_decides() {
        let scope = Scope::default().without("/usr").with("/usr/local").without("/usr/local/lib/python3.11");
        let scope = scope.without_file("/etc/passwd").reached(Path::new("/home/me/project"));
        for (path, noted) in [
            ("/usr/lib/x", false),
            ("/usr", false),
            ("/usr/local/bin/x", true),
            ("/usr/local/lib/python3.11/os.py", false),
            ("/etc/passwd", false),
            ("/etc/passwd-", true),
            ("/usrx", true),
        ] {
            assert_eq!(scope.has(Path::new(path)), noted, "{path}");
        }
        assert!(scope.is_bare(Path::new("/home/me")) && !scope.is_bare(Path::new("/home/me/project")));
    }
}
