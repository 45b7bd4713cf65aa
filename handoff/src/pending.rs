//! What was begun: units whose text was changed, and which weren't restarted yet. Should we die in between, the
//! next `up` restarts them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::HandoffError;

fn path(root: &str) -> PathBuf {
    PathBuf::from("/run/rootbuild/pending").join(format!("{root}.json"))
}

/// What was begun for a root.
pub(crate) fn read(root: &str) -> Option<BTreeSet<String>> {
    serde_json::from_slice(&fs::read(path(root)).ok()?).ok()
}

/// Writes down what is begun.
pub(crate) fn write(root: &str, units: &BTreeSet<String>) -> Result<(), HandoffError> {
    let path = path(root);
    let text = serde_json::to_vec(units).map_err(io::Error::from);
    let text = text.map_err(HandoffError::io("write", &path))?;
    let dir = path.parent().unwrap_or(&path);
    fs::create_dir_all(dir).map_err(HandoffError::io("create", dir))?;
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(HandoffError::io("write", &path))
}

/// All of it is done.
pub(crate) fn clear(root: &str) {
    let path = path(root);
    if fs::remove_file(&path).is_ok() {
        for dir in path.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(dir);
        }
    }
}
