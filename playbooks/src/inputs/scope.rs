//! Which names a trace of a playbook notes.

use std::path::{Path, PathBuf};

use super::{Project, left_out, plain};
use crate::config::Config;
use crate::trace::Scope;

/// The host's operating system, and what holds no content. It is known by its Python alone.
const SYSTEM: &[&str] =
    &["/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What below those belongs to somebody else.
const NOT_SYSTEM: &[&str] = &["/usr/local", "/usr/share/ansible"];

/// Directories that every program looks into: libraries, name services, time, certificates.
const EVERYBODYS: &[&str] = &["/etc/ssl", "/etc/ca-certificates", "/etc/ld.so.conf.d", "/etc/alternatives"];

/// Files of that sort.
const EVERYBODYS_FILES: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/locale.alias",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/terminfo",
];

/// Ansible's `remote_tmp` for tasks of this machine.
const LOCAL_MODULES: &str = "/root/.ansible";

/// What a trace of this project's playbook notes. `own` are directories of rootbuild's: toolchain, runtime,
/// scratch. `interpreter` is the Python that runs Ansible.
#[must_use]
pub fn scope<'a>(
    project: &Project,
    playbook: &Path,
    interpreter: &Path,
    own: impl IntoIterator<Item = &'a Path>,
) -> Scope {
    let mut scope = Scope::default();
    for dir in SYSTEM.iter().chain(EVERYBODYS) {
        scope = scope.without(*dir);
    }
    for dir in NOT_SYSTEM {
        scope = scope.with(*dir);
    }
    for file in EVERYBODYS_FILES {
        scope = scope.without_file(*file);
    }
    // Where modules lie that run on this machine, while they run.
    scope = scope.without(LOCAL_MODULES).reached(Path::new(LOCAL_MODULES));
    if let Some(library) = library(interpreter) {
        scope = scope.without(library);
    }
    for dir in spellings(&project.dir) {
        // It may lie anywhere.
        scope = scope.reached(&dir.join("site.yml")).with(dir);
    }
    for path in project.inventory.iter().map(PathBuf::as_path).chain([playbook]) {
        for path in spellings(path) {
            scope = scope.reached(&path);
        }
    }
    for path in own {
        for path in spellings(path) {
            scope = scope.reached(&path).without(path);
        }
    }
    for path in project.exclude.iter().flat_map(|path| spellings(path)) {
        scope = scope.without(path);
    }
    // Passwords, and the programs that print them.
    let config = Config::of_project(&project.dir).unwrap_or_default();
    for path in left_out(project, &config).paths() {
        scope = if path.is_dir() { scope.without(path) } else { scope.secret(path) };
    }
    scope
}

/// A path as it is spelt, and as it really is.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let spelt = plain(path);
    let mut both: Vec<PathBuf> = spelt.canonicalize().into_iter().filter(|real| *real != spelt).collect();
    both.push(spelt);
    both
}

/// Where an interpreter's own modules are, if that isn't where a system has them.
fn library(interpreter: &Path) -> Option<PathBuf> {
    let real = interpreter.canonicalize().ok()?;
    Some(real.parent()?.parent()?.join("lib").join(real.file_name()?))
}
