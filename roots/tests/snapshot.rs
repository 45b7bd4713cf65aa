//! Snapshots of a root that is being worked on, and whether anything changed.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::ops::{Op, cases, op, run_op, without_whiteouts};
use common::{Bench, Overlay, assert_same, overlay, privileged, settle, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Digest, Kind, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::working::{RootMount, Snapshot, WorkingRoot};

const MANY: usize = 100_000;

fn put(store: &Store, tree: &Tree) -> Digest {
    store.sync().unwrap();
    store.put_tree(tree).unwrap()
}

fn base(bench: &Bench, make: impl FnOnce(&Path)) -> Digest {
    let dir = bench.make_dir("base");
    make(&dir);
    put(&bench.store, &capture_directory(&bench.store, &dir, &Cancel::new()).unwrap())
}

fn mount(working: &WorkingRoot) -> Overlay {
    let RootMount::Overlay { lowers, upper, work } = working.mount() else { panic!("no overlay") };
    overlay(&lowers, &upper, &work).unwrap()
}

fn snapshot(bench: &Bench, working: &WorkingRoot) -> Snapshot {
    working.snapshot(&bench.store, &Cancel::new()).unwrap().unwrap()
}

fn captured(bench: &Bench, mounted: &Overlay) -> Tree {
    capture_directory(&bench.store, &mounted.path, &Cancel::new()).unwrap()
}

/// After each round the snapshot is the merged view, and the fingerprint tells whether it is another.
fn rounds(bench: &Bench, seeds: &[trees::Seed], rounds: &[Vec<Op>]) {
    let parent = put(&bench.store, &without_whiteouts(trees::tree(&bench.store, seeds)));
    let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
    let RootMount::Overlay { .. } = working.mount() else { return };
    let mounted = mount(&working);
    let mut before = captured(bench, &mounted);
    let mut fingerprint = working.fingerprint(MANY).unwrap().unwrap();
    for ops in rounds {
        for op in ops {
            run_op(&mounted.path, op);
        }
        let after = captured(bench, &mounted);
        let now = working.fingerprint(MANY).unwrap().unwrap();
        assert!(now != fingerprint || after.digest() == before.digest());
        let taken = snapshot(bench, &working);
        assert_same(&taken.tree().unwrap(), &after);
        assert_eq!(taken.digest(), after.digest());
        assert_eq!(working.fingerprint(MANY).unwrap(), Some(now), "looking changed something");
        (before, fingerprint) = (after, now);
    }
}

#[test]
fn a_snapshot_is_the_merged_view_and_the_fingerprint_tells_changes() {
    if !privileged("snapshots") {
        return;
    }
    let bench = Bench::new();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(64), failure_persistence: None, ..Default::default() });
    let ops = || prop::collection::vec(op(), 0..8);
    let strategy = (trees::seeds(true, 25), prop::collection::vec(ops(), 1..6));
    let result = runner.run(&strategy, |(seeds, ops)| {
        rounds(&bench, &seeds, &ops);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn what_changes_at_once_and_keeps_its_length_is_seen() {
    if !privileged("snapshots in quick succession") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench, |dir| fs::write(dir.join("file"), "0000").unwrap());
    let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
    let mounted = mount(&working);
    fs::write(mounted.path.join("file"), "start").unwrap();
    let mut last = (working.fingerprint(MANY).unwrap(), snapshot(&bench, &working).digest());
    for round in 0..100 {
        // In place: the same inode.
        let file = fs::OpenOptions::new().write(true).open(mounted.path.join("file")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, format!("{round:05}").as_bytes(), 0).unwrap();
        let now = (working.fingerprint(MANY).unwrap(), snapshot(&bench, &working).digest());
        assert!(now.0 != last.0 && now.1 != last.1, "round {round}");
        last = now;
    }
}

#[test]
fn a_fingerprint_tells_attributes_and_owners_of_directories_and_not_what_came_and_went() {
    if !privileged("fingerprints") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench, |dir| {
        fs::create_dir_all(dir.join("tmp/deep")).unwrap();
        fs::create_dir(dir.join("etc")).unwrap();
    });
    let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
    let mounted = mount(&working);
    let root = &mounted.path;
    let look = || working.fingerprint(MANY).unwrap().unwrap();
    fs::write(root.join("tmp/deep/first"), "").unwrap();
    let before = look();
    fs::create_dir(root.join("tmp/deep/ansible-tmp-1")).unwrap();
    fs::write(root.join("tmp/deep/ansible-tmp-1/module"), "x").unwrap();
    assert_ne!(look(), before);
    fs::remove_dir_all(root.join("tmp/deep/ansible-tmp-1")).unwrap();
    assert_eq!(look(), before);
    let mut seen = vec![before];
    let mut changed = |what: &str| {
        let now = look();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    rustix::fs::lsetxattr(root.join("tmp"), "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    changed("an attribute");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o700)).unwrap();
    changed("a mode");
    std::os::unix::fs::chown(root.join("tmp"), Some(7), None).unwrap();
    changed("an owner");
    fs::rename(root.join("etc"), root.join("etc2")).unwrap();
    changed("a redirect");
    fs::remove_dir(root.join("etc2")).unwrap();
    changed("a whiteout");
    assert_eq!(working.fingerprint(2).unwrap(), None);
}

#[test]
fn snapshots_are_kept_at_the_end_and_the_layer_is_what_it_would_be() {
    if !privileged("keeping snapshots") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let parent = base(&bench, |dir| {
        fs::create_dir_all(dir.join("var/log/apt")).unwrap();
        fs::write(dir.join("file"), "old").unwrap();
        fs::hard_link(dir.join("file"), dir.join("link")).unwrap();
    });
    let working = WorkingRoot::on(store, &parent, &Cancel::new()).unwrap();
    let mounted = mount(&working);
    assert_eq!(snapshot(&bench, &working).digest(), parent);
    fs::write(mounted.path.join("a"), "a").unwrap();
    fs::write(mounted.path.join("var/log/apt/history.log"), "scrubbed at the end, not before").unwrap();
    let first = snapshot(&bench, &working);
    fs::write(mounted.path.join("file"), "new").unwrap();
    fs::remove_file(mounted.path.join("a")).unwrap();
    let second = snapshot(&bench, &working);
    drop(mounted);
    let last = working.finish(store, &Cancel::new()).unwrap();
    for it in [&first, &second, &first] {
        assert_eq!(it.keep(store).unwrap(), it.digest());
    }
    // By another process, later.
    let store = Store::open(store.dir()).unwrap();
    let (first, second) = (store.tree(&first.digest()).unwrap(), store.tree(&second.digest()).unwrap());
    assert!(first.get(b"var/log/apt/history.log").is_some() && first.get(b"a").is_some());
    assert!(second.get(b"a").is_none());
    for tree in [&first, &second] {
        for entry in tree.entries() {
            if let Kind::File { object, .. } = entry.kind {
                assert!(store.has_object(&object));
            }
        }
    }
    let last = store.tree(&last).unwrap();
    assert!(last.get(b"var/log/apt/history.log").is_none());
    assert_eq!(last.get(b"file").unwrap().kind, second.get(b"file").unwrap().kind);
    settle(&store);
}
