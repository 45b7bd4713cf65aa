//! Roots are handed over whole, and what is in use stays.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Bench, privileged, settle};
use rootbuild_cache::{Digest, Store};
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::checkout::Areas;
use rootbuild_roots::publish::{PublishError, Published, Wanted, current, lease, publish, publish_as};
use rootbuild_roots::{Cancel, Wait};

/// A tree with one file that says `text`.
fn tree(bench: &Bench, text: &str) -> Digest {
    let dir = tempfile::tempdir_in(bench.dir.path()).unwrap();
    fs::write(dir.path().join("text"), text).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let tree = capture_directory(&bench.store, dir.path(), &Cancel::new()).unwrap();
    bench.store.sync().unwrap();
    bench.store.put_tree(&tree).unwrap()
}

/// A definition that isn't there: whoever comes next may take what it had.
const DEFINITION: &str = "/nowhere/rootbuild.toml";

fn put(store: &Store, tree: &Digest) -> (Published, bool) {
    publish(store, "hgweb", tree, Path::new(DEFINITION), &Cancel::new()).unwrap()
}

/// The description of a generation.
fn description(it: &Published) -> PathBuf {
    let number = it.checkout.file_name().unwrap().to_str().unwrap();
    it.path.parent().unwrap().with_file_name("published").join(&it.name).join(format!("{number}.json"))
}

fn generations(bench: &Bench) -> Vec<String> {
    let dirs = ["checkouts", "published"].map(|dir| bench.path("store").join(dir).join("hgweb"));
    let mut names: Vec<_> = dirs
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".index"))
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
    assert_eq!(generations(&bench), ["3", "3.json", "3.lock", "4", "4.json", "4.lock"]);
    // Back to an older tree: a new generation.
    let (published, changed) = put(&bench.store, &trees[0]);
    assert!(changed && published.checkout.ends_with("5"));
    settle(&bench.store);
    assert_eq!(generations(&bench), ["4", "4.json", "4.lock", "5", "5.json", "5.lock"]);
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
        |it| fs::remove_file(description(it)).unwrap(),
        |it| fs::write(description(it), "{").unwrap(),
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
    // The last removal left nothing that is current: so there is none before the new one.
    assert_eq!(generations(&bench).len(), 3);
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
        let done = publish(&bench.store, name, &one, Path::new(DEFINITION), &Cancel::new());
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
    let done = publish(&bench.store, "hgweb", &trees[1], Path::new(DEFINITION), &cancel);
    assert!(matches!(done, Err(PublishError::Cancelled(_))), "{done:?}");
    assert_eq!(current(&bench.store, "hgweb").unwrap(), Some(first));
    settle(&bench.store);
}

#[test]
fn everybody_may_know_what_stands_but_only_root_gets_there() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: everybody_may_know_what_stands_but_only_root_gets_there needs root");
        return;
    }
    let bench = Bench::new();
    let (published, _) = put(&bench.store, &tree(&bench, "one"));
    let mode = |path: &str| fs::symlink_metadata(bench.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("store/checkouts"), 0o700);
    assert_eq!(mode("store/checkouts/hgweb/1.lock"), 0o600);
    for (path, open) in [("", 0o755), ("/hgweb", 0o755), ("/hgweb/1.json", 0o644)] {
        assert_eq!(mode(&format!("store/published{path}")), open);
    }
    // As somebody else: this thread alone.
    fs::set_permissions(bench.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let seen = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let store = Store::open_read_only(&bench.path("store")).unwrap().unwrap();
            assert!(fs::read_dir(&published.checkout).is_err());
            current(&store, "hgweb").unwrap()
        });
        other.join().unwrap()
    });
    assert_eq!(seen, Some(published));
    settle(&bench.store);
}

#[test]
fn a_name_belongs_to_one_definition_as_long_as_that_is_there() {
    let bench = Bench::new();
    let trees = ["one", "two"].map(|text| tree(&bench, text));
    let paths = ["a.toml", "b.toml"].map(|name| bench.path(name));
    for path in &paths {
        fs::write(path, "").unwrap();
    }
    let by = |path: &Path, tree| publish(&bench.store, "hgweb", tree, path, &Cancel::new());
    let (mine, _) = by(&paths[0], &trees[0]).unwrap();
    // Not even with the same tree: the next one would replace it.
    for tree in &trees {
        let error = by(&paths[1], tree).unwrap_err();
        assert!(matches!(&error, PublishError::Owned { owner, definition, .. }
            if *owner == paths[0] && *definition == paths[1]));
        assert!(error.is_definition_error() && error.hint().unwrap().contains("--store"));
        assert_eq!(current(&bench.store, "hgweb").unwrap().as_ref(), Some(&mine));
    }
    // The same file by another name is no other definition.
    let alias = bench.path("alias.toml");
    symlink(&paths[0], &alias).unwrap();
    assert_eq!(by(&alias, &trees[0]).unwrap(), (mine.clone(), false));
    fs::remove_file(&paths[0]).unwrap();
    assert_eq!(by(&paths[1], &trees[0]).unwrap(), (mine, false));
    fs::write(&paths[0], "").unwrap();
    assert!(by(&paths[0], &trees[0]).is_err());
    assert!(by(&paths[1], &trees[1]).unwrap().1);
    settle(&bench.store);
}

#[test]
fn who_holds_the_name_is_told_and_waited_for_only_so_long() {
    let bench = Bench::new();
    let one = tree(&bench, "one");
    let _held = bench.store.try_lock("publish-hgweb", "publishing hgweb").unwrap().unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let cancel = Cancel::new();
    let wait = Wait {
        timeout: Some(Duration::from_millis(50)),
        told: &|holder| told.lock().unwrap().push(holder.pid),
        cancel: &cancel,
    };
    let error = publish(&bench.store, "hgweb", &one, Path::new(DEFINITION), wait).unwrap_err();
    let PublishError::Store(rootbuild_cache::Error::LockTimeout { holder, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(*told.lock().unwrap(), [std::process::id()]);
}

#[test]
fn checkouts_may_be_on_another_file_system_than_the_rest_of_the_store() {
    if !privileged("checkouts on a file system of their own") {
        return;
    }
    let bench = Bench::new();
    let at = bench.store.dir().join("checkouts");
    let run = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program).args(arguments).arg(&at).status().is_ok_and(|it| it.success())
    };
    if !run("mount", &["-t", "tmpfs", "none"]) {
        eprintln!("skipped: checkouts on a file system of their own (no tmpfs can be mounted)");
        return;
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let root = bench.make_dir("root");
        fs::create_dir_all(root.join("usr")).unwrap();
        let private = Areas::default();
        for number in 0..4 {
            fs::write(root.join("usr/text"), format!("text {number}")).unwrap();
            fs::write(root.join("usr/other"), "the same").unwrap();
            let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
            bench.store.sync().unwrap();
            let tree = bench.store.put_tree(&tree).unwrap();
            let definition = Path::new(DEFINITION);
            let wanted = Wanted { tree: &tree, definition, private: Some(&private), prepared: None };
            let (published, _) = publish_as(&bench.store, "hgweb", wanted, &Cancel::new()).unwrap();
            let text = fs::read_to_string(published.path.join("usr/text")).unwrap();
            assert_eq!(text, format!("text {number}"));
            settle(&bench.store);
        }
        // What a dead process left there is swept as elsewhere.
        fs::create_dir_all(at.join(".staging/publish-dead/root")).unwrap();
        Store::open(bench.store.dir()).unwrap();
        let left: Vec<_> = fs::read_dir(at.join(".staging")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }));
    assert!(run("umount", &["-l"]));
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}
