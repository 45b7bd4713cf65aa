//! A step's root: what it stands on, what it leaves, what is kept.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Bench, assert_same, overlay, privileged, settle};
use rootbuild_cache::{Digest, Kind, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::working::{
    FailedRoot, RootMount, WorkingError, WorkingRoot, drop_failed, failed_exists, failed_root, prune_lowers,
};

/// A definition that isn't there.
const DEFINITION: &str = "/nowhere/rootbuild.toml";

fn look(store: &Store) -> Option<FailedRoot> {
    failed_root(store, "hgweb", DEFINITION.as_ref()).unwrap()
}

/// A base with a few files.
fn base(store: &Store) -> Digest {
    let working = WorkingRoot::empty(store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!("a base is a plain directory") };
    fs::create_dir_all(root.join("etc/deep")).unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(root.join("etc/deep/file"), "deep").unwrap();
    fs::hard_link(root.join("etc/hosts"), root.join("etc/hosts2")).unwrap();
    working.finish(store, &Cancel::new()).unwrap()
}

/// Does `change` in the root as the sandbox would mount it.
fn in_root<R>(mount: &RootMount, change: impl FnOnce(&Path) -> R) -> R {
    match mount {
        RootMount::Plain(root) => change(root),
        RootMount::Overlay { lowers, upper, work } => {
            let mounted = overlay(lowers, upper, work).unwrap();
            change(&mounted.path)
        }
    }
}

fn step(store: &Store, parent: &Digest, change: impl FnOnce(&Path)) -> Digest {
    let working = WorkingRoot::on(store, parent, &Cancel::new()).unwrap();
    in_root(&working.mount(), change);
    working.finish(store, &Cancel::new()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(listed) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = listed.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn lower(store: &Store, tree: &Digest) -> PathBuf {
    store.dir().join("lowers").join(tree.hex())
}

#[test]
fn steps_lie_over_each_other_and_give_what_a_plain_root_would() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let mut tree = base(&bench.store);
    assert_eq!(names(&lower(&bench.store, &tree)), ["full"]);
    let plain = bench.checkout("plain", &bench.store.tree(&tree).unwrap());
    for number in 0..4 {
        let change = |root: &Path| {
            fs::write(root.join(format!("etc/new{number}")), "new").unwrap();
            let (from, to) =
                (format!("etc/deep{}", "x".repeat(number)), format!("etc/deep{}", "x".repeat(number + 1)));
            fs::rename(root.join(from), root.join(to)).unwrap();
            if number == 2 {
                fs::remove_file(root.join("etc/hosts")).unwrap();
            }
        };
        tree = step(&bench.store, &tree, change);
        change(&plain);
        assert_eq!(names(&lower(&bench.store, &tree)), ["delta"]);
    }
    let expected = capture_directory(&bench.store, &plain, &Cancel::new()).unwrap();
    assert_eq!(
        tree,
        expected.digest(),
        "{}",
        common::difference(&bench.store.tree(&tree).unwrap(), &expected)
    );
    settle(&bench.store);
}

#[test]
fn a_step_that_changes_nothing_gives_its_parent() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    assert_eq!(step(&bench.store, &parent, |_| ()), parent);
    // Written again, and there and back again.
    let again = |root: &Path| {
        fs::write(root.join("etc/deep/file"), "deep").unwrap();
        fs::rename(root.join("etc/deep"), root.join("etc/other")).unwrap();
        fs::rename(root.join("etc/other"), root.join("etc/deep")).unwrap();
    };
    assert_eq!(step(&bench.store, &parent, again), parent);
    assert_eq!(names(&bench.path("store/lowers")), [parent.hex()]);
    // But a change of the root directory alone is one.
    let changed = step(&bench.store, &parent, |root| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    });
    assert_ne!(changed, parent);
    assert_eq!(bench.store.tree(&changed).unwrap().entries()[0].meta.mode, 0o700);
}

