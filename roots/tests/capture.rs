//! What a capture keeps, leaves out and refuses, and what a checkout does with it.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Bench, assert_same, privileged};
use rootbuild_cache::{Entry, Exceeded, Kind, Limit, Meta, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{CaptureError, capture_directory};
use rootbuild_roots::checkout::{CheckoutError, checkout};
use rustix::fs::{CWD, FileType, Mode, OFlags};

fn capture(bench: &Bench, dir: &Path) -> Tree {
    capture_directory(&bench.store, dir, &Cancel::new()).unwrap()
}

fn directory(path: Vec<u8>) -> Entry {
    Entry { path, meta: Meta { mode: 0o755, ..Meta::default() }, kind: Kind::Directory }
}

/// A chain of directories, `depth` deep, the innermost with a file; two more in each that are empty.
fn deep(bench: &Bench, depth: usize) -> Tree {
    let mut entries = vec![directory(Vec::new())];
    let mut path = Vec::new();
    for _ in 0..depth {
        for name in [&b"a"[..], b"b", b"d"] {
            let sibling = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
            entries.push(directory(sibling));
        }
        path = if path.is_empty() { b"b".to_vec() } else { [&path, &b"/b"[..]].concat() };
    }
    let object = bench.store.put_object_bytes(b"deep").unwrap();
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let kind = Kind::File { object, size: 4 };
    entries.push(Entry { path: [&path, &b"/file"[..]].concat(), meta: meta.clone(), kind });
    let kind = Kind::Hardlink { target: [&path, &b"/file"[..]].concat() };
    entries.push(Entry { path: b"linked".to_vec(), meta, kind });
    Tree::from_entries(entries).unwrap()
}

#[test]
fn two_thousand_directories_deep_is_no_trouble_with_few_descriptors() {
    if !privileged("depth") {
        return;
    }
    // In a process of its own: the limit is the process's.
    if std::env::var_os("ROOTBUILD_TEST_CHILD").is_none() {
        let name = "two_thousand_directories_deep_is_no_trouble_with_few_descriptors";
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 400; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("ROOTBUILD_TEST_CHILD", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let bench = Bench::new();
    let tree = deep(&bench, 2000);
    let target = bench.checkout("target", &tree);
    assert_same(&capture(&bench, &target), &tree);
    rootbuild_cache::remove_tree(&target).unwrap();
}

#[test]
fn beyond_the_greatest_depth_a_root_is_refused() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    let mut at = rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..=Limit::Depth.most() {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let captured = capture_directory(&bench.store, &root, &Cancel::new());
    assert!(
        matches!(captured, Err(CaptureError::Limit(Exceeded { limit: Limit::Depth, .. }))),
        "{captured:?}"
    );
    rootbuild_cache::remove_tree(&root).unwrap();
}

#[test]
fn a_directory_of_many_thousand_names_is_captured_whole() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    for number in 0..20_000 {
        fs::write(root.join(number.to_string()), if number % 100 == 0 { "x" } else { "" }).unwrap();
    }
    let tree = capture(&bench, &root);
    assert_eq!(tree.entries().len(), 20_001);
    assert_same(&capture(&bench, &bench.checkout("again", &tree)), &tree);
}

#[test]
fn pipes_and_devices_are_never_opened_and_sockets_are_left_out() {
    if !privileged("devices") {
        return;
    }
    let bench = Bench::new();
    let root = bench.make_dir("root");
    let mode = Mode::from_raw_mode(0o600);
    // A tape that rewinds when it is closed; a device without a driver.
    let tape = rustix::fs::makedev(9, 0);
    rustix::fs::mknodat(CWD, root.join("tape"), FileType::CharacterDevice, mode, tape).unwrap();
    let none = rustix::fs::makedev(511, 77);
    rustix::fs::mknodat(CWD, root.join("none"), FileType::BlockDevice, mode, none).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, root.join("socket"), FileType::Socket, mode, 0).unwrap();
    let start = Instant::now();
    let tree = capture(&bench, &root);
    assert!(start.elapsed() < Duration::from_secs(10));
    let kinds: Vec<_> = tree.entries().iter().skip(1).map(|it| it.kind.clone()).collect();
    assert_eq!(
        kinds,
        [Kind::Fifo, Kind::BlockDevice { major: 511, minor: 77 }, Kind::CharDevice { major: 9, minor: 0 }]
    );
}

#[test]
fn a_mount_in_the_root_is_refused_even_of_the_same_file_system() {
    if !privileged("mounts") {
        return;
    }
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("etc/file"), "x").unwrap();
    let script =
        "mount --bind \"$1/etc\" \"$1/etc\" && exec \"$2\" --exact mounted_child --nocapture --ignored";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", script, "sh"])
        .arg(&root)
        .arg(std::env::current_exe().unwrap())
        .env("ROOTBUILD_TEST_ROOT", &root)
        .env("ROOTBUILD_TEST_STORE", bench.path("store"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    capture(&bench, &root);
}

#[test]
#[ignore = "run by another test, where something is mounted"]
fn mounted_child() {
    let Some(root) = std::env::var_os("ROOTBUILD_TEST_ROOT") else { return };
    let store = std::env::var_os("ROOTBUILD_TEST_STORE").unwrap();
    let store = rootbuild_cache::Store::open(Path::new(&store)).unwrap();
    match capture_directory(&store, Path::new(&root), &Cancel::new()) {
        Err(CaptureError::Mount { path }) => assert_eq!(path, Path::new(&root).join("etc")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn links_are_kept_as_they_are_and_lead_nowhere() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    symlink("/etc", root.join("abs")).unwrap();
    symlink("../..", root.join("up")).unwrap();
    symlink("l".repeat(4000), root.join("long")).unwrap();
    let tree = capture(&bench, &root);
    assert_eq!(tree.entries().len(), 4);
    assert_eq!(tree.get(b"abs").unwrap().kind, Kind::Symlink { target: b"/etc".to_vec() });
    assert_same(&capture(&bench, &bench.checkout("again", &tree)), &tree);
}

#[test]
fn holes_stay_holes() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    let file = fs::File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 300 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    let tree = capture(&bench, &root);
    let again = bench.checkout("again", &tree);
    let stat = fs::metadata(again.join("sparse")).unwrap();
    assert_eq!(stat.len(), 1 << 30);
    assert!(stat.blocks() * 512 < 1 << 20, "{} bytes allocated", stat.blocks() * 512);
    assert_same(&capture(&bench, &again), &tree);
}

/// Writes so many bytes, others for each seed.
fn dense(path: &Path, seed: u64, bytes: usize) {
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes);
    while content.len() < bytes {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        content.extend_from_slice(&number.to_le_bytes());
    }
    fs::write(path, content).unwrap();
}

#[test]
fn the_memory_of_a_capture_does_not_grow_with_the_sizes_of_files() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::File::create(root.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    for number in 0..4 {
        dense(&root.join(format!("large{number}")), number, 40 << 20);
    }
    // More at once than threads, each just not large enough to be read in pieces.
    for number in 0..32 {
        dense(&root.join(format!("middling{number}")), 100 + number, (2 << 20) - 8);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory_child", "--nocapture", "--ignored"])
        .env("ROOTBUILD_TEST_ROOT", &root)
        .env("ROOTBUILD_TEST_STORE", bench.path("store"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.split_once("VmHWM:")).unwrap().1;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 96 << 10, "{kilobytes} kB");
}

#[test]
#[ignore = "run by another test, which looks at its memory"]
fn memory_child() {
    let Some(root) = std::env::var_os("ROOTBUILD_TEST_ROOT") else { return };
    let store = std::env::var_os("ROOTBUILD_TEST_STORE").unwrap();
    let store = rootbuild_cache::Store::open(Path::new(&store)).unwrap();
    let tree = capture_directory(&store, Path::new(&root), &Cancel::new()).unwrap();
    assert_eq!(tree.entries().len(), 38);
    print!("{}", fs::read_to_string("/proc/self/status").unwrap());
}

#[test]
fn a_checkout_shares_no_inode_with_the_store() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::write(root.join("a"), "content").unwrap();
    let tree = capture(&bench, &root);
    let again = bench.checkout("again", &tree);
    assert_eq!(fs::metadata(again.join("a")).unwrap().nlink(), 1);
    fs::write(again.join("a"), "changed").unwrap();
    assert_eq!(fs::read(bench.checkout("third", &tree).join("a")).unwrap(), b"content");
}

#[test]
fn nobody_looks_into_a_directory_before_it_is_whole() {
    // A file whose object is missing ends the checkout in the middle.
    let bench = Bench::new();
    let mut tree = deep(&bench, 3).into_entries();
    let object = rootbuild_cache::Digest::of(b"not in the store");
    tree.push(Entry {
        path: b"b/b/missing".to_vec(),
        meta: Meta { mode: 0o644, ..Meta::default() },
        kind: Kind::File { object, size: 16 },
    });
    let tree = Tree::from_entries(tree).unwrap();
    let target = bench.make_dir("target");
    let done = checkout(&bench.store, &tree, &target, &Cancel::new());
    assert!(matches!(done, Err(CheckoutError::Store(_))), "{done:?}");
    // Whoever wants in has to pass the uppermost one.
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_target_with_something_in_it_is_refused() {
    let bench = Bench::new();
    let target = bench.make_dir("target");
    fs::write(target.join("x"), "").unwrap();
    let done = checkout(&bench.store, &Tree::default(), &target, &Cancel::new());
    assert!(matches!(done, Err(CheckoutError::NotEmpty { .. })), "{done:?}");
}

#[test]
fn cancelled_work_stops() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::write(root.join("x"), "").unwrap();
    let tree = capture(&bench, &root);
    let cancel = Cancel::new();
    cancel.cancel();
    let captured = capture_directory(&bench.store, &root, &cancel);
    assert!(matches!(captured, Err(CaptureError::Cancelled(_))), "{captured:?}");
    let done = checkout(&bench.store, &tree, &bench.make_dir("target"), &cancel);
    assert!(matches!(done, Err(CheckoutError::Cancelled(_))), "{done:?}");
}

#[test]
fn a_directory_that_hands_its_rights_down_does_not_change_a_checkout() {
    if !privileged("inherited ACLs") {
        return;
    }
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "").unwrap();
    let tree = capture(&bench, &root);
    let target = bench.make_dir("target");
    let set = Command::new("setfacl").args(["-d", "-m", "u:1000:rwx"]).arg(&target).status().unwrap();
    assert!(set.success());
    fs::set_permissions(&target, fs::Permissions::from_mode(0o2775)).unwrap();
    std::os::unix::fs::chown(&target, Some(5), Some(7)).unwrap();
    checkout(&bench.store, &tree, &target, &Cancel::new()).unwrap();
    assert_same(&capture(&bench, &target), &tree);
}

#[test]
fn equal_bytes_written_again_give_the_same_digest() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::write(root.join("x"), "same").unwrap();
    let first = capture(&bench, &root);
    std::thread::sleep(Duration::from_millis(5));
    fs::write(root.join("x"), "same").unwrap();
    let second = capture(&bench, &root);
    assert_ne!(first, second);
    assert_eq!(first.digest(), second.digest());
}
