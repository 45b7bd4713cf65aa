use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn lock_files(store: &Store) -> usize {
    fs::read_dir(store.dir().join("locks")).unwrap().count()
}

const NOBODY: &dyn Fn(&Holder) = &|_| ();
const NEVER: &dyn Fn() -> bool = &|| false;

#[test]
fn who_waits_is_told_once_for_whom_and_then_gets_the_lock() {
    let (_dir, store) = store();
    let held = store.lock_for("root hgweb", "provision\nhgweb", None, NOBODY, NEVER).unwrap();
    let told = RefCell::new(Vec::new());
    let held = RefCell::new(Some(held));
    let polls = AtomicU32::new(0);
    let cancelled = || {
        if polls.fetch_add(1, Ordering::Relaxed) == 5 {
            held.borrow_mut().take();
        }
        false
    };
    let waiting = |holder: &Holder| told.borrow_mut().push(holder.clone());
    store.lock("root hgweb", None, &waiting, &cancelled).unwrap();
    assert_eq!(told.into_inner(), [Holder { pid: std::process::id(), what: "provisionhgweb".into() }]);
}

#[test]
fn a_wait_ends_at_its_timeout_with_the_holders_pid() {
    let (_dir, store) = store();
    let _held = store.lock("x", None, NOBODY, NEVER).unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(120)] {
        let start = Instant::now();
        let error = store.lock("x", Some(timeout), NOBODY, NEVER).unwrap_err();
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + Duration::from_secs(2));
        let Error::LockTimeout { what, holder, waited_seconds: 0 } = error else { panic!("{error}") };
        assert_eq!((what.as_str(), holder.pid), ("x", std::process::id()));
    }
    assert!(store.try_lock("x", "").unwrap().is_none());
}

#[test]
fn a_wait_can_be_cancelled() {
    let (_dir, store) = store();
    let _held = store.lock("x", None, NOBODY, NEVER).unwrap();
    let error = store.lock("x", None, NOBODY, &|| true).unwrap_err();
    assert!(matches!(&error, Error::Cancelled { what } if what == "x"), "{error}");
}

#[test]
fn shared_locks_exclude_only_exclusive_ones() {
    let (_dir, store) = store();
    let short = Some(Duration::ZERO);
    let one = store.lock_shared("gc", "", short, NOBODY, NEVER).unwrap();
    let two = store.lock_shared("gc", "", short, NOBODY, NEVER).unwrap();
    assert!(store.try_lock("gc", "").unwrap().is_none());
    drop(one);
    assert!(store.try_lock("gc", "").unwrap().is_none());
    drop(two);
    let exclusive = store.try_lock("gc", "").unwrap();
    assert!(exclusive.is_some());
    assert!(store.lock_shared("gc", "", short, NOBODY, NEVER).is_err());
}

#[test]
fn an_exclusive_lock_leaves_no_file() {
    let (_dir, store) = store();
    let locks = [store.try_lock("a", "").unwrap().unwrap(), store.try_lock("b", "").unwrap().unwrap()];
    assert_eq!(lock_files(&store), 2);
    drop(locks);
    assert_eq!(lock_files(&store), 0);
}

#[test]
fn there_is_one_holder_at_a_time_though_the_file_comes_and_goes() {
    let (_dir, store) = store();
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let lock = store.lock("x", None, NOBODY, NEVER).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(lock_files(&store), 0);
}

#[test]
fn a_removed_lock_file_is_nobodys_lock() {
    let (_dir, store) = store();
    let stale = store.try_lock("x", "").unwrap().unwrap();
    fs::remove_file(store.dir().join("locks/x")).unwrap();
    let _new = store.try_lock("x", "").unwrap().unwrap();
    // Dropping the old one doesn't take the new one's file away.
    drop(stale);
    assert!(store.try_lock("x", "").unwrap().is_none());
}

#[test]
fn lock_names_stay_in_their_directory() {
    assert_eq!(file_name("root-hgweb_0.1"), "root-hgweb_0.1");
    assert_eq!(file_name("../../etc/passwd"), "%2e.%2f..%2fetc%2fpasswd");
    assert_eq!(
        [file_name(""), file_name("."), file_name("%"), file_name("ä")],
        ["%", "%2e", "%25", "%c3%a4"]
    );
    let (_dir, store) = store();
    for name in ["", ".", "..", "a/b", "\0", "\n", &"long/".repeat(100)] {
        let _lock = store.try_lock(name, "").unwrap().unwrap();
        assert_eq!(lock_files(&store), 1, "{name:?}");
    }
}

proptest! {
    #[test]
    fn different_names_are_different_files(a in ".{0,80}", b in ".{0,80}") {
        prop_assert_eq!(a == b, file_name(&a) == file_name(&b));
        let name = file_name(&a);
        prop_assert!(name.len() <= 200 && !name.starts_with('.') && !name.contains('/') && !name.is_empty());
    }
}