#[test]
fn the_files_of_a_base_are_objects_where_they_lie_but_not_those_that_steps_change() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let working = WorkingRoot::empty(&bench.store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!("a base is a plain directory") };
    let files = ["usr/bin/tool", "usr/bin/same", "etc/crontab", "top"];
    for (number, file) in files.iter().enumerate() {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        let content = if number == 1 { "0".to_owned() } else { number.to_string() };
        fs::write(root.join(file), content).unwrap();
        fs::set_permissions(root.join(file), fs::Permissions::from_mode(0o4755)).unwrap();
    }
    let told = std::cell::Cell::new(None);
    let tell = |tree: &rootbuild_cache::Tree| {
        // Its contents can be read already.
        assert!(
            matches!(tree.get(b"top").unwrap().kind, Kind::File { object, .. } if bench.store.has_object(&object))
        );
        told.set(Some(tree.digest()));
    };
    let tree = working.finish_telling(&bench.store, &Cancel::new(), &tell).unwrap();
    assert_eq!(told.get(), Some(tree));
    let full = lower(&bench.store, &tree).join("full");
    let links = |file: &str| fs::metadata(full.join(file)).unwrap().nlink();
    // Of two equal files one is the object.
    assert_eq!(links("usr/bin/tool") + links("usr/bin/same"), 3);
    assert_eq!((links("etc/crontab"), links("top")), (1, 1));
    // A step changes its own copy, and a checkout has none of these inodes.
    let changed = step(&bench.store, &tree, |root| fs::write(root.join("usr/bin/tool"), "other").unwrap());
    assert_ne!(changed, tree);
    assert_eq!(fs::read(full.join("usr/bin/tool")).unwrap(), b"0");
    for entry in bench.store.tree(&tree).unwrap().entries() {
        if let Kind::File { object, .. } = entry.kind {
            let mut content = String::new();
            std::io::Read::read_to_string(&mut bench.store.open_object(&object).unwrap(), &mut content)
                .unwrap();
            assert_eq!(Digest::of(content.as_bytes()), object);
        }
    }
    assert_eq!(capture_directory(&bench.store, &full, &Cancel::new()).unwrap().digest(), tree);
}

#[test]
fn lower_directories_that_are_gone_are_checked_out_again() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let first = base(&bench.store);
    let second = step(&bench.store, &first, |root| fs::write(root.join("a"), "a").unwrap());
    let third = step(&bench.store, &second, |root| fs::write(root.join("b"), "b").unwrap());
    // What the chain of `third` stands on.
    fs::remove_dir_all(lower(&bench.store, &first)).unwrap();
    let again = step(&bench.store, &third, |root| {
        assert_eq!(fs::read(root.join("a")).unwrap(), b"a");
        assert_eq!(fs::metadata(root.join("etc/hosts")).unwrap().nlink(), 2);
        fs::remove_file(root.join("b")).unwrap();
    });
    assert_eq!(again, second);
    assert_eq!(names(&lower(&bench.store, &third)), ["delta", "full"]);
}

#[test]
fn a_long_chain_begins_anew_with_a_full_directory() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let mut tree = base(&bench.store);
    let mut longest = 0;
    for number in 0..25 {
        let working = WorkingRoot::on(&bench.store, &tree, &Cancel::new()).unwrap();
        let mount = working.mount();
        if let RootMount::Overlay { lowers, .. } = &mount {
            longest = longest.max(lowers.len());
        }
        in_root(&mount, |root| fs::write(root.join(number.to_string()), "").unwrap());
        tree = working.finish(&bench.store, &Cancel::new()).unwrap();
    }
    assert_eq!(longest, 20);
    let tree = bench.store.tree(&tree).unwrap();
    assert!((0..25).all(|number| tree.get(number.to_string().as_bytes()).is_some()));
}

