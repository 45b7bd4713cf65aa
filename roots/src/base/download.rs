//! Downloads: verified by size and digest, kept in the store by digest.
//!
//! One download serves everybody: whoever wants the same file meanwhile waits for it, and whoever comes after a
//! killed one goes on with what it left. Servers are believed nothing: what counts is the digest.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::fetch::Patience;
use super::{BaseContext, BaseError, Place};
use crate::progress::StepEvent;

mod error;
mod job;
mod mirrors;
mod part;
#[cfg(test)]
mod tests;

pub use error::{DownloadError, RepoAt};
use job::{Job, Worker};
use mirrors::Mirrors;
pub(super) use mirrors::read_list;
use part::Part;

/// How many downloads run at once.
const PARALLEL: usize = 8;

/// How long is waited for the downloads under way when all is over.
const GRACE: Duration = Duration::from_secs(2);

/// How often is looked whether somebody else has finished a download.
const LOOK: Duration = Duration::from_millis(50);

/// How many packages an error names before it says how many more there are.
const NAMED: usize = 5;

/// A file to be had: a package of either family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// What it is, for people.
    pub(super) what: String,
    /// Its repository.
    pub(super) repo: String,
    /// Relative to the repository's URL, or a URL itself.
    pub(super) location: String,
    /// In bytes.
    pub(super) size: u64,
    /// 64 hex digits.
    pub(super) sha256: String,
}

/// Where the files of a repository can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origins {
    /// Where the repository is defined.
    pub(super) place: Place,
    /// Its URLs, best first, without a slash at the end.
    pub(super) urls: Vec<String>,
    /// Whether certificates of https servers are checked.
    pub(super) sslverify: bool,
    /// A list that may name more URLs: asked where those do not help.
    pub(super) list: Option<String>,
}

/// What workers tell.
enum Told {
    /// How many bytes of the job with this number there are.
    At(usize, u64),
    /// Something that people should see.
    Warning(String),
    Done(Box<Result<(), BaseError>>),
}

/// What workers share.
struct Shared {
    queue: Mutex<VecDeque<Job>>,
    stop: AtomicBool,
    mirrors: Mirrors,
    patience: Patience,
}

/// Where a package of this digest is kept.
pub(super) fn kept(store: &Path, sha256: &str) -> PathBuf {
    store.join("packages").join(&sha256[..2]).join(sha256)
}

/// Gets every file into the store that isn't there intact. `origins` tells where a repository's files are.
pub(super) fn files(
    context: BaseContext<'_>,
    files: &[File],
    origins: &dyn Fn(&str) -> Origins,
) -> Result<(), BaseError> {
    files_with(context, files, origins, Patience::default())
}

fn files_with(
    context: BaseContext<'_>,
    files: &[File],
    origins: &dyn Fn(&str) -> Origins,
    patience: Patience,
) -> Result<(), BaseError> {
    let mut jobs: VecDeque<Job> = VecDeque::new();
    let mut unreachable: Vec<&File> = Vec::new();
    let (mut targets, mut dirs) = (BTreeSet::new(), BTreeSet::new());
    for file in missing(context, files)? {
        let mut job = Job::new(context.store.dir(), file, origins(&file.repo));
        if context.offline {
            job.keep_local();
            if job.urls.is_empty() {
                unreachable.push(file);
                continue;
            }
        }
        // Two names may stand for one file.
        if !targets.insert(job.target.clone()) {
            continue;
        }
        job.number = jobs.len();
        dirs.extend(job.target.parent().map(Path::to_owned));
        jobs.push_back(job);
    }
    if !unreachable.is_empty() {
        return Err(offline(&unreachable));
    }
    for dir in &dirs {
        fs::create_dir_all(dir).map_err(BaseError::io("make", dir))?;
    }
    let sizes: Vec<u64> = jobs.iter().map(|job| job.size).collect();
    if sizes.is_empty() {
        return Ok(());
    }
    let what = if sizes.len() == 1 { "package" } else { "packages" };
    (context.sink)(StepEvent::Phase(format!("downloading {} {what}", sizes.len())));
    let shared = Arc::new(Shared {
        queue: Mutex::new(jobs),
        stop: AtomicBool::new(false),
        mirrors: Mirrors::default(),
        patience,
    });
    // The workers are on their own: one that waits for a dead server must not hold up cancellation.
    let (tell, told) = channel();
    for _ in 0..PARALLEL.min(sizes.len()) {
        let (shared, tell) = (Arc::clone(&shared), tell.clone());
        thread::spawn(move || work(&shared, &tell));
    }
    drop(tell);
    let result = watch(context, &told, &sizes);
    shared.stop.store(true, Ordering::Relaxed);
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let deadline = Instant::now() + GRACE;
    while !matches!(
        told.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
    ) {}
    result?;
    for dir in &dirs {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(BaseError::io("sync", dir))?;
    }
    Ok(())
}

