//! What is checked out is captured again as it was.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use common::{Bench, assert_same, privileged, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;

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