#[test]
fn pruning_spares_what_is_needed_what_is_in_use_and_what_failed() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let first = base(store);
    let second = step(store, &first, |root| fs::write(root.join("a"), "a").unwrap());
    let third = step(store, &second, |root| fs::write(root.join("b"), "b").unwrap());
    let other = step(store, &first, |root| fs::write(root.join("c"), "c").unwrap());
    let sorted = |trees: &[&Digest]| {
        let mut names: Vec<_> = trees.iter().map(|it| it.hex()).collect();
        names.sort();
        names
    };
    let kept = || names(&bench.path("store/lowers"));

    let in_use = WorkingRoot::on(store, &other, &Cancel::new()).unwrap();
    prune_lowers(store, &[second]).unwrap();
    assert_eq!(kept(), sorted(&[&first, &second, &other]));
    // A step that failed over `other`: its root can be used until it is dropped.
    in_root(&in_use.mount(), |root| fs::write(root.join("half"), "done").unwrap());
    let path = in_use.keep_failed(store, "hgweb", DEFINITION.as_ref()).unwrap();
    assert_eq!(path, bench.path("store/failed/hgweb"));
    prune_lowers(store, &[]).unwrap();
    assert_eq!(kept(), sorted(&[&first, &other]));
    let failed = look(store).unwrap();
    in_root(failed.mount(), |root| {
        assert_eq!(fs::read(root.join("half")).unwrap(), b"done");
        assert_eq!(fs::read(root.join("c")).unwrap(), b"c");
        fs::write(root.join("looked"), "").unwrap();
    });
    drop(failed);
    // What a volatile mount leaves forbids the next one.
    fs::create_dir_all(path.join("work/work/incompat/volatile")).unwrap();
    in_root(look(store).unwrap().mount(), |root| assert!(root.join("looked").exists()));
    assert!(drop_failed(store, "hgweb", DEFINITION.as_ref()).unwrap());
    assert!(drop_failed(store, "hgweb", DEFINITION.as_ref()).unwrap());
    assert!(look(store).is_none());
    prune_lowers(store, &[]).unwrap();
    assert!(kept().is_empty());
    // And all of it can be had again.
    let again = step(store, &third, |root| fs::remove_file(root.join("b")).unwrap());
    assert_eq!(again, second);
}

#[test]
fn a_failed_root_takes_the_place_of_the_one_before() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    for text in ["first", "second"] {
        let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
        in_root(&working.mount(), |root| fs::write(root.join("try"), text).unwrap());
        working.keep_failed(&bench.store, "hgweb", DEFINITION.as_ref()).unwrap();
    }
    in_root(look(&bench.store).unwrap().mount(), |root| {
        assert_eq!(fs::read(root.join("try")).unwrap(), b"second");
    });
    // A base that failed is a plain directory.
    let working = WorkingRoot::empty(&bench.store).unwrap();
    working.keep_failed(&bench.store, "hgweb", DEFINITION.as_ref()).unwrap();
    let plain = RootMount::Plain(bench.path("store/failed/hgweb/root"));
    assert_eq!(*look(&bench.store).unwrap().mount(), plain);
    assert!(
        WorkingRoot::empty(&bench.store)
            .unwrap()
            .keep_failed(&bench.store, "../x", DEFINITION.as_ref())
            .is_err()
    );
    settle(&bench.store);
}

#[test]
fn a_parent_that_overlayfs_would_misread_is_worked_on_in_a_plain_directory() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let working = WorkingRoot::empty(&bench.store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!() };
    fs::create_dir_all(root.join("var/lib/docker/overlay2/x/diff")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0);
    let whiteout = root.join("var/lib/docker/overlay2/x/diff/gone");
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, mode, 0).unwrap();
    let parent = working.finish(&bench.store, &Cancel::new()).unwrap();
    let path = b"var/lib/docker/overlay2/x/diff/gone";
    let tree = bench.store.tree(&parent).unwrap();
    assert_eq!(tree.get(path).unwrap().kind, Kind::CharDevice { major: 0, minor: 0 });

    let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
    assert!(matches!(working.mount(), RootMount::Plain(_)));
    in_root(&working.mount(), |root| fs::write(root.join("new"), "").unwrap());
    let next = working.finish(&bench.store, &Cancel::new()).unwrap();
    let next = bench.store.tree(&next).unwrap();
    assert!(next.get(path).is_some() && next.get(b"new").is_some());
}

