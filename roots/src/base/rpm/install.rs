//! Installing the packages with the host's rpm (with the root's own: `bootstrap`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{BaseContext, BaseError, download};
use super::RpmError;
use super::bootstrap::ahead;
use super::keys::{Key, private_dir};
use super::resolve::Package;
use crate::process::{self, ProcessError};
use crate::progress::StepEvent;
use crate::sandbox::Tail;
use crate::unsynced::unsynced;

/// Prepares the root, installs.
pub(super) const INSTALL: &str = include_str!("install.sh");

/// Capabilities that no scriptlet has any business with.
const NO_CAPABILITIES: &str = "-sys_module,-sys_rawio,-sys_boot,-sys_time,-syslog,-mac_admin,-mac_override,\
                               -wake_alarm,-audit_read";

/// Files laid out for rpm: packages by name, keys by number. Hard links where that works.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) keys: PathBuf,
    pub(super) packages: PathBuf,
}

impl Layout {
    /// Lays out packages of the store and keys below the scratch directory.
    pub(super) fn new(
        context: BaseContext<'_>,
        packages: &[Package],
        keys: &[Key],
    ) -> Result<Self, BaseError> {
        let layout = Self { keys: context.scratch.join("keys"), packages: context.scratch.join("packages") };
        for dir in [&layout.keys, &layout.packages] {
            private_dir(dir)?;
        }
        for (number, key) in keys.iter().enumerate() {
            place(&key.file, &layout.keys.join(format!("{number:03}")))?;
        }
        for package in packages {
            let kept = download::kept(context.store.dir(), &package.sha256);
            place(&kept, &layout.package(package))?;
        }
        Ok(layout)
    }

    /// Where a package lies.
    pub(super) fn package(&self, package: &Package) -> PathBuf {
        // Neither a name nor a version can hold a slash; a hostile one must not lead out.
        self.packages.join(format!("{}.rpm", package.nevra().replace('/', "_")))
    }
}

fn place(from: &Path, to: &Path) -> Result<(), BaseError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => fs::copy(from, to).map(drop).map_err(BaseError::io("copy", from)),
    }
}

/// What was said while packages were installed.
pub(super) struct Said {
    /// The warnings of rpm and of scriptlets.
    pub(super) warnings: Vec<String>,
    /// What the rpm that installed sees, a line for each package and key; `None`: the host's can be asked.
    pub(super) installed: Option<String>,
}

/// Installs everything in `layout`, which was checked before.
pub(super) fn install(
    context: BaseContext<'_>,
    layout: &Layout,
    packages: &[Package],
    root: &Path,
) -> Result<Said, BaseError> {
    let (home, count) = (home(context)?, packages.len());
    let dir = context.scratch.join("install");
    private_dir(&dir)?;
    let mut sizes = Vec::new();
    for package in packages {
        let file = layout.package(package);
        let link = dir.join(file.file_name().unwrap_or_default());
        place(&file, &link)?;
        sizes.push((package.size, link));
    }
    (context.sink)(StepEvent::Phase(format!("installing {count} packages")));
    let mut command = process::tool("unshare");
    command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]);
    command.args(["--propagation", "private", "--", "setpriv", "--bounding-set", NO_CAPABILITIES, "--"]);
    command.args(["sh", "-eu", "-c", INSTALL, "install"]).arg(root).arg(&layout.keys).arg(&dir);
    command.args(options(context)?).env("HOME", &home);
    let lines = Lines::new(context, count);
    let run = || unsynced(|| process::run(command, context.cancel, &|line| lines.see(line)));
    let ran = ahead::with(&dir, sizes, run);
    // It is large, and nothing needs it any more.
    fs::remove_dir_all(&dir).map_err(BaseError::io("remove", &dir))?;
    match ran {
        Ok(()) => Ok(Said { warnings: lines.warnings(), installed: None }),
        Err(ProcessError::Failed { tail, .. }) => Err(failed(&tail).into()),
        Err(other) => Err(other.into()),
    }
}

