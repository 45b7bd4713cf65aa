//! What a playbook comes across and yet isn't its input.

use std::path::Path;

use rootbuild_cache::Digest;

use super::names::Names;
use super::walk::{COMPILED, LeftOut, VERBATIM, VERSION_CONTROL};
use super::{Project, left_out};
use crate::config::Config;
use crate::trace::Listing;

/// Tells inputs from what only lies around.
#[derive(Debug)]
pub(super) struct Filter {
    left_out: LeftOut,
}

impl Filter {
    pub(super) fn of(project: &Project) -> Self {
        // A configuration that can't be read leaves nothing out; a run will say what is wrong with it.
        let config = Config::of_project(&project.dir).unwrap_or_default();
        Self { left_out: left_out(project, &config) }
    }

    /// Whether the path is no input: a secret, a log, Python's compiled code.
    pub(super) fn drops(&self, names: &Names, path: &Path) -> bool {
        let name = names.inside(path).unwrap_or(path);
        let verbatim = || name.components().any(|part| VERBATIM.iter().any(|dir| part.as_os_str() == *dir));
        let compiled = || {
            let beside =
                name.extension().is_some_and(|ending| ending == "pyc") && path.with_extension("py").exists();
            beside || name.components().any(|part| part.as_os_str() == COMPILED)
        };
        self.left_out.covers(path) || (compiled() && !verbatim())
    }

    /// The digest of what a directory lists, without the names that are no inputs.
    pub(super) fn listing(&self, names: &Names, dir: &Path, listing: &Listing) -> Digest {
        use std::os::unix::ffi::OsStrExt;
        let top = names.inside(dir).is_some_and(|inside| inside.as_os_str().is_empty());
        let mut text = Vec::new();
        for entry in listing.0.split_inclusive(|byte| *byte == 0) {
            let Some((_, name)) = entry.strip_suffix(b"\0").and_then(<[u8]>::split_first) else { continue };
            let name = std::ffi::OsStr::from_bytes(name);
            let ignored = top && VERSION_CONTROL.iter().any(|ignored| name == *ignored);
            if !ignored && !self.drops(names, &dir.join(name)) {
                text.extend(entry);
            }
        }
        Digest::of(&text)
    }
}
