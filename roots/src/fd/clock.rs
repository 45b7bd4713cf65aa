//! The clock that a file system stamps changes with.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use rootbuild_cache::Mtime;

/// How far the stamps' clock can be behind the real one: a tick of the slowest kernels, twice.
const LONGEST: Duration = Duration::from_millis(20);

/// Waits until whatever changes in the file system that `path` is on gets a later ctime than `newest`,
/// the newest that was seen there. Most kernels stamp with a clock that ticks every 1 to 10 ms: what
/// changes twice in one tick doesn't show the second time.
pub(crate) fn settle(path: &Path, newest: Mtime) {
    if finer_stamps(path) {
        return;
    }
    let start = std::time::Instant::now();
    // A stamp in the future (the clock was set back) is as good as any: the next one will be another.
    while start.elapsed() < LONGEST {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        if (now.tv_sec, now.tv_nsec) > (newest.seconds, newest.nanoseconds.into()) {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Whether the kernel gives every change after a look (`stat`) a stamp of its own: Linux 6.13 does, on
/// the file systems that were taught to.
fn finer_stamps(path: &Path) -> bool {
    const TAUGHT: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|it| it.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    #[allow(clippy::cast_sign_loss, reason = "a magic number")]
    let taught = |found: rustix::fs::StatFs| TAUGHT.contains(&(found.f_type as u64 & 0xffff_ffff));
    version >= (6, 13) && rustix::fs::statfs(path).is_ok_and(taught)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_changes_afterwards_has_a_later_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for round in 0..50 {
            fs::write(&path, "same length").unwrap();
            let before = fs::metadata(&path).unwrap();
            let stamp =
                Mtime { seconds: before.ctime(), nanoseconds: u32::try_from(before.ctime_nsec()).unwrap() };
            settle(dir.path(), stamp);
            fs::write(&path, "equal length").unwrap();
            let after = fs::metadata(&path).unwrap();
            let stamps = |it: &fs::Metadata| (it.ctime(), it.ctime_nsec());
            assert!(stamps(&after) > stamps(&before), "round {round}");
        }
    }
}
