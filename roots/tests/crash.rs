//! Killed at any moment, nothing is left half done.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Bench, overlay, privileged, settle};
use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::publish::{current, publish};
use rootbuild_roots::working::{RootMount, WorkingRoot, prune_lowers};

const FILES: usize = 300;

fn base(store: &Store, text: &str) -> Digest {
    let working = WorkingRoot::empty(store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!() };
    for number in 0..FILES {
        let dir = root.join(format!("d{}", number % 17));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), format!("{text} {number}")).unwrap();
    }
    working.finish(store, &Cancel::new()).unwrap()
}

fn change(root: &Path, round: u32) {
    for number in 0..50 {
        fs::write(root.join(format!("d{}/new{number}", number % 17)), format!("{round} {number}")).unwrap();
    }
    fs::rename(root.join("d3"), root.join("moved")).unwrap();
    fs::remove_dir_all(root.join("d4")).unwrap();
}

/// One step on `parent`, and its publication.
fn work(store: &Store, parent: &Digest, round: u32) -> Digest {
    let working = WorkingRoot::on(store, parent, &Cancel::new()).unwrap();
    match working.mount() {
        RootMount::Plain(root) => change(&root, round),
        RootMount::Overlay { lowers, upper, work } => {
            change(&overlay(&lowers, &upper, &work).unwrap().path, round);
        }
    }
    let tree = working.finish(store, &Cancel::new()).unwrap();
    publish(store, "hgweb", &tree, Path::new("/nowhere"), &Cancel::new()).unwrap();
    tree
}

#[test]
#[ignore = "run by another test, to be killed"]
fn killed_child() {
    let Some(dir) = std::env::var_os("ROOTBUILD_TEST_STORE") else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    let parent: Digest = std::env::var("ROOTBUILD_TEST_PARENT").unwrap().parse().unwrap();
    println!("ready");
    for round in 0.. {
        work(&store, &parent, round);
        prune_lowers(&store, &[parent]).unwrap();
    }
}

/// The root as published is one of the trees, whole.
fn check(store: &Store) {
    let link = store.dir().join("roots/hgweb");
    let Some(published) = current(store, "hgweb").unwrap() else {
        assert!(link.symlink_metadata().is_err(), "the link is there, but leads nowhere");
        return;
    };
    let tree = store.tree(&published.tree).unwrap();
    let there = capture_directory(store, &link, &Cancel::new()).unwrap();
    assert_eq!(there.digest(), published.tree, "{}", common::difference(&tree, &there));
}

#[test]
fn killed_at_any_moment_the_root_is_the_old_or_the_new_one_and_the_next_run_works() {
    if !privileged("crashes of steps and publications") {
        return;
    }
    let bench = Bench::new();
    let dir = bench.store.dir().to_owned();
    // What this process holds itself must not stand in staging when that is looked at.
    let parent = base(&Store::open(&dir).unwrap(), "base");
    let rounds = std::env::var("ROOTBUILD_TEST_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(25u64);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_child", "--ignored", "--nocapture"])
            .env("ROOTBUILD_TEST_STORE", &dir)
            .env("ROOTBUILD_TEST_PARENT", parent.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ready") && !line.contains("ready") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0, "the child died");
        }
        // Spread over some rounds of the child's work; odd enough to meet every phase.
        std::thread::sleep(Duration::from_micros(1_000 + round * 7_919 % 180_000));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(out);
        check(&Store::open(&dir).unwrap());
        // A later process opens the store, which sweeps, and does the same work to its end.
        let store = Store::open(&dir).unwrap();
        settle(&store);
        let tree = work(&store, &parent, 1_000_000);
        assert_eq!(current(&store, "hgweb").unwrap().unwrap().tree, tree);
        check(&store);
        let expected = store.tree(&parent).unwrap().entries().len();
        assert!(store.tree(&tree).unwrap().entries().len() > expected);
    }
}
