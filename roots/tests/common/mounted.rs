//! A file system of a given kind, in a file, for one test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted file system; unmounted on drop.
pub(crate) struct Mounted {
    _dir: TempDir,
    at: PathBuf,
}

impl Mounted {
    /// `None` where the tools or the kernel don't have it.
    pub(crate) fn new(kind: &str, megabytes: u64) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        if kind == "tmpfs" {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=200m", "none"]).arg(&at))?;
        } else {
            let image = dir.path().join("image");
            File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
            run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
            run(Command::new("mount").args(["-o", "loop", "-t", kind]).arg(&image).arg(&at))?;
        }
        Some(Self { _dir: dir, at })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.at));
    }
}

fn run(command: &mut Command) -> Option<()> {
    let output = command.output().ok()?;
    output.status.success().then_some(())
}
