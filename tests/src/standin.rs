//! The EL7-shaped repository: generated once, served over HTTP for this process's tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The stand-in repository.
#[derive(Debug)]
pub struct Standin {
    /// Where its `os` and `updates` lie.
    pub dir: PathBuf,
    /// Where its bad variants lie (`unsigned`, `wrongkey`, `tampered`, `badsum`).
    pub variants: PathBuf,
    /// Where `dir` is served, without a slash at the end.
    pub url: String,
    /// The server; it ends when its stdin closes, that is with this process.
    _server: Child,
}

/// The top of the source tree.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// The stand-in, generated first if need be (cached by fingerprint under `target/standin`).
pub fn standin() -> &'static Standin {
    static STANDIN: OnceLock<Standin> = OnceLock::new();
    STANDIN.get_or_init(|| {
        let source = source();
        let (dir, variants) = (source.join("target/standin"), source.join("target/standin-variants"));
        let generate = |arguments: &[&Path]| {
            let output = Command::new("/usr/bin/python3")
                .arg(source.join("tests/standin/generate.py"))
                .args(arguments)
                .output()
                .expect("python3 runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        generate(&[&dir]);
        generate(&[Path::new("--variants"), &variants, Path::new("--from"), &dir]);
        let mut server = Command::new("/usr/bin/python3")
            .arg(source.join("tests/standin/serve.py"))
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("the server speaks");
        let said: Value = serde_json::from_str(&line).expect("the server says where it listens");
        let url = said["url"].as_str().expect("a URL").trim_end_matches('/').to_owned();
        Standin { dir, variants, url, _server: server }
    })
}
