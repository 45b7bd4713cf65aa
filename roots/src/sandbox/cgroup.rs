//! A control group per sandbox: `systemd-nspawn --keep-unit` would put every sandbox into one
//! `payload` group beside its caller else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// How every group of ours is named: `rootbuild-<pid of the starter>-<n>`.
const PREFIX: &str = "rootbuild-";

/// How often removal is tried: the kernel empties a group a moment after its last process died.
const TRIES: u32 = 50;

/// A control group in each hierarchy that systemd uses (v1's `name=systemd` and v2), removed on drop.
/// Where groups can't be made there are none, and nothing is lost but the tidiness.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a group below the caller's own, after sweeping those of dead starters.
    pub(super) fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut dirs = Vec::new();
        for parent in own_groups(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default()) {
            sweep(&parent);
            let dir = parent.join(&name);
            if fs::create_dir(&dir).is_ok() {
                dirs.push(dir);
            }
        }
        Self { dirs }
    }

    /// The directories to enter.
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in &self.dirs {
            for _ in 0..TRIES {
                if remove(dir) {
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The directories of the caller's own groups in the hierarchies that systemd uses, from the text of
/// `/proc/self/cgroup`.
fn own_groups(text: &str) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mounts: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup/unified", "/sys/fs/cgroup"],
            "name=systemd" => &["/sys/fs/cgroup/systemd"],
            _ => continue,
        };
        let dir = mounts
            .iter()
            .map(|mount| Path::new(mount).join(path.trim_start_matches('/')))
            .find(|dir| dir.join("cgroup.procs").exists());
        dirs.extend(dir);
    }
    dirs
}

/// Removes the groups of starters that are dead. One that is still populated can't be removed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let starter = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if starter.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those below it; whether it is gone.
fn remove(dir: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hierarchies_that_systemd_uses_count() {
        let groups = own_groups("9:name=systemd:/nowhere-at-all\n4:memory:/\n0::/nowhere-at-all\nrubbish\n");
        assert_eq!(groups, Vec::<PathBuf>::new());
    }
}
