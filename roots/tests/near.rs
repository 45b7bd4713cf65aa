//! A working root on a tree, from the lower directories of another one.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::ops::{Op, cases, op, run_op, without_whiteouts};
use common::{Bench, Overlay, assert_same, overlay, privileged, settle, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Digest, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::checkout::checkout;
use rootbuild_roots::working::{RootMount, WorkingRoot, prune_lowers};

fn put(store: &Store, tree: &Tree) -> Digest {
    store.sync().unwrap();
    store.put_tree(tree).unwrap()
}

fn on(store: &Store, tree: &Digest) -> WorkingRoot {
    WorkingRoot::on(store, tree, &Cancel::new()).unwrap()
}

fn near(store: &Store, tree: &Digest, near: &Digest) -> WorkingRoot {
    WorkingRoot::on_near(store, tree, near, &Cancel::new()).unwrap()
}

fn mount(working: &WorkingRoot) -> Overlay {
    let RootMount::Overlay { lowers, upper, work } = working.mount() else { panic!("no overlay") };
    overlay(&lowers, &upper, &work).unwrap()
}

fn kept(store: &Store, tree: &Digest) -> Vec<String> {
    let dir = store.dir().join("lowers").join(tree.hex());
    let Ok(listed) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = listed.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Does `ops` on `parent`, and keeps the tree alone.
fn change(store: &Store, parent: &Digest, ops: &[Op]) -> Digest {
    let working = on(store, parent);
    let mounted = mount(&working);
    for op in ops {
        run_op(&mounted.path, op);
    }
    working.snapshot(store, &Cancel::new()).unwrap().unwrap().keep(store).unwrap()
}

/// A root on `tree` from `from` shows `tree`, and a step on it gives what it gives on a full checkout.
fn check(bench: &Bench, tree: &Digest, from: &Digest, ops: &[Op]) {
    let store = &bench.store;
    let expected = store.tree(tree).unwrap();
    let before = kept(store, tree);
    let working = near(store, tree, from);
    let mounted = mount(&working);
    let shown = capture_directory(store, &mounted.path, &Cancel::new()).unwrap();
    if before.is_empty() {
        assert_eq!(kept(store, tree), ["delta"]);
    }
    assert_same(&shown, &expected);
    for op in ops {
        run_op(&mounted.path, op);
    }
    drop(mounted);
    let stepped = working.finish(store, &Cancel::new()).unwrap();
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    let [full, upper, work] = ["full", "upper", "work"].map(|name| dir.path().join(name));
    for dir in [&full, &upper, &work] {
        fs::create_dir(dir).unwrap();
    }
    let top = Tree::from_entries(vec![expected.entries()[0].clone()]).unwrap();
    checkout(store, &expected, &full, &Cancel::new()).unwrap();
    checkout(store, &top, &upper, &Cancel::new()).unwrap();
    let mounted = overlay(&[full], &upper, &work).unwrap();
    for op in ops {
        run_op(&mounted.path, op);
    }
    let full = capture_directory(store, &mounted.path, &Cancel::new()).unwrap();
    let stepped = store.tree(&stepped).unwrap();
    assert_eq!(stepped.digest(), full.digest(), "{}", common::difference(&stepped, &full));
}

fn seeds() -> impl Strategy<Value = Vec<trees::Seed>> {
    trees::seeds(true, 25)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..15)
}

fn for_all<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, test: impl Fn(&Bench, T)) {
    let bench = Bench::new();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(64), failure_persistence: None, ..Default::default() });
    let result = runner.run(&strategy, |value| {
        test(&bench, value);
        prune_lowers(&bench.store, &[]).unwrap();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn any_tree_is_made_from_any_other() {
    if !privileged("roots near others") {
        return;
    }
    for_all((seeds(), seeds(), ops()), |bench, (from, to, ops)| {
        let trees =
            [from, to].map(|it| put(&bench.store, &without_whiteouts(trees::tree(&bench.store, &it))));
        drop(on(&bench.store, &trees[0]));
        check(bench, &trees[1], &trees[0], &ops);
    });
}

#[test]
fn any_later_and_earlier_state_is_made_from_any_other() {
    if !privileged("roots near their like") {
        return;
    }
    for_all((seeds(), ops(), ops(), ops(), any::<bool>()), |bench, (seeds, first, second, third, back)| {
        let store = &bench.store;
        let base = put(store, &without_whiteouts(trees::tree(store, &seeds)));
        // With what overlayfs itself writes in its chain.
        let working = on(store, &base);
        let mounted = mount(&working);
        first.iter().for_each(|op| {
            run_op(&mounted.path, op);
        });
        drop(mounted);
        let middle = working.finish(store, &Cancel::new()).unwrap();
        let last = change(store, &middle, &second);
        if back {
            drop(near(store, &last, &middle));
            let other = change(store, &base, &second);
            // Over a difference that was made, and not by overlayfs.
            check(bench, &other, &last, &third);
        } else {
            check(bench, &last, &middle, &third);
        }
    });
}

fn base(bench: &Bench, make: impl FnOnce(&Path)) -> Digest {
    let dir = bench.make_dir("base");
    make(&dir);
    put(&bench.store, &capture_directory(&bench.store, &dir, &Cancel::new()).unwrap())
}

fn written(store: &Store, parent: &Digest, name: &str) -> Digest {
    let working = on(store, parent);
    let mounted = mount(&working);
    fs::write(mounted.path.join(name), name).unwrap();
    working.snapshot(store, &Cancel::new()).unwrap().unwrap().keep(store).unwrap()
}

#[test]
fn a_difference_of_an_earlier_boot_is_nothing_until_it_was_made_durable() {
    if !privileged("differences of earlier boots") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let parent = base(&bench, |dir| fs::write(dir.join("file"), "").unwrap());
    drop(on(store, &parent));
    let tree = written(store, &parent, "new");
    drop(near(store, &tree, &parent));
    let json = store.dir().join("lowers").join(tree.hex()).join("delta/lower.json");
    let text = fs::read_to_string(&json).unwrap();
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(id.trim()));
    // As a machine that lost power would find it.
    fs::write(&json, text.replace(id.trim(), "another")).unwrap();
    let torn = json.with_file_name("root").join("new");
    fs::write(&torn, "").unwrap();
    let working = near(store, &tree, &parent);
    assert_eq!(fs::read(mount(&working).path.join("new")).unwrap(), b"new");
    assert_eq!(fs::read(&torn).unwrap(), b"new");
    // A step on it that is kept makes it durable.
    fs::write(mount_upper(&working).join("more"), "").unwrap();
    let next = working.finish(store, &Cancel::new()).unwrap();
    assert!(!fs::read_to_string(&json).unwrap().contains("boot"));
    prune_lowers(store, &[next]).unwrap();
    assert_eq!(
        [kept(store, &parent), kept(store, &tree), kept(store, &next)],
        [vec!["full"], vec!["delta"], vec!["delta"]]
    );
    settle(store);
}

fn mount_upper(working: &WorkingRoot) -> std::path::PathBuf {
    let RootMount::Overlay { upper, .. } = working.mount() else { panic!() };
    upper
}

#[test]
fn what_has_no_lower_directories_near_it_is_checked_out() {
    if !privileged("roots near nothing") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let parent = base(&bench, |dir| fs::write(dir.join("file"), "").unwrap());
    let tree = written(store, &parent, "new");
    prune_lowers(store, &[]).unwrap();
    drop(near(store, &tree, &parent));
    assert_eq!(kept(store, &tree), ["full"]);
    // A tree that isn't there at all is no help, and no harm.
    let other = written(store, &tree, "other");
    drop(near(store, &other, &Digest::of(b"nothing")));
    assert_eq!(kept(store, &other), ["full"]);
    // Who needs the same at once waits for the one who writes it.
    let third = written(store, &tree, "third");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let working = near(store, &third, &tree);
                assert!(mount(&working).path.join("third").exists());
            });
        }
    });
    assert_eq!(kept(store, &third), ["delta"]);
}
