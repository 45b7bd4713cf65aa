//! An overlay's upper side is captured as what its merged view is.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Bench, assert_same, overlay, overlay_with, privileged, trees};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Kind, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{CaptureError, capture_directory, capture_overlay};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, XattrFlags};

/// Something a step does. What can't be done (a name that is taken) isn't.
#[derive(Debug, Clone)]
enum Op {
    Write(Index, u8),
    Append(Index),
    Create(Index, u8, u8),
    MakeDir(Index, u8),
    Chmod(Index, u32),
    Chown(Index, u32),
    Rename(Index, Index, u8),
    Exchange(Index, Index),
    Remove(Index),
    Recreate(Index),
    Link(Index, Index, u8),
    SetXattr(Index, u8),
    DropXattr(Index),
    Node(Index, u8, u32),
    Fifo(Index, u8),
    Symlink(Index, u8),
    Socket(Index, u8),
    Touch(Index),
    Unchanged(Index),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || any::<Index>();
    let name = || 0u8..8;
    prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(a, b)| Op::Write(a, b)),
        2 => at().prop_map(Op::Append),
        2 => (at(), name(), any::<u8>()).prop_map(|(a, b, c)| Op::Create(a, b, c)),
        2 => (at(), name()).prop_map(|(a, b)| Op::MakeDir(a, b)),
        2 => (at(), select(vec![0o644, 0o755, 0o4755, 0o1777, 0o600])).prop_map(|(a, b)| Op::Chmod(a, b)),
        1 => (at(), select(vec![0, 1000, 65534])).prop_map(|(a, b)| Op::Chown(a, b)),
        8 => (at(), at(), name()).prop_map(|(a, b, c)| Op::Rename(a, b, c)),
        2 => (at(), at()).prop_map(|(a, b)| Op::Exchange(a, b)),
        4 => at().prop_map(Op::Remove),
        3 => at().prop_map(Op::Recreate),
        4 => (at(), at(), name()).prop_map(|(a, b, c)| Op::Link(a, b, c)),
        1 => (at(), any::<u8>()).prop_map(|(a, b)| Op::SetXattr(a, b)),
        1 => at().prop_map(Op::DropXattr),
        1 => (at(), name(), 0u32..3).prop_map(|(a, b, c)| Op::Node(a, b, c)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Fifo(a, b)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Symlink(a, b)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Socket(a, b)),
        1 => at().prop_map(Op::Touch),
        1 => at().prop_map(Op::Unchanged),
    ]
}

/// Every path in the merged view, the top first; directories too.
fn walk(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
            names.sort();
            found.extend(names);
        }
    }
    found
}

fn name(number: u8) -> OsString {
    match number {
        0 => OsString::from_vec(vec![0xff, b'x']),
        1 => "n".repeat(255).into(),
        n => format!("{n}").into(),
    }
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_file())
}

fn run_op(top: &Path, op: &Op) -> Option<()> {
    // The top itself is not to be removed or renamed.
    let all = walk(top);
    let pick = |index: &Index| all[index.index(all.len())].clone();
    let below = |index: &Index| (all.len() > 1).then(|| all[1 + index.index(all.len() - 1)].clone());
    let dirs: Vec<_> = all.iter().filter(|path| is_dir(path)).cloned().collect();
    let dir = |index: &Index| dirs[index.index(dirs.len())].clone();
    match op {
        Op::Write(at, byte) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            fs::write(path, [*byte; 100]).ok()
        }
        Op::Append(at) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            OpenOptions::new().append(true).open(path).ok()?.write_all(b"more").ok()
        }
        Op::Create(at, new, byte) => {
            let path = dir(at).join(name(*new));
            OpenOptions::new().write(true).create_new(true).open(path).ok()?.write_all(&[*byte]).ok()
        }
        Op::MakeDir(at, new) => fs::create_dir(dir(at).join(name(*new))).ok(),
        Op::Chmod(at, mode) => {
            let path = pick(at);
            if path.is_symlink() {
                return None;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).ok()
        }
        Op::Chown(at, id) => std::os::unix::fs::lchown(pick(at), Some(*id), Some(*id)).ok(),
        Op::Rename(from, to, new) => {
            let to = dir(to).join(name(*new));
            rustix::fs::renameat_with(CWD, below(from)?, CWD, to, RenameFlags::empty()).ok()
        }
        Op::Exchange(a, b) => {
            rustix::fs::renameat_with(CWD, below(a)?, CWD, below(b)?, RenameFlags::EXCHANGE).ok()
        }
        Op::Remove(at) => remove(&below(at)?),
        Op::Recreate(at) => {
            let path = below(at).filter(|path| is_dir(path))?;
            remove(&path)?;
            fs::create_dir(&path).ok()?;
            fs::write(path.join("new"), "new").ok()
        }
        Op::Link(from, to, new) => fs::hard_link(below(from)?, dir(to).join(name(*new))).ok(),
        Op::SetXattr(at, byte) => {
            let value = [*byte; 3];
            rustix::fs::lsetxattr(pick(at), "trusted.changed", &value, XattrFlags::empty()).ok()
        }
        Op::DropXattr(at) => rustix::fs::lremovexattr(pick(at), "trusted.rootbuild").ok(),
        Op::Node(at, new, kind) => {
            let (kind, device) = match kind {
                0 => (FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
                1 => (FileType::BlockDevice, rustix::fs::makedev(7, 0)),
                _ => (FileType::CharacterDevice, rustix::fs::makedev(0, 1)),
            };
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), kind, Mode::from_raw_mode(0o640), device).ok()
        }
        Op::Fifo(at, new) => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), FileType::Fifo, mode, 0).ok()
        }
        Op::Symlink(at, new) => symlink("../elsewhere", dir(at).join(name(*new))).ok(),
        Op::Socket(at, new) => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), FileType::Socket, mode, 0).ok()
        }
        Op::Touch(at) => {
            let now = rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 7 };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            rustix::fs::utimensat(CWD, pick(at), &times, AtFlags::SYMLINK_NOFOLLOW).ok()
        }
        Op::Unchanged(at) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            let old = fs::read(&path).ok()?;
            fs::write(path, old).ok()
        }
    }
}

fn remove(path: &Path) -> Option<()> {
    if is_dir(path) { fs::remove_dir_all(path).ok() } else { fs::remove_file(path).ok() }
}

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

/// What overlayfs can't have in a lower side.
fn without_whiteouts(tree: Tree) -> Tree {
    let mut entries = tree.into_entries();
    for entry in &mut entries {
        if entry.kind == (Kind::CharDevice { major: 0, minor: 0 }) {
            entry.kind = Kind::CharDevice { major: 1, minor: 3 };
        }
    }
    Tree::from_entries(entries).unwrap()
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

fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
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
