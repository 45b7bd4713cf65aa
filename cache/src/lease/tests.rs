use std::path::Path;

use super::*;
use crate::gc::{Collection, Policy, collect};
use crate::tree::{Entry, Kind, Meta, Tree};

fn tree(store: &Store, contents: &[&str]) -> Tree {
    let mut entries = vec![Entry { path: Vec::new(), meta: Meta::default(), kind: Kind::Directory }];
    for content in contents {
        let file = store.dir().parent().unwrap().join("content");
        fs::write(&file, content).unwrap();
        let (object, size) = store.put_object(&File::open(&file).unwrap()).unwrap();
        let path = content.as_bytes().to_vec();
        entries.push(Entry { path, meta: Meta::default(), kind: Kind::File { object, size } });
    }
    Tree::from_entries(entries).unwrap()
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store")).unwrap()
}

/// Collects as another process would; what is set aside.
fn collected(store: &Store) -> u64 {
    let collection = Collection::begin(store, None, &|_| (), &|| false).unwrap();
    let outcome = collect(&collection, &[], Vec::new(), Policy::new(None, None), 0, &()).unwrap();
    outcome.freed().files
}

#[test]
fn a_content_that_a_capture_found_is_put_back_when_a_tree_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (open(dir.path()), open(dir.path()));
    tree(&theirs, &["a", "b"]);
    theirs.sync().unwrap();
    drop(theirs);
    // Found, not written; and not named by anything yet.
    let found = tree(&ours, &["a"]);
    let other = open(dir.path());
    assert_eq!(collected(&other), 2);
    assert!(!other.has_object(&Digest::of(b"never there")));
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let at = |digest| by_digest(&ours.dir().join("objects"), &digest);
    assert!(!at(a).exists() && !at(b).exists());
    ours.open_object(&a).unwrap();
    let digest = ours.put_tree(&found).unwrap();
    assert!(at(a).exists() && !at(b).exists());
    // What is leased stays however often somebody collects.
    assert_eq!(collected(&other), 0);
    assert!(ours.has_tree(&digest));
    drop(ours);
    assert_eq!(collected(&other), 2);
    assert_eq!(list(&other.dir().join(CONDEMNED)).unwrap().len(), 0);
}

#[test]
fn a_tree_that_a_command_found_stays_until_it_ends_and_what_it_left_says_so_while_others_collect() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = open(dir.path());
    let digest = theirs.put_tree(&tree(&theirs, &["a"])).unwrap();
    drop(theirs);
    let (ours, other) = (open(dir.path()), open(dir.path()));
    assert!(ours.has_tree(&digest));
    assert_eq!(collected(&other), 0);
    let collection = Collection::begin(&other, None, &|_| (), &|| false).unwrap();
    drop(ours);
    let outcome = collect(&collection, &[], Vec::new(), Policy::new(None, None), 0, &()).unwrap();
    assert_eq!(outcome.freed().files, 0);
    drop(collection);
    assert_eq!(collected(&other), 2);
}

#[test]
fn what_was_set_aside_goes_with_the_next_command_after_those_that_are_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let ours = open(dir.path());
    tree(&ours, &["a"]);
    ours.sync().unwrap();
    let other = open(dir.path());
    assert_eq!(collected(&other), 1);
    let aside = || list(&other.dir().join(CONDEMNED)).unwrap().len();
    assert_eq!(aside(), 1);
    drop(open(dir.path()));
    assert_eq!(aside(), 1);
    drop(ours);
    drop(open(dir.path()));
    assert_eq!(aside(), 0);
    assert!(list(&other.dir().join(LEASES)).unwrap().is_empty());
}
