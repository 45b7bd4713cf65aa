//! Puts a root's units where the host's systemd finds them, and takes away those that it has no more.
//!
//! What is installed is written down before anything is (`<state>/<root>.json`), so that whatever dies in
//! between, the next installation knows of every file. Each file is the old one or the new one, never a half.
//! systemd learns of all that when it is told to reload, which is the caller's affair.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use rootbuild_cache::durable;

use super::{Lifted, Names, names};

/// The directories of a host that units are installed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Where systemd looks for units.
    pub units: PathBuf,
    /// Where it looks for users and groups.
    pub users: PathBuf,
    /// Where it is written down what was installed: one of the two that the units of roots look for.
    pub state: PathBuf,
    /// The host's file of names; `None`: the host doesn't learn them.
    pub hosts: Option<PathBuf>,
}

impl Directories {
    /// Those whose content is gone at the next boot.
    #[must_use]
    pub fn until_boot() -> Self {
        Self {
            units: "/run/systemd/system".into(),
            users: "/run/userdb".into(),
            state: "/run/rootbuild/installed".into(),
            hosts: Some("/etc/hosts".into()),
        }
    }

    /// Those that the next boot finds as well.
    #[must_use]
    pub fn for_good() -> Self {
        Self {
            units: "/etc/systemd/system".into(),
            users: "/etc/userdb".into(),
            state: "/var/lib/rootbuild-units".into(),
            hosts: Some("/etc/hosts".into()),
        }
    }
}

/// What an installation changed, by names of units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Units that weren't there.
    pub added: BTreeSet<String>,
    /// Units whose file or drop-in is another now.
    pub changed: BTreeSet<String>,
    /// Units that are there no more.
    pub removed: BTreeSet<String>,
    /// Whether users or groups changed.
    pub users: bool,
    /// Names of the root that the host gives to somebody else: the host keeps them so.
    pub taken: Vec<String>,
}

impl Changes {
    /// Whether systemd has to reload.
    #[must_use]
    pub fn any(&self) -> bool {
        !(self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty())
    }
}

/// Units couldn't be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file of that name is there, and isn't this root's.
    #[error("`{}` is there already, and isn't of the root `{root}`{}", path.display(), of(owner.as_deref()))]
    Taken {
        /// The root that is installed.
        root: String,
        /// The file.
        path: PathBuf,
        /// The root that it is of, if it is of one: `a` with `b-c.service` and `a-b` with `c.service` want the
        /// same names.
        owner: Option<String>,
    },
    /// A root of that name is installed, and it is of another definition.
    #[error("the root `{root}` of another definition is on this host")]
    OtherDefinition {
        /// The root.
        root: String,
    },
    /// A file or directory couldn't be read or written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file couldn't be written.
    #[error(transparent)]
    Write(#[from] rootbuild_cache::Error),
}

fn of(owner: Option<&str>) -> String {
    owner.map(|owner| format!(", but of the root `{owner}`: rename one of them")).unwrap_or_default()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { action, path, source }
}

/// What is installed of a root: names of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Installed {
    units: BTreeSet<String>,
    users: BTreeSet<String>,
    /// The cluster that it is in.
    #[serde(default)]
    cluster: Option<String>,
}

