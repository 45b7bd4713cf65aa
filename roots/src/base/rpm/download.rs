//! Downloads: verified by size and digest, kept in the store by digest.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::super::fetch::{self, FetchError, PAUSE, TRIES};
use super::super::{BaseContext, BaseError};
use super::RpmError;
use super::resolve::Package;
use crate::progress::StepEvent;

/// How many downloads run at once.
const PARALLEL: usize = 8;

/// How long is waited for the downloads under way when all is over.
const GRACE: Duration = Duration::from_secs(2);

/// A package to be had.
#[derive(Debug, Clone)]
struct Job {
    what: String,
    repo: String,
    urls: Vec<String>,
    sslverify: bool,
    size: u64,
    sha256: String,
    target: PathBuf,
    temporary: PathBuf,
}

/// What workers tell.
enum Told {
    Bytes(u64),
    Done(Box<Result<(), BaseError>>),
}

/// Where a package of this digest is kept.
pub(super) fn kept(store: &Path, sha256: &str) -> PathBuf {
    store.join("packages").join(&sha256[..2]).join(sha256)
}

/// Gets every package into the store that isn't there intact. `repo` gives a repository's URLs and
/// whether its servers' certificates are checked.
pub(super) fn all(
    context: BaseContext<'_>,
    packages: &[Package],
    repo: &dyn Fn(&str) -> (Vec<String>, bool),
) -> Result<(), BaseError> {
    let mut jobs: VecDeque<Job> = VecDeque::new();
    let wanted = missing(context, packages)?;
    for (number, package) in wanted.into_iter().enumerate() {
        let (bases, sslverify) = repo(&package.repo);
        let target = kept(context.store.dir(), &package.sha256);
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir).map_err(BaseError::io("make", dir))?;
        }
        jobs.push_back(Job {
            what: package.nevra(),
            repo: package.repo.clone(),
            urls: urls(&bases, &package.location),
            sslverify,
            size: package.size,
            sha256: package.sha256.clone(),
            target,
            temporary: context.scratch.join(format!("download-{number}")),
        });
    }
    let (count, total) = (jobs.len(), jobs.iter().map(|job| job.size).sum());
    if count == 0 {
        return Ok(());
    }
    (context.sink)(StepEvent::Phase(format!("downloading {count} packages")));
    // The workers are on their own: one that waits for a dead server must not hold up cancellation.
    let (tell, told) = channel();
    let (queue, stop) = (Arc::new(Mutex::new(jobs)), Arc::new(AtomicBool::new(false)));
    for _ in 0..PARALLEL.min(count) {
        let (queue, stop, tell) = (Arc::clone(&queue), Arc::clone(&stop), tell.clone());
        thread::spawn(move || work(&queue, &tell, &stop));
    }
    drop(tell);
    let result = watch(context, &told, count, total);
    // Let the workers go of the scratch directory, unless one is stuck.
    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    stop.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + GRACE;
    while !matches!(
        told.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
    ) {}
    result
}

/// The packages that aren't in the store, or are damaged there (removed then).
fn missing<'a>(context: BaseContext<'_>, packages: &'a [Package]) -> Result<Vec<&'a Package>, BaseError> {
    use rayon::prelude::*;
    let is_missing = |package: &&Package| {
        let path = kept(context.store.dir(), &package.sha256);
        let intact = !context.cancel.is_cancelled()
            && File::open(&path).is_ok_and(|file| {
                file.metadata().is_ok_and(|data| data.len() == package.size)
                    && sha256(file).is_ok_and(|found| found == package.sha256)
            });
        if !intact && !context.cancel.is_cancelled() {
            let _ = fs::remove_file(&path);
        }
        !intact
    };
    let missing = packages.par_iter().filter(is_missing).collect();
    context.cancel.check()?;
    Ok(missing)
}

/// The digest of a file, as hex.
fn sha256(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(hex(hasher))
}

