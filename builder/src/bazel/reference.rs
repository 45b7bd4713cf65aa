//! References: the small files that stand for roots in Bazel. They name a tree, and no path, host or time.

use std::path::Path;

use rootbuild_cache::{Digest, LayerKey, durable};
use serde::{Deserialize, Serialize};

use super::BazelError;

/// The version of the form.
const SCHEMA: u32 = 1;

/// What a reference file says, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The version of this form.
    pub schema: u32,
    /// The key of the topmost layer: what it is defined by.
    pub key: LayerKey,
    /// The tree.
    pub tree: Digest,
}

impl Reference {
    /// The reference of a tree that came of a layer.
    #[must_use]
    pub fn new(key: LayerKey, tree: Digest) -> Self {
        Self { schema: SCHEMA, key, tree }
    }

    /// Reads a reference file.
    ///
    /// # Errors
    /// There is none, or it is of another version.
    pub fn read(path: &Path) -> Result<Self, BazelError> {
        let bytes = std::fs::read(path).map_err(BazelError::io("read", path))?;
        let read: Self = serde_json::from_slice(&bytes)
            .map_err(|error| BazelError::malformed(path, format!("is no reference: {error}")))?;
        if read.schema != SCHEMA {
            let why = format!("is a reference of version {}, known is {SCHEMA}", read.schema);
            return Err(BazelError::malformed(path, why));
        }
        Ok(read)
    }

    /// Writes it, the same bytes each time.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, path: &Path) -> rootbuild_cache::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).expect("a reference is plain data");
        text.push(b'\n');
        durable::write_atomic(path, &text, 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_the_same_bytes_each_time_and_of_a_known_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.rootbuild");
        let reference = Reference::new(LayerKey(Digest::of(b"key")), Digest::of(b"tree"));
        reference.write(&path).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        insta::assert_snapshot!(written);
        assert_eq!(Reference::read(&path).unwrap(), reference);
        std::fs::write(&path, written.replace("\"schema\": 1", "\"schema\": 9")).unwrap();
        assert!(Reference::read(&path).unwrap_err().to_string().contains("version 9"));
    }
}