#[test]
fn sockets_are_gone_from_what_is_kept_too() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let parent = step(&bench.store, &base(&bench.store), |root| {
        fs::create_dir(root.join("opt")).unwrap();
        fs::write(root.join("opt/file"), "").unwrap();
    });
    let socket = |path: PathBuf| {
        let (kind, mode) = (rustix::fs::FileType::Socket, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    };
    let tree = step(&bench.store, &parent, |root| {
        fs::remove_file(root.join("etc/hosts")).unwrap();
        socket(root.join("etc/hosts"));
        socket(root.join("etc/socket"));
        // Where nothing of the lower side shows through, a whiteout would be listed.
        fs::create_dir_all(root.join("new/deep")).unwrap();
        socket(root.join("new/deep/socket"));
        // Where it does under another name, one is needed.
        fs::rename(root.join("etc/deep"), root.join("renamed")).unwrap();
        fs::remove_file(root.join("renamed/file")).unwrap();
        socket(root.join("renamed/file"));
        socket(root.join("renamed/socket"));
        // And where a directory took the place of another, none is.
        fs::remove_dir_all(root.join("opt")).unwrap();
        fs::create_dir(root.join("opt")).unwrap();
        socket(root.join("opt/file"));
    });
    let captured = bench.store.tree(&tree).unwrap();
    assert!(captured.get(b"etc/hosts").is_none() && captured.get(b"etc/socket").is_none());
    let working = WorkingRoot::on(&bench.store, &tree, &Cancel::new()).unwrap();
    let merged = in_root(&working.mount(), |root| {
        assert_eq!(names(&root.join("etc")), ["hosts2"]);
        for emptied in ["new/deep", "renamed", "opt"] {
            assert_eq!(names(&root.join(emptied)), [""; 0], "{emptied}");
        }
        let merged = capture_directory(&bench.store, root, &Cancel::new()).unwrap();
        fs::remove_dir_all(root.join("new")).unwrap();
        merged
    });
    assert_eq!(merged.digest(), captured.digest());
    assert_same(&bench.store.tree(&tree).unwrap(), &captured);
}

#[test]
fn two_steps_on_one_parent_share_its_lower_directory() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    fs::remove_dir_all(bench.path("store/lowers")).unwrap();
    let trees: Vec<Digest> = std::thread::scope(|scope| {
        let steps: Vec<_> = (0..4)
            .map(|number| {
                let store = bench.store.clone();
                scope.spawn(move || {
                    step(&store, &parent, |root| {
                        fs::write(root.join("same"), (number / 2).to_string()).unwrap();
                    })
                })
            })
            .collect();
        steps.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!((trees[0], trees[2]), (trees[1], trees[3]));
    assert_eq!(names(&bench.path("store/lowers")).len(), 3);
}

#[test]
fn a_failed_root_that_somebody_looks_around_in_stays_and_is_theirs() {
    if !privileged("working roots") {
        return;
    }
    let bench = Bench::new();
    let store = &bench.store;
    let (parent, mine) = (base(store), bench.path("mine.toml"));
    fs::write(&mine, "").unwrap();
    let keep = |text: &str, definition: &Path| {
        let working = WorkingRoot::on(store, &parent, &Cancel::new()).unwrap();
        in_root(&working.mount(), |root| fs::write(root.join("try"), text).unwrap());
        working.keep_failed(store, "hgweb", definition)
    };
    assert!(!failed_exists(store, "hgweb", &mine));
    keep("first", &mine).unwrap();
    assert!(failed_exists(store, "hgweb", &mine));
    let failed = failed_root(store, "hgweb", &mine).unwrap().unwrap();
    let pid = std::process::id();
    let in_use = |error| matches!(error, WorkingError::InUse { holder, .. } if holder == pid);
    assert!(in_use(failed_root(store, "hgweb", &mine).unwrap_err()));
    assert!(in_use(keep("second", &mine).unwrap_err()));
    assert!(!drop_failed(store, "hgweb", &mine).unwrap());
    in_root(failed.mount(), |root| assert_eq!(fs::read(root.join("try")).unwrap(), b"first"));
    drop(failed);
    // Nor does another definition get it, or take its place.
    let other = bench.path("other.toml");
    fs::write(&other, "").unwrap();
    assert!(!failed_exists(store, "hgweb", &other));
    assert!(failed_root(store, "hgweb", &other).unwrap().is_none());
    assert!(matches!(keep("third", &other), Err(WorkingError::Owned { owner, .. }) if owner == mine));
    assert!(drop_failed(store, "hgweb", &other).unwrap());
    assert!(failed_exists(store, "hgweb", &mine));
    fs::remove_file(&mine).unwrap();
    keep("fourth", &other).unwrap();
    assert!(drop_failed(store, "hgweb", &other).unwrap());
    assert!(!failed_exists(store, "hgweb", &other));
    settle(store);
}
