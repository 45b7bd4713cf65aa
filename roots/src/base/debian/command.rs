//! The command lines that install a Debian root, and get its archives' lists.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use super::DebianBase;
use super::lock::Package;
use super::snapshot;
use super::sources::{self, DEBIAN_KEYRING};
use crate::process;

/// What package scripts see as the time where they ask for a fixed one (2020-01-01): the day on which
/// passwords were last changed, the times in caches. Compiled Python is then valid by its source's
/// content rather than by its time, which is what a root needs whose files have other times one day.
const SOURCE_DATE_EPOCH: &str = "1577836800";

/// Capabilities that installing packages doesn't need, and the host could be hurt with.
const NO_CAPABILITIES: &str = "-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog,-sys_tty_config";

/// Names the machine in the namespace that has just been made, and goes on.
const ENTER: &str = "echo localhost > /proc/sys/kernel/hostname 2> /dev/null || :; exec \"$@\"";

/// In place of the host's name, which mmdebstrap copies in.
const SETUP_HOOK: &str = "echo localhost > \"$1/etc/hostname\"";

/// Hooks that make the packages of a `file:` mirror visible to dpkg inside the root.
const FILE_MIRROR_HOOKS: &str = "/usr/share/mmdebstrap/hooks/file-mirror-automount";

/// What the archive of a lock's packages calls its suite.
pub(super) const LOCKED: &str = "locked";

/// Paths that a run needs beside the root.
pub(super) struct Layout<'a> {
    /// The root, empty.
    pub root: &'a Path,
    /// For temporary files.
    pub scratch: &'a Path,
    /// An empty file and an empty directory, to stand for keyrings that aren't to be trusted.
    pub no_keys: &'a Path,
    pub no_keyrings: &'a Path,
    /// The host's `/etc`.
    pub etc: &'a Path,
}

/// The command.
///
/// Package scripts run in namespaces of their own: they see no process of the host, what they mount
/// is gone with them, and nothing that they start outlives them. mmdebstrap gives them a `/proc` and
/// `/sys` that can't be written to, device nodes for the harmless devices only, and forbids services
/// to start. The network is the host's, since packages are downloaded on the way.
pub(super) fn mmdebstrap(base: &DebianBase, layout: &Layout<'_>) -> Command {
    in_namespaces(layout, &[], arguments(base, layout))
}

/// The command that installs what a lock says from `mirror`, a directory that has just these packages: as
/// [`mmdebstrap`] does, without a network.
pub(super) fn from_lock(packages: &[Package], mirror: &Path, layout: &Layout<'_>) -> Command {
    let mut line: Vec<OsString> =
        ["--mode=root", "--format=directory", "--verbose", "--variant=essential", "--skip=check/signed-by"]
            .map(OsString::from)
            .to_vec();
    line.push(format!("--setup-hook={SETUP_HOOK}").into());
    line.extend(packages.iter().map(|package| format!("--include={}", package.name).into()));
    line.push("--".into());
    line.push(LOCKED.into());
    line.push(layout.root.into());
    let mirror = mirror.to_string_lossy();
    line.push(format!("deb [trusted=yes] copy://{} ./", crate::base::fetch::encoded(&mirror)).into());
    in_namespaces(layout, &["--net"], line)
}

/// The command that gets the lists of a base's archives, checked by apt, into `dir`: needs no privileges, installs
/// nothing.
pub(super) fn lists(base: &DebianBase, dir: &Path, layout: &Layout<'_>) -> Command {
    let mut command = process::tool("mmdebstrap");
    command.args(["--mode=chrootless", "--simulate", "--format=directory", "--verbose", "--variant=custom"]);
    command.args(["--skip=cleanup/apt", "--skip=check/qemu"]);
    command.arg(format!("--components={}", base.components().join(",")));
    // Who downloads packages later doesn't ask for such records either; asking takes long where nobody answers.
    command.arg("--aptopt=Acquire::EnableSrvRecords \"false\"");
    command.arg("--aptopt=Acquire::GzipIndexes \"false\"");
    let archives = archives(base, layout.etc);
    if archives.iter().any(|archive| snapshot::is_snapshot(archive)) {
        // What an archive had on a day was valid then.
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    command.args(keyring_options(base, layout)).arg("--").arg(&base.suite).arg(dir).args(archives);
    command.env("HOME", layout.scratch).env("TMPDIR", layout.scratch);
    command
}

fn in_namespaces(layout: &Layout<'_>, more: &[&str], arguments: Vec<OsString>) -> Command {
    let mut command = process::tool("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--mount-proc", "--ipc", "--uts"]);
    command.args(more);
    command.args(["--fork", "--kill-child", "--", "setpriv", "--bounding-set", NO_CAPABILITIES, "--"]);
    command.args(["sh", "-eu", "-c", ENTER, "enter", "mmdebstrap"]);
    command.args(arguments);
    command
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH)
        .env("HOME", layout.scratch)
        .env("TMPDIR", layout.scratch);
    command
}

