//! A definition of an RPM base, built from the stand-in's repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rootbuild_cache::Store;
use rootbuild_roots::base::rpm::{Bootstrap, Written};
use rootbuild_roots::base::{BaseContext, BaseError, BaseSource, RpmBase};
use rootbuild_roots::{Cancel, StepEvent};
use tempfile::TempDir;

/// The stand-in's directory, and that of its bad repositories.
pub(crate) fn standin() -> Option<(PathBuf, PathBuf)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let (good, bad) = (target.join("standin"), target.join("standin-variants"));
    if !rustix::process::geteuid().is_root() {
        println!("skipped: installing a base needs root");
        return None;
    }
    if !good.join("fingerprint").exists() || !bad.join("fingerprint").exists() {
        println!("skipped: no stand-in in target/standin and target/standin-variants");
        return None;
    }
    Some((good.canonicalize().unwrap(), bad.canonicalize().unwrap()))
}

/// A definition's directory, a store, and an empty root.
pub(crate) struct Project {
    dir: TempDir,
    pub(crate) base: RpmBase,
    pub(crate) offline: bool,
    events: Mutex<Vec<StepEvent>>,
}

impl Project {
    /// A locked base of `standin-hello` from `repo`, the text of a `.repo` file.
    pub(crate) fn new(repo: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.repo");
        fs::write(&file, repo).unwrap();
        let base = RpmBase {
            repo_files: vec![file],
            packages: vec!["standin-hello".to_owned()],
            lock: Some(dir.path().join("hello.lock")),
            arch: "x86_64".to_owned(),
            releasever: "7".to_owned(),
            bootstrap: Bootstrap::default(),
            written: Written::default(),
        };
        Self { dir, base, offline: false, events: Mutex::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds into a fresh root.
    pub(crate) fn build(&self) -> Result<serde_json::Value, BaseError> {
        let store = Store::open(&self.path("store")).unwrap();
        for name in ["root", "scratch"] {
            let _ = fs::remove_dir_all(self.path(name));
            fs::create_dir(self.path(name)).unwrap();
        }
        self.events.lock().unwrap().clear();
        let sink = |event| self.events.lock().unwrap().push(event);
        let (cancel, scratch) = (Cancel::new(), self.path("scratch"));
        let context = BaseContext {
            store: &store,
            cancel: &cancel,
            sink: &sink,
            scratch: &scratch,
            offline: self.offline,
            mirror: None,
        };
        self.base.build(context, &self.path("root"))
    }

    /// The error that building ends with, and its hint. Nothing was installed then.
    pub(crate) fn error(&self) -> String {
        let error = self.build().unwrap_err();
        let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
        println!("{text}\n");
        assert!(fs::read_dir(self.path("root")).unwrap().next().is_none(), "nothing was installed");
        text
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &StepEvent| match event {
            StepEvent::Warning(text) => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }

    /// The files of packages that the store keeps.
    pub(crate) fn kept(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for shelf in fs::read_dir(self.path("store/packages")).unwrap().flatten() {
            if shelf.file_name().len() == 2 {
                found.extend(fs::read_dir(shelf.path()).unwrap().flatten().map(|entry| entry.path()));
            }
        }
        found.sort();
        found
    }
}

/// One repository of a `.repo` file: `more` are lines beside id and URLs.
pub(crate) fn repo(id: &str, urls: &[&str], more: &str) -> String {
    format!("[{id}]\nname={id}\nbaseurl={}\n{more}\n", urls.join("\n    "))
}

/// The line that names the stand-in's key, as a file.
pub(crate) fn key(dir: &Path) -> String {
    format!("gpgkey=file://{}\n", dir.join("RPM-GPG-KEY-standin").display())
}

/// Asserts that all of `parts` are in `text`.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// A GnuPG home with keys made for a test.
pub(crate) struct Keys {
    home: TempDir,
}

impl Keys {
    /// `script` is run in the home, with `gen NAME [TIME [EXPIRES]]`, `fpr NAME` and `export NAME FILE` at hand.
    pub(crate) fn new(script: &str) -> Self {
        // gpg-agent's socket takes no long path.
        let home = tempfile::Builder::new().prefix("rb-gpg").tempdir_in("/tmp").unwrap();
        let keys = Self { home };
        keys.run(script);
        keys
    }

    pub(crate) fn run(&self, script: &str) -> String {
        let helpers = r#"
g() { gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' "$@"; }
gen() { g --faked-system-time "${2:-20200101T000000}!" --quick-gen-key "$1 <$1@invalid>" rsa2048 sign "${3:-0}"; }
fpr() { g --with-colons --list-keys "$1" | awk -F: '/^fpr/ { print $10; exit }'; }
export_() { g --yes --armor --output "$2" --export "$1"; }
"#;
        let output = Command::new("sh")
            .args(["-euc", &format!("{helpers}\n{script}")])
            .current_dir(self.home.path())
            .env("GNUPGHOME", self.home.path())
            .env("HOME", self.home.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ =
            Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}
