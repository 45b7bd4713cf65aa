use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{Entry, Kind, Meta, Mtime};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn tree(mtime: i64) -> Tree {
    let meta = Meta { mode: 0o755, mtime: Mtime { seconds: mtime, nanoseconds: 5 }, ..Meta::default() };
    let entry = |path: &[u8], kind| Entry { path: path.to_vec(), meta: meta.clone(), kind };
    let file = Kind::File { object: Digest::of(b"content"), size: 7 };
    Tree::from_entries(vec![entry(b"", Kind::Directory), entry(b"file", file)]).unwrap()
}

#[test]
fn a_tree_is_read_back_with_its_times() {
    let (_dir, store) = store();
    let digest = store.put_tree(&tree(1)).unwrap();
    assert_eq!(digest, tree(1).digest());
    assert!(store.has_tree(&digest));
    assert_eq!(store.tree(&digest).unwrap(), tree(1));
    let mode = fs::metadata(store.tree_path(&digest)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    // Only the times differ, so it is the same tree; the first stays.
    assert_eq!(store.put_tree(&tree(2)).unwrap(), digest);
    assert_eq!(store.tree(&digest).unwrap(), tree(1));
}

#[test]
fn the_objects_of_a_tree_are_there_before_it() {
    let (_dir, store) = store();
    let other = Store::open(store.dir()).unwrap();
    let object = store.put_object_bytes(b"content").unwrap();
    store.put_tree(&tree(1)).unwrap();
    assert!(other.has_object(&object));
}

#[test]
fn what_is_not_there_is_missing() {
    let (_dir, store) = store();
    let digest = tree(1).digest();
    assert!(!store.has_tree(&digest));
    assert!(matches!(store.tree(&digest), Err(Error::Missing { what }) if what == format!("tree {digest}")));
}

#[test]
fn a_damaged_tree_is_an_error_and_mended_by_the_same_tree() {
    let (_dir, store) = store();
    let digest = store.put_tree(&tree(1)).unwrap();
    let path = store.tree_path(&digest);
    let sound = fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    flipped[100] ^= 1;
    let other = Tree::default().encode();
    for damaged in [&flipped[..], &sound[..50], b"", &other] {
        fs::write(&path, damaged).unwrap();
        let error = store.tree(&digest).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path: at, .. } if *at == path), "{error}");
        store.put_tree(&tree(1)).unwrap();
        assert_eq!(store.tree(&digest).unwrap(), tree(1));
    }
}

