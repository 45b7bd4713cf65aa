use super::*;

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let digest = store.put_object_bytes(b"hello").unwrap();
    assert!(store.has_object(&digest));
    store.sync().unwrap();
    assert!(store.has_object(&digest));
    let tree = store.put_tree(&crate::Tree::default()).unwrap();
    assert_eq!(store.tree(&tree).unwrap(), crate::Tree::default());
    Store::open(&dir.path().join("store")).unwrap();
}
