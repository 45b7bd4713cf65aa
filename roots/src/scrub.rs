//! What a step leaves in a root and nobody wants: removed before capture, listed in one place.

use std::path::Path;

/// What is done with a path before capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The directory stays, what is in it goes.
    EmptyDirectory(&'static str),
    /// The path goes, whatever it is (glob `*` within one component).
    Remove(&'static str),
    /// A regular file is made empty.
    EmptyFile(&'static str),
}

/// Everything that is dropped from a root, in one list (shown by `rootbuild show`).
pub const RULES: &[Rule] = &[];

/// Applies [`RULES`] to a directory: a whole root, or the upper side of an overlay. Never follows a
/// symbolic link.
pub fn scrub(root: &Path) -> std::io::Result<()> {
    let _ = root;
    unimplemented!()
}
