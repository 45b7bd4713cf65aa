// `tests/standin/serve.py`: a server of a directory, good or bad. Used by tests of this crate from inside and outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A server of a directory; it ends with its stdin.
pub(crate) struct Server {
    child: Child,
    _stdin: ChildStdin,
    /// Where it is, without a slash at the end.
    pub(crate) url: String,
    log: PathBuf,
}

/// Nobody listens here.
pub(crate) const DEAD: &str = "http://127.0.0.1:9";

impl Server {
    /// Serves `dir`; `how` are `serve.py`'s options.
    pub(crate) fn new(dir: &Path, how: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/standin/serve.py");
        let log =
            tempfile::Builder::new().suffix(".log").tempfile().unwrap().into_temp_path().keep().unwrap();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(dir).arg("--log").arg(&log).args(how);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = answer["url"].as_str().unwrap().to_owned();
        Self { _stdin: child.stdin.take().unwrap(), child, url, log }
    }

    /// What was asked for so far: path and range.
    pub(crate) fn asked(&self) -> Vec<(String, Option<String>)> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let line = |line: &str| {
            let said: serde_json::Value = serde_json::from_str(line).unwrap();
            (said["path"].as_str().unwrap().to_owned(), said["range"].as_str().map(str::to_owned))
        };
        text.lines().map(line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}