#[test]
fn a_tree_of_a_newer_format_is_refused_as_such() {
    let (_dir, store) = store();
    let digest = store.put_tree(&tree(1)).unwrap();
    let path = store.tree_path(&digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    fs::write(&path, bytes).unwrap();
    let error = store.tree(&digest).unwrap_err();
    assert!(matches!(&error, Error::Format { found, .. } if found == "3"), "{error}");
}

/// A tree of so many files that storing it over another pays.
fn large(change: impl Fn(&mut Entry)) -> Tree {
    let file = |number: usize| {
        let kind = Kind::File { object: Digest::of(&number.to_le_bytes()), size: 8 };
        let path = format!("{}/{number}", number % 7).into_bytes();
        Entry { path, meta: Meta { mode: 0o644, ..Meta::default() }, kind }
    };
    let directory = |path: String| Entry {
        path: path.into_bytes(),
        meta: Meta { mode: 0o755, ..Meta::default() },
        kind: Kind::Directory,
    };
    let mut entries: Vec<Entry> = (0..2000).map(file).collect();
    entries.extend((0..7).map(|number| directory(number.to_string())));
    entries.push(directory(String::new()));
    entries.iter_mut().for_each(change);
    Tree::from_entries(entries).unwrap()
}

fn chmod(path: &'static [u8], mode: u32) -> impl Fn(&mut Entry) {
    move |entry| {
        if entry.path == path {
            entry.meta.mode = mode;
        }
    }
}

fn length(store: &Store, digest: &Digest) -> u64 {
    fs::metadata(store.tree_path(digest)).unwrap().len()
}

/// A store in which all objects are that these trees name: a tree may name no others.
fn filled() -> (tempfile::TempDir, Store) {
    let (dir, store) = store();
    for number in 0..2000usize {
        store.put_object_bytes(&number.to_le_bytes()).unwrap();
    }
    (dir, store)
}

#[test]
fn a_tree_that_differs_little_is_stored_as_what_differs() {
    let (_dir, store) = filled();
    let base = store.put_tree(&large(|_| ())).unwrap();
    let (one, two) = (large(chmod(b"0/7", 0o600)), large(chmod(b"1/8", 0o600)));
    let first = store.put_tree_like(&one, &store.tree(&base).unwrap()).unwrap();
    // One that is near a tree that is stored so is stored over the same, which stays the only one needed; and it
    // doesn't matter whether the near one comes from the store.
    for near in [store.tree(&first).unwrap(), one.clone()] {
        let second = store.put_tree_like(&two, &near).unwrap();
        assert_eq!(store.tree(&second).unwrap(), two);
        assert_eq!(store.checked_tree(&second).unwrap(), two);
        assert_eq!(store.with_bases(&second), [second, base]);
        assert!(length(&store, &second) < 300, "{} bytes", length(&store, &second));
        fs::remove_file(store.tree_path(&second)).unwrap();
    }
    assert_eq!((store.tree_base(&first).unwrap(), store.tree_base(&base).unwrap()), (Some(base), None));
    assert!(length(&store, &base) > 60_000);
}

#[test]
fn a_tree_without_what_it_is_stored_over_is_missing_until_that_comes_again() {
    let (_dir, store) = filled();
    let base = store.put_tree(&large(|_| ())).unwrap();
    let tree = large(chmod(b"0/7", 0o600));
    let near = store.tree(&base).unwrap();
    let digest = store.put_tree_like(&tree, &near).unwrap();
    fs::remove_file(store.tree_path(&base)).unwrap();
    assert!(!store.has_tree(&digest) && !store.holds_tree(&digest));
    assert!(matches!(store.tree(&digest), Err(Error::Missing { what }) if what == format!("tree {base}")));
    // Over a tree that is itself stored over another; as long as there is something of that name it stays whole.
    let other = store.put_tree(&large(chmod(b"1/8", 0o600))).unwrap();
    let other_tree = store.tree(&other).unwrap();
    store.put_tree_like(&near, &other_tree).unwrap();
    assert_eq!(store.with_bases(&digest), [digest, base, other]);
    assert_eq!(store.tree(&digest).unwrap(), tree);
    fs::write(store.tree_path(&base), "damaged").unwrap();
    assert!(!store.holds_tree(&digest));
    store.put_tree_like(&near, &other_tree).unwrap();
    assert_eq!(store.tree_base(&base).unwrap(), None);
    assert!(store.holds_tree(&digest));
    // Mended by itself where what it is stored over is gone for good.
    fs::remove_file(store.tree_path(&base)).unwrap();
    store.put_tree(&tree).unwrap();
    assert_eq!((store.tree(&digest).unwrap(), store.tree_base(&digest).unwrap()), (tree, None));
}

#[test]
fn a_tree_is_never_stored_over_itself_or_in_a_circle() {
    let (_dir, store) = filled();
    let base = large(|_| ());
    let digest = store.put_tree(&base).unwrap();
    let tree = large(chmod(b"0/7", 0o600));
    let over = store.put_tree_like(&tree, &store.tree(&digest).unwrap()).unwrap();
    let loaded = store.tree(&over).unwrap();
    fs::remove_file(store.tree_path(&digest)).unwrap();
    store.put_tree_like(&base, &loaded).unwrap();
    assert_eq!(store.tree_base(&digest).unwrap(), None);
    assert_eq!(store.tree(&over).unwrap(), tree);
}

#[test]
fn a_damaged_difference_is_an_error_and_mended_by_the_same_tree() {
    let (_dir, store) = filled();
    let base = store.put_tree(&large(|_| ())).unwrap();
    let tree = large(chmod(b"0/7", 0o600));
    let near = store.tree(&base).unwrap();
    let digest = store.put_tree_like(&tree, &near).unwrap();
    let path = store.tree_path(&digest);
    let sound = fs::read(&path).unwrap();
    let other = store.put_tree_like(&large(chmod(b"1/8", 0o600)), &near).unwrap();
    let other = fs::read(store.tree_path(&other)).unwrap();
    let mut flipped = sound.clone();
    flipped[130] ^= 1;
    for damaged in [&flipped[..], &sound[..90], &other] {
        fs::write(&path, damaged).unwrap();
        let error = store.tree(&digest).unwrap_err();
        assert!(matches!(&error, Error::Damaged { path: at, .. } if *at == path), "{error}");
        store.put_tree_like(&tree, &near).unwrap();
        assert_eq!(store.tree(&digest).unwrap(), tree);
    }
}
