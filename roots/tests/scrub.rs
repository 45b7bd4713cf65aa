//! What a root is rid of, in a plain directory and in the upper side of an overlay.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Bench, overlay, privileged};
use rootbuild_cache::{Kind, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::scrub::{RULES, scrub};
use rootbuild_roots::working::{RootMount, WorkingRoot};
use rustix::fs::{CWD, FileType, Mode};

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.entries().iter().skip(1).map(|it| String::from_utf8_lossy(&it.path).into_owned()).collect()
}

fn litter(root: &Path) {
    for path in [
        "proc/x",
        "dev/null",
        "run/lock/x",
        "tmp/.hidden/x",
        "var/tmp/x",
        "var/lib/rpm/__db.001",
        "var/cache/dnf/x/y",
        "var/cache/apt/pkgcache.bin",
        "var/cache/apt/archives/x_1_all.deb",
        "var/lib/apt/lists/partial/x",
        "var/lib/apt/lists/deb.example_dists",
        "var/lib/apt/periodic/update-success-stamp",
        "var/log/dnf.rpm.log",
        "var/log/apt/history.log",
        "var/log/dpkg.log",
        "etc/resolv.conf",
        "var/lib/systemd/random-seed",
        "root/.ansible/tmp/ansible-tmp-1/x.py",
        "home/me/.ansible/tmp/x",
        "home/you/.ansible/tmp/x",
    ] {
        write(root, path, "litter");
    }
    write(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
}

fn keepsakes(root: &Path) {
    for path in [
        "usr/lib/python3/__pycache__/x.cpython-311.pyc",
        "var/lib/rpm/Packages",
        "var/log/mine.log",
        "home/me/.ansible/collections/x",
        "etc/resolv.conf.d/x",
        "usr/lib/systemd/systemd",
    ] {
        write(root, path, "kept");
    }
}

/// A root that holds both.
fn littered(bench: &Bench) -> PathBuf {
    let root = bench.make_dir("root");
    litter(&root);
    keepsakes(&root);
    root
}

fn assert_clean(tree: &Tree) {
    for gone in [
        "proc/x",
        "dev/null",
        "run/lock",
        "tmp/.hidden",
        "var/tmp/x",
        "var/lib/rpm/__db.001",
        "var/cache/dnf/x",
        "var/cache/apt/pkgcache.bin",
        "var/cache/apt/archives/x_1_all.deb",
        "var/lib/apt/lists/partial",
        "var/lib/apt/lists/deb.example_dists",
        "var/lib/apt/periodic/update-success-stamp",
        "var/log/dnf.rpm.log",
        "var/log/apt/history.log",
        "var/log/dpkg.log",
        "etc/resolv.conf",
        "var/lib/systemd/random-seed",
        "root/.ansible",
        "home/me/.ansible/tmp",
        "home/you/.ansible",
    ] {
        assert!(tree.get(gone.as_bytes()).is_none(), "{gone} is there: {:?}", paths(tree));
    }
    for kept in [
        "proc",
        "dev",
        "run",
        "tmp",
        "var/tmp",
        "var/lib/apt/lists",
        "var/log/apt",
        "usr/lib/python3/__pycache__/x.cpython-311.pyc",
        "var/lib/rpm/Packages",
        "var/log/mine.log",
        "home/me/.ansible/collections/x",
        "etc/resolv.conf.d/x",
    ] {
        assert!(tree.get(kept.as_bytes()).is_some(), "{kept} is gone: {:?}", paths(tree));
    }
    let id = tree.resolve(tree.get(b"etc/machine-id").unwrap());
    assert!(matches!(id.kind, Kind::File { size: 0, .. }), "{id:?}");
    assert_eq!(tree.get(b"var/lib/apt/lists").unwrap().meta.mtime.seconds, 0);
}

#[test]
fn a_plain_root_is_rid_of_litter_and_of_nothing_else() {
    let bench = Bench::new();
    let root = littered(&bench);
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    scrub(&root).unwrap();
    let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
    assert_clean(&tree);
    assert_eq!(tree.get(b"tmp").unwrap().meta.mode, 0o1777);
    scrub(&root).unwrap();
    assert_eq!(capture_directory(&bench.store, &root, &Cancel::new()).unwrap(), tree);
}

#[test]
fn a_machine_id_is_made_only_where_a_systemd_would_write_one() {
    let bench = Bench::new();
    let (with, without) = (bench.make_dir("with"), bench.make_dir("without"));
    write(&with, "usr/lib/systemd/systemd", "");
    for root in [&with, &without] {
        fs::create_dir(root.join("etc")).unwrap();
        scrub(root).unwrap();
    }
    assert_eq!(fs::read(with.join("etc/machine-id")).unwrap(), b"");
    assert!(!without.join("etc/machine-id").exists());
}

#[test]
fn emptying_the_machine_id_spares_a_file_that_it_is_a_name_of() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    write(&root, "etc/passwd", "root:x:0:0::/:/bin/sh\n");
    fs::hard_link(root.join("etc/passwd"), root.join("etc/machine-id")).unwrap();
    scrub(&root).unwrap();
    assert_eq!(fs::read(root.join("etc/machine-id")).unwrap(), b"");
    assert!(!fs::read(root.join("etc/passwd")).unwrap().is_empty());
}