/// Sees the lines of `rpm --install --verbose`: for the log, the progress, and to keep the warnings.
pub(super) struct Lines<'a> {
    context: BaseContext<'a>,
    total: u64,
    done: AtomicU64,
    warnings: Mutex<Vec<String>>,
    tail: Tail,
}

impl<'a> Lines<'a> {
    pub(super) fn new(context: BaseContext<'a>, count: usize) -> Self {
        let (done, warnings) = (AtomicU64::new(0), Mutex::default());
        Self { context, total: count as u64, done, warnings, tail: Tail::default() }
    }

    pub(super) fn see(&self, line: &str) {
        let sink = self.context.sink;
        sink(StepEvent::Line(line.to_owned()));
        self.tail.push(line);
        if let Some(warning) = line.strip_prefix("warning: ") {
            let mut warnings = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            warnings.push(warning.to_owned());
        } else if is_package(line) {
            let done = 1 + self.done.fetch_add(1, Ordering::Relaxed);
            sink(StepEvent::Progress { done: done.min(self.total), total: self.total, bytes: false });
        }
    }

    /// The last lines.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(super) fn warnings(self) -> Vec<String> {
        self.warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// rpm's private configuration.
pub(super) fn home(context: BaseContext<'_>) -> Result<PathBuf, BaseError> {
    let home = context.scratch.join("rpm-home");
    private_dir(&home)?;
    // Debian's rpm keeps its database in the caller's home by default.
    let macros = "%_dbpath /var/lib/rpm\n";
    let file = home.join(".rpmmacros");
    fs::write(&file, macros).map_err(BaseError::io("write", &file))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).map_err(BaseError::io("write", &file))?;
    Ok(home)
}

/// Debian's rpm refuses to install anything without being told twice; others don't know the option.
fn options(context: BaseContext<'_>) -> Result<&'static [&'static str], BaseError> {
    let mut probe: Command = process::tool("rpm");
    probe.args(["--force-debian", "--version"]);
    let known = process::capture(probe, b"", context.cancel, &|_| ())?.status.success();
    Ok(if known { &["--force-debian"] } else { &[] })
}

/// Whether a line of `rpm --install --verbose` is a package's name.
fn is_package(line: &str) -> bool {
    !line.contains([' ', ':']) && line.contains('-') && line.contains('.')
}

/// Why rpm failed, by its last lines.
pub(super) fn failed(tail: &str) -> RpmError {
    // "installing package x-1.x86_64 needs 12MB more space on the / filesystem", one for each package
    // that doesn't fit any more: the largest number is what all of them need.
    let missing = tail.lines().filter(|line| line.contains("more space on the")).filter_map(|line| {
        let (number, _) = line.split_once(" needs ")?.1.split_once("B ")?;
        let (number, unit) = number.split_at_checked(number.len().checked_sub(1)?)?;
        let number: u64 = number.parse().ok()?;
        Some(if unit == "M" { number } else { number.div_ceil(1024) })
    });
    if let Some(megabytes) = missing.max() {
        return RpmError::NoSpace { megabytes };
    }
    let errors: Vec<&str> =
        tail.lines().filter(|line| !is_package(line) && !line.starts_with("Preparing")).collect();
    RpmError::Install(if errors.is_empty() { tail.to_owned() } else { errors.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_what_is_missing() {
        let tail = "Preparing packages...\n\
                    installing package a-1.x86_64 needs 850KB more space on the / filesystem\n\
                    installing package b-1.x86_64 needs 12MB more space on the / filesystem";
        assert!(matches!(failed(tail), RpmError::NoSpace { megabytes: 12 }));
        let tail = "bash-5.1-2.x86_64\nerror: unpacking of archive failed: cpio: write failed";
        assert_eq!(
            failed(tail).to_string(),
            "can't install the packages\nerror: unpacking of archive failed: cpio: write failed"
        );
    }
}
