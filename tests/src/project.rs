//! A project in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{fs, process};

use crate::bin::{Ran, rootbuild_binary};
use crate::standin::{source, standin};

/// A project in a temporary directory, gone when dropped.
#[derive(Debug)]
pub struct Project {
    dir: tempfile::TempDir,
    store: PathBuf,
}

/// A store that the tests of this process share, so that bases and toolchains are built once. Roots in
/// it must have names of their own.
pub fn shared_store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| {
        let all = source().join("target/e2e");
        fs::create_dir_all(&all).expect("target/ is writable");
        for entry in fs::read_dir(&all).expect("it was just made").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let alive = name.strip_prefix("store-").is_none_or(|pid| Path::new("/proc").join(pid).exists());
            if !alive {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        all.join(format!("store-{}", process::id()))
    })
}

impl Project {
    /// An empty project on the shared store.
    #[must_use]
    pub fn new() -> Self {
        Self::on_store(shared_store().to_owned())
    }

    /// An empty project on a store of its own inside the project's directory.
    #[must_use]
    pub fn with_own_store() -> Self {
        let mut project = Self::new();
        project.store = project.dir.path().join("store");
        project
    }

    /// An empty project on the store in `store`.
    #[must_use]
    pub fn on_store(store: PathBuf) -> Self {
        let target = source().join("target");
        fs::create_dir_all(&target).expect("target/ is writable");
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir_in(target).expect("target/ is writable");
        Self { dir, store }
    }

    /// The project's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The directory that `<store>/roots/<name>` stands for.
    #[must_use]
    pub fn root(&self, name: &str) -> PathBuf {
        self.store.join("roots").join(name)
    }

    /// Writes a file, parents included. `@STANDIN@` and `@URL@` in the text become the stand-in's
    /// directory and URL.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("the project is writable");
        let text = if text.contains("@STANDIN@") || text.contains("@URL@") {
            let standin = standin();
            text.replace("@STANDIN@", &standin.dir.to_string_lossy()).replace("@URL@", &standin.url)
        } else {
            text.to_owned()
        };
        fs::write(path, text).expect("the project is writable");
        self
    }

    /// Writes `bases/el7.repo`, which names the stand-in's repositories over HTTP.
    pub fn write_standin_repo(&self) -> &Self {
        self.write(
            "bases/el7.repo",
            "[os]\nname=stand-in\nbaseurl=@URL@/os\ngpgcheck=1\ngpgkey=file://@STANDIN@/RPM-GPG-KEY-standin\n\n\
             [updates]\nname=stand-in updates\nbaseurl=@URL@/updates\ngpgcheck=1\ngpgkey=file://@STANDIN@/RPM-GPG-KEY-standin\n",
        )
    }

    /// The binary, about to run in the project with its store; nothing of the caller's `ROOTBUILD_*`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(rootbuild_binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOTBUILD_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.dir())
            .env("ROOTBUILD_STORE", &self.store)
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    #[must_use]
    pub fn rootbuild(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.command(arguments).output().expect("rootbuild runs"))
    }

    /// Runs `script` with `sh` in the finished root, and gives what it printed.
    #[must_use]
    #[track_caller]
    pub fn inside(&self, root: &str, script: &str) -> String {
        self.rootbuild(&["shell", root, "--", "sh", "-c", script]).expect(0).stdout
    }
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}
