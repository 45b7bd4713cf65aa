//! Something else is mounted in a root: it isn't the root's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_cache::remove_tree;
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{CaptureError, capture_directory};
use rootbuild_roots::scrub::scrub;
use rootbuild_roots::working::{RootMount, WorkingRoot};

use crate::common::{Bench, privileged};
use crate::outside::{Outside, rusqlite};

/// A bind; gone with this value.
struct Bound(PathBuf);

impl Bound {
    fn new(from: &Path, to: &Path) -> Self {
        let mount = Command::new("mount").arg("--bind").args([from, to]).status().unwrap();
        assert!(mount.success());
        Self(to.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn what_is_mounted_in_a_root_is_neither_emptied_nor_captured() {
    if !privileged("what_is_mounted_in_a_root_is_neither_emptied_nor_captured") {
        return;
    }
    let bench = Bench::new();
    let outside = Outside::new(bench.path("outside"));
    for (number, (at, from)) in
        [("tmp", "tmp"), ("var", "var"), ("home/a", "home/a"), ("a", "a"), ("etc", "etc")]
            .into_iter()
            .enumerate()
    {
        let root = bench.make_dir(&format!("root-{number}"));
        fs::create_dir_all(root.join(at)).unwrap();
        let bound = Bound::new(&outside.dir.join(from), &root.join(at));
        let scrubbed = scrub(&root);
        assert!(at == "a" || scrubbed.is_err(), "{at}");
        let captured = capture_directory(&bench.store, &root, &Cancel::new());
        assert!(matches!(captured, Err(CaptureError::Mount { .. })), "{at}: {captured:?}");
        assert!(remove_tree(&root).is_err(), "{at}");
        drop(bound);
        outside.is_whole(&bench.store);
    }
}

#[test]
fn a_database_that_is_mounted_in_a_root_is_not_written() {
    if !privileged("a_database_that_is_mounted_in_a_root_is_not_written") {
        return;
    }
    let bench = Bench::new();
    let outside = Outside::new(bench.path("outside"));
    let working = WorkingRoot::empty(&bench.store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!("a base's root is plain") };
    let database = "var/lib/rpm/rpmdb.sqlite";
    fs::create_dir_all(root.join("var/lib/rpm")).unwrap();
    rusqlite(&root.join(database));
    let bound = Bound::new(&outside.dir.join(database), &root.join(database));
    assert!(working.finish(&bench.store, &Cancel::new()).is_err());
    drop(bound);
    outside.is_whole(&bench.store);
}
