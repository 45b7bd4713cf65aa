//! Roots are handed over whole, and what is in use stays.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Bench, settle};
use rootbuild_cache::{Digest, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::publish::{PublishError, Published, current, lease, publish};

/// A tree with one file that says `text`.
fn tree(bench: &Bench, text: &str) -> Digest {
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    fs::write(dir.path().join("text"), text).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let tree = capture_directory(&bench.store, dir.path(), &Cancel::new()).unwrap();
    bench.store.sync().unwrap();
    bench.store.put_tree(&tree).unwrap()
}

fn put(store: &Store, tree: &Digest) -> (Published, bool) {
    publish(store, "hgweb", tree, &Cancel::new()).unwrap()
}

fn generations(bench: &Bench) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(bench.path("store/checkouts/hgweb"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_root_is_a_relative_link_to_a_private_checkout() {
    let bench = Bench::new();
    assert_eq!(current(&bench.store, "hgweb").unwrap(), None);
    let one = tree(&bench, "one");
    let (published, changed) = put(&bench.store, &one);
    assert!(changed);
    assert_eq!(published.path, bench.path("store/roots/hgweb"));
    assert_eq!(published.checkout, bench.path("store/checkouts/hgweb/1"));
    assert_eq!(fs::read_link(&published.path).unwrap(), Path::new("../checkouts/hgweb/1"));
    assert_eq!(fs::read(published.path.join("text")).unwrap(), b"one");
    assert!(published.created.ends_with('Z') && published.created.len() == 20, "{}", published.created);
    assert_eq!(current(&bench.store, "hgweb").unwrap(), Some(published.clone()));
    assert_eq!(put(&bench.store, &one), (published, false));
    settle(&bench.store);
}

#[test]
fn the_current_generation_and_the_one_before_are_kept() {
    let bench = Bench::new();
    let trees = ["one", "two", "three", "four"].map(|text| tree(&bench, text));
    for tree in &trees {
        put(&bench.store, tree);
    }
    settle(&bench.store);
    assert_eq!(generations(&bench), ["3", "3.json", "4", "4.json"]);
    // Back to an older tree: a new generation.
    let (published, changed) = put(&bench.store, &trees[0]);
    assert!(changed && published.checkout.ends_with("5"));
    settle(&bench.store);
    assert_eq!(generations(&bench), ["4", "4.json", "5", "5.json"]);
}

#[test]
fn what_is_leased_stays_until_it_is_let_go() {
    let bench = Bench::new();
    let trees = ["one", "two", "three", "four"].map(|text| tree(&bench, text));
    let (first, _) = put(&bench.store, &trees[0]);
    let held = lease(&bench.store, &first).unwrap();
    for tree in &trees[1..] {
        put(&bench.store, tree);
    }
    assert_eq!(fs::read(first.checkout.join("text")).unwrap(), b"one");
    drop(held);
    put(&bench.store, &trees[3]);
    settle(&bench.store);
    assert!(!first.checkout.exists());
    assert!(matches!(lease(&bench.store, &first), Err(PublishError::Gone { .. })));
}

#[test]
fn what_a_user_removed_is_published_again() {
    let bench = Bench::new();
    let one = tree(&bench, "one");
    let removals: [fn(&Published); 5] = [
        |it| fs::remove_dir_all(&it.checkout).unwrap(),
        |it| fs::remove_file(&it.path).unwrap(),
        |it| fs::remove_file(it.checkout.with_extension("json")).unwrap(),
        |it| fs::write(it.checkout.with_extension("json"), "{").unwrap(),
        |it| {
            fs::remove_file(&it.path).unwrap();
            fs::create_dir(&it.path).unwrap();
            fs::write(it.path.join("mine"), "").unwrap();
        },
    ];
    for remove in removals {
        let (published, _) = put(&bench.store, &one);
        remove(&published);
        assert_eq!(current(&bench.store, "hgweb").unwrap(), None);
        let (again, changed) = put(&bench.store, &one);
        assert!(changed && again.checkout != published.checkout);
        assert_eq!(fs::read(again.path.join("text")).unwrap(), b"one");
        assert_eq!(current(&bench.store, "hgweb").unwrap(), Some(again));
    }
    settle(&bench.store);
    assert_eq!(generations(&bench).len(), 2);
}

#[test]
fn whatever_users_made_in_a_checkout_does_not_keep_it() {
    let bench = Bench::new();
    let trees = ["one", "two", "three"].map(|text| tree(&bench, text));
    let (first, _) = put(&bench.store, &trees[0]);
    let _socket = std::os::unix::net::UnixListener::bind(first.checkout.join("socket")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = first.checkout.join("empty/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    symlink("/etc", first.checkout.join("link")).unwrap();
    let outside = bench.path("outside");
    fs::write(&outside, "stays").unwrap();
    symlink(&outside, first.checkout.join("empty/out")).unwrap();
    for tree in &trees[1..] {
        put(&bench.store, tree);
    }
    settle(&bench.store);
    assert!(!first.checkout.exists());
    assert_eq!(fs::read(outside).unwrap(), b"stays");
}

#[test]
fn a_link_that_leads_elsewhere_is_not_ours() {
    let bench = Bench::new();
    let one = tree(&bench, "one");
    put(&bench.store, &one);
    let link = bench.path("store/roots/hgweb");
    for target in ["/etc", "../checkouts/other/1", "../checkouts/hgweb/../../x", "../checkouts/hgweb/x"] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        assert_eq!(current(&bench.store, "hgweb").unwrap(), None);
        assert!(put(&bench.store, &one).1);
    }
    settle(&bench.store);
}

#[test]
fn names_that_are_paths_are_refused() {
    let bench = Bench::new();
    let one = tree(&bench, "one");
    for name in ["", "..", "a/b", "/abs", ".hidden"] {
        let done = publish(&bench.store, name, &one, &Cancel::new());
        assert!(matches!(done, Err(PublishError::Name(_))), "{done:?}");
        assert!(matches!(current(&bench.store, name), Err(PublishError::Name(_))));
    }
}

#[test]
fn a_reader_never_sees_a_mixture() {
    let bench = Bench::new();
    let trees = ["one", "two"].map(|text| tree(&bench, text));
    put(&bench.store, &trees[0]);
    let link: PathBuf = bench.path("store/roots/hgweb");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // One resolution of the link, then everything below it.
                let checkout = fs::canonicalize(&link).unwrap();
                if let Ok(text) = fs::read(checkout.join("text")) {
                    assert!(text == b"one" || text == b"two");
                    assert!(checkout.join("empty").is_dir() || !checkout.join("text").exists());
                    seen += 1;
                }
            }
            seen
        });
        for number in 0..20 {
            put(&bench.store, &trees[number % 2]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    settle(&bench.store);
}

#[test]
fn cancelled_publication_leaves_the_old_root() {
    let bench = Bench::new();
    let trees = ["one", "two"].map(|text| tree(&bench, text));
    let (first, _) = put(&bench.store, &trees[0]);
    let cancel = Cancel::new();
    cancel.cancel();
    let done = publish(&bench.store, "hgweb", &trees[1], &cancel);
    assert!(matches!(done, Err(PublishError::Cancelled(_))), "{done:?}");
    assert_eq!(current(&bench.store, "hgweb").unwrap(), Some(first));
    settle(&bench.store);
}
