//! One package: from whichever server has it, tried until it is there whole.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::super::BaseError;
use super::super::fetch::{self, FetchError, Patience, TRIES};
use super::mirrors::Standing;
use super::part::{Origin, Part};
use super::{DownloadError, File, Origins, RepoAt, Shared, Told, is_intact, kept};

/// A server that breaks off is asked to go on at once if this much came, in bytes.
const PROGRESS: u64 = 1 << 16;

/// A package to be had.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) number: usize,
    pub(super) what: String,
    pub(super) repo: String,
    pub(super) urls: Vec<String>,
    pub(super) location: String,
    pub(super) origins: Origins,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) target: PathBuf,
}

impl Job {
    /// The job to get `file` into the store.
    pub(super) fn new(store: &Path, file: &File, origins: Origins) -> Self {
        let File { what, repo, location, size, sha256 } = file.clone();
        Self {
            number: 0,
            what,
            repo,
            urls: urls(&origins.urls, &location),
            target: kept(store, &sha256),
            location,
            origins,
            size,
            sha256,
        }
    }

    /// Leaves only what needs no network.
    pub(super) fn keep_local(&mut self) {
        self.urls.retain(|url| fetch::is_local(url));
        self.origins.list = self.origins.list.take().filter(|list| fetch::is_local(list));
    }
}

/// Where a package may be: its location in each place where the repository is.
fn urls(bases: &[String], location: &str) -> Vec<String> {
    if !location.contains("://") {
        return bases.iter().map(|base| format!("{base}/{}", fetch::encoded(location))).collect();
    }
    // A server has no say in what is read from this host's files.
    let local = bases.iter().any(|base| fetch::is_local(base));
    if fetch::is_local(location) && !local { Vec::new() } else { vec![fetch::encoded(location)] }
}

/// Why one try failed.
#[derive(Debug)]
enum Fault {
    /// Worth another try.
    Passing(String),
    /// The server is out of reach.
    Unreachable(String),
    /// This URL will never do.
    Lasting(String),
    /// It isn't what it should be.
    Wrong {
        expected: String,
        found: String,
    },
    /// What came from several places, or earlier, doesn't fit together: whose fault that is shows the next time.
    Mixed,
    /// It can't be kept.
    Store(io::Error),
    Cancelled,
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Lasting(message) => Self::Lasting(message),
            FetchError::Passing(message) => Self::Passing(message),
            FetchError::Unreachable(message) => Self::Unreachable(message),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(message) | Self::Unreachable(message) | Self::Lasting(message) => {
                f.write_str(message)
            }
            Self::Wrong { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Mixed => f.write_str("what came doesn't fit together"),
            Self::Store(error) => error.fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// What has been tried for a job.
struct Tried {
    url: String,
    fault: Option<Fault>,
}

impl Tried {
    fn new(url: String) -> Self {
        Self { url, fault: None }
    }

    /// Whether another try may help.
    fn is_open(&self) -> bool {
        !matches!(self.fault, Some(Fault::Lasting(_) | Fault::Wrong { .. }))
    }
}

/// Downloads one job after the other.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    tell: &'a Sender<Told>,
    /// Without and with a check of certificates.
    agents: [ureq::Agent; 2],
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, tell: &'a Sender<Told>) -> Self {
        let agents = [false, true].map(|sslverify| fetch::agent(sslverify, shared.patience));
        Self { shared, tell, agents }
    }

