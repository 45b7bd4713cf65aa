//! What the tests of the file-system part share.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod mounted;
pub(crate) mod ops;
pub(crate) mod trees;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rootbuild_cache::{Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::checkout::checkout;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use tempfile::TempDir;

/// A store in a directory of its own, and room beside it on the same file system.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::at(&std::env::temp_dir())
    }

    pub(crate) fn at(parent: &Path) -> Self {
        let dir = TempDir::new_in(parent).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes an empty directory beside the store.
    pub(crate) fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Checks `tree` out beside the store.
    pub(crate) fn checkout(&self, name: &str, tree: &Tree) -> PathBuf {
        let path = self.make_dir(name);
        checkout(&self.store, tree, &path, &Cancel::new()).unwrap();
        path
    }
}

/// Waits until nothing is in staging, but for what an open store holds itself: the thread that
/// removes old generations may still be at it.
#[track_caller]
pub(crate) fn settle(store: &Store) {
    let start = Instant::now();
    loop {
        let left: Vec<_> = fs::read_dir(store.dir().join("staging"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("objects-"))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "left in staging: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the test may do what only root may; says so once per test if not.
pub(crate) fn privileged(test: &str) -> bool {
    let privileged = rustix::process::geteuid().is_root();
    if !privileged {
        eprintln!("skipped: {test} (needs root)");
    }
    privileged
}

/// An overlay that is attached nowhere; it goes with this value.
pub(crate) struct Overlay {
    _mount: OwnedFd,
    pub(crate) path: PathBuf,
}

/// Mounts an overlay as the sandbox does it, `lowers` topmost first.
pub(crate) fn overlay(lowers: &[PathBuf], upper: &Path, work: &Path) -> std::io::Result<Overlay> {
    overlay_with(lowers, upper, work, "off")
}

pub(crate) fn overlay_with(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    metacopy: &str,
) -> std::io::Result<Overlay> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut held = Vec::new();
    let mut set = |key: &str, path: &Path| -> std::io::Result<()> {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::mount::fsconfig_set_string(&context, key, format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
        held.push(dir);
        Ok(())
    };
    for lower in lowers {
        set(if lowers.len() == 1 { "lowerdir" } else { "lowerdir+" }, lower)?;
    }
    set("upperdir", upper)?;
    set("workdir", work)?;
    for (key, value) in [("redirect_dir", "on"), ("metacopy", metacopy), ("index", "off"), ("xino", "auto")] {
        rustix::mount::fsconfig_set_string(&context, key, value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    // With the dot it is the directory, and not a link to it.
    let path = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
    Ok(Overlay { _mount: mount, path })
}

/// Two trees as text, where they differ: names, and the first entries that aren't equal.
pub(crate) fn difference(a: &Tree, b: &Tree) -> String {
    let mut text = String::new();
    let (mut left, mut right) = (a.entries().iter().peekable(), b.entries().iter().peekable());
    while left.peek().is_some() || right.peek().is_some() {
        let (l, r) = (left.next(), right.next());
        if l != r {
            text.push_str(&format!("{l:?}\n  is not\n{r:?}\n"));
            break;
        }
    }
    text
}

/// Asserts that two trees are equal in everything, times too.
#[track_caller]
pub(crate) fn assert_same(a: &Tree, b: &Tree) {
    assert!(a == b, "{}", difference(a, b));
    assert_eq!(a.digest(), b.digest());
}
