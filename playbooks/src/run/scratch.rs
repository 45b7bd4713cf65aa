//! The files of one run, in its private directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::{PlaybookRun, RunError, environment};
use crate::config::{self, Config};
use crate::inputs;
use crate::runtime::Runtime;

/// Variables that decide where a task runs: the run sets them, and nobody else.
const RESERVED: &[&str] = &["ansible_connection"];

/// Names of this machine, which `delegate_to` and `local_action` use.
const LOCAL: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Characters with a meaning in Ansible's host patterns.
const PATTERN: &[char] =
    &['*', '?', '[', ']', '!', '&', '~', ',', ';', '@', ' ', '\t', '\n', '/', '\\', '"', '\''];

/// Everything that is on disk for one run.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    /// The Python side.
    pub(super) runtime: Runtime,
    /// The project's configuration.
    pub(super) config: Config,
    /// Its file: the project's, or an empty one.
    pub(super) config_file: PathBuf,
    /// The inventories to name on the command line; where there are none the configuration names one.
    pub(super) inventories: Vec<PathBuf>,
    /// Whether the project may put anything in the place of a part of Ansible's module_utils.
    pub(super) own_utilities: bool,
}

impl Scratch {
    /// Checks what was asked for, and writes all files below `scratch`, a private directory.
    pub(super) fn prepare(run: &PlaybookRun, scratch: &Path) -> Result<Self, RunError> {
        check(run)?;
        let dir = scratch.join("ansible");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(RunError::io("remove", &dir))?;
        }
        for name in ["", "home", "tmp", "spool"] {
            make(&dir.join(name))?;
        }
        let runtime =
            Runtime::written(&run.cache).map_err(|(path, error)| RunError::io("write", &path)(error))?;
        let project_config = config::path(&run.project.dir);
        let config = Config::of_project(&run.project.dir).map_err(RunError::io("read", &project_config))?;
        let config_file = if project_config.is_file() { project_config } else { dir.join("ansible.cfg") };
        let inventories = run.project.inventory.iter().cloned().collect();
        let mut scratch = Self { dir, runtime, config, config_file, inventories, own_utilities: true };
        scratch.write("ansible.cfg", b"")?;
        scratch.write("vars.json", run.vars.to_string().as_bytes())?;
        scratch.write("connection.json", json!({"ansible_connection": CONNECTION}).to_string().as_bytes())?;
        scratch.write("environment.json", environment::text().as_bytes())?;
        let own = inputs::own_python(&run.project, &run.playbook)
            .map_err(|error| RunError::Ansible { message: error.to_string() })?;
        scratch.write("shadows", own.names.join("\n").as_bytes())?;
        scratch.own_utilities = own.utilities;
        scratch.add_host(&run.host)?;
        Ok(scratch)
    }

    /// Adds an inventory of our own with nothing but the host: where there is no other, and for a
    /// root that stands for localhost, which Ansible limits a run to only if an inventory names it.
    fn add_host(&mut self, host: &str) -> Result<(), RunError> {
        let configured = self.config.paths("defaults", "inventory", ',');
        if self.inventories.is_empty() {
            if configured.is_empty() || LOCAL.contains(&host) {
                self.inventories = configured;
            } else {
                return Ok(());
            }
        }
        if self.inventories.is_empty() || LOCAL.contains(&host) {
            let hosts = json!({"all": {"hosts": {host: {}}}});
            self.write("inventory.json", hosts.to_string().as_bytes())?;
            self.inventories.push(self.path("inventory.json"));
        }
        Ok(())
    }

    /// Where the lookup of the environment notes what it was asked for.
    pub(super) fn environment_used(&self) -> PathBuf {
        self.path("environment.used")
    }

    /// A file of this run.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of all of them.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A listening socket of this run.
    pub(super) fn listen(&self, name: &str) -> Result<Listener, RunError> {
        Listener::bind(&self.dir, name).map_err(RunError::io("listen on", &self.path(name)))
    }

    /// Opens the log for appending.
    pub(super) fn log(path: &Path) -> Result<File, RunError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(RunError::io("make", parent))?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(RunError::io("write", path))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), RunError> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(RunError::io("write", &path))?;
        file.write_all(content).map_err(RunError::io("write", &path))
    }
}

/// A socket that listens, however long its path is: it is reached through its directory.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    dir: OwnedFd,
    name: String,
}

impl Listener {
    fn bind(dir: &Path, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let socket = UnixListener::bind(reachable(&dir, name))?;
        Ok(Self { socket, dir, name: name.to_owned() })
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.socket.accept()?.0)
    }

    /// Ends the wait of somebody who accepts a connection that will never come.
    pub(super) fn wake(&self) {
        let _ = UnixStream::connect(reachable(&self.dir, &self.name));
    }
}

fn reachable(dir: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}

fn make(dir: &Path) -> Result<(), RunError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(RunError::io("make", dir))
}

fn check(run: &PlaybookRun) -> Result<(), RunError> {
    // A colon joins patterns, but for IPv6 addresses.
    let union = run.host.contains(':') && run.host.parse::<std::net::Ipv6Addr>().is_err();
    if run.host.is_empty() || union || run.host.contains(PATTERN) {
        return Err(RunError::HostPattern { host: run.host.clone() });
    }
    let reserved = RESERVED.iter().find(|name| run.vars.get(name).is_some());
    reserved.map_or(Ok(()), |name| Err(RunError::ReservedVariable { name: (*name).to_owned() }))
}

/// The connection of every task, whatever inventory, variables or keywords say; it hands those that are
/// delegated to this machine to Ansible's own. An extra variable, so that what asks for the connection's
/// name is told the truth; that there is no other connection is the callback plugin's doing.
const CONNECTION: &str = "rootbuild.sandbox.agent";
