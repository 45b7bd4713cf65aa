//! What comes with a definition or from a mirror: locks, `.repo` files, packages.

use std::path::Path;

use super::lock::Lock;
use super::repo_file::{self, Variables};

pub use super::bootstrap::fuzz as package;

/// A lock file.
pub fn lock(data: &[u8]) {
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if std::fs::write(file.path(), data).is_err() {
        return;
    }
    if let Ok(Some((lock, bytes))) = Lock::read(file.path()) {
        assert_eq!(bytes, data);
        let _ = lock.resolution(&[]);
        if lock.write(file.path()).is_ok() {
            let again = Lock::read(file.path());
            assert!(again.is_ok_and(|again| again.is_some_and(|(again, _)| again.is_as(&lock))));
        }
    }
}

/// A `.repo` file.
pub fn repo_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let variables = Variables { releasever: "7", arch: "x86_64", basearch: "x86_64" };
    let _ = repo_file::parse(&text, Path::new("/nonexistent/x.repo"), variables);
}
