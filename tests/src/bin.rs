//! Running the real binary.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// How the variables begin by which cargo tells a test what it is.
const OF_TESTS: [&str; 4] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_PRIMARY_PACKAGE"];

/// The `rootbuild` binary of this build, built once per test run.
pub fn rootbuild_binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // deps/<test> lies beside the binaries of the same profile.
        let exe = std::env::current_exe().expect("this test has a path");
        let profile = exe.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps").to_owned();
        let mut build = Command::new(env!("CARGO"));
        // With what cargo tells tests of themselves, build scripts run again, and all that stands on them is built again.
        for (name, _) in std::env::vars_os() {
            if OF_TESTS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                build.env_remove(name);
            }
        }
        // As a test of the whole workspace needs it: `cargo build` would choose other features below, and build all again.
        build.args(["test", "--quiet", "--no-run", "--workspace", "--test", "help"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "rootbuild doesn't build");
        profile.join("rootbuild")
    })
}

/// What a run of the binary gave.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; 128 + signal when it was killed.
    pub code: i32,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Ran {
    /// From a finished process.
    #[must_use]
    pub fn new(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless it ended with `code`.
    #[must_use]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// stdout as JSON: one object and nothing else.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }

    /// Fails the test unless stderr has all of `texts`.
    #[must_use]
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in:\n{}", self.stderr);
        }
        self
    }
}