    /// Gets one package; `part` is what there is of it.
    pub(super) fn get(&self, job: &Job, mut part: Part) -> Result<(), BaseError> {
        let store = |error| BaseError::io("write", &job.target)(error);
        if is_intact(&job.target, job.size, &job.sha256) {
            // Somebody else has just got it.
            return part.discard().map_err(store);
        }
        if part.len() == job.size {
            if part.sha256() == job.sha256 {
                return part.finish().map_err(store);
            }
            part.restart().map_err(store)?;
        }
        self.at(job, &part);
        let mut tried: Vec<Tried> = job.urls.iter().cloned().map(Tried::new).collect();
        match self.rounds(job, &mut part, &mut tried) {
            Ok(()) => part.finish().map_err(store),
            Err(Fault::Cancelled) => Err(BaseError::Cancelled(crate::Cancelled)),
            Err(Fault::Store(error)) => Err(store(error)),
            Err(_) => {
                if part.len() == 0 {
                    let _ = part.discard();
                }
                Err(failed(job, tried).into())
            }
        }
    }

    /// Asks one server after the other, and all of them again after a pause.
    fn rounds(&self, job: &Job, part: &mut Part, tried: &mut Vec<Tried>) -> Result<(), Fault> {
        let (mut pause, mut best, mut pure) = (self.shared.patience.pause, part.len(), false);
        for round in 0..=TRIES {
            if round > 0 {
                self.sleep(pause)?;
                pause *= 3;
            }
            if self.round(job, part, tried, &mut best, &mut pure)? {
                return Ok(());
            }
            if round == 0 {
                for url in urls(&self.shared.mirrors.listed(&job.repo, &job.origins), &job.location) {
                    if tried.iter().all(|tried| tried.url != url) {
                        tried.push(Tried::new(url));
                    }
                }
                if tried.iter().any(|tried| tried.fault.is_none())
                    && self.round(job, part, tried, &mut best, &mut pure)?
                {
                    return Ok(());
                }
            }
            if !tried.iter().any(Tried::is_open) {
                break;
            }
        }
        Err(Fault::Passing(String::new()))
    }

    /// Asks each server once that may still do; whether it is all there then.
    fn round(
        &self,
        job: &Job,
        part: &mut Part,
        tried: &mut [Tried],
        best: &mut u64,
        pure: &mut bool,
    ) -> Result<bool, Fault> {
        let several = tried.len() > 1;
        let urls: Vec<String> = tried.iter().map(|tried| tried.url.clone()).collect();
        for number in self.shared.mirrors.order(&urls) {
            let (url, tried) = (&urls[number], &mut tried[number]);
            while tried.is_open() {
                let fault = match self.attempt(job, url, number, part, *pure) {
                    Ok(()) => {
                        self.shared.mirrors.note(url, Standing::Good);
                        return Ok(true);
                    }
                    Err(fault @ (Fault::Cancelled | Fault::Store(_))) => return Err(fault),
                    Err(Fault::Mixed) => {
                        *pure = true;
                        continue;
                    }
                    Err(fault) => fault,
                };
                self.note(url, &fault, several);
                tried.fault = Some(fault);
                if part.len() < best.saturating_add(PROGRESS) {
                    break;
                }
                *best = part.len();
            }
        }
        Ok(false)
    }

    /// Remembers how a server did, and says so where others do its work.
    fn note(&self, url: &str, fault: &Fault, several: bool) {
        let text = match fault {
            Fault::Unreachable(_) => {
                let news = self.shared.mirrors.note(url, Standing::Dead);
                let server = fetch::server(url);
                news.then(|| format!("`{server}` can't be used ({fault}): it is asked last from now on"))
            }
            Fault::Wrong { .. } => {
                self.shared.mirrors.note(url, Standing::Odd);
                Some(format!("`{url}` is not what it should be: {fault}"))
            }
            Fault::Passing(_) => {
                self.shared.mirrors.note(url, Standing::Odd);
                None
            }
            _ => None,
        };
        if let (Some(text), true) = (text, several) {
            let _ = self.tell.send(Told::Warning(text));
        }
    }

