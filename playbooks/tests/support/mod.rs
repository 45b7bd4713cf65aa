//! Roots and runs for tests. Real ones: they need root privileges, nspawn and a Debian mirror.

// Every test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rootbuild_cache::{Digest, Kind, Store};
use rootbuild_playbooks::event::RunEvent;
use rootbuild_playbooks::inputs::Project;
use rootbuild_playbooks::run::{Outcome, PlaybookRun, RunError, Services, run};
use rootbuild_playbooks::toolchain::{self, PINNED, Toolchain};
use rootbuild_roots::sandbox::{Network, Nspawn};
use rootbuild_roots::working::{RootMount, WorkingRoot};
use rootbuild_roots::{Cancel, capture};
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

/// The tree of a directory that is thrown away with the target directory only.
pub(crate) fn tree_of(dir: &Path) -> Digest {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap();
    let name = dir.with_extension("tree");
    let store = store();
    let _lock = store.lock("trees of tests", None, &|_| (), &|| false).unwrap();
    if let Ok(Ok(digest)) = fs::read_to_string(&name).map(|text| text.parse::<Digest>())
        && store.has_tree(&digest)
    {
        return digest;
    }
    let tree = capture::capture_directory(&store, dir, &Cancel::new()).unwrap();
    store.sync().unwrap();
    let digest = store.put_tree(&tree).unwrap();
    fs::write(name, digest.to_string()).unwrap();
    digest
}

/// A tree that is `base` with what `add` puts over it.
pub(crate) fn changed(base: &Digest, add: &Path) -> Digest {
    let working = WorkingRoot::on(&store(), base, &Cancel::new()).unwrap();
    let RootMount::Overlay { upper, .. } = working.mount() else { panic!("no overlays here") };
    assert!(Command::new("cp").arg("-a").arg(add.join(".")).arg(upper).status().unwrap().success());
    working.finish(&store(), &Cancel::new()).unwrap()
}

/// An Ansible project and a root for it, both thrown away afterwards.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) run: PlaybookRun,
    pub(crate) cancel: Cancel,
    base: Digest,
    events: Mutex<Vec<RunEvent>>,
    ran: AtomicBool,
}

impl Bench {
    /// An empty project over a fresh Debian root. No journal is asked.
    pub(crate) fn new(version: &str) -> Self {
        Self::over(version, &debian())
    }

    /// An empty project over the given root.
    pub(crate) fn over(version: &str, base: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(shared()).unwrap();
        for name in ["project", "made"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = |name: &str| dir.path().join(name);
        let base = tree_of(base);
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
            parent: base,
            replay: false,
            expected: None,
            cache: shared().join("cache"),
            network: Network::None,
            repos: None,
            boot: false,
            services: Services::Defer,
            log: path("log"),
            verbosity: 0,
            launcher: None,
        };
        Self { dir, run, cancel: Cancel::new(), base, events: Mutex::default(), ran: AtomicBool::new(false) }
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

    /// Runs it; what was [`Self::made`] before the first time is in the root from the beginning. What
    /// the root's host tells of itself is in the events.
    pub(crate) fn go(&self) -> Result<Outcome, RunError> {
        let (made, store) = (self.made(""), store());
        let mut spec = self.run.clone();
        if !self.ran.swap(true, Ordering::Relaxed) && fs::read_dir(&made).unwrap().next().is_some() {
            spec.parent = changed(&spec.parent, &made);
        }
        let told = |event| self.events.lock().unwrap().push(event);
        match run(&spec, &store, &Nspawn, (&self.cancel).into(), &told) {
            Ok(outcome) => {
                self.show(&outcome.tree);
                Ok(outcome)
            }
            Err(failed) => {
                eprintln!("{}", self.log());
                if let Some(RootMount::Overlay { upper, .. }) = failed.root.as_ref().map(|root| root.mount())
                {
                    let _ = Command::new("cp").arg("-a").arg(upper.join(".")).arg(&made).status();
                }
                Err(failed.error)
            }
        }
    }

    /// Puts what a tree has and the base hasn't where [`Self::made`] finds it.
    fn show(&self, tree: &Digest) {
        let store = store();
        let (base, tree) = (store.tree(&self.base).unwrap(), store.tree(tree).unwrap());
        fs::remove_dir_all(self.made("")).unwrap();
        fs::create_dir(self.made("")).unwrap();
        for entry in tree.entries() {
            let old = base.get(&entry.path);
            let path = self.made(std::str::from_utf8(&entry.path).unwrap_or("odd"));
            match &entry.kind {
                _ if old.is_some_and(|old| old.kind == entry.kind) => {}
                Kind::Directory => fs::create_dir_all(path).unwrap(),
                Kind::File { object, .. } => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let mut file = fs::File::create(path).unwrap();
                    std::io::copy(&mut store.open_object(object).unwrap(), &mut file).unwrap();
                }
                _ => {}
            }
        }
    }

    /// What was told so far.
    pub(crate) fn events(&self) -> Vec<RunEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Forgets what was told.
    pub(crate) fn forget(&self) {
        self.events.lock().unwrap().clear();
    }

    /// Ansible's own output.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.run.log).unwrap_or_default()
    }

    /// A file that the run has made in the root.
    pub(crate) fn made(&self, name: &str) -> PathBuf {
        self.dir.path().join("made").join(name.trim_start_matches('/'))
    }
}

/// A bench whose root nobody else has, so that it has no journals; these are asked.
pub(crate) fn fresh(version: &str) -> Bench {
    let mut bench = Bench::new(version);
    let own = bench.dir.path().join("own");
    fs::create_dir_all(own.join("etc")).unwrap();
    fs::write(own.join("etc/own"), own.to_str().unwrap()).unwrap();
    bench.run.parent = changed(&bench.run.parent, &own);
    bench.run.replay = true;
    bench
}

/// Runs a test on a fresh bench of the first and of the last ansible-core.
pub(crate) fn with_each_fresh(test: &str, body: impl Fn(&mut Bench)) {
    if privileged(test) {
        VERSIONS.iter().for_each(|version| body(&mut fresh(version)));
    }
}
