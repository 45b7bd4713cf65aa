//! Names that are allowed and that nobody expects; very many of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use rootbuild_cache::remove_tree;
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::packages;

use crate::common::{Bench, assert_same};

#[test]
fn every_byte_and_255_of_them_make_a_name() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    for name in [&all[..], &[b'x'; 255], &[0xff; 255], b"...", b" ", b"-rf", b"\n", b"\x1b[2J", b"%n", b"b3:"]
    {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(OsStr::from_bytes(name)), name).unwrap();
        symlink(OsStr::from_bytes(name), path.join("link")).unwrap();
    }
    let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
    assert_eq!(tree.entries().len(), 31);
    let again = bench.checkout("again", &tree);
    assert_same(&capture_directory(&bench.store, &again, &Cancel::new()).unwrap(), &tree);
    remove_tree(&again).unwrap();
}

#[test]
fn links_of_a_root_lead_nobody_out_who_reads_what_is_installed() {
    let bench = Bench::new();
    for target in [
        "/etc/os-release",
        "/proc/self/root/etc/os-release",
        "/proc/1/root/etc/os-release",
        "../../../../etc/os-release",
    ] {
        let root = tempfile::tempdir_in(bench.dir.path()).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        symlink(target, root.path().join("etc/os-release")).unwrap();
        let tree = capture_directory(&bench.store, root.path(), &Cancel::new()).unwrap();
        let found = packages::distribution(&bench.store, &tree);
        assert!(matches!(found, Ok(None)), "{target}: {found:?}");
    }
}

/// A hundred thousand; `ROOTBUILD_FILES` for another number.
#[test]
fn a_directory_with_very_many_names_is_only_large() {
    let wanted = std::env::var("ROOTBUILD_FILES").ok().and_then(|text| text.parse().ok());
    let count: usize = wanted.unwrap_or(100_000);
    // In memory, where there is some: making so many names on a disk takes minutes.
    let memory = Path::new("/dev/shm");
    let bench = if memory.is_dir() { Bench::at(memory) } else { Bench::new() };
    let root = bench.make_dir("root");
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..count {
        symlink("x", root.join("many").join(number.to_string())).unwrap();
    }
    let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
    assert_eq!(tree.entries().len(), count + 2);
    remove_tree(&root).unwrap();
    let again = bench.checkout("again", &tree);
    assert_eq!(fs::read_dir(again.join("many")).unwrap().count(), count);
    remove_tree(&again).unwrap();
}