    fn attempt(&self, job: &Job, url: &str, number: usize, part: &mut Part, pure: bool) -> Result<(), Fault> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return Err(Fault::Cancelled);
        }
        if pure && !matches!(part.origin(), Origin::Nowhere) && part.origin() != Origin::One(number) {
            part.restart().map_err(Fault::Store)?;
        }
        let agent = &self.agents[usize::from(job.origins.sslverify)];
        let mut body = fetch::open(url, agent, part.len())?;
        if let Some(length) = body.length
            && length != job.size
        {
            return Err(Fault::Wrong {
                expected: format!("{} bytes", job.size),
                found: format!("{length} bytes"),
            });
        }
        if body.start != part.len() {
            part.restart().map_err(Fault::Store)?;
        }
        self.read(job, number, part, &mut body.reader)?;
        let found = part.sha256();
        if found == job.sha256 {
            return Ok(());
        }
        let whole = part.origin() == Origin::One(number);
        part.restart().map_err(Fault::Store)?;
        if !whole {
            return Err(Fault::Mixed);
        }
        Err(Fault::Wrong { expected: format!("sha256 {}", job.sha256), found: format!("sha256 {found}") })
    }

    /// Reads until there are as many bytes as there should be: what is more is not even looked at.
    fn read(&self, job: &Job, number: usize, part: &mut Part, body: &mut dyn Read) -> Result<(), Fault> {
        let window = self.shared.patience.window;
        let (mut buffer, mut looked, mut before) = (vec![0; 1 << 16], Instant::now(), part.len());
        while part.len() < job.size {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(Fault::Cancelled);
            }
            let left = usize::try_from(job.size - part.len()).unwrap_or(usize::MAX).min(buffer.len());
            match body.read(&mut buffer[..left]) {
                Ok(0) => {
                    return Err(Fault::Passing(format!(
                        "it ended after {} of {} bytes",
                        part.len(),
                        job.size
                    )));
                }
                Ok(count) => part.append(&buffer[..count], number).map_err(Fault::Store)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let (came, why) = (part.len(), fetch::words(&error));
                    return Err(Fault::Passing(format!("{why} after {came} of {} bytes", job.size)));
                }
            }
            self.at(job, part);
            if looked.elapsed() >= window {
                if part.len() - before < window.as_secs() * Patience::SLOWEST {
                    return Err(Fault::Passing("it came too slowly".to_owned()));
                }
                (looked, before) = (Instant::now(), part.len());
            }
        }
        Ok(())
    }

    fn at(&self, job: &Job, part: &Part) {
        let _ = self.tell.send(Told::At(job.number, part.len()));
    }

    fn sleep(&self, pause: Duration) -> Result<(), Fault> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(Fault::Cancelled);
            }
            thread::sleep(Duration::from_millis(50).min(pause));
        }
        Ok(())
    }
}

/// Why there is no package: something wrong weighs more than something missing.
fn failed(job: &Job, tried: Vec<Tried>) -> DownloadError {
    let repo = Box::new(RepoAt { id: job.repo.clone(), place: job.origins.place.clone() });
    let what = job.what.clone();
    let wrong = tried.iter().find_map(|tried| match &tried.fault {
        Some(Fault::Wrong { expected, found }) => Some((tried.url.clone(), expected.clone(), found.clone())),
        _ => None,
    });
    if let Some((url, expected, found)) = wrong {
        return DownloadError::Mismatch { what, repo, url, expected, found };
    }
    let tried = tried.into_iter().map(|Tried { url, fault }| {
        (url, fault.map_or_else(|| "not tried".to_owned(), |fault| fault.to_string()))
    });
    DownloadError::Failed { what, repo, tried: tried.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_may_be_a_url_itself() {
        let bases = ["http://x", "file:///y"].map(str::to_owned);
        assert_eq!(urls(&bases[..1], "http://y/z.rpm"), ["http://y/z.rpm"]);
        assert_eq!(urls(&bases, "z.rpm"), ["http://x/z.rpm", "file:///y/z.rpm"]);
        assert_eq!(urls(&bases, "file:///z.rpm"), ["file:///z.rpm"]);
        assert!(urls(&bases[..1], "file:///etc/shadow").is_empty(), "a server can't name this host's files");
    }
}
