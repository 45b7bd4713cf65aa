//! Starting systemd-nspawn.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::cgroup::Cgroup;
use super::command::{self, Circumstances};
use super::resolv::MountPoint;
use super::running::{Clean, Running};
use super::{Console, Network, Sandbox, SandboxError, SandboxSpec};
use crate::cancel::Cancel;
use crate::process::{self, PATH, is_installed};
use crate::working::RootMount;

/// `--console=pipe` came with this version.
const OLDEST: u32 = 242;

/// The host's tools that a sandbox needs, and the Debian packages they are in.
const TOOLS: [(&str, &str); 4] = [
    ("systemd-nspawn", "systemd-container"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];

/// systemd-nspawn, in a mount namespace of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nspawn;

impl Nspawn {
    /// Whether sandboxes can be started here: privileges, tools and their versions. [`Sandbox::start`]
    /// checks it too.
    pub fn preflight() -> Result<(), SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Err(SandboxError::NotRoot);
        }
        for (program, package) in TOOLS {
            if !is_installed(program) {
                return Err(SandboxError::NotFound { program, package });
            }
        }
        let found = version()?;
        if found < OLDEST {
            return Err(SandboxError::TooOld { found, needed: OLDEST });
        }
        Ok(())
    }
}

/// nspawn's version, asked for once.
fn version() -> Result<u32, SandboxError> {
    static VERSION: OnceLock<u32> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(*version);
    }
    let program = "systemd-nspawn";
    let output = Command::new(process::found(program))
        .arg("--version")
        .env_clear()
        .env("PATH", PATH)
        .output()
        .map_err(|source| SandboxError::Start { program: program.to_owned(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "systemd 252 (252.39-1~deb12u2)"; something that names no number is taken for new enough.
    let number = text.split_whitespace().nth(1).and_then(|word| {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Ok(*VERSION.get_or_init(|| number.unwrap_or(u32::MAX)))
}

impl Sandbox for Nspawn {
    fn start(&self, spec: &SandboxSpec, cancel: &Cancel) -> Result<Running, SandboxError> {
        cancel.check()?;
        Self::preflight()?;
        check(spec)?;
        let spec = resolved(spec)?;
        let resolv_conf = match spec.network {
            Network::Host => fs::read("/etc/resolv.conf").ok().map(OsString::from_vec),
            Network::None | Network::Repos => None,
        };
        let clean = Clean {
            mount_point: if resolv_conf.is_some() { MountPoint::of(&spec.root) } else { MountPoint::none() },
            cgroup: Cgroup::create(),
        };
        let circumstances = Circumstances {
            starter: std::process::id(),
            cgroups: clean.cgroup.dirs(),
            resolv_conf,
            terminal: io::stdin().is_terminal() && io::stdout().is_terminal(),
        };
        let line = command::command_line(&spec, &circumstances);
        let mut command = Command::new(process::found(&line[0].to_string_lossy()));
        command.args(&line[1..]).env_clear().envs(command::environment(&spec)).current_dir("/");
        match spec.console {
            Console::Pipe => {
                use std::os::unix::process::CommandExt;
                // A Ctrl-C at the terminal is ours to handle.
                command.process_group(0);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            }
            Console::Inherit => {
                if let Some(term) = std::env::var_os("TERM") {
                    command.env("TERM", term);
                }
            }
        }
        // A step's root is captured and made durable as a whole, or thrown away. (An overlay is mounted so.)
        let unsynced = spec.console == Console::Pipe && matches!(spec.root, RootMount::Plain(_));
        Running::start(spec.name, command, clean, unsynced, cancel)
    }
}

/// Refuses what nspawn would misunderstand.
fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let absolute = |what: &str, path: &Path| {
        if path.is_absolute() {
            Ok(())
        } else {
            Err(SandboxError::Spec(format!("{what} `{}` is not absolute", path.display())))
        }
    };
    for path in command::host_paths(spec) {
        absolute("the host path", path)?;
    }
    for bind in &spec.binds {
        absolute("the bind target", &bind.target)?;
    }
    if let Some(dir) = &spec.chdir {
        absolute("the working directory", dir)?;
    }
    match spec.argv.first() {
        Some(program) => absolute("the program", Path::new(program))?,
        None => return Err(SandboxError::Spec("there is nothing to run".to_owned())),
    }
    if let RootMount::Overlay { lowers, .. } = &spec.root
        && lowers.is_empty()
    {
        return Err(SandboxError::Spec("an overlay needs a lower directory".to_owned()));
    }
    if spec.boot && spec.console == Console::Inherit {
        return Err(SandboxError::Spec("a booted root has no terminal to give".to_owned()));
    }
    for (name, _) in &spec.env {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(valid) {
            return Err(SandboxError::Spec(format!("`{name}` is no name for an environment variable")));
        }
    }
    Ok(())
}

/// The specification with symbolic links in host paths resolved; each path must be there.
fn resolved(spec: &SandboxSpec) -> Result<SandboxSpec, SandboxError> {
    let real = |path: &PathBuf| {
        path.canonicalize().map_err(|source| SandboxError::Io { action: "find", path: path.clone(), source })
    };
    let mut spec = spec.clone();
    spec.root = match &spec.root {
        RootMount::Plain(dir) => RootMount::Plain(real(dir)?),
        RootMount::Overlay { lowers, upper, work } => RootMount::Overlay {
            lowers: lowers.iter().map(real).collect::<Result<_, _>>()?,
            upper: real(upper)?,
            work: real(work)?,
        },
    };
    for bind in &mut spec.binds {
        bind.source = real(&bind.source)?;
    }
    Ok(spec)
}
