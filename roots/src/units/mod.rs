//! The units of a root, made into units of the host: what the root would start as a machine of its own,
//! the host's systemd starts with the root as file system.
//!
//! [`lift`] only reads: what comes out is text. A unit `nginx.service` of the root `web` becomes
//! `rootbuild-web-nginx.service`, one file with all its drop-ins merged, and a drop-in of ours. The root is
//! found at a path that stays ([`fixed`]); `rootbuild-web-root.service` mounts the current checkout there.
//! What can't be taken over, or would mean something else, is told in [`Report`]s: nothing is left out in
//! silence.
//!
//! A root is hostile here as everywhere: its links are followed inside of it only, names are checked before
//! they become names of files, and no unit of a root names one of the host's that it could stop.

mod choose;
mod exec;
mod furnish;
mod generators;
mod host;
mod identity;
mod install;
mod load;
mod name;
mod names;
mod network;
mod ours;
mod paths;
mod policy;
mod refuse;
mod report;
mod rewrite;
mod run;
mod settings;
mod specifiers;
mod sysv;
mod text;
mod tree;
mod users;
mod words;

#[cfg(test)]
mod running;
#[cfg(test)]
mod services;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use generators::{GenerateError, Generated, generate};
pub use host::{Firewall, Host, HostError, OLDEST};
pub use install::{
    Changes, Directories, InstallError, Snapshot, compare, install, restore, snapshot, uninstall,
};
pub use names::Names;
pub use paths::fixed;
pub use report::{Finding, Level, Place, Report};
pub use run::{
    Cluster, Member, ParseError, Port, Protocol, Run, Softened, Subnet, Writable, hardening, is_unit_name,
};
pub use users::Record;

use crate::checkout::Areas;
use crate::publish::InvalidName;
use load::Index;
use name::on_host;
use rewrite::Context;
use specifiers::Machine;
use tree::Tree;
use users::{Records, Users};

/// What a root is lifted for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The root's name.
    pub name: &'a str,
    /// The link that leads to its current checkout, absolute: it is followed when the root is mounted.
    pub link: &'a Path,
    /// The host's systemd.
    pub host: Host,
    /// The parts of the root that its services may write, where the checkout shares the others with the
    /// store; `None`: every file is its own.
    pub private: Option<&'a Areas>,
    /// How it runs.
    pub run: &'a Run,
    /// The roots that it runs with.
    pub cluster: &'a Cluster,
}

/// A file for a directory of units, `/run/systemd/system` or `/etc/systemd/system`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Its path there: `rootbuild-web-nginx.service`, or that with `.d/50-rootbuild.conf`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A root as units of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// The target that starts all of it.
    pub target: String,
    /// The unit that mounts the root.
    pub root_unit: String,
    /// Names of the lifted units that the target starts, on the host.
    pub started: Vec<String>,
    /// Everything to be installed, sorted by name.
    pub files: Vec<UnitFile>,
    /// Users and groups of the root that the units run as, for `/run/userdb`.
    pub users: Vec<Record>,
    /// What the root and others of its cluster are known by.
    pub names: Names,
    /// What isn't as it would be on a machine of the root's own.
    pub reports: Vec<Report>,
}

/// The units of a root couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum UnitsError {
    /// The root can't have units.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A file or directory of the root couldn't be read.
    #[error("can't read the units in `{}`", root.display())]
    Read {
        /// The root's directory.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that is mounted over can't be one.
    #[error("`{path}` of the root isn't a directory of its own")]
    NoDirectory {
        /// The path in the root.
        path: &'static str,
    },
    /// A state directory can't be one.
    #[error("`{path}` of the root can't be state: it isn't a directory, or a link leads to it")]
    NoState {
        /// The path in the root.
        path: String,
    },
    /// An overlay can't be mounted there.
    #[error("an overlay can't be mounted for `{}`: there is `,`, `:` or a backslash in the path", path.display())]
    Overlay {
        /// The path.
        path: PathBuf,
    },
    /// The host lacks a program.
    #[error("this host has no {what}, which {need} needs")]
    Missing {
        /// Which.
        what: &'static str,
        /// What for.
        need: &'static str,
    },
}

/// Reads the units of the root in `root` and makes them the host's. `generated` has what the root's
/// generators made ([`generate`]).
///
/// # Errors
/// The root can't be read, or not be mounted. What is wrong with a unit is no error but a [`Report`].
pub fn lift(root: &Path, generated: Option<&Generated>, request: &Request<'_>) -> Result<Lifted, UnitsError> {
    crate::publish::check_name(request.name)?;
    let failed = |source| UnitsError::Read { root: root.to_owned(), source };
    let tree = Tree::open(root, generated.map(Generated::path)).map_err(failed)?;
    for path in ["/run", "/tmp"] {
        if tree.resolve(path) != path || tree.kind(path) != Some(rustix::fs::FileType::Directory) {
            return Err(UnitsError::NoDirectory { path });
        }
    }
    let networks = network::units(request)?;
    for path in &request.run.state {
        let kind = tree.kind(path);
        if tree.resolve(path) != *path || kind.is_some_and(|kind| kind != rustix::fs::FileType::Directory) {
            return Err(UnitsError::NoState { path: path.clone() });
        }
    }
    if request.run.writable == Writable::Overlay && request.link.to_string_lossy().contains([',', ':', '\\'])
    {
        return Err(UnitsError::Overlay { path: request.link.to_owned() });
    }
    let mut reports = generated.map(|it| it.reports().to_vec()).unwrap_or_default();
    let index = Index::new(&tree).map_err(failed)?;
    let users = Users::read(&tree).map_err(failed)?;
    let machine = Machine::new(&tree, &request.run.hostname);
    let context = Context { request, tree: &tree, index: &index, users: &users, machine: &machine };
    let chosen = choose::choose(&context, &mut reports).map_err(failed)?;
    sysv::report(&context, &mut reports).map_err(failed)?;
    let mut files = Vec::new();
    let mut records = Records::default();
    let mut directories = Vec::new();
    let mut started = Vec::new();
    for (name, unit) in &chosen.units {
        // Names that are too long aren't chosen.
        let Some(host_name) = on_host(request.name, name) else { continue };
        let mut rewritten = rewrite::rewrite(&context, &chosen.units, unit, &mut records, &mut reports);
        let drop_in = ours::drop_in(&context, unit, &rewritten).map_err(failed)?;
        directories.append(&mut rewritten.directories);
        if chosen.started.contains(name) {
            rewritten.unit.set("Install", "WantedBy", &ours::target(request.name));
            started.push(host_name.clone());
        }
        let text = rewritten.unit.finish(&format!("Made by rootbuild from {}", unit.sources.join(" ")));
        files.push(UnitFile { name: format!("{host_name}.d/50-rootbuild.conf"), text: drop_in });
        files.push(UnitFile { name: host_name, text });
    }
    directories.sort();
    directories.dedup();
    let (target, root_unit) = (ours::target(request.name), ours::root_unit(request.name));
    let mut own = |name: &str, text: String| files.push(UnitFile { name: name.to_owned(), text });
    own(&root_unit, ours::root_service(&context, &directories));
    own(&target, ours::target_unit(request, &started));
    own(&ours::slice(request.name), ours::slice_unit(request));
    if let Some(text) = ours::gate_unit(request) {
        own(&ours::gate(request.name), text);
    }
    files.extend(networks);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    reports.sort();
    reports.dedup();
    let names = Names::of(request);
    Ok(Lifted { target, root_unit, started, files, users: records.finish(), names, reports })
}
