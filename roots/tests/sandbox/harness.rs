//! A root to run things in, and ways to look at what runs.

pub(crate) use std::fs;
pub(crate) use std::io::{BufRead, BufReader, Read};
pub(crate) use std::os::unix::fs::symlink;
pub(crate) use std::path::{Path, PathBuf};
pub(crate) use std::process::{Command, Stdio};
pub(crate) use std::thread::sleep;
pub(crate) use std::time::{Duration, Instant};

pub(crate) use rootbuild_roots::Cancel;
pub(crate) use rootbuild_roots::sandbox::{
    Bind, Console, Network, Nspawn, Running, Sandbox, SandboxError, SandboxSpec,
};
pub(crate) use rootbuild_roots::working::RootMount;
pub(crate) use tempfile::TempDir;

/// Whether the test can run here; says so if not.
pub(crate) fn privileged() -> bool {
    let can = Nspawn::preflight();
    if let Err(error) = &can {
        println!("skipped: {error}");
    }
    can.is_ok()
}

/// A root whose `/usr` is the host's.
pub(crate) struct Root {
    pub(crate) dir: TempDir,
}

impl Root {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for name in ["usr", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
        fs::write(root.join("etc/os-release"), "ID=test\n").unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn spec(&self, script: &str) -> SandboxSpec {
        SandboxSpec {
            name: "test".to_owned(),
            root: RootMount::Plain(self.path("root")),
            writable: true,
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![],
            binds: vec![usr()],
            network: Network::None,
            hostname: "inside".to_owned(),
            boot: false,
            console: Console::Pipe,
            chdir: None,
        }
    }

    /// The same over an overlay whose lower side is the root.
    pub(crate) fn overlay_spec(&self, script: &str) -> SandboxSpec {
        for name in ["upper", "work"] {
            fs::create_dir_all(self.path(name)).unwrap();
        }
        let lowers = vec![self.path("root")];
        let root = RootMount::Overlay { lowers, upper: self.path("upper"), work: self.path("work") };
        SandboxSpec { root, ..self.spec(script) }
    }
}

pub(crate) fn usr() -> Bind {
    Bind { source: "/usr".into(), target: "/usr".into(), read_only: true }
}

pub(crate) fn start(spec: &SandboxSpec) -> Running {
    Nspawn.start(spec, &Cancel::new()).unwrap()
}

/// Runs to the end: exit code and stdout.
pub(crate) fn run(spec: &SandboxSpec) -> (i32, String) {
    let mut running = start(spec);
    let mut out = String::new();
    running.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    let tail = running.stderr_tail();
    let code = running.wait().unwrap();
    println!("exit code {code}; stderr: {tail}");
    (code, out)
}

/// Waits until a payload says a line.
pub(crate) fn first_line(running: &mut Running) -> String {
    let mut line = String::new();
    BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
    line
}

/// Whether any process of this machine has `word` as an argument of its own.
pub(crate) fn runs(word: &str) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    processes.any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    })
}

/// Whether any process of this machine sees a mount of `path`.
pub(crate) fn mounted(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let number = entry.file_name().to_string_lossy().parse::<u32>();
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        number.is_ok() && mounts.contains(path)
    })
}

pub(crate) fn soon(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// This process's control groups by sandboxes.
pub(crate) fn cgroups() -> Vec<PathBuf> {
    let prefix = format!("rootbuild-{}-", std::process::id());
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.into_path());
        }
    }
    found
}