/// What a base's own keyring is told with.
fn keyring_options(base: &DebianBase, layout: &Layout<'_>) -> Vec<OsString> {
    let option = |name: &str, value: &OsStr| {
        let mut option = OsString::from(name);
        option.push(value);
        option
    };
    let Some(keyring) = &base.keyring else { return Vec::new() };
    // Both a file and a directory are always trusted, the host's own unless others are named.
    let (file, directory) = if keyring.is_dir() {
        (layout.no_keys, keyring.as_path())
    } else {
        (keyring.as_path(), layout.no_keyrings)
    };
    vec![
        option("--keyring=", file.as_os_str()),
        option("--keyring=", directory.as_os_str()),
        "--skip=check/signed-by".into(),
    ]
}

fn arguments(base: &DebianBase, layout: &Layout<'_>) -> Vec<OsString> {
    let DebianBase { suite, packages, .. } = base;
    let mut line: Vec<OsString> =
        ["--mode=root", "--format=directory", "--verbose"].map(OsString::from).to_vec();
    line.push(format!("--variant={}", base.variant()).into());
    line.push(format!("--components={}", base.components().join(",")).into());
    line.extend(keyring_options(base, layout));
    line.push(format!("--setup-hook={SETUP_HOOK}").into());
    if !packages.is_empty() {
        line.push(format!("--extract-hook={}", check_names(packages)).into());
    }
    if base.mirror.first().is_some_and(|mirror| is_file(mirror)) && Path::new(FILE_MIRROR_HOOKS).is_dir() {
        line.push(format!("--hook-dir={FILE_MIRROR_HOOKS}").into());
    }
    // One by one: mmdebstrap takes several options for several lists.
    line.extend(packages.iter().map(|package| format!("--include={package}").into()));
    line.push("--".into());
    line.push(suite.into());
    line.push(layout.root.into());
    line.extend(archives(base, layout.etc).into_iter().map(OsString::from));
    line
}

/// What mmdebstrap is told about where packages are: an URL, lines for `sources.list`, or nothing, and
/// then it knows itself.
pub(super) fn archives(base: &DebianBase, etc: &Path) -> Vec<String> {
    match base.mirror.first() {
        // It takes for an URL only what has `://` in it.
        Some(mirror) => vec![match mirror.split_once(":/") {
            Some((scheme, path)) if !path.starts_with('/') => format!("{scheme}:///{path}"),
            _ => mirror.clone(),
        }],
        None => {
            let signed = base.keyring.is_none() && Path::new(DEBIAN_KEYRING).exists();
            sources::from_host(etc, &base.suite, &base.components(), signed).unwrap_or_default()
        }
    }
}

fn is_file(mirror: &str) -> bool {
    mirror.starts_with("file:")
}

/// A hook that fails if the suite doesn't have one of these packages: mmdebstrap itself would only
/// find out when the essential ones are installed, and then tell.
fn check_names(packages: &[String]) -> String {
    let quoted: Vec<String> =
        packages.iter().map(|package| format!("'{}'", package.replace('\'', "'\\''"))).collect();
    format!(
        "errors=$(APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get --simulate --quiet install -- {} 2>&1 >/dev/null | \
         grep -E '^E: (Unable to locate|Version |Release |Couldn.t find|Package .* has no)') || exit 0; \
         echo \"$errors\" >&2; exit 1",
        quoted.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> DebianBase {
        DebianBase {
            name: "b".to_owned(),
            suite: "bookworm".to_owned(),
            packages: vec!["python3".to_owned(), "it's".to_owned()],
            mirror: vec!["http://m.example/debian".to_owned()],
            components: Vec::new(),
            variant: None,
            keyring: None,
            lock: None,
            written: super::super::Written::default(),
        }
    }

    fn line(base: &DebianBase) -> String {
        let path = Path::new;
        let layout = Layout {
            root: path("/store/root"),
            scratch: path("/store/scratch"),
            no_keys: path("/store/no-keys"),
            no_keyrings: path("/store/no-keyrings"),
            etc: path("/nonexistent"),
        };
        let command = mmdebstrap(base, &layout);
        // Where the host has it is the host's.
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let words = [program].into_iter().chain(command.get_args());
        let us = std::process::id().to_string();
        let told = |word: &OsStr| match word.to_string_lossy() {
            word if word == us => "<us>".to_owned(),
            word => word.into_owned(),
        };
        words.map(told).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn packages_are_installed_in_namespaces_of_their_own() {
        insta::assert_snapshot!(line(&base()));
    }

    #[test]
    fn everything_can_be_said() {
        let all = DebianBase {
            mirror: vec!["file:/srv/mirror".to_owned()],
            components: vec!["main".to_owned(), "contrib".to_owned()],
            variant: Some("apt".to_owned()),
            keyring: Some("/k.gpg".into()),
            packages: Vec::new(),
            ..base()
        };
        let line = line(&all);
        for expected in [
            "--variant=apt",
            "--components=main,contrib",
            "--keyring=/k.gpg\n--keyring=/store/no-keyrings\n--skip=check/signed-by",
            "\nfile:///srv/mirror",
        ] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
    }
}
