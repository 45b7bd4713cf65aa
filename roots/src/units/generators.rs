//! Programs of a root that make units while a machine boots: run once, in the sandbox, without a network.

use std::io::{self, Read};
use std::path::Path;

use tempfile::TempDir;

use super::report::{Finding, Level, Report};
use super::tree::Tree;
use crate::cancel::Cancel;
use crate::sandbox::{Bind, Console, Network, Sandbox, SandboxError, SandboxSpec};
use crate::working::RootMount;

/// Where generators are looked for, the first first.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
    "/usr/lib/systemd/system-generators",
    "/lib/systemd/system-generators",
];

/// Generators for a machine's own affairs: mounts, consoles, networks of the initial system.
const NOT_RUN: [&str; 9] = [
    "systemd-",
    "lvm2-",
    "zfs-",
    "nfs-",
    "rpc-pipefs-",
    "kdump-",
    "ostree-",
    "netplan",
    "selinux-autorelabel-",
];

/// Where the sandbox sees what the generators make.
const INSIDE: &str = "/run/rootbuild-generators";

/// What the generators of a root made.
#[derive(Debug)]
pub struct Generated {
    dir: TempDir,
    reports: Vec<Report>,
}

/// The generators of a root couldn't be run.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A directory couldn't be read or made.
    #[error("can't look for generators")]
    Io(#[from] io::Error),
    /// They couldn't be started.
    #[error("can't run generators")]
    Sandbox(#[from] SandboxError),
    /// They weren't run to the end.
    #[error("generators of root `{root}` were not run: the sandbox ended with {code}: {said}")]
    Ended {
        /// The root.
        root: String,
        /// The exit code.
        code: i32,
        /// The last line that the sandbox said.
        said: String,
    },
}

impl Generated {
    /// The directory in which `generator.early`, `generator` and `generator.late` are.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    #[cfg(test)]
    pub(super) fn of(dir: TempDir) -> Self {
        Self { dir, reports: Vec::new() }
    }

    pub(super) fn reports(&self) -> &[Report] {
        &self.reports
    }
}

/// Runs the generators of the root in `root`, if it has any that matter, where `mount` shows it; what they
/// write there beside units is the mount's affair. A generator that fails is told in the reports of what is
/// lifted with it.
///
/// # Errors
/// The root can't be read, or the sandbox can't be started.
pub fn generate(
    root: &Path,
    mount: RootMount,
    name: &str,
    sandbox: &dyn Sandbox,
    cancel: &Cancel,
) -> Result<Option<Generated>, GenerateError> {
    let tree = Tree::open(root, None)?;
    let programs = find(&tree)?;
    if programs.is_empty() {
        return Ok(None);
    }
    let dir = tempfile::Builder::new().prefix("rootbuild-generators-").tempdir()?;
    for sub in ["generator.early", "generator", "generator.late"] {
        std::fs::create_dir(dir.path().join(sub))?;
    }
    let mut argv = vec!["/bin/sh".into(), "-c".into(), SCRIPT.into(), "sh".into(), INSIDE.into()];
    argv.extend(programs.iter().map(Into::into));
    let spec = SandboxSpec {
        name: format!("{name}-generators"),
        root: mount,
        writable: true,
        argv,
        env: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
        binds: vec![Bind { source: dir.path().to_owned(), target: INSIDE.into(), read_only: false }],
        network: Network::None,
        hostname: name.to_owned(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    };
    let mut running = sandbox.start(&spec, cancel)?;
    let mut said = String::new();
    if let Some(stdout) = running.take_stdout() {
        stdout.take(64 * 1024).read_to_string(&mut said)?;
    }
    let tail = running.stderr_tail();
    // The script itself always ends well.
    let code = running.wait()?;
    if code != 0 {
        let said = tail.to_string().lines().next_back().unwrap_or_default().to_owned();
        return Err(GenerateError::Ended { root: name.to_owned(), code, said });
    }
    let failed = said.lines().filter(|line| programs.iter().any(|program| program == line));
    let reports = failed.map(|program| Report {
        unit: program.to_owned(),
        place: None,
        finding: Finding::Generator { reason: "failed: units that it makes may be missing".to_owned() },
        level: Level::Warning,
    });
    let reports = reports.collect();
    Ok(Some(Generated { dir, reports }))
}

/// Runs each generator, and names those that fail.
const SCRIPT: &str = "out=$1; shift; for it; do \
    \"$it\" \"$out/generator\" \"$out/generator.early\" \"$out/generator.late\" >&2 </dev/null || echo \"$it\"; done; true";

/// The generators that make units for services; of equal names the first counts.
fn find(tree: &Tree) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut programs = Vec::new();
    for directory in DIRECTORIES {
        for name in tree.list(directory)? {
            let path = format!("{directory}/{name}");
            if names.contains(&name) || NOT_RUN.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            names.push(name);
            // A link to `/dev/null` takes a generator out.
            if tree.is_executable(&path) {
                programs.push(path);
            }
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::Root;
    use super::*;

    #[test]
    fn generators_are_found_once_and_those_for_machines_left_alone() {
        let root = Root::new();
        for path in [
            "usr/lib/systemd/system-generators/postgresql-generator",
            "usr/lib/systemd/system-generators/systemd-fstab-generator",
            "usr/lib/systemd/system-generators/off",
            "etc/systemd/system-generators/own",
        ] {
            root.write(path, "#!/bin/sh\n");
            let path = root.path().join(path);
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        root.link("etc/systemd/system-generators/off", "/dev/null");
        let expected =
            ["/etc/systemd/system-generators/own", "/usr/lib/systemd/system-generators/postgresql-generator"];
        assert_eq!(find(&root.tree()).unwrap(), expected);
    }
}