impl Installed {
    fn read(path: &Path) -> Result<Self, InstallError> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed("read", path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// A name is one root's on a host, whatever store and definition it comes from.
    fn must_be_of(&self, root: &str, cluster: &str) -> Result<(), InstallError> {
        match &self.cluster {
            Some(ours) if ours != cluster => Err(InstallError::OtherDefinition { root: root.to_owned() }),
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path) -> Result<(), InstallError> {
        let text = serde_json::to_vec(self).map_err(|error| failed("write", path)(error.into()))?;
        Ok(durable::write_atomic(path, &text, 0o644)?)
    }
}

/// Installs the units and users of the root `root`, and removes those that an earlier installation of it left
/// and that it has no more. Of several at once one waits for the other.
///
/// # Errors
/// A name is taken by another's file or another definition's root (then nothing was changed), or a file can't be
/// written.
pub fn install(directories: &Directories, root: &str, lifted: &Lifted) -> Result<Changes, InstallError> {
    let units = lifted.files.iter().map(|file| (file.name.as_str(), file.text.as_str()));
    let users = lifted.users.iter().map(|record| (record.file.as_str(), record.text.as_str()));
    replace(directories, root, &units.collect::<Vec<_>>(), &users.collect::<Vec<_>>(), Some(&lifted.names))
}

/// What an installation would change; nothing is.
///
/// # Errors
/// A file can't be read, or the root that is installed is another definition's.
pub fn compare(directories: &Directories, root: &str, lifted: &Lifted) -> Result<Changes, InstallError> {
    let before = Installed::read(&directories.state.join(format!("{root}.json")))?;
    before.must_be_of(root, &lifted.names.cluster)?;
    let mut changes = Changes::default();
    for file in &lifted.files {
        let unit = unit_of(&file.name);
        match fs::read(directories.units.join(&file.name)) {
            Ok(there) if there == file.text.as_bytes() => {}
            Err(_) if file.name == unit => drop(changes.added.insert(unit.to_owned())),
            _ => drop(changes.changed.insert(unit.to_owned())),
        }
    }
    changes.changed = changes.changed.difference(&changes.added).cloned().collect();
    let after: BTreeSet<&str> = lifted.files.iter().map(|file| unit_of(&file.name)).collect();
    let gone = before.units.iter().filter(|name| unit_of(name) == *name && !after.contains(name.as_str()));
    changes.removed = gone.cloned().collect();
    let is_other = |record: &super::Record| {
        fs::read(directories.users.join(&record.file)).ok().as_deref() != Some(record.text.as_bytes())
    };
    changes.users = lifted.users.iter().any(is_other);
    Ok(changes)
}

/// All that is installed of a root, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    units: Vec<(String, String)>,
    users: Vec<(String, String)>,
}

impl Snapshot {
    /// Names of the units in it.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(|(name, _)| name.as_str()).filter(|name| unit_of(name) == *name)
    }

    /// Texts of the drop-ins in it.
    pub fn drop_ins(&self) -> impl Iterator<Item = &str> {
        self.units.iter().filter(|(name, _)| unit_of(name) != name).map(|(_, text)| text.as_str())
    }
}

