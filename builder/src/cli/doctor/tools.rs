//! Programs that provisioning runs on the host.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rootbuild_playbooks::toolchain;
use rootbuild_roots::sandbox::{Nspawn, SandboxError};

use super::{Check, Needs};
use crate::host::{self, Tool};

/// The interpreter whose modules the rpm base uses: the system's, not one of `PATH`.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Longer than any of these takes; a program that hangs is a finding, not a reason to wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a program says on stdout, its first line; else why there is none.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                "not found".to_owned()
            } else {
                crate::definition::plain(&error)
            }
        })?;
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        late
    });
    // Both are small; stderr is read by a thread so that neither pipe can fill up unread.
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || stderr.map(std::io::read_to_string));
    let said = child.stdout.take().map(std::io::read_to_string).transpose();
    let status = child.wait();
    let _ = done.send(());
    let late = watchdog.join().unwrap_or(false);
    let errors = errors.join().ok().flatten().and_then(Result::ok).unwrap_or_default();
    match (status, said) {
        _ if late => Err(format!("`{program}` didn't answer in {} s", PATIENCE.as_secs())),
        (Ok(status), Ok(said)) if status.success() => {
            Ok(said.unwrap_or_default().lines().next().unwrap_or("").trim().to_owned())
        }
        (Ok(status), _) => {
            let last = errors.lines().rev().find(|line| !line.trim().is_empty());
            Err(last.map_or_else(|| format!("`{program}` failed: {status}"), |line| line.trim().to_owned()))
        }
        (Err(error), _) => Err(crate::definition::plain(&error)),
    }
}

pub(super) fn privileges() -> Check {
    if rustix::process::geteuid().is_root() {
        Check::ok("privileges", "root")
    } else {
        let uid = rustix::process::geteuid().as_raw();
        Check::missing(
            "privileges",
            format!("user {uid}, not root"),
            "run it with `sudo`; `plan` needs no privileges",
        )
    }
}

pub(super) fn all(needs: &Needs) -> Vec<Check> {
    vec![
        nspawn(),
        rpm(needs),
        python_dnf(needs),
        mmdebstrap(needs),
        keyring(needs),
        python(needs),
        ip(),
        locale(),
    ]
}

fn nspawn() -> Check {
    let name = "systemd-nspawn";
    // The same check that a sandbox makes before it starts; privileges are told on their own.
    match Nspawn::preflight() {
        Err(SandboxError::NotFound { program, .. }) => {
            let tool = if program == name { Tool::Nspawn } else { Tool::UtilLinux };
            return Check::missing(name, format!("`{program}` isn't installed"), host::install(tool));
        }
        Err(error @ SandboxError::TooOld { .. }) => {
            return Check::missing(name, error.to_string(), "use a newer release of this distribution");
        }
        _ => {}
    }
    match ask(name, &["--version"]) {
        Ok(version) => Check::ok(name, version),
        Err(why) => Check::missing(name, why, host::install(Tool::Nspawn)),
    }
}

fn rpm(needs: &Needs) -> Check {
    match ask("rpm", &["--version"]) {
        Ok(version) => Check::ok("rpm", version),
        Err(why) => {
            let why = if needs.host_rpm {
                why
            } else {
                format!("{why} (without it roots' own rpm installs bases)")
            };
            Check::lacking(needs.host_rpm, "rpm", why, host::install(Tool::Rpm))
        }
    }
}

fn python_dnf(needs: &Needs) -> Check {
    let name = "python3-dnf";
    match ask(SYSTEM_PYTHON, &["-c", "import dnf, rpm, hawkey, libdnf; print('dnf', dnf.VERSION)"]) {
        Ok(version) => Check::ok(name, format!("{version} for {SYSTEM_PYTHON}")),
        Err(why) => {
            let why = if needs.dnf {
                why
            } else {
                format!("{why} (only bases of source `rpm` without a lock need it)")
            };
            Check::lacking(needs.dnf, name, why, host::install(Tool::PythonDnf))
        }
    }
}

fn mmdebstrap(needs: &Needs) -> Check {
    match ask("mmdebstrap", &["--version"]) {
        Ok(version) => Check::ok("mmdebstrap", version),
        Err(why) => Check::lacking(
            needs.debian,
            "mmdebstrap",
            used_by(why, needs.debian, "debian"),
            host::install(Tool::Mmdebstrap),
        ),
    }
}

fn keyring(needs: &Needs) -> Check {
    let name = "debian keyring";
    let places = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-keyring.gpg"];
    match places.iter().find(|place| Path::new(place).is_file()) {
        Some(place) => Check::ok(name, *place),
        None => Check::lacking(
            needs.debian_keyring,
            name,
            used_by("not found".to_owned(), needs.debian_keyring, "debian"),
            host::install(Tool::DebianKeyring),
        ),
    }
}

/// What makes networks of roots that run as units.
fn ip() -> Check {
    match ask("ip", &["-V"]) {
        Ok(version) => Check::ok("ip", version),
        Err(why) => {
            let why = format!("{why} (only roots that run with a network of their own need it)");
            Check::lacking(false, "ip", why, host::install(Tool::Iproute))
        }
    }
}

/// The interpreter that ansible-core would be installed with; without a definition, for every
/// version that is pinned.
fn python(needs: &Needs) -> Check {
    let name = "python for ansible";
    let wanted = needs.ansible.as_deref().map_or_else(|| toolchain::PINNED.to_vec(), |core| vec![core]);
    let mut found = Vec::new();
    for core in wanted {
        match toolchain::interpreter(core) {
            Ok(python) => found.push(format!("`{}` for ansible-core {core}", python.display())),
            Err(error) => {
                let hint = error.hint().unwrap_or_else(|| host::install(Tool::Python));
                return Check::lacking(needs.ansible.is_some(), name, error.to_string(), hint);
            }
        }
    }
    Check::ok(name, found.join(", "))
}

fn locale() -> Check {
    let script = "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8'); print(locale.nl_langinfo(locale.CODESET))";
    match ask(SYSTEM_PYTHON, &["-c", script]) {
        Ok(codeset) if codeset == "UTF-8" => Check::ok("locale", "C.UTF-8"),
        Ok(codeset) => {
            Check::warning("locale", format!("C.UTF-8 gives {codeset}"), host::install(Tool::Locales))
        }
        Err(why) => Check::warning("locale", format!("no C.UTF-8: {why}"), host::install(Tool::Locales)),
    }
}

fn used_by(why: String, needed: bool, source: &str) -> String {
    if needed { why } else { format!("{why} (only bases of source `{source}` need it)") }
}
