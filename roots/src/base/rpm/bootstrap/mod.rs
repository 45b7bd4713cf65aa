//! Who installs the packages: the host's rpm, or the root's own.
//!
//! The second way needs nothing of the host's rpm: the same packages are unpacked into a scratch directory by
//! us, without running anything of theirs, and the rpm among them installs them into the root, in a sandbox.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::inroot::exists_in;
use super::super::{BaseContext, BaseError};
use super::RpmError;
use super::convert::read_found;
use super::install::{self, INSTALL, Layout, Said};
use super::keys::private_dir;
use super::resolve::Package;
use super::stale::Written;
use crate::process::each_line;
use crate::progress::StepEvent;
use crate::sandbox::{Bind, Console, Network, Nspawn, Sandbox, SandboxSpec};
use crate::working::RootMount;

pub(super) mod ahead;
mod fuzz;
mod header;
mod host;
mod payload;
pub(super) mod signature;
mod unpack;

pub use fuzz::fuzz;

/// Runs in the bootstrap root.
const SCRIPT: &str = include_str!("install.sh");

/// What the script exits with when the bootstrap root lacks a program.
const NO_RPM: i32 = 10;
const NO_MOUNT: i32 = 12;

/// Where the script finds its files, inside.
const INSIDE: &str = "/run/rootbuild/rpm";

/// Who installs the packages of a base. Either way gives the same root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bootstrap {
    /// The host's rpm where it is there and can do it, else the root's own.
    #[default]
    Auto,
    /// The host's rpm.
    Host,
    /// The root's own rpm, from a bootstrap root in scratch. It must be among the packages.
    Root,
}

/// Why the packages are installed by the root's own rpm although nobody asks for that; `None` where the host's may.
pub(super) fn why_root(
    context: BaseContext<'_>,
    asked: Bootstrap,
    packages: &[Package],
    layout: &Layout,
) -> Result<Option<String>, BaseError> {
    match asked {
        Bootstrap::Root | Bootstrap::Host => Ok(None),
        Bootstrap::Auto => host::why_not(context, packages, layout),
    }
}

/// Installs everything in `layout`, which was checked before, with the rpm among the packages.
pub(super) fn install(
    context: BaseContext<'_>,
    written: &Written,
    layout: &Layout,
    packages: &[Package],
    root: &Path,
) -> Result<Said, BaseError> {
    let (bootstrap, files) = (context.scratch.join("bootstrap"), context.scratch.join("bootstrap-files"));
    for dir in [&bootstrap, &files, &files.join("out"), &files.join("home")] {
        private_dir(dir)?;
    }
    (context.sink)(StepEvent::Phase(format!("unpacking {} packages", packages.len())));
    let list: Vec<(String, PathBuf)> =
        packages.iter().map(|package| (package.nevra(), layout.package(package))).collect();
    unpack::unpack(context, &list, &bootstrap)?;
    if !exists_in(&bootstrap, "bin/sh") {
        return Err(RpmError::bootstrap(written, "/bin/sh", "bash"));
    }
    (context.sink)(StepEvent::Phase(format!("installing {} packages", packages.len())));
    let mut running = Nspawn.start(&spec(&bootstrap, &files, layout, root), context.cancel)?;
    let (lines, tail) = (install::Lines::new(context, packages.len()), running.stderr_tail());
    if let Some(stdout) = running.take_stdout() {
        each_line(stdout, &|line| lines.see(line));
    }
    let status = running.wait()?;
    let warnings = match status {
        0 => lines.warnings(),
        NO_RPM => return Err(RpmError::bootstrap(written, "rpm", "rpm")),
        NO_MOUNT => return Err(RpmError::bootstrap(written, "mount", "util-linux")),
        _ => {
            let said = format!("{}{tail}", lines.tail());
            return Err(install::failed(&said).into());
        }
    };
    let found = files.join("out/installed");
    let installed = read_found(&found).map_err(BaseError::io("read", &found))?;
    // It is large, and nothing needs it any more.
    fs::remove_dir_all(&bootstrap).map_err(BaseError::io("remove", &bootstrap))?;
    Ok(Said { warnings, installed: Some(installed) })
}

fn spec(bootstrap: &Path, files: &Path, layout: &Layout, root: &Path) -> SandboxSpec {
    let bind = |source: &Path, target: &str, read_only| Bind {
        source: source.to_owned(),
        target: format!("{INSIDE}{target}").into(),
        read_only,
    };
    SandboxSpec {
        name: "bootstrap".to_owned(),
        root: RootMount::Plain(bootstrap.to_owned()),
        writable: true,
        argv: ["/bin/sh", "-eu", "-c", SCRIPT, "bootstrap", INSTALL].map(Into::into).to_vec(),
        env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())],
        binds: vec![
            bind(&files.join("home"), "/home", false),
            bind(&files.join("out"), "/out", false),
            bind(&layout.keys, "/keys", true),
            bind(&layout.packages, "/packages", true),
            bind(root, "/root", false),
        ],
        network: Network::None,
        hostname: "localhost".to_owned(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    }
}
