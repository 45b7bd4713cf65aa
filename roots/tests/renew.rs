//! A generation that nobody uses becomes the next one, whatever was done to it.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::ops::{Op, cases, op, run_op};
use common::{Bench, assert_same, privileged, settle, trees};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rootbuild_cache::{Digest, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::publish::{Prepared, Published, lease, prepare, publish, publish_prepared};

const DEFINITION: &str = "/nowhere/rootbuild.toml";

/// A root's name that no other test here has: who has something of a root of this name open uses this one, by all that
/// can be told.
fn name(store: &Store) -> String {
    let dir = store.dir().parent().and_then(Path::file_name).unwrap();
    format!("web-{}", dir.to_str().unwrap().trim_start_matches('.').to_lowercase())
}

fn put(store: &Store, tree: &Tree) -> Digest {
    store.sync().unwrap();
    store.put_tree(tree).unwrap()
}

fn hand_over(store: &Store, tree: &Digest) -> Published {
    publish(store, &name(store), tree, Path::new(DEFINITION), &Cancel::new()).unwrap().0
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// The checkout is its tree, times included.
#[track_caller]
fn check(store: &Store, published: &Published) {
    let there = capture_directory(store, &published.checkout, &Cancel::new()).unwrap();
    assert_same(&there, &store.tree(&published.tree).unwrap());
}

/// Trees one after the other; after each publication somebody works in the checkout that it replaces.
fn sequence(bench: &Bench, seeds: &[Vec<trees::Seed>], ops: &[Vec<Op>]) -> usize {
    let store = &bench.store;
    let mut reused = 0;
    let mut before: Vec<Published> = Vec::new();
    for (number, seeds) in seeds.iter().enumerate() {
        let tree = put(store, &trees::tree(store, seeds));
        let inodes: Vec<u64> = before.iter().map(|it| inode(&it.checkout)).collect();
        let published = hand_over(store, &tree);
        check(store, &published);
        if before.last().is_some_and(|last| *last == published) {
            continue;
        }
        reused += usize::from(inodes.contains(&inode(&published.checkout)));
        if let Some(last) = before.last() {
            for op in &ops[number % ops.len()] {
                run_op(&last.checkout, op);
            }
        }
        before = before.into_iter().last().into_iter().chain([published]).collect();
    }
    reused
}

#[test]
fn whatever_was_done_to_a_generation_the_next_is_its_tree() {
    if !privileged("generations made of others") {
        return;
    }
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(48), failure_persistence: None, ..Default::default() });
    let reused = std::cell::Cell::new(0);
    let ops = || prop::collection::vec(op(), 0..10);
    // Some seeds in common, so that something stays.
    let like = trees::seeds(true, 25).prop_flat_map(|common| {
        let more = prop::collection::vec(trees::seeds(true, 6), 4);
        more.prop_map(move |more| {
            let with = |it: Vec<trees::Seed>| common.iter().cloned().chain(it).collect::<Vec<_>>();
            more.into_iter().map(with).collect::<Vec<_>>()
        })
    });
    let result = runner.run(&(like, prop::collection::vec(ops(), 4)), |(seeds, ops)| {
        let bench = Bench::new();
        reused.set(reused.get() + sequence(&bench, &seeds, &ops));
        settle(&bench.store);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(reused.get() > 0, "none was ever made of another");
}

/// A tree of some files, and a third that says `text`.
fn tree(bench: &Bench, text: &str) -> Digest {
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    fs::create_dir_all(dir.path().join("var/log")).unwrap();
    fs::write(dir.path().join("var/secret"), "unchanged").unwrap();
    fs::write(dir.path().join("linked"), "unchanged").unwrap();
    fs::hard_link(dir.path().join("linked"), dir.path().join("var/link")).unwrap();
    for name in ["linked", "var/secret"] {
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options().write(true).open(dir.path().join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    fs::write(dir.path().join("text"), text).unwrap();
    let tree = capture_directory(&bench.store, dir.path(), &Cancel::new()).unwrap();
    put(&bench.store, &tree)
}

#[test]
fn what_was_not_touched_stays_and_what_was_is_written_again_however_it_hides() {
    if !privileged("generations made of others") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let first = hand_over(store, &tree(&bench, "one"));
    let second = hand_over(store, &tree(&bench, "two"));
    let old = &first.checkout;
    let inodes = ["", "var", "var/secret", "linked"].map(|name| inode(&old.join(name)));
    // Of the same length, in place, with its time put back.
    let secret = File::options().write(true).open(old.join("var/secret")).unwrap();
    let time = secret.metadata().unwrap().modified().unwrap();
    secret.write_all_at(b"CHANGED!!", 0).unwrap();
    secret.set_modified(time).unwrap();
    drop(secret);
    fs::write(old.join("var/log/daemon.log"), "it works").unwrap();
    rustix::fs::lsetxattr(old.join("var/log"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let third = hand_over(store, &tree(&bench, "three"));
    check(store, &third);
    let now = ["", "var", "var/secret", "linked"].map(|name| inode(&third.checkout.join(name)));
    assert_eq!([now[0], now[1], now[3]], [inodes[0], inodes[1], inodes[3]]);
    assert_eq!(fs::read(third.checkout.join("var/secret")).unwrap(), b"unchanged");
    check(store, &second);
    settle(store);
}

/// Uses a generation, until what it returns is dropped; or spoils what is known of it.
type Use = fn(&Store, &Published) -> Option<Box<dyn std::any::Any>>;

#[test]
fn a_generation_in_use_or_without_an_index_is_left_alone() {
    if !privileged("generations in use") {
        return;
    }
    let uses: [Use; 4] = [
        |store, it| Some(Box::new(lease(store, it).unwrap())),
        |_, it| Some(Box::new(File::open(it.checkout.join("text")).unwrap())),
        |_, it| {
            let index = it.checkout.with_extension("index");
            let mut bytes = fs::read(&index).unwrap();
            bytes[50] ^= 1;
            fs::write(index, bytes).unwrap();
            None
        },
        |_, it| {
            fs::remove_file(it.checkout.with_extension("index")).unwrap();
            None
        },
    ];
    for in_use in uses {
        let bench = Bench::new();
        let store = &bench.store;
        let first = hand_over(store, &tree(&bench, "one"));
        let second = hand_over(store, &tree(&bench, "two"));
        let held = in_use(store, &first);
        let taken = inode(&first.checkout);
        let third = hand_over(store, &tree(&bench, "three"));
        assert_ne!(inode(&third.checkout), taken);
        for it in [&second, &third] {
            check(store, it);
        }
        drop(held);
        // The next one is of the second.
        let taken = inode(&second.checkout);
        assert_eq!(inode(&hand_over(store, &tree(&bench, "four")).checkout), taken);
        settle(store);
    }
}

/// What [`prepare`] began, when it is done.
fn prepared(store: &Store, near: &Digest) -> Option<Prepared> {
    let begun = prepare(store, &name(store), near);
    while begun.as_ref().is_some_and(|it| !it.is_finished()) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    begun
}

fn hand_over_prepared(store: &Store, tree: &Digest, prepared: Option<Prepared>) -> Published {
    let (definition, cancel) = (Path::new(DEFINITION), Cancel::new());
    publish_prepared(store, &name(store), tree, definition, &cancel, prepared).unwrap().0
}

#[test]
fn what_was_prepared_becomes_the_generation_and_what_is_not_wanted_goes() {
    let bench = Bench::new();
    let store = &bench.store;
    let trees = ["one", "two", "three"].map(|text| tree(&bench, text));
    let hand_over = |tree: &Digest, near: &Digest| {
        let done = hand_over_prepared(store, tree, prepare(store, &name(store), near));
        check(store, &done);
        done
    };
    // Before there is any generation, and when there is one, or two.
    let first = hand_over(&trees[0], &trees[2]);
    assert_eq!(hand_over(&trees[0], &trees[2]).checkout, first.checkout);
    hand_over(&trees[1], &trees[0]);
    hand_over(&trees[2], &trees[1]);
    assert!(prepare(store, "other", &Digest::of(b"nothing")).is_none());
    drop(prepare(store, "other", &trees[0]));
    settle(store);
}

#[test]
fn the_generation_before_is_prepared_whatever_was_done_to_it_and_waits_if_it_is_not_wanted() {
    if !privileged("generations made of others") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let [one, two, three] = ["one", "two", "three"].map(|text| tree(&bench, text));
    let first = hand_over(store, &one);
    let second = hand_over(store, &two);
    let kept = ["", "var/secret"].map(|name| inode(&first.checkout.join(name)));
    let spare = first.checkout.with_extension("spare");
    for round in 0..3 {
        let place = if round == 0 { &first.checkout } else { &spare };
        fs::write(place.join("var/text"), "somebody's").unwrap();
        fs::write(place.join("text"), "somebody's").unwrap();
        let begun = prepared(store, &two);
        assert!(!place.exists(), "somebody could still find it");
        // Who had that generation can't go on with it; it isn't told as one that stands.
        assert!(lease(store, &first).is_err());
        drop(begun);
        assert!(spare.is_dir() && !first.checkout.exists());
        assert!(fs::read(spare.join("text")).unwrap() == b"two" && !spare.join("var/text").exists());
        let current = rootbuild_roots::publish::current(store, &name(store)).unwrap().unwrap();
        assert_eq!(current.checkout, second.checkout);
        assert_eq!(inode(&spare.join("var/secret")), kept[1]);
    }
    let third = hand_over_prepared(store, &three, prepared(store, &two));
    check(store, &third);
    assert_eq!(["", "var/secret"].map(|name| inode(&third.checkout.join(name))), kept);
    assert!(!spare.exists() && !first.checkout.with_extension("index").exists());
    // What was learnt while it was prepared is as good as what a look tells.
    let text = third.checkout.join("text");
    fs::write(&text, "three").unwrap();
    let fourth = hand_over(store, &one);
    let fifth = hand_over(store, &two);
    for it in [&fourth, &fifth] {
        check(store, it);
    }
    assert_eq!(inode(&fifth.checkout), kept[0]);
    settle(store);
}

#[test]
fn a_generation_in_use_is_not_prepared_and_one_that_is_being_prepared_is_left_alone() {
    if !privileged("generations in use") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|text| tree(&bench, text));
    let first = hand_over(store, &one);
    let second = hand_over(store, &two);
    let held = lease(store, &first).unwrap();
    let begun = prepared(store, &two);
    assert!(first.checkout.is_dir());
    drop(held);
    drop(begun);
    // Two that prepare at a time, and a third that publishes meanwhile.
    let taken = inode(&first.checkout);
    let begun = [prepared(store, &two), prepared(store, &two)];
    let third = hand_over(store, &three);
    assert_ne!(inode(&third.checkout), taken);
    let [a, b] = begun;
    drop(b);
    let fourth = hand_over_prepared(store, &four, a);
    assert_eq!(inode(&fourth.checkout), taken);
    for it in [&third, &fourth] {
        check(store, it);
    }
    assert!(!second.checkout.exists());
    settle(store);
}
