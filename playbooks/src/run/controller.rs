//! The command that runs Ansible: arguments and environment, both made from nothing.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rootbuild_roots::process;

use super::PlaybookRun;
use super::scratch::Scratch;
use crate::trace::Launcher;

/// Everything that Ansible starts dies with it, and it dies with us: a process namespace of its own,
/// whose outermost process the kernel kills when our thread is gone. A shell is its first process,
/// since that one has duties that Ansible doesn't know of.
const FENCE: &[&str] = &[
    "--pdeathsig",
    "KILL",
    "--",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
    "sh",
    "-c",
    "\"$@\"; exit $?",
    "sh",
];

/// The host's own tools, for tasks that are delegated to this machine; Ansible's come last.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `ansible-playbook` for this run.
pub(super) fn playbook(run: &PlaybookRun, scratch: &Scratch) -> Command {
    let mut command = ansible(run, scratch, "ansible-playbook", run.launcher.as_ref());
    command.args(["--limit", &run.host]);
    for name in ["vars.json", "connection.json"] {
        let mut file = OsString::from("@");
        file.push(scratch.path(name));
        command.arg("--extra-vars").arg(file);
    }
    if run.verbosity > 0 {
        command.arg(format!("-{}", "v".repeat(usize::from(run.verbosity.min(6)))));
    }
    command.arg("--").arg(&run.playbook);
    command.env("ROOTBUILD_AGENT", scratch.path("agent.sock"));
    command.env("ROOTBUILD_HOST", &run.host);
    command.env("ROOTBUILD_EVENTS", scratch.path("events.sock"));
    command.env("ROOTBUILD_BOOTED", if run.boot { "1" } else { "0" });
    command.env("ROOTBUILD_SHADOWS", scratch.path("shadows"));
    // What `lookup('env', …)` answers from, and where it notes what it was asked for.
    command.env("ROOTBUILD_ENV", scratch.path("environment.json"));
    command.env("ROOTBUILD_ENV_USED", scratch.environment_used());
    if let Some(dir) = payloads(run).filter(|_| !scratch.own_utilities) {
        command.env("ROOTBUILD_PAYLOADS", dir);
    }
    let config = &scratch.config;
    let mut callbacks = config.names("defaults", "callbacks_enabled").unwrap_or_default();
    callbacks.push("rootbuild.sandbox.events".to_owned());
    command.env("ANSIBLE_CALLBACKS_ENABLED", callbacks.join(","));
    command
}

/// Where AnsiballZ payloads of this toolchain's own modules are kept between runs.
pub(super) fn payloads(run: &PlaybookRun) -> Option<PathBuf> {
    let mut name = OsString::from("payloads-");
    name.push(run.toolchain.dir.file_name()?);
    Some(run.cache.join(name))
}

/// The inventory's hosts that `pattern` means, one a line: for saying which one was meant.
pub(super) fn hosts(run: &PlaybookRun, scratch: &Scratch, pattern: &str) -> Command {
    let mut command = ansible(run, scratch, "ansible", None);
    command.args([pattern, "--list-hosts"]);
    command
}

/// One of Ansible's programs with what all need: inventory, vault password, environment.
fn ansible(run: &PlaybookRun, scratch: &Scratch, program: &str, launcher: Option<&Launcher>) -> Command {
    let mut command = Command::new(process::found("setpriv"));
    command.args(FENCE);
    if let Some(launcher) = launcher {
        command.arg(&launcher.program).args(&launcher.arguments);
    }
    command.arg(run.toolchain.python()).arg(run.toolchain.program(program));
    for inventory in &scratch.inventories {
        command.arg("--inventory").arg(inventory);
    }
    if let Some(file) = &run.project.vault_password_file {
        command.arg("--vault-password-file").arg(file);
    }
    let home = scratch.path("home");
    command.env_clear().current_dir(&run.project.dir);
    command.env("PATH", with_tools(&run.toolchain.dir));
    command.env("HOME", &home).env("USER", "root").env("LOGNAME", "root").env("SHELL", "/bin/sh");
    command.env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
    command.env("PYTHONHASHSEED", "0");
    // The project is somebody's working copy: nothing is written there.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", scratch.runtime.python());
    command.env("ANSIBLE_COLLECTIONS_SCAN_SYS_PATH", "1");
    command.env("ANSIBLE_CONFIG", &scratch.config_file);
    command.env("ANSIBLE_HOME", home.join(".ansible"));
    command.env("ANSIBLE_LOCAL_TEMP", scratch.path("tmp"));
    // Facts of this root are no facts of the real machine, and the other way round.
    command.env("ANSIBLE_CACHE_PLUGIN", "memory");
    command.env("ANSIBLE_LOG_PATH", "/dev/null");
    command.env("ANSIBLE_RETRY_FILES_ENABLED", "0");
    command.env("ANSIBLE_NOCOLOR", "1");
    command.process_group(0).stdin(Stdio::null());
    command
}

fn with_tools(toolchain: &Path) -> OsString {
    let mut path = OsString::from(PATH);
    path.push(":");
    path.push(toolchain.join("bin"));
    path
}

/// Standard output goes to the log, standard error to us (for errors) and then to the log.
pub(super) fn wire(command: &mut Command, log: File) {
    command.stdout(log).stderr(Stdio::piped());
}