#[test]
fn links_in_a_root_lead_nothing_outside() {
    let bench = Bench::new();
    let (root, outside) = (bench.make_dir("root"), bench.make_dir("outside"));
    litter(&outside);
    let before = capture_directory(&bench.store, &outside, &Cancel::new()).unwrap();
    fs::create_dir_all(root.join("var/cache")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    symlink(&outside, root.join("tmp")).unwrap();
    symlink(outside.join("run"), root.join("run")).unwrap();
    symlink(outside.join("var/log"), root.join("var/log")).unwrap();
    symlink(outside.join("var/cache/dnf"), root.join("var/cache/dnf")).unwrap();
    symlink(outside.join("var/lib"), root.join("var/lib")).unwrap();
    symlink(outside.join("home"), root.join("home")).unwrap();
    symlink(outside.join("root"), root.join("root")).unwrap();
    symlink(outside.join("etc/machine-id"), root.join("etc/machine-id")).unwrap();
    symlink(outside.join("etc/resolv.conf"), root.join("etc/resolv.conf")).unwrap();
    scrub(&root).unwrap();
    assert_eq!(capture_directory(&bench.store, &outside, &Cancel::new()).unwrap(), before);
    // The link itself is what is removed.
    assert!(root.join("etc/resolv.conf").symlink_metadata().is_err());
}

/// A parent tree from a directory that isn't scrubbed, as a store holds whose list was shorter.
fn parent(store: &Store, root: &Path) -> rootbuild_cache::Digest {
    let tree = capture_directory(store, root, &Cancel::new()).unwrap();
    store.sync().unwrap();
    store.put_tree(&tree).unwrap()
}

/// A step on `parent` that does `change` in the merged view.
fn step(bench: &Bench, parent: &rootbuild_cache::Digest, change: impl FnOnce(&Path)) -> Option<Tree> {
    let working = WorkingRoot::on(&bench.store, parent, &Cancel::new()).unwrap();
    let RootMount::Overlay { lowers, upper, work } = working.mount() else {
        eprintln!("skipped: no overlay on this file system");
        return None;
    };
    let mounted = overlay(&lowers, &upper, &work).unwrap();
    change(&mounted.path);
    drop(mounted);
    let digest = working.finish(&bench.store, &Cancel::new()).unwrap();
    Some(bench.store.tree(&digest).unwrap())
}

#[test]
fn what_a_step_litters_is_gone_from_its_layer() {
    if !privileged("scrubbing an overlay") {
        return;
    }
    let bench = Bench::new();
    let root = littered(&bench);
    scrub(&root).unwrap();
    let parent = parent(&bench.store, &root);
    let Some(tree) = step(&bench, &parent, |root| {
        litter(root);
        write(root, "etc/motd", "hello");
    }) else {
        return;
    };
    assert_clean(&tree);
    assert!(tree.get(b"etc/motd").is_some());
}

#[test]
fn a_step_that_only_litters_gives_the_parent_again() {
    if !privileged("scrubbing an overlay") {
        return;
    }
    let bench = Bench::new();
    let root = littered(&bench);
    scrub(&root).unwrap();
    let parent = parent(&bench.store, &root);
    let Some(tree) = step(&bench, &parent, litter) else { return };
    assert_eq!(tree.digest(), parent);
}

#[test]
fn litter_of_the_lower_side_does_not_come_back() {
    if !privileged("scrubbing an overlay") {
        return;
    }
    let bench = Bench::new();
    let root = littered(&bench);
    let parent = parent(&bench.store, &root);
    // Each of these uncovers something of the lower side when it is removed from the upper one.
    let Some(tree) = step(&bench, &parent, |root| {
        fs::write(root.join("var/log/dpkg.log"), "more").unwrap();
        fs::remove_file(root.join("tmp/.hidden/x")).unwrap();
        fs::remove_dir_all(root.join("run/lock")).unwrap();
        fs::remove_dir_all(root.join("var/cache/dnf")).unwrap();
        fs::create_dir_all(root.join("var/cache/dnf/x/y")).unwrap();
        fs::rename(root.join("home/you"), root.join("home/they")).unwrap();
        fs::create_dir(root.join("home/you")).unwrap();
        write(root, "etc/motd", "hello");
    }) else {
        return;
    };
    assert_clean(&tree);
    assert!(tree.get(b"home/they").is_some() && tree.get(b"home/they/.ansible").is_none());
    assert!(tree.get(b"etc/motd").is_some());
}

#[test]
fn whiteouts_that_a_step_left_stay_in_force() {
    if !privileged("scrubbing an overlay") {
        return;
    }
    let bench = Bench::new();
    let root = bench.make_dir("root");
    write(&root, "tmp/old/x", "");
    write(&root, "etc/resolv.conf", "");
    keepsakes(&root);
    let parent = parent(&bench.store, &root);
    let Some(tree) = step(&bench, &parent, |root| {
        fs::remove_dir_all(root.join("tmp/old")).unwrap();
        fs::remove_file(root.join("etc/resolv.conf")).unwrap();
    }) else {
        return;
    };
    assert!(tree.get(b"tmp").is_some() && tree.get(b"tmp/old").is_none());
    assert!(tree.get(b"etc/resolv.conf").is_none());
}

#[test]
fn devices_in_a_plain_root_go_even_if_they_look_like_whiteouts() {
    if !privileged("devices") {
        return;
    }
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::create_dir(root.join("dev")).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, root.join("dev/zero-zero"), FileType::CharacterDevice, mode, 0).unwrap();
    scrub(&root).unwrap();
    assert_eq!(fs::read_dir(root.join("dev")).unwrap().count(), 0);
}

#[test]
fn the_list_reads_well() {
    let text: String = RULES.iter().map(|rule| format!("{rule}\n")).collect();
    insta::assert_snapshot!(text);
}
