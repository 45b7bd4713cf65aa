//! What comes with a definition: a lock.

use std::path::Path;

use super::lock::Lock;
use super::{DebianBase, Written, stale};

/// A lock file: what is read is the same after it was written, and can't become more than one line of
/// `sources.list`, nor a file elsewhere.
///
/// # Panics
/// One of that isn't so.
pub fn lock(data: &[u8]) {
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if std::fs::write(file.path(), data).is_err() {
        return;
    }
    let Ok(Some((lock, bytes))) = Lock::read(file.path()) else { return };
    assert_eq!(bytes, data);
    for repo in &lock.repos {
        let line = repo.line();
        assert!(line.lines().count() == 1 && line.ends_with('\n') && line.starts_with("deb "), "{line:?}");
    }
    for package in &lock.packages {
        let file = package.file();
        assert!(!file.what.contains(['/', '\0', '\n']), "{file:?}");
        assert!(!Path::new(&file.location).components().any(|part| part.as_os_str() == ".."), "{file:?}");
        assert!(package.source.starts_with(package.source_name()));
    }
    let _ = stale::refused(&base(), file.path(), stale::stale(&lock, file.path(), &base()));
    if lock.write(file.path()).is_ok() {
        let again = Lock::read(file.path());
        assert!(again.is_ok_and(|again| again.is_some_and(|(again, _)| again == lock && again.is_as(&lock))));
    }
}

/// What it is to answer.
fn base() -> DebianBase {
    DebianBase {
        name: "fuzz".to_owned(),
        suite: "bookworm".to_owned(),
        packages: vec!["hello".to_owned()],
        mirror: Vec::new(),
        components: Vec::new(),
        variant: None,
        keyring: None,
        lock: None,
        written: Written::default(),
    }
}
