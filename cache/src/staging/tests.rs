use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

fn store() -> (tempfile::TempDir, Store, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let staging = store.dir().join("staging");
    (dir, store, staging)
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_staging_directory_is_private_and_goes_with_its_owner() {
    let (_dir, store, parent) = store();
    let staging = store.staging("check out ../hgweb\n").unwrap();
    let path = staging.path().to_owned();
    assert_eq!(path.parent(), Some(parent.as_path()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(count(&path), 0);
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/c"), "x").unwrap();
    drop(staging);
    assert_eq!(count(&parent), 0);
    store.staging("x").unwrap().remove().unwrap();
    assert_eq!(count(&parent), 0);
}

#[test]
fn a_kept_directory_is_handed_over_by_rename() {
    let (_dir, store, parent) = store();
    let target = store.dir().join("checkouts/one");
    for expect_kept in [true, false] {
        let staging = store.staging("checkout").unwrap();
        fs::write(staging.path().join("file"), if expect_kept { "first" } else { "second" }).unwrap();
        let kept = staging.keep(&target);
        assert_eq!(kept.is_ok(), expect_kept);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"first");
        assert_eq!(count(&parent), 0);
    }
}

#[test]
fn a_directory_that_its_owner_renamed_away_is_left_alone() {
    let (_dir, store, parent) = store();
    let staging = store.staging("checkout").unwrap();
    let target = store.dir().join("checkouts/one");
    fs::rename(staging.path(), &target).unwrap();
    drop(staging);
    assert!(target.is_dir());
    assert_eq!(count(&parent), 0);
}

#[test]
fn leftovers_are_swept_and_what_is_in_use_is_not() {
    let (_dir, store, parent) = store();
    let live = store.staging("live").unwrap();
    fs::write(live.path().join("file"), "x").unwrap();
    // A killed process' directory with its lock file, one without, a lock file alone, a stray file.
    fs::create_dir(parent.join("dead-1")).unwrap();
    fs::write(parent.join("dead-1/file"), "x").unwrap();
    fs::write(parent.join("dead-1.lock"), "4194304\nprovision\n").unwrap();
    fs::create_dir_all(parent.join("dead-2/deep")).unwrap();
    fs::write(parent.join("dead-3.lock"), "").unwrap();
    fs::write(parent.join("stray"), "").unwrap();
    Store::open(store.dir()).unwrap();
    assert_eq!(fs::read(live.path().join("file")).unwrap(), b"x");
    assert_eq!(count(&parent), 2);
    drop(live);
    assert_eq!(count(&parent), 0);
}

#[test]
fn opening_a_store_never_takes_a_directory_that_is_just_being_made() {
    let (_dir, store, parent) = store();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let staging = store.staging("work").unwrap();
                    fs::write(staging.path().join("file"), "x").unwrap();
                    std::thread::yield_now();
                    assert_eq!(fs::read(staging.path().join("file")).unwrap(), b"x");
                }
            });
            scope.spawn(|| {
                for _ in 0..50 {
                    sweep(&parent).unwrap();
                }
            });
        }
    });
    assert_eq!(count(&parent), 0);
}

const STORE: &str = "ROOTBUILD_TEST_STORE";

/// Not a test of its own: a process that dies and leaves a child with its lock.
#[test]
fn parent_that_dies() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let staging = Store::open(Path::new(&dir)).unwrap().staging("sandbox").unwrap();
    // As its stdin, since that is what a child inherits without unsafe code.
    let lock = staging.lock().try_clone_to_owned().unwrap();
    Command::new("sleep").arg("2").stdin(lock).spawn().unwrap();
    std::process::abort();
}

#[test]
fn a_child_that_inherits_the_lock_keeps_the_directory() {
    let (_dir, store, parent) = store();
    let mut dead = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "staging::tests::parent_that_dies"])
        .env(STORE, store.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(!dead.wait().unwrap().success());
    sweep(&parent).unwrap();
    assert_eq!(count(&parent), 2);
    // The child ends by itself.
    let start = std::time::Instant::now();
    while count(&parent) > 0 && start.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        sweep(&parent).unwrap();
    }
    assert_eq!(count(&parent), 0);
}
