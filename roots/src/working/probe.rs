//! Whether overlayfs works with its upper side on the store's file system.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use rootbuild_cache::Store;

use super::{WorkingError, failed};
use crate::fd::{self, Dir};

/// Whether it works: tried once per process and store.
pub(super) fn overlay_works(store: &Store) -> Result<bool, WorkingError> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, bool>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(works) = known.get(store.dir()) {
        return Ok(*works);
    }
    let staging = store.staging("probe")?;
    for name in ["lower", "lower/old", "upper", "work"] {
        let path = staging.path().join(name);
        fs::create_dir(&path).map_err(failed("make", &path))?;
    }
    let file = staging.path().join("lower/old/file");
    File::create(&file).map_err(failed("make", &file))?;
    let works = match try_it(staging.path()) {
        Ok(works) => works,
        Err(error) => {
            tracing::info!(store = %store.dir().display(), %error, "no overlay on this file system");
            false
        }
    };
    known.insert(store.dir().to_owned(), works);
    Ok(works)
}

/// Mounts an overlay that is attached nowhere (it is gone with its descriptor), removes and renames
/// in it, and looks whether the upper side tells so.
fn try_it(dir: &Path) -> io::Result<bool> {
    let mount = mount(&dir.join("lower"), &dir.join("upper"), &dir.join("work"))?;
    rustix::fs::unlinkat(&mount, "old/file", AtFlags::empty())?;
    rustix::fs::renameat(&mount, "old", &mount, "new")?;
    drop(mount);
    let upper = Dir::top(&dir.join("upper"))?;
    let (new, _) = upper.child(b"new")?;
    Ok(fd::get_xattr(new.fd()?, "trusted.overlay.redirect")?.as_deref() == Some(b"old")
        && fd::stat_at(upper.fd()?, b"old")?.is_whiteout()
        && fd::stat_at(new.fd()?, b"file")?.is_whiteout())
}

fn mount(lower: &Path, upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // By descriptor: values are short in this interface, and `:` and `,` mean something.
    let mut held = Vec::new();
    for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let value = format!("/proc/self/fd/{}", dir.as_raw_fd());
        rustix::mount::fsconfig_set_string(&context, key, value)?;
        held.push(dir);
    }
    for (key, value) in [("redirect_dir", "on"), ("metacopy", "off"), ("index", "off"), ("xino", "auto")] {
        rustix::mount::fsconfig_set_string(&context, key, value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
