//! What is checked out is captured again as it was.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{Bench, assert_same, privileged, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Digest, Kind, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::checkout::{Areas, Sharing, checkout_as};

fn round_trip(bench: &Bench, seeds: &[trees::Seed]) {
    let tree = trees::tree(&bench.store, seeds);
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    let target = dir.path().join("target");
    std::fs::create_dir(&target).unwrap();
    rootbuild_roots::checkout::checkout(&bench.store, &tree, &target, &Cancel::new()).unwrap();
    let captured = capture_directory(&bench.store, &target, &Cancel::new()).unwrap();
    assert_same(&captured, &tree);
    rootbuild_cache::remove_tree(&target).unwrap();
}

fn run(bench: &Bench, privileged: bool, cases: u32) {
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
    let result = runner.run(&trees::seeds(privileged, 40), |seeds| {
        round_trip(bench, &seeds);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_tree_that_is_checked_out_and_captured_is_the_same_tree() {
    if privileged("round trip with owners, devices and capabilities") {
        run(&Bench::new(), true, 96);
    }
}

#[test]
fn without_privileges_all_that_a_user_can_make_is_kept() {
    run(&Bench::new(), false, 48);
}

/// The same on file systems that the machine may not have: on each a loop-mounted image.
#[test]
fn other_file_systems_keep_the_same() {
    if !privileged("round trip on other file systems") {
        return;
    }
    for (kind, megabytes) in [("tmpfs", 0), ("ext4", 128), ("xfs", 320), ("btrfs", 160)] {
        let Some(mounted) = common::mounted::Mounted::new(kind, megabytes) else {
            eprintln!("skipped: round trip on {kind} (can't be made here)");
            continue;
        };
        let bench = Bench::at(mounted.path());
        run(&bench, true, 24);
    }
}

#[test]
fn where_contents_can_be_shared_a_checkout_takes_no_room_for_them() {
    if !privileged("reflinks") {
        return;
    }
    for (kind, megabytes) in [("xfs", 320), ("btrfs", 320)] {
        let Some(mounted) = common::mounted::Mounted::new(kind, megabytes) else {
            eprintln!("skipped: reflinks on {kind} (can't be made here)");
            continue;
        };
        let bench = Bench::at(mounted.path());
        let root = bench.make_dir("root");
        let bytes: Vec<u8> = (0..40u32 << 20).map(|n| (n ^ (n >> 9)).to_le_bytes()[0]).collect();
        std::fs::write(root.join("large"), bytes).unwrap();
        let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
        let free = || {
            bench.store.sync().unwrap();
            let stat = rustix::fs::statvfs(mounted.path()).unwrap();
            stat.f_bavail * stat.f_frsize
        };
        let before = free();
        let target = bench.checkout("again", &tree);
        let taken = before.saturating_sub(free());
        assert!(taken < 8 << 20, "{kind}: {taken} bytes");
        assert_same(&capture_directory(&bench.store, &target, &Cancel::new()).unwrap(), &tree);
    }
}

/// The digest of every file in the farm, by path and inode.
fn farm(bench: &Bench) -> Vec<(std::path::PathBuf, u64, Digest)> {
    let mut found = Vec::new();
    for dir in std::fs::read_dir(bench.store.dir().join("links")).unwrap() {
        for file in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            found.push((path.clone(), std::fs::metadata(&path).unwrap().ino(), Digest::of(&content)));
        }
    }
    found.sort();
    found
}

fn linked(bench: &Bench, tree: &Tree, target: &Path) {
    std::fs::create_dir(target).unwrap();
    let areas = Areas::new(["etc"]);
    let fresh = checkout_as(&bench.store, tree, target, Sharing::Linked(&areas), &Cancel::new()).unwrap();
    bench.store.sync().unwrap();
    fresh.share(&bench.store, target).unwrap();
    assert_same(&capture_directory(&bench.store, target, &Cancel::new()).unwrap(), tree);
}

#[test]
fn linked_checkouts_are_the_same_tree_and_share_what_is_not_in_private_areas() {
    if !privileged("linked checkouts") {
        return;
    }
    let bench = Bench::new();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() });
    let result = runner.run(&trees::seeds(true, 40), |seeds| {
        let tree = trees::tree(&bench.store, &seeds);
        let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        linked(&bench, &tree, &one);
        let between = farm(&bench);
        linked(&bench, &tree, &two);
        assert_eq!(farm(&bench), between);
        let mut seen = std::collections::HashSet::new();
        let writable = |path: &[u8]| !path.contains(&b'/') || path.starts_with(b"etc/");
        let exposed = tree.entries().iter().filter_map(|entry| match &entry.kind {
            Kind::Hardlink { target } if writable(&entry.path) => Some(target.as_slice()),
            _ => None,
        });
        let exposed: std::collections::HashSet<&[u8]> = exposed.collect();
        for entry in tree.entries() {
            let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
            let inode = |root: &Path| std::fs::symlink_metadata(root.join(path)).unwrap().ino();
            let shared = inode(&one) == inode(&two);
            let private = writable(&entry.path) || exposed.contains(entry.path.as_slice());
            match entry.kind {
                Kind::File { .. } => {
                    assert_eq!(shared, !private, "{path:?}");
                    assert!(seen.insert(inode(&one)), "{path:?} is another name of an equal file");
                }
                Kind::Hardlink { .. } => {}
                _ => assert!(!shared, "{path:?}"),
            }
        }
        rootbuild_cache::remove_tree(&one).unwrap();
        rootbuild_cache::remove_tree(&two).unwrap();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn small(bench: &Bench) -> Tree {
    let root = tempfile::tempdir_in(bench.dir.path()).unwrap();
    std::fs::create_dir(root.path().join("d")).unwrap();
    std::fs::write(root.path().join("d/a"), "content").unwrap();
    std::fs::write(root.path().join("d/empty"), "").unwrap();
    capture_directory(&bench.store, root.path(), &Cancel::new()).unwrap()
}

#[test]
fn a_file_that_can_get_no_more_names_is_made_again_and_the_next_share_that() {
    if !privileged("a file of 65,000 names") {
        return;
    }
    let Some(mounted) = common::mounted::Mounted::new("ext4", 64) else {
        eprintln!("skipped: a file of 65,000 names (no ext4 can be made here)");
        return;
    };
    let bench = Bench::at(mounted.path());
    let tree = small(&bench);
    let roots = ["one", "two", "three"].map(|name| bench.path(name));
    linked(&bench, &tree, &roots[0]);
    // The file system's limit, not the test's.
    let mut number = 0;
    let names = bench.make_dir("names");
    while std::fs::hard_link(roots[0].join("d/a"), names.join(number.to_string())).is_ok() {
        number += 1;
    }
    assert!(number > 10_000, "{number}");
    linked(&bench, &tree, &roots[1]);
    linked(&bench, &tree, &roots[2]);
    let inode = |root: &Path, name: &str| std::fs::metadata(root.join(name)).unwrap().ino();
    let of = |name: &str| roots.each_ref().map(|root| inode(root, name));
    let [first, second, third] = of("d/a");
    assert!(first != second && second == third);
    assert!(of("d/empty").windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn on_another_file_system_than_the_store_s_a_checkout_is_a_copy() {
    if !privileged("a checkout on another file system") {
        return;
    }
    let Some(mounted) = common::mounted::Mounted::new("tmpfs", 0) else {
        eprintln!("skipped: a checkout on another file system (no tmpfs can be mounted)");
        return;
    };
    let bench = Bench::new();
    let tree = small(&bench);
    linked(&bench, &tree, &bench.path("here"));
    for name in ["one", "two"] {
        linked(&bench, &tree, &mounted.path().join(name));
    }
    assert_eq!(farm(&bench).len(), 2);
}
