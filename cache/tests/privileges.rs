//! What depends on who one is and what one may mount. Needs root; else it says what it skips.
//!
//! A test here runs itself again as another process: with mounts of its own, which vanish with it,
//! or as an unprivileged user.

#![allow(clippy::unwrap_used, reason = "a test; clippy knows only functions marked as such")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_cache::{Digest, Error, LayerKey, Record, Store, Tree, remove_tree};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind};

const AGAIN: &str = "ROOTBUILD_TEST_AGAIN";

/// Runs the test `name` once more through `command`; returns true in that other process.
fn again(name: &str, prepare: impl FnOnce() -> Command, argument: &Path) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {name}: needs root");
        return false;
    }
    let output = prepare().args(["--exact", name, "--nocapture"]).env(AGAIN, argument).output();
    match output {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{name} didn't run");
        }
        Ok(output) => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => println!("skipped: {name}: {error}"),
    }
    false
}

fn in_own_mounts(name: &str) -> bool {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        command
    };
    again(name, unshare, Path::new(""))
}

/// Runs the test `name` as an unprivileged user, who is given the path of a store that `prepare`
/// may have made.
fn as_nobody(name: &str, prepare: impl FnOnce(&Path)) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(AGAIN) {
        return Some(path.into());
    }
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("store");
    prepare(&path);
    // The test itself may lie where only its owner gets.
    let copy = dir.path().join("test");
    let nobody = || {
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut command = Command::new(&copy);
        command.uid(65534).gid(65534).current_dir("/");
        command
    };
    again(name, nobody, &path);
    None
}

fn unmount(path: &Path) {
    rustix::mount::unmount(path, UnmountFlags::DETACH).unwrap();
}

fn record() -> Record {
    Record {
        tree: Tree::default().digest(),
        inputs: Vec::new(),
        seconds: 0.0,
        created: "2025-11-21T19:00:00Z".into(),
        facts: serde_json::Value::Null,
    }
}

#[test]
fn anybody_can_read_trees_and_records_and_nobody_else_contents() {
    let (object, key) = (Digest::of(b"secret"), LayerKey(Digest::of(b"key")));
    let path = as_nobody("anybody_can_read_trees_and_records_and_nobody_else_contents", |path| {
        let store = Store::open(path).unwrap();
        store.put_object_bytes(b"secret").unwrap();
        store.put_tree(&Tree::default()).unwrap();
        store.add_record(&key, &record()).unwrap();
    });
    let Some(path) = path else { return };
    let store = Store::open_read_only(&path).unwrap().unwrap();
    assert_eq!(store.tree(&Tree::default().digest()).unwrap(), Tree::default());
    assert_eq!(store.records(&key).unwrap(), [record()]);
    assert!(!store.has_object(&object));
    assert!(matches!(store.open_object(&object), Err(Error::Io { .. })));
    let error = Store::open(&path).unwrap_err();
    let Error::Io { path: at, source, .. } = error else { panic!("{error}") };
    assert_eq!((at, source.kind()), (path, std::io::ErrorKind::PermissionDenied));
}

#[test]
fn where_nothing_can_be_written_no_store_can_be_made() {
    let path = as_nobody("where_nothing_can_be_written_no_store_can_be_made", |_| ());
    let Some(path) = path else { return };
    let error = Store::open(&path).unwrap_err();
    let Error::Io { path: at, source, .. } = error else { panic!("{error}") };
    assert_eq!((at, source.kind()), (path, std::io::ErrorKind::PermissionDenied));
}

#[test]
fn what_is_mounted_is_never_removed() {
    if !in_own_mounts("what_is_mounted_is_never_removed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
    fs::create_dir_all(top.join("a/mounted here")).unwrap();
    fs::write(top.join("a/file"), "x").unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    // The same file system, so no device number tells.
    mount_bind(&outside, top.join("a/mounted here")).unwrap();
    let error = remove_tree(&top).unwrap_err();
    let Error::Io { path, source, .. } = error else { panic!("{error}") };
    assert_eq!((path, source.kind()), (top.join("a/mounted here"), std::io::ErrorKind::ResourceBusy));
    assert!(outside.join("precious").exists() && top.join("a/file").exists());
    // A leftover that something is mounted in stays as it is, and doesn't keep the store from opening.
    let store = Store::open(&dir.path().join("store")).unwrap();
    let staging = store.dir().join("staging");
    fs::create_dir(staging.join("dead")).unwrap();
    mount_bind(&outside, staging.join("dead")).unwrap();
    Store::open(store.dir()).unwrap();
    assert!(outside.join("precious").exists() && staging.join("dead").exists());
    unmount(&staging.join("dead"));
    Store::open(store.dir()).unwrap();
    assert!(!staging.join("dead").exists());
    unmount(&top.join("a/mounted here"));
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    if !in_own_mounts("a_full_disk_is_an_error_that_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), c"size=8m").unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let fits = store.put_object_bytes(&[1; 1 << 20]).unwrap();
    store.sync().unwrap();
    let large = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    for (size, seed) in [(3 << 20, 3u8), (12 << 20, 2)] {
        fs::write(dir.path().join("filler"), vec![0; 5 << 20]).unwrap();
        fs::write(large.path(), vec![seed; size]).unwrap();
        let error = store.put_object(&File::open(large.path()).unwrap()).unwrap_err();
        let Error::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        fs::remove_file(dir.path().join("filler")).unwrap();
        // All of the space is there again, so nothing was left.
        fs::write(dir.path().join("filler"), vec![0; 6 << 20]).unwrap();
        fs::remove_file(dir.path().join("filler")).unwrap();
    }
    store.sync().unwrap();
    assert!(store.has_object(&fits));
    let left: u64 = rustix::fs::statvfs(dir.path()).unwrap().f_bavail * 4096;
    fs::write(dir.path().join("filler"), vec![0; usize::try_from(left).unwrap()]).unwrap();
    let key = LayerKey(Digest::of(b"key"));
    assert!(matches!(store.put_tree(&Tree::default()), Err(Error::Io { .. })));
    assert!(matches!(store.add_record(&key, &record()), Err(Error::Io { .. })));
    fs::remove_file(dir.path().join("filler")).unwrap();
    assert!(!store.has_tree(&Tree::default().digest()));
    store.put_tree(&Tree::default()).unwrap();
    store.add_record(&key, &record()).unwrap();
    assert_eq!(store.records(&key).unwrap(), [record()]);
    drop(store);
    unmount(dir.path());
}

#[test]
fn a_read_only_disk_still_serves_readers() {
    if !in_own_mounts("a_read_only_disk_still_serves_readers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let tree = Store::open(&path).unwrap().put_tree(&Tree::default()).unwrap();
    mount_bind(dir.path(), dir.path()).unwrap();
    rustix::mount::mount_remount(dir.path(), MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
    assert!(Store::open_read_only(&path).unwrap().unwrap().has_tree(&tree));
    let error = Store::open(&path).unwrap_err();
    let Error::Io { path: at, source, .. } = error else { panic!("{error}") };
    assert_eq!((at, source.kind()), (path, std::io::ErrorKind::ReadOnlyFilesystem));
    unmount(dir.path());
}
