//! The root's own package database: the host's rpm writes one (sqlite) that an older rpm in the root
//! can't read, and says nothing about. It is written by the root's own rpm, whoever installed the packages.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::super::inroot::{exists_in, is_same_outside, open_in};
use super::super::{BaseContext, BaseError};
use super::RpmError;
use super::install::{self, Layout};
use super::keys::private_dir;
use super::resolve::Package;
use crate::process;
use crate::progress::StepEvent;
use crate::sandbox::{Bind, Console, Network, Nspawn, Sandbox, SandboxSpec};
use crate::working::RootMount;

/// Runs in the root.
const SCRIPT: &str = include_str!("convert.sh");

/// What the script exits with when the root has no rpm.
const NO_RPM: i32 = 10;

/// Where the script finds its files, inside.
const INSIDE: &str = "/run/rootbuild/rpm";

/// What rpm prints for each package, sorted by us.
const NAMES: &str = "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n";

/// Most bytes of the list of all packages.
const FOUND_MAX: u64 = 64 << 20;

/// What the name of an imported key starts with: rpm lists keys as packages.
const KEY: &str = "gpg-pubkey-";

/// The kinds of package database, by the file that tells.
const KINDS: [(&str, &str, usize, &[u8]); 4] = [
    ("bdb", "Packages", 12, &[0x61, 0x15, 0x06, 0]),
    ("bdb", "Packages", 12, &[0, 0x06, 0x15, 0x61]),
    ("sqlite", "rpmdb.sqlite", 0, b"SQLite format 3\0"),
    ("ndb", "Packages.db", 0, b"RpmP"),
];

/// Where a root's package database can be.
const PLACES: [&str; 2] = ["var/lib/rpm", "usr/lib/sysimage/rpm"];

/// Makes the root's own rpm see what is installed, by writing its database with it; fails unless it then
/// sees exactly that. `installed` is what the rpm that installed the packages sees, if that isn't the host's. Returns the kind of database; `None` when the root has no rpm.
pub(super) fn convert(
    context: BaseContext<'_>,
    layout: &Layout,
    packages: &[Package],
    installed: Option<String>,
    root: &Path,
) -> Result<Option<&'static str>, BaseError> {
    let (who, found) = match installed {
        Some(found) => ("the rpm that installed them", found),
        None => ("the host's rpm", host_sees(context, root)?),
    };
    let expected = as_asked(who, &found, packages)?;
    if !exists_in(root, "bin/sh") {
        return Ok(None);
    }
    (context.sink)(StepEvent::Phase("checking the package database".to_owned()));
    let files = context.scratch.join("convert");
    for dir in [&files, &files.join("out"), &files.join("keys"), &files.join("packages")] {
        private_dir(dir)?;
    }
    let running = Nspawn.start(&spec(root, &files, layout), context.cancel)?;
    let tail = running.stderr_tail();
    match running.wait()? {
        0 => {}
        NO_RPM => return Ok(None),
        code => return Err(RpmError::Database(format!("exit status {code}\n{tail}")).into()),
    }
    let found = files.join("out/found");
    let found = read_found(&found).map_err(BaseError::io("read", &found))?;
    same("the root's own rpm", &expected, &sorted(&found))?;
    let kinds = kinds(root);
    match kinds.as_slice() {
        [kind] => Ok(Some(kind)),
        [] => Err(RpmError::Database("it is of no kind that is known".to_owned()).into()),
        _ => Err(RpmError::Database(format!("there are several: {}", kinds.join(", "))).into()),
    }
}

/// Reads what the script wrote. The root's own programs could write there as well: what they left may be
/// a link to a file of the host, or a FIFO.
pub(super) fn read_found(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it isn't a regular file"));
    }
    let mut text = String::new();
    file.take(FOUND_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What the host's rpm sees: a line for each package and key.
fn host_sees(context: BaseContext<'_>, root: &Path) -> Result<String, BaseError> {
    // rpm opens it from outside: a package's link may lead it to the host's own.
    if !PLACES.iter().all(|place| is_same_outside(root, place)) {
        return Err(RpmError::Database("links lead out of the root to another one".to_owned()).into());
    }
    let mut query = process::tool("rpm");
    query.env("HOME", install::home(context)?).arg("--root").arg(root).args([
        "-qa",
        "--nosignature",
        "--nodigest",
        "--qf",
        NAMES,
    ]);
    let output = process::capture(query, b"", context.cancel, &|_| ())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines of what is installed, sorted; fails unless that is what was asked for, and keys.
fn as_asked(who: &str, found: &str, packages: &[Package]) -> Result<Vec<String>, BaseError> {
    let (keys, found): (Vec<String>, Vec<String>) =
        sorted(found).into_iter().partition(|line| line.starts_with(KEY));
    let wanted = packages.iter().map(|p| format!("{}-{}-{}.{}\n", p.name, p.version, p.release, p.arch));
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    same(who, &wanted, &found)?;
    wanted.extend(keys);
    wanted.sort();
    Ok(wanted)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    lines.sort();
    lines
}

/// Fails with an example unless both lists are the same.
fn same(who: &str, wanted: &[String], found: &[String]) -> Result<(), BaseError> {
    if wanted == found {
        return Ok(());
    }
    let only = |these: &[String], those: &[String]| these.iter().find(|line| !those.contains(line)).cloned();
    let example = match (only(wanted, found), only(found, wanted)) {
        (Some(line), _) => format!("`{}` is missing", line.trim_end()),
        (None, Some(line)) => format!("`{}` is too many", line.trim_end()),
        (None, None) => "something is there twice".to_owned(),
    };
    let (found, wanted) = (found.len(), wanted.len());
    Err(RpmError::Database(format!("{who} sees {found} packages, not {wanted}: {example}")).into())
}

fn spec(root: &Path, files: &Path, layout: &Layout) -> SandboxSpec {
    let bind = |source: &Path, target: &str, read_only| Bind {
        source: source.to_owned(),
        target: format!("{INSIDE}{target}").into(),
        read_only,
    };
    SandboxSpec {
        name: "rpmdb".to_owned(),
        root: RootMount::Plain(root.to_owned()),
        writable: true,
        argv: vec!["/bin/sh".into(), "-u".into(), "-c".into(), SCRIPT.into()],
        env: vec![("LC_ALL".to_owned(), "C".to_owned())],
        binds: vec![
            bind(files, "", true),
            bind(&layout.keys, "/keys", true),
            bind(&layout.packages, "/packages", true),
            bind(&files.join("out"), "/out", false),
        ],
        network: Network::None,
        hostname: "localhost".to_owned(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    }
}

/// The kinds of database in the root.
fn kinds(root: &Path) -> Vec<&'static str> {
    let is = |file: &str, at: usize, magic: &[u8]| {
        let mut start = Vec::new();
        PLACES.iter().any(|place| {
            start.clear();
            let file = open_in(root, &format!("{place}/{file}"));
            let read = file.and_then(|file| file.take(64).read_to_end(&mut start));
            read.is_ok() && start.get(at..at + magic.len()) == Some(magic)
        })
    };
    let found = KINDS.iter().filter(|(_, file, at, magic)| is(file, *at, magic));
    found.map(|(kind, ..)| *kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_the_root_left_is_read_only_if_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
        fs::write(&file, "a\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(read_found(&file).unwrap(), "a\n");
        assert!(read_found(&link).is_err() && read_found(&fifo).is_err());
    }
}
