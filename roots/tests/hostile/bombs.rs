//! Little that becomes much: each is refused by a limit that has a name.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rootbuild_cache::{Exceeded, Limit, Limits, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::base::archive::{Keyed, Problem};
use rootbuild_roots::base::{ArchiveBase, BaseContext, BaseError, BaseSource};
use rootbuild_roots::capture::{CaptureError, capture_directory};
use rootbuild_roots::working::{RootMount, WorkingRoot};

use crate::common::{Bench, privileged};

/// What a capture within these limits is refused for.
#[track_caller]
fn refused(store: &Store, root: &Path, limits: Limits) -> Exceeded {
    match capture_directory(&store.clone().with_limits(limits), root, &Cancel::new()) {
        Err(CaptureError::Limit(exceeded)) => exceeded,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_limit_of_a_root_is_told_by_its_name() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for name in ["a/1", "a/2", "a/b/3"] {
        fs::write(root.join(name), [7; 3000]).unwrap();
    }
    rustix::fs::setxattr(root.join("a/1"), "user.x", &[1; 500], rustix::fs::XattrFlags::empty()).unwrap();
    for (limit, most, found) in [
        (Limit::Entries, 6, 7),
        (Limit::Depth, 2, 3),
        (Limit::PathLength, 4, 5),
        (Limit::TreeSize, 500, 501),
        (Limit::XattrSize, 505, 506),
        (Limit::FileSize, 2999, 3000),
        (Limit::TotalSize, 8999, 9000),
    ] {
        let exceeded = refused(&bench.store, &root, Limits::default().with(limit, most));
        assert_eq!((exceeded.limit, exceeded.value), (limit, most));
        assert!(exceeded.found >= found, "{exceeded}");
        let told = format!("{exceeded} {}", exceeded.hint());
        assert!(told.contains(limit.name()) && told.contains("ROOTBUILD_LIMITS"), "{told}");
    }
    capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
}

#[test]
fn a_file_of_holes_is_refused_at_once_or_stays_one() {
    let bench = Bench::new();
    let root = bench.make_dir("root");
    let file = File::create(root.join("huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"end", (1 << 40) - 3).unwrap();
    let start = Instant::now();
    assert_eq!(refused(&bench.store, &root, Limits::default()).limit, Limit::FileSize);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    file.set_len(512 << 20).unwrap();
    let tree = capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
    let again = bench.checkout("again", &tree);
    let stat = again.join("huge").metadata().unwrap();
    assert_eq!(stat.size(), 512 << 20);
    assert!(stat.blocks() * 512 < 1 << 20, "{} blocks", stat.blocks());
    let kept: u64 = walkdir::WalkDir::new(bench.store.dir())
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512)
        .sum();
    assert!(kept < 8 << 20, "the store has {kept} bytes");
}

#[test]
fn attributes_that_would_fill_the_memory_are_refused() {
    let shm = Path::new("/dev/shm");
    if !privileged("attributes_that_would_fill_the_memory_are_refused") || !shm.is_dir() {
        return;
    }
    let bench = Bench::at(shm);
    let root = bench.make_dir("root");
    for number in 0..5 {
        let path = root.join(number.to_string());
        fs::write(&path, "").unwrap();
        for attribute in 0..3 {
            let name = format!("trusted.{attribute}");
            let value = vec![7; 60_000];
            rustix::fs::setxattr(&path, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
        }
    }
    capture_directory(&bench.store, &root, &Cancel::new()).unwrap();
    let few = Limits::default().with(Limit::TreeSize, 800_000);
    assert_eq!(refused(&bench.store, &root, few).limit, Limit::TreeSize);
    for attribute in 3..6 {
        let name = format!("trusted.{attribute}");
        rustix::fs::setxattr(root.join("0"), name, &[7; 60_000], rustix::fs::XattrFlags::empty()).unwrap();
    }
    assert_eq!(refused(&bench.store, &root, Limits::default()).limit, Limit::XattrSize);
}

/// Builds a base of an archive.
fn unpack(store: &Store, file: &Path) -> Result<(), BaseError> {
    let base = ArchiveBase {
        name: "bomb".to_owned(),
        file: file.to_owned(),
        sha256: None,
        strip_components: 0,
        devices: false,
        limits: None,
        keyed: Keyed::default(),
    };
    let working = WorkingRoot::empty(store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!("a base's root is plain") };
    let (cancel, sink) = (Cancel::new(), |_| ());
    let context = BaseContext {
        store,
        cancel: &cancel,
        sink: &sink,
        scratch: working.scratch(),
        offline: true,
        mirror: None,
    };
    base.build(context, &root).map(drop)
}

#[track_caller]
fn problem(done: Result<(), BaseError>) -> Problem {
    match done {
        Err(BaseError::Archive(error)) => {
            assert!(error.hint().is_some_and(|hint| hint.contains("ROOTBUILD_LIMITS")), "{error}");
            error.problem
        }
        other => panic!("{other:?}"),
    }
}

fn archive(path: &Path, fill: impl FnOnce(&mut tar::Builder<Box<dyn Write>>)) {
    let zstd = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap().auto_finish();
    let mut builder = tar::Builder::new(Box::new(zstd) as Box<dyn Write>);
    fill(&mut builder);
    builder.finish().unwrap();
}

fn member(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[test]
fn an_archive_can_not_become_much_more_than_it_is() {
    if !privileged("an_archive_can_not_become_much_more_than_it_is") {
        return;
    }
    let bench = Bench::new();
    let path = bench.path("bomb.tar.zst");
    let size = 320 << 20;
    archive(&path, |builder| {
        builder.append(&member("zeros", size), std::io::repeat(0).take(size)).unwrap();
    });
    let Problem::Limit { what: "times its size inside", limit: 1000, .. } =
        problem(unpack(&bench.store, &path))
    else {
        panic!("another limit");
    };
    let more = Limits::default().with(Limit::ArchiveRatio, 1 << 40).with(Limit::TotalSize, 1 << 20);
    let store = bench.store.clone().with_limits(more);
    let Problem::Exceeded(exceeded) = problem(unpack(&store, &path)) else { panic!("another limit") };
    assert_eq!(exceeded.limit, Limit::TotalSize);
}

#[test]
fn headers_of_an_archive_can_not_fill_the_memory() {
    if !privileged("headers_of_an_archive_can_not_fill_the_memory") {
        return;
    }
    let bench = Bench::new();
    let path = bench.path("bomb.tar.zst");
    archive(&path, |builder| {
        for number in 0..50 {
            let value = "x".repeat(60_000);
            builder.append_pax_extensions([("SCHILY.xattr.user.a", value.as_bytes())]).unwrap();
            let mut header = member(&format!("{number}/"), 0);
            header.set_entry_type(tar::EntryType::Directory);
            header.set_cksum();
            builder.append(&header, std::io::empty()).unwrap();
        }
    });
    let store = bench.store.clone().with_limits(Limits::default().with(Limit::TreeSize, 1 << 20));
    let Problem::Exceeded(exceeded) = problem(unpack(&store, &path)) else { panic!("another limit") };
    assert_eq!(exceeded.limit, Limit::TreeSize);
    let store = bench.store.clone().with_limits(Limits::default().with(Limit::XattrSize, 1000));
    let Problem::Exceeded(exceeded) = problem(unpack(&store, &path)) else { panic!("another limit") };
    assert_eq!(exceeded.limit, Limit::XattrSize);
    let store = bench.store.clone().with_limits(Limits::default().with(Limit::ArchiveMembers, 20));
    assert!(matches!(problem(unpack(&store, &path)), Problem::Limit { what: "members", limit: 20, .. }));
}
