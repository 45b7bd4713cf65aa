//! What the fuzz targets run (`fuzz/`): each takes any bytes, and panics if a promise is broken. Not for
//! anything else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rootbuild_cache::{Digest, Entry, Kind, Meta, Store, Tree};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::cancel::Cancel;
use crate::capture::{self, Known};

pub use crate::base::archive::fuzz as archive;
pub use crate::base::debian::fuzz::lock as debian_lock;
pub use crate::base::rpm::fuzz::{lock, package, repo_file};
pub use crate::normal::fuzz as database;

/// The upper side of an overlay: `data` is a list of things done in it. Needs root.
///
/// # Panics
/// The tree that comes out isn't one, or its digest is told wrong.
pub fn overlay(data: &[u8]) {
    static PLACE: OnceLock<Option<(tempfile::TempDir, Store)>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().ok()?;
        let store = Store::open(&dir.path().join("store")).ok()?;
        Some((dir, store))
    };
    let Some((dir, store)) = PLACE.get_or_init(make) else { return };
    let upper = dir.path().join("upper");
    if fs::create_dir(&upper).is_err() {
        return;
    }
    let mut steps = Steps { rest: data, upper: &upper };
    while steps.next().is_some() {}
    captured(store, &upper);
    let _ = rootbuild_cache::remove_tree(&upper);
}

fn captured(store: &Store, upper: &Path) {
    let lower = lower();
    let cancel = Cancel::new();
    let Ok(side) = capture::scan_upper(store, upper, &mut Known::default(), &cancel) else { return };
    let digest = side.digest(&lower);
    match side.merge(&lower) {
        Ok(captured) => {
            assert_eq!(digest.ok(), Some(captured.tree.digest()));
            let again = Tree::decode(&captured.tree.encode());
            assert_eq!(again.as_ref(), Ok(&captured.tree));
            let left = crate::scrub::left_over(&captured.tree);
            let _ = crate::scrub::remove_left_over(upper, &lower, &captured, &left);
        }
        Err(_) => assert!(digest.is_err()),
    }
}

/// Names are few, so that what is done meets what was done before.
const NAMES: [&str; 8] = ["etc", "a", "b", "passwd", "tmp", "home", "x", ".ansible"];

/// What the upper side lies over.
fn lower() -> Tree {
    let file = |text: &[u8]| Kind::File { object: Digest::of(text), size: text.len() as u64 };
    let entries = [
        ("", Kind::Directory),
        ("etc", Kind::Directory),
        ("etc/passwd", file(b"root")),
        ("etc/x", Kind::Hardlink { target: b"etc/passwd".to_vec() }),
        ("a", Kind::Directory),
        ("a/b", Kind::Directory),
        ("a/b/x", file(b"x")),
        ("a/etc", Kind::Symlink { target: b"/etc".to_vec() }),
        ("tmp", Kind::Directory),
        ("tmp/a", Kind::Fifo),
        ("home", Kind::Directory),
        ("home/a", Kind::Directory),
        ("home/a/.ansible", Kind::Directory),
        ("x", Kind::Hardlink { target: b"a/b/x".to_vec() }),
    ];
    let entry = |(path, kind): &(&str, Kind)| Entry {
        path: path.as_bytes().to_vec(),
        meta: Meta { mode: 0o755, ..Meta::default() },
        kind: kind.clone(),
    };
    Tree::from_entries(entries.iter().map(entry).collect()).unwrap_or_default()
}

struct Steps<'a> {
    rest: &'a [u8],
    upper: &'a Path,
}

impl Steps<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// One to four components.
    fn path(&mut self) -> Option<PathBuf> {
        let first = self.byte()?;
        let mut path = self.upper.to_owned();
        for _ in 0..=first % 4 {
            let name = self.byte()?;
            match name {
                0xf0.. => path.push(OsStr::from_bytes(&[name, b'\n'])),
                _ => path.push(NAMES[usize::from(name) % NAMES.len()]),
            }
        }
        Some(path)
    }

    /// Does one thing, which may fail: nothing in an upper side is a link that is followed, but in the last place.
    fn next(&mut self) -> Option<()> {
        let what = self.byte()?;
        let path = self.path()?;
        let through_link = path.ancestors().skip(1).take_while(|it| *it != self.upper);
        if through_link.into_iter().any(|it| it.symlink_metadata().is_ok_and(|it| it.is_symlink())) {
            return Some(());
        }
        let mode = Mode::from_raw_mode(0o600);
        let mark = |name: &str, value: &[u8]| {
            let _ = rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty());
        };
        match what % 16 {
            0 | 1 => drop(fs::create_dir_all(&path)),
            2 | 3 if path.symlink_metadata().is_err() => drop(fs::write(&path, [what])),
            4 => drop(rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, 0)),
            5 => mark("trusted.overlay.opaque", b"y"),
            6 => mark("trusted.overlay.opaque", b"x"),
            7 => {
                let length = usize::from(self.byte()? % 16).min(self.rest.len());
                let (value, rest) = self.rest.split_at(length);
                self.rest = rest;
                mark("trusted.overlay.redirect", value);
            }
            8 => {
                let to = NAMES[usize::from(self.byte()?) % NAMES.len()];
                mark("trusted.overlay.redirect", format!("/{to}").as_bytes());
            }
            9 => mark("trusted.overlay.whiteout", b""),
            10 => mark("trusted.overlay.metacopy", b""),
            11 => mark("trusted.overlay.overlay.opaque", b"y"),
            12 => drop(std::os::unix::fs::symlink("../../../../../../etc/passwd", &path)),
            13 => {
                let to = self.path()?;
                let _ = rustix::fs::linkat(CWD, &path, CWD, &to, rustix::fs::AtFlags::empty());
            }
            14 => drop(rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)),
            _ => drop(std::os::unix::net::UnixListener::bind(&path)),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rootbuild_cache::fuzz::smoke;

    use super::*;

    const MOMENT: Duration = Duration::from_secs(1);

    #[test]
    fn archives_made_at_random_harm_nobody() {
        smoke("tar", 2000, MOMENT, archive);
    }

    #[test]
    fn locks_and_repo_files_made_at_random_harm_nobody() {
        smoke("lock", 2000, MOMENT, lock);
        smoke("debian_lock", 2000, MOMENT, debian_lock);
        smoke("repo_file", 5000, MOMENT, repo_file);
    }

    #[test]
    fn packages_made_at_random_harm_nobody() {
        smoke("rpm", 5000, MOMENT, package);
    }

    #[test]
    fn databases_made_at_random_harm_nobody() {
        smoke("database", 2000, MOMENT, database);
    }

    #[test]
    fn upper_sides_made_at_random_harm_nobody() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: upper_sides_made_at_random_harm_nobody needs root");
            return;
        }
        smoke("overlay", 2000, MOMENT, overlay);
    }
}
