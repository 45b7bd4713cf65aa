//! Kernel locks: flock on a file, gone with the process that held it.
//!
//! The file's content (`pid\npurpose\n`) is only for the message of who waits. A holder of the
//! exclusive lock removes the file when it is done; whoever locked a file that is no longer the one
//! of that name tries again, so that there are never two holders.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

/// The longest sleep between two looks at a lock, and at whether to go on waiting.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// How long who has a lock may take to sign it.
const UNSIGNED: Duration = Duration::from_millis(20);

/// Who holds a lock, as far as the lock file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// What the holder said it was doing, maybe empty.
    pub what: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { pid: 0, .. } => f.write_str("another process"),
            Self { pid, what } if what.is_empty() => write!(f, "pid {pid}"),
            Self { pid, what } => write!(f, "pid {pid}: {what}"),
        }
    }
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    exclusive: bool,
}

/// Opens the file `path`, made if need be, and locks it; `None` when somebody else has it. What is locked is the file of
/// that name: one that its last holder removed or renamed meanwhile is nobody's lock any more. An error comes with what
/// failed, as a verb.
pub fn locked_file(
    path: &Path,
    exclusive: bool,
) -> std::result::Result<Option<File>, (&'static str, std::io::Error)> {
    let operation = if exclusive {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(|error| ("open", error))?;
        match flock(&file, operation) {
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(("lock", error.into())),
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

impl Lock {
    /// Locks the file `path`, made if need be; `None` when somebody else has it.
    pub(crate) fn try_acquire(path: &Path, exclusive: bool, purpose: &str) -> Result<Option<Self>> {
        let file = locked_file(path, exclusive).map_err(|(action, error)| Error::io(action, path)(error))?;
        Ok(file.map(|file| {
            let mut lock = Self { file, path: path.to_owned(), exclusive };
            lock.sign(purpose);
            lock
        }))
    }

    /// Leaves word for those who wait. Without it they only don't know whom they wait for.
    fn sign(&mut self, purpose: &str) {
        let purpose: String = purpose.chars().filter(|c| !c.is_control()).take(200).collect();
        let text = format!("{}\n{purpose}\n", std::process::id());
        let signed = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) = signed {
            tracing::debug!(path = %self.path.display(), %error, "can't write the lock's holder");
        }
    }
}

impl AsFd for Lock {
    /// The locked file. A child process that inherits this descriptor holds the lock too, should this
    /// process die; dropping the `Lock` ends it for both.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the exclusive lock is held nobody else's lock on this file can be in force.
        if self.exclusive && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        // Closing alone would leave it to a child that inherited the descriptor.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn holder(path: &Path) -> Holder {
    let mut text = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    Holder { pid, what: lines.next().unwrap_or_default().to_owned() }
}

/// A file name for a lock's name: letters, digits, `.`, `_` and `-` stay (a leading `.` doesn't), the
/// rest becomes `%xx`; what gets too long ends in its digest.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => file.push(char::from(byte)),
            b'.' if at > 0 => file.push('.'),
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    if file.is_empty() {
        return "%".to_owned();
    }
    if file.len() > 180 {
        file.truncate(110);
        file = format!("{file}%%{}", Digest::of(name.as_bytes()).hex());
    }
    file
}

impl Store {
    /// Takes the exclusive lock `name` (a kernel lock on `<store>/locks/<name>`), waiting as long as
    /// `timeout` (`None`: for ever). `waiting` is called once with the holder when it has to wait,
    /// and `cancelled` is asked while waiting.
    pub fn lock(
        &self,
        name: &str,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Lock> {
        self.wait_for_lock(name, "", true, timeout, waiting, cancelled)
    }

    /// Like [`Store::lock`]; those who wait meanwhile are told `purpose`.
    pub fn lock_for(
        &self,
        name: &str,
        purpose: &str,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Lock> {
        self.wait_for_lock(name, purpose, true, timeout, waiting, cancelled)
    }

    /// Like [`Store::lock_for`], but shared with others who take it so; excludes the exclusive ones.
    pub fn lock_shared(
        &self,
        name: &str,
        purpose: &str,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Lock> {
        self.wait_for_lock(name, purpose, false, timeout, waiting, cancelled)
    }

    /// Takes the exclusive lock `name` if nobody has it.
    pub fn try_lock(&self, name: &str, purpose: &str) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.lock_path(name)?, true, purpose)
    }

    fn lock_path(&self, name: &str) -> Result<PathBuf> {
        self.writable()?;
        Ok(self.dir().join("locks").join(file_name(name)))
    }

    fn wait_for_lock(
        &self,
        name: &str,
        purpose: &str,
        exclusive: bool,
        timeout: Option<Duration>,
        waiting: &dyn Fn(&Holder),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Lock> {
        let path = self.lock_path(name)?;
        let start = Instant::now();
        let mut sleep = Duration::from_millis(1);
        let mut told = false;
        loop {
            if let Some(lock) = Lock::try_acquire(&path, exclusive, purpose)? {
                return Ok(lock);
            }
            if cancelled() {
                return Err(Error::Cancelled { what: name.to_owned() });
            }
            let waited = start.elapsed();
            let expired = timeout.is_some_and(|timeout| waited >= timeout);
            if expired || !told {
                let holder = holder(&path);
                // Who has only just locked may not have signed yet.
                let known = holder.pid != 0 || waited >= UNSIGNED;
                if known && expired {
                    let waited_seconds = waited.as_secs();
                    return Err(Error::LockTimeout { what: name.to_owned(), holder, waited_seconds });
                }
                if known {
                    waiting(&holder);
                    told = true;
                }
            }
            let left = timeout.map_or(sleep, |timeout| timeout.saturating_sub(waited));
            thread::sleep(sleep.min(left).max(Duration::from_millis(1)));
            sleep = (sleep * 2).min(LONGEST_SLEEP);
        }
    }
}

#[cfg(test)]
mod tests;
