//! Installing a toolchain: a venv, pip with hashes, a check, a rename.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_cache::Store;
use rootbuild_roots::process::{self, ProcessError};
use rootbuild_roots::{Cancel, StepEvent, StepSink};

use super::requirements::Requirements;
use super::{Toolchain, ToolchainError, python};

/// Variables that would make pip install something else, or somewhere else. Everything else of its
/// configuration is the user's: index, certificates, proxy.
const UNWANTED: &[&str] = &[
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONPYCACHEPREFIX",
    "PYTHONDONTWRITEBYTECODE",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_NO_DEPS",
    "PIP_EDITABLE",
    "PIP_REQUIREMENT",
    "PIP_CONSTRAINT",
    "PIP_DRY_RUN",
];

/// Whether it can run: the interpreter of its venv may have been upgraded away.
pub(super) fn is_usable(toolchain: &Toolchain) -> bool {
    toolchain.python().exists() && toolchain.program("ansible-playbook").exists()
}

/// Installs it, unless someone else does so meanwhile.
pub(super) fn install(
    store: &Store,
    toolchain: &Toolchain,
    requirements: &Requirements,
    cancel: &Cancel,
    sink: StepSink<'_>,
) -> Result<(), ToolchainError> {
    let version = requirements.version();
    let wait = |holder: &rootbuild_cache::Holder| {
        sink(StepEvent::Phase(format!(
            "waiting for pid {}, which installs ansible-core {version}",
            holder.pid
        )));
    };
    let name = format!("toolchain-{}", requirements.directory_name());
    let _lock = store.lock(&name, None, &wait, &|| cancel.is_cancelled())?;
    if is_usable(toolchain) {
        return Ok(());
    }
    let python = python::choose(version)?;
    sink(StepEvent::Phase(format!("installing ansible-core {version}")));
    let staging = store.staging("toolchain")?;
    let venv = staging.path().to_owned();
    let failed = |source: ProcessError| match source {
        ProcessError::Cancelled(cancelled) => ToolchainError::Cancelled(cancelled),
        source => ToolchainError::Install { version: version.to_owned(), source },
    };
    let line = |line: &str| sink(StepEvent::Line(line.to_owned()));

    let mut command = tool(&python);
    command.args(["-m", "venv"]).arg(&venv);
    process::run(command, cancel, &line).map_err(failed)?;

    let file = venv.join("requirements.txt");
    fs::write(&file, requirements.text()).map_err(ToolchainError::io("write", &file))?;
    let mut command = tool(&venv.join("bin/python3"));
    command.args(["-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "--no-input"]);
    command.args(["--disable-pip-version-check", "--progress-bar=off", "--requirement"]).arg(&file);
    process::run(command, cancel, &line).map_err(failed)?;

    verify(&venv, version, cancel)?;
    move_scripts(&venv, &toolchain.dir)?;
    publish(store, staging, toolchain)
}

/// A Python program with the caller's environment, but for what would change its meaning.
fn tool(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in UNWANTED {
        command.env_remove(name);
    }
    command.current_dir("/");
    command
}

/// The program must say that it is what was asked for.
fn verify(venv: &Path, version: &str, cancel: &Cancel) -> Result<(), ToolchainError> {
    let home = venv.join("verify");
    fs::create_dir(&home).map_err(ToolchainError::io("make", &home))?;
    let config = home.join("ansible.cfg");
    fs::write(&config, "").map_err(ToolchainError::io("write", &config))?;
    let mut command = Command::new(venv.join("bin/python3"));
    command.arg(venv.join("bin/ansible-playbook")).arg("--version").env_clear().current_dir(&home);
    command.env("HOME", &home).env("LC_ALL", "C.UTF-8").env("ANSIBLE_CONFIG", &config);
    let lines = std::sync::Mutex::new(Vec::new());
    let line =
        |line: &str| lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line.to_owned());
    let ran = process::run(command, cancel, &line);
    cancel.check()?;
    let said = lines.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n");
    fs::remove_dir_all(&home).map_err(ToolchainError::io("remove", &home))?;
    if ran.is_ok() && said.contains(&format!("[core {version}]")) {
        return Ok(());
    }
    let found = said.lines().next().unwrap_or("it says nothing").to_owned();
    Err(ToolchainError::Wrong { version: version.to_owned(), found })
}

/// Scripts begin with the path of their interpreter, which is about to move.
fn move_scripts(venv: &Path, to: &Path) -> Result<(), ToolchainError> {
    let dir = venv.join("bin");
    let (old, new) = (format!("#!{}/", venv.display()), format!("#!{}/", to.display()));
    for entry in fs::read_dir(&dir).map_err(ToolchainError::io("read", &dir))? {
        let path = entry.map_err(ToolchainError::io("read", &dir))?.path();
        if path.is_symlink() {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(rest) = text.strip_prefix(&old) {
            fs::write(&path, format!("{new}{rest}")).map_err(ToolchainError::io("write", &path))?;
        }
    }
    // The store's directories are private; this one is read by whoever a task becomes on the controller.
    fs::set_permissions(venv, fs::Permissions::from_mode(0o755)).map_err(ToolchainError::io("change", venv))
}

/// Makes it durable and renames it into place, over one that can't run any more.
fn publish(
    store: &Store,
    staging: rootbuild_cache::Staging,
    toolchain: &Toolchain,
) -> Result<(), ToolchainError> {
    let parent: PathBuf = store.dir().join("toolchains");
    fs::create_dir_all(&parent).map_err(ToolchainError::io("make", &parent))?;
    if toolchain.dir.exists() {
        fs::remove_dir_all(&toolchain.dir).map_err(ToolchainError::io("remove", &toolchain.dir))?;
    }
    let directory = fs::File::open(staging.path()).map_err(ToolchainError::io("open", staging.path()))?;
    rustix::fs::syncfs(&directory)
        .map_err(|error| ToolchainError::io("sync", staging.path())(error.into()))?;
    staging.keep(&toolchain.dir)?;
    Ok(())
}
