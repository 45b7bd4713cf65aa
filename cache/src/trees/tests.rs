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
    bytes[8] = 2;
    fs::write(&path, bytes).unwrap();
    let error = store.tree(&digest).unwrap_err();
    assert!(matches!(&error, Error::Format { found, .. } if found == "2"), "{error}");
}