/// What is installed of the root `root`; `None`: nothing.
///
/// # Errors
/// A file can't be read.
pub fn snapshot(directories: &Directories, root: &str) -> Result<Option<Snapshot>, InstallError> {
    let path = directories.state.join(format!("{root}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let known = Installed::read(&path)?;
    let read = |directory: &Path, names: &BTreeSet<String>| {
        let text = |name: &String| Some((name.clone(), fs::read_to_string(directory.join(name)).ok()?));
        // One that an installation which died didn't come to isn't there.
        names.iter().filter_map(text).collect()
    };
    let (units, users) = (read(&directories.units, &known.units), read(&directories.users, &known.users));
    Ok(Some(Snapshot { units, users }))
}

/// Installs what a [`snapshot`] has; `names` are those that its cluster has by now.
///
/// # Errors
/// As for [`install`].
pub fn restore(
    directories: &Directories,
    root: &str,
    snapshot: &Snapshot,
    names: &Names,
) -> Result<Changes, InstallError> {
    let units: Vec<Text<'_>> =
        snapshot.units.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let users: Vec<Text<'_>> =
        snapshot.users.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    replace(directories, root, &units, &users, Some(names))
}

/// Removes all that is installed of the root `root`.
///
/// # Errors
/// A file can't be removed.
pub fn uninstall(directories: &Directories, root: &str) -> Result<Changes, InstallError> {
    replace(directories, root, &[], &[], None)
}

/// A file's name and text.
type Text<'a> = (&'a str, &'a str);

fn replace(
    directories: &Directories,
    root: &str,
    units: &[Text<'_>],
    users: &[Text<'_>],
    names: Option<&Names>,
) -> Result<Changes, InstallError> {
    let Directories { units: units_in, users: users_in, state: state_in, hosts } = directories;
    let _lock = lock(state_in)?;
    for directory in [units_in, users_in] {
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
    }
    let state = state_in.join(format!("{root}.json"));
    let before = Installed::read(&state)?;
    // What an installation that was killed was just writing.
    let units_before = before.units.iter().map(|name| units_in.join(name));
    let users_before = before.users.iter().map(|name| users_in.join(name));
    for path in units_before.chain(users_before).chain([state.clone()]).chain(hosts.clone()) {
        durable::sweep_beside(&path);
    }
    if let Some(names) = names {
        before.must_be_of(root, &names.cluster)?;
    }
    let files = |texts: &[Text<'_>]| texts.iter().map(|(name, _)| (*name).to_owned()).collect();
    let cluster = names.map(|names| names.cluster.clone());
    let after = Installed { units: files(units), users: files(users), cluster };
    for (directory, wanted, ours) in
        [(units_in, &after.units, &before.units), (users_in, &after.users, &before.users)]
    {
        for path in wanted.difference(ours).map(|name| directory.join(name)) {
            if path.symlink_metadata().is_ok() {
                let owner = owner(state_in, root, &path)?;
                return Err(InstallError::Taken { root: root.to_owned(), path, owner });
            }
        }
    }
    // Whatever happens from here on, all of it is known.
    let both = Installed {
        units: before.units.union(&after.units).cloned().collect(),
        users: before.users.union(&after.users).cloned().collect(),
        cluster: after.cluster.clone().or(before.cluster.clone()),
    };
    both.write(&state)?;
    let mut changes = Changes::default();
    if let Some(names) = names {
        let path = hosts_of(state_in, &names.cluster);
        names::rewrite(&path, &names.hosts).map_err(failed("write", &path))?;
    }
    if let Some(hosts) = hosts {
        changes.taken = names::tell_host(hosts, root, names).map_err(failed("change", hosts))?;
    }
    for (name, text) in users {
        changes.users |= write(&users_in.join(name), text)? != Written::Same;
    }
    for (name, text) in units {
        let unit = unit_of(name);
        match write(&units_in.join(name), text)? {
            Written::Same => {}
            Written::New if *name == unit => drop(changes.added.insert(unit.to_owned())),
            Written::New | Written::Changed => drop(changes.changed.insert(unit.to_owned())),
        }
    }
    // A new unit has a new drop-in.
    changes.changed = changes.changed.difference(&changes.added).cloned().collect();
    for name in before.units.difference(&after.units) {
        remove(&units_in.join(name))?;
        if unit_of(name) == name {
            changes.removed.insert(name.clone());
        } else {
            // Its directory goes with the last drop-in; there may be some of the administrator's.
            let _ = fs::remove_dir(units_in.join(name).parent().unwrap_or(units_in));
        }
    }
    for name in before.users.difference(&after.users) {
        remove(&users_in.join(name))?;
        changes.users = true;
    }
    match names {
        Some(_) => after.write(&state)?,
        None => remove(&state)?,
    }
    if let Some(cluster) = before.cluster.filter(|it| after.cluster.as_ref() != Some(it)) {
        let others = all(state_in)?;
        if !others.iter().any(|(_, other)| other.cluster.as_ref() == Some(&cluster)) {
            remove(&hosts_of(state_in, &cluster))?;
            let _ = fs::remove_dir(state_in.join("clusters"));
        }
    }
    if names.is_none() {
        // Directories that nobody else has anything in are ours.
        for directory in [users_in, state_in] {
            let _ = fs::remove_dir(directory);
        }
    }
    Ok(changes)
}

/// The file that the roots of a cluster have as `/etc/hosts`.
fn hosts_of(state: &Path, cluster: &str) -> PathBuf {
    state.join("clusters").join(format!("{cluster}.hosts"))
}

/// One installation at a time: they share files.
fn lock(state: &Path) -> Result<fs::File, InstallError> {
    loop {
        fs::create_dir_all(state).map_err(failed("create", state))?;
        let directory = fs::File::open(state).map_err(failed("open", state))?;
        let locked = rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive);
        locked.map_err(|error| failed("lock", state)(error.into()))?;
        // Who removed the last root may have taken it away meanwhile.
        let ours = directory.metadata().map_err(failed("open", state))?.ino();
        if fs::metadata(state).is_ok_and(|there| there.ino() == ours) {
            return Ok(directory);
        }
    }
}

/// What is installed of each root.
fn all(state: &Path) -> Result<Vec<(String, Installed)>, InstallError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state).map_err(failed("read", state))? {
        let path = entry.map_err(failed("read", state))?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
        if let Some(name) = name {
            found.push((name.to_owned(), Installed::read(&path)?));
        }
    }
    Ok(found)
}

/// The other root that a file is of.
fn owner(state: &Path, root: &str, path: &Path) -> Result<Option<String>, InstallError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let drop_in = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let names = [file.to_string(), format!("{drop_in}/{file}")];
    let is_of = |it: &Installed| names.iter().any(|name| it.units.contains(name) || it.users.contains(name));
    let found = all(state)?.into_iter().find(|(name, it)| name != root && is_of(it));
    Ok(found.map(|(name, _)| name))
}

/// The unit that a file belongs to.
fn unit_of(name: &str) -> &str {
    name.split_once(".d/").map_or(name, |(unit, _)| unit)
}

#[derive(Debug, PartialEq, Eq)]
enum Written {
    New,
    Changed,
    Same,
}

fn write(path: &Path, text: &str) -> Result<Written, InstallError> {
    let written = match fs::read(path) {
        Ok(there) if there == text.as_bytes() => return Ok(Written::Same),
        Ok(_) => Written::Changed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Written::New,
        Err(error) => return Err(failed("read", path)(error)),
    };
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    durable::write_atomic(path, text.as_bytes(), 0o644)?;
    Ok(written)
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    fn host() -> (tempfile::TempDir, Directories) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let directories = Directories {
            units: at("units"),
            users: at("users"),
            state: at("state"),
            hosts: Some(at("hosts")),
        };
        (dir, directories)
    }

    fn files(directory: &Path) -> Vec<String> {
        // One that isn't there has none.
        let listed = fs::read_dir(directory).into_iter().flatten();
        let mut names: Vec<String> =
            listed.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn root(services: &[(&str, &str)]) -> Lifted {
        let root = Root::new();
        root.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nred:x:1:1::/:/bin/sh\n");
        for (name, command) in services {
            root.enable(name, "multi-user.target", &format!("[Service]\nExecStart={command}\nUser=red\n"));
        }
        root.lift()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("rootbuild-web{name}")).collect()
    }

    #[test]
    fn what_changed_is_told_and_what_is_gone_is_removed() {
        let (_dir, host) = host();
        let first = install(&host, "web", &root(&[("a.service", "/a"), ("b.service", "/b")])).unwrap();
        assert_eq!(first.added, set(&["-a.service", "-b.service", "-root.service", ".slice", ".target"]));
        assert!(first.changed.is_empty() && first.users && first.any());
        assert_eq!(files(&host.users), ["rootbuild-web-red.user"]);
        let same = install(&host, "web", &root(&[("a.service", "/a"), ("b.service", "/b")])).unwrap();
        assert_eq!(same, Changes::default());
        assert!(!same.any());
        let second = install(&host, "web", &root(&[("a.service", "/other")])).unwrap();
        assert_eq!(second.changed, set(&["-a.service", ".target"]));
        assert_eq!(second.removed, set(&["-b.service"]));
        let left = ["-a.service", "-a.service.d", "-root.service", ".slice", ".target"];
        assert_eq!(files(&host.units), left.map(|name| format!("rootbuild-web{name}")));
        uninstall(&host, "web").unwrap();
        assert!(
            files(&host.units).is_empty() && files(&host.users).is_empty() && files(&host.state).is_empty()
        );
    }

    #[test]
    fn roots_whose_names_and_units_make_the_same_name_are_told_apart() {
        let (_dir, host) = host();
        let named = |name: &str, unit: &str| {
            let root = Root::new();
            root.enable(unit, "multi-user.target", "[Service]\nExecStart=/a\n");
            root.lift_as(name)
        };
        install(&host, "a-b", &named("a-b", "c.service")).unwrap();
        let error = install(&host, "a", &named("a", "b-c.service")).unwrap_err().to_string();
        assert!(error.ends_with("`a`, but of the root `a-b`: rename one of them"), "{error}");
        assert!(!host.state.join("a.json").exists());
    }

    #[test]
    fn a_root_of_another_definition_is_left_alone() {
        let (_dir, host) = host();
        let first = root(&[("a.service", "/a")]);
        let mut second = root(&[("a.service", "/b")]);
        second.names.cluster = "another".to_owned();
        install(&host, "web", &first).unwrap();
        for refused in [install(&host, "web", &second), compare(&host, "web", &second)] {
            assert!(matches!(refused.unwrap_err(), InstallError::OtherDefinition { root } if root == "web"));
        }
        assert_eq!(install(&host, "web", &first).unwrap(), Changes::default());
        uninstall(&host, "web").unwrap();
        install(&host, "web", &second).unwrap();
    }

    #[test]
    fn no_file_of_anybody_else_is_replaced() {
        let (_dir, host) = host();
        fs::create_dir_all(&host.units).unwrap();
        fs::write(host.units.join("rootbuild-web-b.service"), "mine").unwrap();
        let lifted = root(&[("a.service", "/a"), ("b.service", "/b")]);
        let error = install(&host, "web", &lifted).unwrap_err();
        assert!(
            matches!(&error, InstallError::Taken { path, .. } if path.ends_with("rootbuild-web-b.service"))
        );
        assert_eq!(files(&host.units), ["rootbuild-web-b.service"]);
        // A drop-in of the administrator's stays when all of the root's goes.
        fs::remove_file(host.units.join("rootbuild-web-b.service")).unwrap();
        install(&host, "web", &lifted).unwrap();
        fs::write(host.units.join("rootbuild-web-b.service.d/60-own.conf"), "").unwrap();
        uninstall(&host, "web").unwrap();
        assert_eq!(files(&host.units), ["rootbuild-web-b.service.d"]);
    }

    #[test]
    fn an_installation_that_died_is_known_to_the_next() {
        let (_dir, host) = host();
        let lifted = root(&[("a.service", "/a")]);
        fs::create_dir_all(&host.state).unwrap();
        fs::create_dir_all(&host.units).unwrap();
        // Written down, and one file written.
        let names = lifted.files.iter().map(|file| file.name.clone()).collect();
        let known = Installed { units: names, ..Installed::default() };
        known.write(&host.state.join("web.json")).unwrap();
        fs::write(host.units.join("rootbuild-web-a.service"), "").unwrap();
        let half = host.units.join(".rootbuild-web-a.service.0123456789abcdef");
        fs::write(&half, "").unwrap();
        let changes = install(&host, "web", &lifted).unwrap();
        assert!(
            changes.changed.contains("rootbuild-web-a.service")
                && changes.added.contains("rootbuild-web.target")
        );
        assert!(!half.exists());
    }
}