fn hex(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn watch(context: BaseContext<'_>, told: &Receiver<Told>, count: usize, total: u64) -> Result<(), BaseError> {
    let (mut done, mut left) = (0, count);
    while left > 0 {
        context.cancel.check()?;
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok(Told::Bytes(bytes)) => {
                done += bytes;
                (context.sink)(StepEvent::Progress { done: done.min(total), total, bytes: true });
            }
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

fn work(queue: &Mutex<VecDeque<Job>>, tell: &Sender<Told>, stop: &AtomicBool) {
    let agents = [fetch::agent(false), fetch::agent(true)];
    while !stop.load(Ordering::Relaxed) {
        let Some(job) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
        let result = get(&job, &agents[usize::from(job.sslverify)], tell, stop);
        if tell.send(Told::Done(Box::new(result))).is_err() {
            return;
        }
    }
}

/// Why one try failed.
enum Fault {
    /// Worth another try.
    Passing(String),
    /// This URL will never do.
    Lasting(String),
    /// Not what it should be: expected, found.
    Mismatch(String, String),
    /// It can't be kept.
    Store(io::Error),
    Cancelled,
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Lasting(message) => Self::Lasting(message),
            FetchError::Passing(message) => Self::Passing(message),
        }
    }
}

fn get(job: &Job, agent: &ureq::Agent, tell: &Sender<Told>, stop: &AtomicBool) -> Result<(), BaseError> {
    let mut last = None;
    for url in &job.urls {
        let mut pause = PAUSE;
        for round in 1..=TRIES {
            match attempt(job, url, agent, tell, stop) {
                Ok(()) => return Ok(()),
                Err(Fault::Cancelled) => return Err(BaseError::Cancelled(crate::Cancelled)),
                Err(Fault::Store(error)) => return Err(BaseError::io("write", &job.target)(error)),
                Err(fault) => {
                    let lasting = matches!(fault, Fault::Lasting(_));
                    last = Some((url, fault));
                    if lasting || round == TRIES {
                        break;
                    }
                }
            }
            thread::sleep(pause);
            pause *= 3;
        }
    }
    let (what, repo) = (job.what.clone(), job.repo.clone());
    Err(match last {
        Some((url, Fault::Mismatch(expected, found))) => {
            RpmError::Mismatch { what, repo, url: url.clone(), expected, found }
        }
        Some((url, Fault::Passing(message) | Fault::Lasting(message))) => {
            RpmError::Download { what, repo, url: url.clone(), message }
        }
        Some((_, Fault::Cancelled | Fault::Store(_))) | None => {
            let message = "the repository has no URL".to_owned();
            RpmError::Download { what, repo, url: String::new(), message }
        }
    }
    .into())
}

fn attempt(
    job: &Job,
    url: &str,
    agent: &ureq::Agent,
    tell: &Sender<Told>,
    stop: &AtomicBool,
) -> Result<(), Fault> {
    let mut body = fetch::open(url, agent, job.size)?;
    let mut file = File::create(&job.temporary).map_err(Fault::Store)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 1 << 16]);
    let result = loop {
        if stop.load(Ordering::Relaxed) {
            break Err(Fault::Cancelled);
        }
        match body.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                size += count as u64;
                hasher.update(&buffer[..count]);
                if let Err(error) = file.write_all(&buffer[..count]) {
                    break Err(Fault::Store(error));
                }
                let _ = tell.send(Told::Bytes(count as u64));
                if size > job.size {
                    break Ok(()); // too long already, whatever follows
                }
            }
            Err(error) => break Err(Fault::Passing(error.to_string())),
        }
    };
    let found = hex(hasher);
    let result = match result {
        Ok(()) if size != job.size => {
            let more = if size > job.size { "more" } else { "only" };
            Err(Fault::Mismatch(format!("{} bytes", job.size), format!("{more} {size} bytes")))
        }
        Ok(()) if found != job.sha256 => {
            Err(Fault::Mismatch(format!("sha256 {}", job.sha256), format!("sha256 {found}")))
        }
        other => other,
    };
    let result = result.and_then(|()| fs::rename(&job.temporary, &job.target).map_err(Fault::Store));
    if result.is_err() {
        let _ = fs::remove_file(&job.temporary);
    }
    result
}

/// Where a package may be: its location in each place where the repository is.
fn urls(bases: &[String], location: &str) -> Vec<String> {
    if location.contains("://") {
        return vec![fetch::encoded(location)];
    }
    bases.iter().map(|base| format!("{base}/{}", fetch::encoded(location))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_may_be_a_url_itself() {
        assert_eq!(urls(&["http://x".to_owned()], "http://y/z.rpm"), ["http://y/z.rpm"]);
        let bases = ["http://x", "file:///y"].map(str::to_owned);
        assert_eq!(urls(&bases, "z.rpm"), ["http://x/z.rpm", "file:///y/z.rpm"]);
    }
}
