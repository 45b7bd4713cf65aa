//! Roots and runs for tests. Real ones: they need root privileges, nspawn and a Debian mirror.

// Every test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rootbuild_cache::Store;
use rootbuild_playbooks::event::RunEvent;
use rootbuild_playbooks::inputs::Project;
use rootbuild_playbooks::run::{Outcome, PlaybookRun, RunError, Services, run};
use rootbuild_playbooks::toolchain::{self, PINNED, Toolchain};
use rootbuild_roots::Cancel;
use rootbuild_roots::sandbox::{Network, Nspawn};
use rootbuild_roots::working::RootMount;
use serde_json::json;
use tempfile::TempDir;

/// The first and the last ansible-core that are pinned.
pub(crate) const VERSIONS: [&str; 2] = ["2.16.19", "2.19.14"];

/// Every one that is pinned: for what depends on ansible-core's ways.
pub(crate) const EVERY_VERSION: &[&str] = PINNED;

/// What tests share between runs: toolchains and the base root. Below cargo's target directory.
pub(crate) fn shared() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("playbooks");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Whether privileged tests can run here; says so when not.
pub(crate) fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test} needs root privileges");
    }
    root
}

/// The store with the toolchains.
pub(crate) fn store() -> Store {
    Store::open(&shared().join("store")).unwrap()
}

/// An ansible-core, installed at its first use.
pub(crate) fn toolchain(version: &str) -> Toolchain {
    toolchain::ensure(&store(), version, None, &Cancel::new(), &|_| ()).unwrap()
}

/// A Debian root with Python, systemd and sudo, made once.
pub(crate) fn debian() -> PathBuf {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap();
    let dir = shared().join("bookworm");
    if !dir.is_dir() {
        // Another test program may be making it as well.
        let _lock = store().lock("bookworm", None, &|_| (), &|| false).unwrap();
        if !dir.is_dir() {
            let new = shared().join("bookworm.new");
            let _ = fs::remove_dir_all(&new);
            let made = Command::new("mmdebstrap")
                .args(["--quiet", "--variant=minbase", "--include=python3,systemd-sysv,sudo", "bookworm"])
                .arg(&new)
                .status()
                .unwrap();
            assert!(made.success(), "mmdebstrap failed");
            fs::rename(&new, &dir).unwrap();
        }
    }
    dir
}

/// An Ansible project and a root for it, both thrown away afterwards.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) run: PlaybookRun,
    pub(crate) cancel: Cancel,
    events: Mutex<Vec<RunEvent>>,
}

impl Bench {
    /// An empty project over a fresh Debian root.
    pub(crate) fn new(version: &str) -> Self {
        Self::over(version, &debian())
    }

    /// An empty project over an overlay on the given root.
    pub(crate) fn over(version: &str, base: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(shared()).unwrap();
        for name in ["project", "upper", "work", "scratch"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = |name: &str| dir.path().join(name);
        let run = PlaybookRun {
            root_name: "web".to_owned(),
            project: Project {
                dir: path("project"),
                inventory: None,
                vault_password_file: None,
                exclude: vec![],
            },
            playbook: path("project/site.yml"),
            host: "web0".to_owned(),
            vars: json!({}),
            toolchain: toolchain(version),
            root: RootMount::Overlay {
                lowers: vec![base.to_owned()],
                upper: path("upper"),
                work: path("work"),
            },
            scratch: path("scratch"),
            cache: shared().join("cache"),
            network: Network::None,
            boot: false,
            services: Services::Defer,
            log: path("log"),
            verbosity: 0,
        };
        Self { dir, run, cancel: Cancel::new(), events: Mutex::default() }
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.run.project.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Writes the playbook.
    pub(crate) fn playbook(&self, text: &str) -> &Self {
        self.write("site.yml", text)
    }

    /// Runs it. What the root's host tells of itself is in the events.
    pub(crate) fn go(&self) -> Result<Outcome, RunError> {
        let result = run(&self.run, &Nspawn, &self.cancel, &|event| self.events.lock().unwrap().push(event));
        if result.is_err() {
            eprintln!("{}", self.log());
        }
        result
    }

    /// What was told so far.
    pub(crate) fn events(&self) -> Vec<RunEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Ansible's own output.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.run.log).unwrap_or_default()
    }

    /// A file that the run has made in the root.
    pub(crate) fn made(&self, name: &str) -> PathBuf {
        self.dir.path().join("upper").join(name)
    }
}
