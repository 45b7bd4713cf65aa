//! The mount point of a sandbox's resolv.conf: nspawn makes one in a root that has none, and it must
//! not stay there.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat, unlinkat};

use crate::working::RootMount;

/// The mount point that nspawn will have to make, if it will; removed on drop.
#[derive(Debug)]
pub(super) struct MountPoint(Option<PathBuf>);

impl MountPoint {
    /// To be called before the sandbox starts. Where `/etc/resolv.conf` exists already, in whichever
    /// form, nothing is to be removed (a symbolic link is followed by nspawn, into the private `/run`).
    pub(super) fn of(root: &RootMount) -> Self {
        let (layers, top): (Vec<&PathBuf>, &PathBuf) = match root {
            RootMount::Plain(dir) => (vec![dir], dir),
            RootMount::Overlay { lowers, upper, work: _ } => {
                (std::iter::once(upper).chain(lowers).collect(), upper)
            }
        };
        let exists = layers.iter().any(|layer| lookup(layer).is_some());
        Self((!exists).then(|| top.clone()))
    }

    /// When there is nothing to bind.
    pub(super) fn none() -> Self {
        Self(None)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let Some(top) = &self.0 else { return };
        // Only what nspawn made: an empty file. What a payload put there is scrub's affair.
        if let Some((etc, (FileType::RegularFile, 0))) = lookup(top) {
            let _ = unlinkat(etc, "resolv.conf", AtFlags::empty());
        }
    }
}

/// `etc` in `dir`, opened, and what its `resolv.conf` is: type and size.
fn lookup(dir: &Path) -> Option<(rustix::fd::OwnedFd, (FileType, i64))> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(dir, flags, Mode::empty()).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let etc = openat2(&top, "etc", flags, Mode::empty(), resolve).ok()?;
    let stat = statat(&etc, "resolv.conf", AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((etc, (FileType::from_raw_mode(stat.st_mode), stat.st_size)))
}
