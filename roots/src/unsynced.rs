//! Programs whose `fsync` does nothing: what they write is captured and made durable as a whole, or thrown away.
//!
//! Package managers sync each package, and their databases each transaction: most of the time that installing
//! a root takes goes there.

use std::thread;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};

/// The calls that wait for a disk.
const CALLS: [&str; 6] = ["fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"];

/// Runs `work` on a thread of its own. What that thread starts, and waits for, never waits for a disk.
///
/// Not for work that makes anything durable itself.
pub(crate) fn unsynced<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        no_more();
        work()
    };
    match thread::scope(|scope| scope.spawn(work).join()) {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// From now on, whenever this thread or what it starts asks for data to be on disk, it is told that it is.
/// Where the kernel knows no such filters all goes on as ever.
pub(crate) fn no_more() {
    if let Err(error) = filter().and_then(|filter| filter.load()) {
        tracing::debug!(%error, "programs wait for the disk");
    }
}

fn filter() -> Result<ScmpFilterContext, SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    // Privileged as we are it isn't needed; scriptlets may start programs that change their user.
    filter.set_ctl_nnp(false)?;
    // Programs of another architecture go on as ever.
    filter.set_act_badarch(ScmpAction::Allow)?;
    for call in CALLS {
        filter.add_rule(ScmpAction::Errno(0), ScmpSyscall::from_name(call)?)?;
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Whether `sync` in a process started now fails on a file that can't be synced (a FIFO): where it doesn't,
    /// the kernel never saw the call.
    fn is_seen() -> bool {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        !Command::new("sync").arg("--data").arg(&fifo).output().unwrap().status.success()
    }

    #[test]
    fn only_what_is_started_within_never_syncs() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a filter without further ado needs root privileges");
            return;
        }
        assert!(is_seen());
        assert!(!unsynced(is_seen));
        assert!(is_seen(), "this thread is as it was");
    }
}
