//! Declared repositories, and nothing else, for a sandbox that has no network: `network = "repos"`.
//!
//! An HTTP proxy of ours listens on the loopback of the sandbox's own network, where the package managers of
//! the root find it by their environment. The socket is made by a thread that goes into that network for it; who
//! answers stays outside. What is declared is fetched from its server, kept in the store by digest, and told to
//! whoever writes the layer's record; everything else is refused. Offline, only the store answers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::Mirror;
use super::fetch::{self, Patience};

mod answer;
mod kept;
mod lists;
mod serve;
#[cfg(test)]
mod tests;
mod url;

pub use serve::Serving;

use kept::Kept;
use url::Url;

/// Where the proxy is, inside. No other program can have the port: the network is the sandbox's own, and new.
const PORT: u16 = 3128;

/// A URL of a directory as repositories are declared: in its one form, with a slash at the end. None for what
/// isn't http or https, or names a user, a query or `..`.
#[must_use]
pub fn directory(url: &str) -> Option<String> {
    Url::directory(url).map(|url| url.to_string())
}

/// What is served, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The root's name, for messages.
    pub root: String,
    /// URLs: with a slash at the end everything below them, without one just themselves; those are lists of mirrors.
    pub urls: Vec<String>,
    /// What the lock of the base has of such lists: URLs of directories.
    pub mirrors: Vec<String>,
    /// Whether only the store is asked.
    pub offline: bool,
    /// Has what well-known hosts have.
    pub mirror: Option<Mirror>,
}

/// Something that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fetched {
    /// Its URL.
    pub url: String,
    /// Its content's SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Declared repositories, ready to be served to sandboxes, one after the other or at once.
#[derive(Debug, Clone)]
pub struct Repos(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    declared: Declared,
    urls: Vec<Url>,
    /// What lists name: directories.
    mirrors: Mutex<Vec<Url>>,
    kept: Kept,
    /// Where files are until they are whole.
    scratch: PathBuf,
    agent: ureq::Agent,
    fetched: Mutex<BTreeSet<Fetched>>,
    problems: Mutex<BTreeSet<String>>,
}

impl Repos {
    /// Repositories for runs that keep what they fetch in the store `store`; `scratch` is a private directory on
    /// its file system.
    #[must_use]
    pub fn new(declared: Declared, store: &Path, scratch: &Path) -> Self {
        let urls = declared.urls.iter().filter_map(|url| Url::parse(url)).collect();
        let mirrors = declared.mirrors.iter().filter_map(|url| Url::directory(url)).collect();
        Self(Arc::new(Shared {
            urls,
            mirrors: Mutex::new(mirrors),
            declared,
            kept: Kept::of(store),
            scratch: scratch.to_owned(),
            agent: fetch::agent(true, Patience::default()),
            fetched: Mutex::default(),
            problems: Mutex::default(),
        }))
    }

    /// The URL of the proxy, as it is seen in sandboxes.
    #[must_use]
    pub fn proxy() -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// The names of the sandbox itself, where its own services are, with commas between: but for those that a
    /// repository of the host is declared by.
    #[must_use]
    pub fn direct(&self) -> String {
        let own = ["localhost", "127.0.0.1", "::1"];
        let declared = |name: &&str| self.0.urls.iter().any(|url| url.name() == *name);
        own.into_iter().filter(|name| !declared(name)).collect::<Vec<_>>().join(",")
    }

    /// Serves on the loopback of the network that a process is in, which must not be ours.
    pub fn serve_beside(&self, process: Pid) -> io::Result<Serving> {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;
        let network = File::open(format!("/proc/{}/ns/net", process.as_raw_nonzero()))?;
        let (theirs, ours) = (network.metadata()?, File::open("/proc/self/ns/net")?.metadata()?);
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(io::Error::other("the sandbox has no network of its own"));
        }
        // A thread of its own, which ends in that network: no other of ours is ever in it.
        let listening = thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_err(|error| match error.kind() {
                // A service of a root that is booted.
                io::ErrorKind::AddrInUse => io::Error::new(
                    error.kind(),
                    format!("something in the root has port {PORT}, where repositories are served"),
                ),
                _ => error,
            })
        });
        let listener = listening.join().map_err(|_| io::Error::other("a thread panicked"))??;
        self.serve(listener)
    }

    /// Serves on a socket.
    pub fn serve(&self, listener: TcpListener) -> io::Result<Serving> {
        Serving::start(Arc::clone(&self.0), listener)
    }

    /// What was fetched since this was last asked, by URL.
    #[must_use]
    pub fn take_fetched(&self) -> Vec<Fetched> {
        let mut fetched = self.0.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *fetched).into_iter().collect()
    }

    /// What was refused or couldn't be had since this was last asked, in words.
    #[must_use]
    pub fn take_problems(&self) -> Vec<String> {
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *problems).into_iter().collect()
    }
}