/// What isn't in the store, and may not be asked of the network.
fn offline(packages: &[&File]) -> BaseError {
    let mut names: Vec<String> =
        packages.iter().take(NAMED).map(|p| format!("`{}` of `{}`", p.what, p.repo)).collect();
    if let Some(more @ 1..) = packages.len().checked_sub(NAMED) {
        names.push(format!("{more} more"));
    }
    let last = names.pop().unwrap_or_default();
    let list = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
    BaseError::Offline {
        message: format!("offline, and not in the store: {list}"),
        hint: "provision once without `--offline`: what is downloaded is kept for all projects".to_owned(),
    }
}

/// The packages that aren't in the store, or are damaged there (removed then).
fn missing<'a>(context: BaseContext<'_>, files: &'a [File]) -> Result<Vec<&'a File>, BaseError> {
    use rayon::prelude::*;
    let is_missing = |file: &&File| {
        let path = kept(context.store.dir(), &file.sha256);
        let intact = !context.cancel.is_cancelled() && is_intact(&path, file.size, &file.sha256);
        if !intact && !context.cancel.is_cancelled() {
            let _ = fs::remove_file(&path);
        }
        !intact
    };
    let missing = files.par_iter().filter(is_missing).collect();
    context.cancel.check()?;
    Ok(missing)
}

/// Whether a file is there and what it should be.
fn is_intact(path: &Path, size: u64, sha256: &str) -> bool {
    fs::File::open(path).is_ok_and(|file| {
        file.metadata().is_ok_and(|data| data.is_file() && data.len() == size)
            && sha256_of(file).is_ok_and(|found| found == sha256)
    })
}

/// The digest of a file, as hex.
fn sha256_of(mut file: fs::File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(hex(hasher))
}

/// A finished digest as hex.
pub(super) fn hex(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn watch(context: BaseContext<'_>, told: &Receiver<Told>, sizes: &[u64]) -> Result<(), BaseError> {
    let (mut there, mut left) = (vec![0; sizes.len()], sizes.len());
    let total = sizes.iter().sum();
    while left > 0 {
        context.cancel.check()?;
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok(Told::At(number, bytes)) => {
                there[number] = bytes.min(sizes[number]);
                let done = there.iter().sum();
                (context.sink)(StepEvent::Progress { done, total, bytes: true });
            }
            Ok(Told::Warning(text)) => (context.sink)(StepEvent::Warning(text)),
            Ok(Told::Done(result)) => {
                (*result)?;
                left -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                // Workers end early only when the work was cancelled.
                context.cancel.check()?;
                return Err(BaseError::Cancelled(crate::Cancelled));
            }
        }
    }
    Ok(())
}

fn work(shared: &Shared, tell: &Sender<Told>) {
    let worker = Worker::new(shared, tell);
    while !shared.stop.load(Ordering::Relaxed) {
        let queue = || shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = queue().pop_front() else { return };
        let result = match Part::take(&job.target, job.size) {
            Ok(Some(part)) => worker.get(&job, part),
            Ok(None) => {
                // Somebody else downloads it: something else first, then another look.
                let there = fs::metadata(part::path_of(&job.target)).map_or(0, |data| data.len());
                let _ = tell.send(Told::At(job.number, there));
                queue().push_back(job);
                thread::sleep(LOOK);
                continue;
            }
            Err(error) => Err(BaseError::io("write", &job.target)(error)),
        };
        if tell.send(Told::Done(Box::new(result))).is_err() {
            return;
        }
    }
}
