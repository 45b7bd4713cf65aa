use std::collections::BTreeMap;
use std::thread;

use super::*;
use crate::{Digest, Tree};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_store_has_its_layout_whatever_was_there_of_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some/where/store");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.dir(), path);
    assert_eq!(fs::read(path.join("format")).unwrap(), b"rootbuild-store 1\n");
    let found: BTreeMap<String, u32> = names(&path)
        .into_iter()
        .filter(|name| name != "format")
        .map(|name| (name.clone(), mode(&path.join(name))))
        .collect();
    assert_eq!(found, LAYOUT.map(|(name, mode)| (name.to_owned(), mode)).into());
    assert_eq!((mode(&path), mode(&path.join("format"))), (0o755, 0o644));
}

#[test]
fn an_existing_store_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    let object = store.put_object_bytes(b"content").unwrap();
    let tree = store.put_tree(&Tree::default()).unwrap();
    drop(store);
    fs::remove_dir(path.join("logs")).unwrap();
    let store = Store::open(&path).unwrap();
    assert!(store.has_object(&object) && store.has_tree(&tree));
    assert!(path.join("logs").is_dir());
    assert_eq!(names(&path.join("staging")), Vec::<String>::new());
}

#[test]
fn a_killed_creation_is_completed_wherever_it_was_killed() {
    for done in 0..=LAYOUT.len() {
        for text in ["", "rootbuild-st", "rootbuild-store 1\n"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(UNFINISHED), text).unwrap();
            for (name, _) in &LAYOUT[..done] {
                fs::create_dir(dir.path().join(name)).unwrap();
            }
            assert!(Store::open_read_only(dir.path()).unwrap().is_none());
            Store::open(dir.path()).unwrap().put_object_bytes(b"x").unwrap();
            assert!(Store::open_read_only(dir.path()).unwrap().is_some());
            assert!(!dir.path().join(UNFINISHED).exists());
        }
    }
}

#[test]
fn a_fresh_file_system_is_an_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    assert!(Store::open_read_only(dir.path()).unwrap().is_none());
    Store::open(dir.path()).unwrap();
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    for error in [Store::open(dir.path()).unwrap_err(), Store::open_read_only(dir.path()).unwrap_err()] {
        assert!(matches!(&error, Error::NotAStore { path } if path == dir.path()), "{error}");
    }
    assert_eq!(names(dir.path()), ["thesis.txt"]);
    let file = dir.path().join("thesis.txt");
    assert!(matches!(Store::open(&file), Err(Error::Io { .. })));
    assert!(matches!(Store::open_read_only(&file), Err(Error::Io { .. })));
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    for (text, names) in
        [("rootbuild-store 2\n", "2"), ("rootbuild-store 10\n", "10"), ("ostree 1", "ostree 1"), ("", "")]
    {
        fs::write(dir.path().join("format"), text).unwrap();
        for error in [Store::open(dir.path()).unwrap_err(), Store::open_read_only(dir.path()).unwrap_err()] {
            let Error::Format { path, found, known: 1 } = error else { panic!("{error}") };
            assert_eq!((path.as_path(), found.as_str()), (dir.path(), names));
        }
    }
}

#[test]
fn there_is_no_store_to_read_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open_read_only(dir.path()).unwrap().is_none());
    assert!(Store::open_read_only(&dir.path().join("nothing/there")).unwrap().is_none());
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_store_opened_for_reading_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Store::open(dir.path()).unwrap().put_tree(&Tree::default()).unwrap();
    let store = Store::open_read_only(dir.path()).unwrap().unwrap();
    assert_eq!(store.tree(&tree).unwrap(), Tree::default());
    let key = crate::LayerKey(Digest::of(b"key"));
    assert_eq!(store.records(&key).unwrap(), []);
    let refused = |result: Result<()>| assert!(matches!(result, Err(Error::ReadOnly { .. })), "{result:?}");
    refused(store.put_object_bytes(b"x").map(drop));
    refused(store.put_object(&File::open("/proc/self/exe").unwrap()).map(drop));
    refused(store.put_tree(&Tree::default()).map(drop));
    refused(store.sync());
    refused(store.staging("x").map(drop));
    refused(store.try_lock("x", "").map(drop));
    refused(store.add_record(&key, &crate::records::tests::record("x", 1)));
    assert_eq!(names(&dir.path().join("locks")), Vec::<String>::new());
}

#[test]
fn many_can_make_one_store_at_once() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Store::open(&path).unwrap().put_tree(&Tree::default()).unwrap());
            }
        });
        assert!(Store::open_read_only(&path).unwrap().unwrap().has_tree(&Tree::default().digest()));
        assert_eq!(names(&path.join("staging")), Vec::<String>::new());
        assert!(!path.join(UNFINISHED).exists());
    }
}

#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"st\xffre"));
    assert!(matches!(Store::open(&path), Err(Error::NotText { .. })));
    assert!(matches!(Store::open_read_only(&path), Err(Error::NotText { .. })));
    assert!(!path.exists());
}
