//! An overlay's upper side is captured as what its merged view is.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::ops::{Op, cases, op, run_op, without_whiteouts};
use common::{Bench, assert_same, overlay, overlay_with, privileged, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Kind, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{CaptureError, capture_directory, capture_overlay};
use rustix::fs::XattrFlags;

/// Rounds of operations, each over the upper sides of those before: as steps lie over each other.
fn rounds(bench: &Bench, seeds: &[trees::Seed], rounds: &[Vec<Op>]) {
    let cancel = Cancel::new();
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    let mut tree = without_whiteouts(trees::tree(&bench.store, seeds));
    rootbuild_roots::checkout::checkout(&bench.store, &tree, &full, &cancel).unwrap();
    let mut lowers = vec![full];
    for (number, ops) in rounds.iter().enumerate() {
        let upper = dir.path().join(format!("upper{number}"));
        // The upper directory's own metadata is that of the merged root.
        let root = Tree::from_entries(vec![tree.entries()[0].clone()]).unwrap();
        fs::create_dir(&upper).unwrap();
        rootbuild_roots::checkout::checkout(&bench.store, &root, &upper, &cancel).unwrap();
        let work = dir.path().join(format!("work{number}"));
        fs::create_dir(&work).unwrap();
        let mounted = overlay(&lowers, &upper, &work).unwrap();
        for op in ops {
            run_op(&mounted.path, op);
        }
        let merged = capture_directory(&bench.store, &mounted.path, &cancel).unwrap();
        drop(mounted);
        let captured = capture_overlay(&bench.store, &tree, &upper, &cancel).unwrap();
        assert_same(&captured, &merged);
        lowers.insert(0, upper);
        tree = captured;
    }
}

#[test]
fn any_sequence_of_steps_is_captured_as_its_merged_view() {
    if !privileged("overlay capture") {
        return;
    }
    let bench = Bench::new();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(96), failure_persistence: None, ..Default::default() });
    let ops = || prop::collection::vec(op(), 0..25);
    let strategy = (trees::seeds(true, 25), prop::collection::vec(ops(), 1..4));
    let result = runner.run(&strategy, |(seeds, ops)| {
        rounds(&bench, &seeds, &ops);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A lower side made by `make`, and an overlay over it changed by `change`; its capture, and the
/// upper directory.
fn over(
    bench: &Bench,
    make: impl FnOnce(&Path),
    change: impl FnOnce(&Path),
) -> (Tree, Result<Tree, CaptureError>, PathBuf) {
    let cancel = Cancel::new();
    let (lower, upper, work) = (bench.make_dir("lower"), bench.make_dir("upper"), bench.make_dir("work"));
    make(&lower);
    let tree = capture_directory(&bench.store, &lower, &cancel).unwrap();
    let mounted = overlay(&[lower], &upper, &work).unwrap();
    change(&mounted.path);
    drop(mounted);
    let captured = capture_overlay(&bench.store, &tree, &upper, &cancel);
    (tree, captured, upper)
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.entries().iter().map(|it| String::from_utf8_lossy(&it.path).into_owned()).collect()
}

#[test]
fn the_other_names_of_a_linked_file_keep_what_they_were() {
    if !privileged("hardlinks in an overlay") {
        return;
    }
    let bench = Bench::new();
    let (lower, captured, _) = over(
        &bench,
        |dir| {
            fs::write(dir.join("a"), "old").unwrap();
            for name in ["b", "c", "d"] {
                fs::hard_link(dir.join("a"), dir.join(name)).unwrap();
            }
        },
        |dir| {
            fs::remove_file(dir.join("a")).unwrap();
            fs::write(dir.join("c"), "new").unwrap();
        },
    );
    let captured = captured.unwrap();
    let old = &lower.get(b"a").unwrap().kind;
    assert_eq!(paths(&captured), ["", "b", "c", "d"]);
    assert_eq!(&captured.get(b"b").unwrap().kind, old);
    assert_eq!(captured.get(b"d").unwrap().kind, Kind::Hardlink { target: b"b".to_vec() });
    assert!(matches!(&captured.get(b"c").unwrap().kind, kind @ Kind::File { .. } if kind != old));
}

#[test]
fn directories_renamed_into_each_other_bring_what_was_below() {
    if !privileged("redirects in an overlay") {
        return;
    }
    let bench = Bench::new();
    let (_, captured, _) = over(
        &bench,
        |dir| {
            fs::create_dir_all(dir.join("a/b/c")).unwrap();
            fs::write(dir.join("a/b/c/file"), "").unwrap();
            fs::create_dir_all(dir.join("x")).unwrap();
        },
        |dir| {
            fs::rename(dir.join("a/b"), dir.join("x/renamed")).unwrap();
            fs::rename(dir.join("x/renamed/c"), dir.join("x/renamed/d")).unwrap();
            fs::rename(dir.join("x"), dir.join("a/y")).unwrap();
            fs::create_dir(dir.join("x")).unwrap();
        },
    );
    assert_eq!(
        paths(&captured.unwrap()),
        ["", "a", "a/y", "a/y/renamed", "a/y/renamed/d", "a/y/renamed/d/file", "x"]
    );
}

#[test]
fn a_copy_of_metadata_only_is_refused_and_not_taken_for_an_empty_file() {
    if !privileged("metacopy in an overlay") {
        return;
    }
    let bench = Bench::new();
    let (lower, upper, work) = (bench.make_dir("lower"), bench.make_dir("upper"), bench.make_dir("work"));
    fs::write(lower.join("file"), "content").unwrap();
    let tree = capture_directory(&bench.store, &lower, &Cancel::new()).unwrap();
    let mounted = overlay_with(&[lower], &upper, &work, "on").unwrap();
    fs::set_permissions(mounted.path.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    drop(mounted);
    match capture_overlay(&bench.store, &tree, &upper, &Cancel::new()) {
        Err(CaptureError::Metacopy { path }) => assert_eq!(path, upper.join("file")),
        other => panic!("{other:?}"),
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn whiteouts_that_are_files_count_only_where_their_directory_says_so() {
    if !privileged("attribute whiteouts") {
        return;
    }
    let bench = Bench::new();
    let (lower, upper) = (bench.make_dir("lower"), bench.make_dir("upper"));
    for dir in ["said", "not-said"] {
        fs::create_dir(lower.join(dir)).unwrap();
        fs::write(lower.join(dir).join("gone"), "content").unwrap();
        fs::write(lower.join(dir).join("stays"), "content").unwrap();
        fs::create_dir(upper.join(dir)).unwrap();
        fs::write(upper.join(dir).join("gone"), "").unwrap();
        set(&upper.join(dir).join("gone"), "trusted.overlay.whiteout", b"");
    }
    set(&upper.join("said"), "trusted.overlay.opaque", b"x");
    let tree = capture_directory(&bench.store, &lower, &Cancel::new()).unwrap();
    let captured = capture_overlay(&bench.store, &tree, &upper, &Cancel::new()).unwrap();
    assert_eq!(paths(&captured), ["", "not-said", "not-said/gone", "not-said/stays", "said", "said/stays"]);
    assert!(captured.get(b"not-said/gone").unwrap().meta.xattrs.is_empty());
}

#[test]
fn a_redirect_that_leads_nowhere_is_an_error() {
    if !privileged("broken redirects") {
        return;
    }
    for redirect in ["/missing", "../up", "file", "/a/../b", ""] {
        let bench = Bench::new();
        let (lower, upper) = (bench.make_dir("lower"), bench.make_dir("upper"));
        fs::write(lower.join("file"), "content").unwrap();
        fs::create_dir(upper.join("dir")).unwrap();
        set(&upper.join("dir"), "trusted.overlay.redirect", redirect.as_bytes());
        let tree = capture_directory(&bench.store, &lower, &Cancel::new()).unwrap();
        let captured = capture_overlay(&bench.store, &tree, &upper, &Cancel::new());
        assert!(matches!(captured, Err(CaptureError::Redirect { .. })), "{redirect:?}: {captured:?}");
    }
}

#[test]
fn an_overlay_within_the_root_keeps_its_own_marks() {
    if !privileged("nested overlay attributes") {
        return;
    }
    let bench = Bench::new();
    let (_, captured, upper) = over(
        &bench,
        |_| (),
        |dir| {
            fs::create_dir(dir.join("inner")).unwrap();
            set(&dir.join("inner"), "trusted.overlay.opaque", b"y");
        },
    );
    let captured = captured.unwrap();
    let expected = vec![(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())];
    assert_eq!(captured.get(b"inner").unwrap().meta.xattrs, expected);
    let raw: &OsStr = OsStr::from_bytes(b"trusted.overlay.overlay.opaque");
    let mut value = [0; 8];
    assert_eq!(rustix::fs::lgetxattr(upper.join("inner"), raw, &mut value).unwrap(), 1);
    assert_eq!(fs::metadata(upper).unwrap().nlink(), 3);
}
