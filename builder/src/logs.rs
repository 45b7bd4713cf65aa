//! Logs: one file per root and command under `<store>/logs/<root>/`, everything that the tools said.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::event::{Event, EventSink, LayerStatus};

/// How many logs of a root are kept.
const KEPT: usize = 20;

/// Where the logs of this command go.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    file_name: String,
    started: Mutex<std::collections::HashSet<String>>,
}

impl Logs {
    /// Logs below `<store>/logs`, named by the time and this process.
    #[must_use]
    pub fn new(store_dir: &Path) -> Self {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ");
        Self {
            dir: store_dir.join("logs"),
            file_name: format!("{stamp}-{}.log", std::process::id()),
            started: Mutex::default(),
        }
    }

    /// The log of `root` in this command; its directory is made, the file when something is written.
    #[must_use]
    pub fn path(&self, root: &str) -> PathBuf {
        let dir = self.dir.join(root);
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.insert(root.to_owned()) {
            // A log that can't be written must not stop a build; the error shows at the first write.
            let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            prune(&dir);
        }
        dir.join(&self.file_name)
    }

    /// The log of `root` in this command, if anything was written there.
    #[must_use]
    pub fn existing(&self, root: &str) -> Option<PathBuf> {
        Some(self.dir.join(root).join(&self.file_name))
            .filter(|path| path.symlink_metadata().is_ok_and(|it| it.is_file()))
    }

    /// Leads from the log of `root` to that of `owner` in this command: they share the layer that failed.
    /// Returns the owner's.
    #[must_use]
    pub fn share(&self, root: &str, owner: &str) -> Option<PathBuf> {
        let log = self.existing(owner)?;
        if self.existing(root).is_some() {
            if let Ok(mut own) = self.open(root) {
                let _ = writeln!(own, "-- the rest is in the log of root `{owner}`: {}", log.display());
            }
        } else {
            let target = Path::new("..").join(owner).join(&self.file_name);
            let _ = std::os::unix::fs::symlink(target, self.path(root));
        }
        Some(log)
    }

    /// Opens the log of `root` for appending.
    pub fn open(&self, root: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(root))
    }
}

/// The root in whose log the newest one of `root` is, if it is another's: they share the layer that failed.
#[must_use]
pub fn owner_of_latest(store_dir: &Path, root: &str) -> Option<String> {
    let log = latest(store_dir, root).ok()??;
    let target = fs::read_link(log).ok()?;
    Some(target.parent()?.file_name()?.to_str()?.to_owned())
}

/// The newest log of `root`, of whatever command.
pub fn latest(store_dir: &Path, root: &str) -> io::Result<Option<PathBuf>> {
    Ok(all(&store_dir.join("logs").join(root))?.pop())
}

/// The logs in `dir`, oldest first (their names begin with the time).
fn all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut logs: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    Ok(logs)
}

fn prune(dir: &Path) {
    let Ok(logs) = all(dir) else { return };
    for old in logs.iter().take(logs.len().saturating_sub(KEPT - 1)) {
        let _ = fs::remove_file(old);
    }
}

/// Writes what happens to each root's log. What Ansible prints goes there directly.
pub struct LogSink(pub std::sync::Arc<Logs>);

impl EventSink for LogSink {
    fn event(&self, event: &Event) {
        let Some(root) = event.root() else { return };
        let line = match event {
            Event::LayerStarted { step, .. } => format!("== {step}"),
            Event::LayerFinished { step, status, tree, tasks, tasks_replayed, seconds, .. }
                if *status != LayerStatus::Cached =>
            {
                let how = if *status == LayerStatus::Replayed { "replayed" } else { "built" };
                format!(
                    "== {step}: {how} {tree} in {seconds:.1} s, {tasks} tasks ran, {tasks_replayed} replayed"
                )
            }
            Event::Phase { text, .. } => format!("-- {text}"),
            Event::Line { text, .. } => text.clone(),
            Event::Warning { text, .. } => format!("warning: {text}"),
            Event::ServiceDeferred { service, state, .. } => {
                format!("-- service `{service}`: `{state}` is left to its unit")
            }
            // A root that was only looked at gets no log file.
            Event::RootFailed { step, message, .. } => match (step, self.0.existing(root)) {
                (Some(step), Some(_)) => format!("== {step}: failed: {message}"),
                _ => return,
            },
            _ => return,
        };
        let wanted = matches!(event, Event::LayerStarted { .. }) || self.0.existing(root).is_some();
        if wanted && let Ok(mut log) = self.0.open(root) {
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_failed_with_another_has_its_log() {
        let store = tempfile::tempdir().unwrap();
        let logs = Logs::new(store.path());
        assert_eq!(logs.share("b", "a"), None);
        logs.open("a").unwrap().write_all(b"why").unwrap();
        assert_eq!(logs.share("b", "a"), logs.existing("a"));
        assert_eq!(fs::read(latest(store.path(), "b").unwrap().unwrap()).unwrap(), b"why");
        assert_eq!(owner_of_latest(store.path(), "b").as_deref(), Some("a"));
        assert_eq!(owner_of_latest(store.path(), "a"), None);
    }

    #[test]
    fn only_the_newest_logs_of_a_root_are_kept() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("logs/web");
        fs::create_dir_all(&dir).unwrap();
        for n in 0..40 {
            fs::write(dir.join(format!("2020010{n:03}.log")), "").unwrap();
        }
        let logs = Logs::new(store.path());
        assert_eq!(logs.existing("web"), None);
        logs.open("web").unwrap().write_all(b"x").unwrap();
        assert_eq!(all(&dir).unwrap().len(), KEPT);
        assert_eq!(latest(store.path(), "web").unwrap(), logs.existing("web"));
    }
}
