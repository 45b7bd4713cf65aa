//! The command line of a sandbox: a pure function of its specification.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Bind, Console, Network, SandboxSpec, boot};
use crate::process::PATH;
use crate::working::RootMount;

/// Checks the starter, enters the control groups.
const GUARD: &str = include_str!("guard.sh");

/// Mounts the root, runs nspawn.
const ENTER: &str = include_str!("enter.sh");

/// Where the root is mounted in the sandbox's outer mount namespace.
const ROOT: &str = "/run/rootbuild/root";

/// Where the host's `/run` is found in it.
const HOST_RUN: &str = "/run/rootbuild/host";

/// The copy of the host's resolv.conf in it.
const RESOLV_CONF: &str = "/run/rootbuild/resolv.conf";

/// The longest machine name (and host name) that nspawn takes, in bytes.
const NAME_MAX: usize = 64;

/// What the command line needs to know beyond the specification.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    /// Our process id.
    pub(super) starter: u32,
    /// Control groups to enter.
    pub(super) cgroups: &'a [PathBuf],
    /// The host's resolv.conf, where there is one.
    pub(super) resolv_conf: Option<OsString>,
    /// Whether the caller's stdin and stdout are a terminal.
    pub(super) terminal: bool,
}

/// The environment of nspawn itself (the payload's is in its arguments).
pub(super) fn environment(spec: &SandboxSpec) -> Vec<(&'static str, &'static str)> {
    vec![
        ("PATH", PATH),
        ("LC_ALL", "C.UTF-8"),
        // A writable root's /tmp belongs to the step; a read-only one needs some /tmp.
        ("SYSTEMD_NSPAWN_TMPFS_TMP", if spec.writable { "0" } else { "1" }),
        // The store has its own locks; nspawn's would leave files behind when it is killed.
        ("SYSTEMD_NSPAWN_LOCK", "0"),
        ("SYSTEMD_LOG_TARGET", "console"),
    ]
}

/// The whole command line, program first.
pub(super) fn command_line(spec: &SandboxSpec, circumstances: &Circumstances<'_>) -> Vec<OsString> {
    let Circumstances { starter, cgroups, resolv_conf, terminal: _ } = circumstances;
    let mut line = words(["setpriv", "--pdeathsig", "KILL", "--", "sh", "-eu", "-c", GUARD, "guard"]);
    line.push(starter.to_string().into());
    line.extend(cgroups.iter().map(|dir| dir.clone().into_os_string()));
    line.extend(words(["--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]));
    line.extend(words(["--propagation", "private", "--", "sh", "-eu", "-c", ENTER, "enter"]));
    line.push(if below_run(spec) { "yes" } else { "no" }.into());
    line.push(resolv_conf.clone().unwrap_or_default());
    if spec.boot {
        line.extend([boot::UNIT.into(), boot::script(spec)]);
    } else {
        line.extend(words(["", ""]));
    }
    match &spec.root {
        RootMount::Plain(dir) => line.extend(["plain".into(), seen(dir)]),
        RootMount::Overlay { lowers, upper, work } => {
            line.extend(["overlay".into(), seen(upper), seen(work), lowers.len().to_string().into()]);
            line.extend(lowers.iter().map(|lower| seen(lower)));
        }
    }
    line.extend(nspawn_arguments(spec, circumstances));
    line
}

/// nspawn's arguments. Every field of the specification is named, so that none can be forgotten.
fn nspawn_arguments(spec: &SandboxSpec, circumstances: &Circumstances<'_>) -> Vec<OsString> {
    let SandboxSpec { name, root: _, writable, argv, env, binds, network, hostname, boot, console, chdir } =
        spec;
    let mut arguments = words([
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        "--link-journal=no",
        "--timezone=off",
        "--resolv-conf=off",
        // EL7's rpm closes every fd there could be, one by one.
        "--rlimit=RLIMIT_NOFILE=1024:524288",
    ]);
    arguments.push(format!("--directory={ROOT}").into());
    arguments.push(format!("--machine={}", machine_name(name)).into());
    arguments.push(format!("--hostname={hostname}").into());
    match console {
        Console::Inherit if circumstances.terminal => arguments.push("--console=interactive".into()),
        Console::Inherit | Console::Pipe => arguments.push("--console=pipe".into()),
    }
    if !writable {
        arguments.push("--read-only".into());
    }
    match network {
        Network::None | Network::Repos => arguments.push("--private-network".into()),
        Network::Host if circumstances.resolv_conf.is_some() => {
            arguments.push(format!("--bind={RESOLV_CONF}:/etc/resolv.conf").into());
        }
        Network::Host => {}
    }
    for Bind { source, target, read_only } in binds {
        let mut argument = OsString::from(if *read_only { "--bind-ro=" } else { "--bind=" });
        argument.push(escaped(&seen(source)));
        argument.push(":");
        argument.push(escaped(target.as_os_str()));
        arguments.push(argument);
    }
    if *boot {
        // What runs, where and with which environment is the service's affair: see `boot::script`.
        arguments.extend(boot::arguments());
        return arguments;
    }
    if !env.iter().any(|(name, _)| name == "SYSTEMD_OFFLINE") {
        // systemctl must not look for a manager: `enable` works on the files.
        arguments.push("--setenv=SYSTEMD_OFFLINE=1".into());
    }
    arguments.extend(env.iter().map(|(name, value)| format!("--setenv={name}={value}").into()));
    if let Some(dir) = chdir {
        let mut argument = OsString::from("--chdir=");
        argument.push(dir);
        arguments.push(argument);
    }
    arguments.push("--".into());
    arguments.extend(argv.iter().cloned());
    arguments
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// Every host path of the specification.
pub(super) fn host_paths(spec: &SandboxSpec) -> Vec<&Path> {
    let mut paths: Vec<&Path> = match &spec.root {
        RootMount::Plain(dir) => vec![dir],
        RootMount::Overlay { lowers, upper, work } => {
            [upper, work].into_iter().chain(lowers).map(PathBuf::as_path).collect()
        }
    };
    paths.extend(spec.binds.iter().map(|bind| bind.source.as_path()));
    paths
}

/// Whether any host path lies below `/run`, which the sandbox covers.
fn below_run(spec: &SandboxSpec) -> bool {
    host_paths(spec).iter().any(|path| path.starts_with("/run"))
}

/// A host path as it is seen after `/run` has been covered.
fn seen(path: &Path) -> OsString {
    match path.strip_prefix("/run") {
        Ok(rest) => Path::new(HOST_RUN).join(rest).into_os_string(),
        Err(_) => path.as_os_str().to_owned(),
    }
}

/// A path in nspawn's bind syntax.
fn escaped(path: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if matches!(byte, b':' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

/// A valid machine name that still reads like `name`.
fn machine_name(name: &str) -> String {
    let mut valid: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(NAME_MAX).collect();
    valid = valid.trim_matches('-').to_owned();
    if valid.is_empty() { "rootbuild".to_owned() } else { valid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            name: "hgweb: step 2/3".to_owned(),
            root: RootMount::Plain("/store/staging/1/root".into()),
            writable: true,
            argv: vec!["/usr/bin/python3".into(), "-B".into(), "/run/rootbuild/agent/pid1.py".into()],
            env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())],
            binds: vec![Bind {
                source: "/usr/lib/root:build".into(),
                target: "/run/rootbuild/agent".into(),
                read_only: true,
            }],
            network: Network::None,
            hostname: "hgweb0".to_owned(),
            boot: false,
            console: Console::Pipe,
            chdir: None,
        }
    }

    fn circumstances() -> Circumstances<'static> {
        Circumstances { starter: 42, cgroups: &[], resolv_conf: None, terminal: true }
    }

    /// One argument a line; the scripts by their names.
    fn text(spec: &SandboxSpec, circumstances: &Circumstances<'_>) -> String {
        let line = command_line(spec, circumstances);
        let shown = line.iter().map(|argument| match argument.to_str() {
            Some(GUARD) => "<guard.sh>".to_owned(),
            Some(ENTER) => "<enter.sh>".to_owned(),
            Some(boot::UNIT) => "<unit>".to_owned(),
            _ => argument.to_string_lossy().escape_debug().to_string(),
        });
        shown.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_step_gets_a_pipe_no_network_and_a_writable_root() {
        insta::assert_snapshot!(text(&spec(), &circumstances()));
    }

    #[test]
    fn an_overlay_is_mounted_from_positional_arguments() {
        let root = RootMount::Overlay {
            lowers: vec!["/store/lower, with:odd name".into(), "/run/store/lower".into()],
            upper: "/store/staging/1/upper".into(),
            work: "/store/staging/1/work".into(),
        };
        let cgroups = ["/sys/fs/cgroup/rootbuild-42-0".into()];
        let circumstances = Circumstances { cgroups: &cgroups, ..circumstances() };
        insta::assert_snapshot!(text(&SandboxSpec { root, ..spec() }, &circumstances));
    }

    #[test]
    fn a_shell_gets_the_terminal_the_network_and_a_read_only_root() {
        let spec = SandboxSpec {
            writable: false,
            network: Network::Host,
            console: Console::Inherit,
            argv: vec!["/bin/bash".into(), "-l".into()],
            env: vec![("SYSTEMD_OFFLINE".to_owned(), "0".to_owned())],
            binds: vec![],
            chdir: Some("/root".into()),
            ..spec()
        };
        let resolv_conf = Some("nameserver 192.0.2.1\n".into());
        insta::assert_snapshot!(text(&spec, &Circumstances { resolv_conf, ..circumstances() }));
    }

    #[test]
    fn a_booted_root_runs_the_payload_as_a_service() {
        let spec = SandboxSpec {
            boot: true,
            argv: vec!["/bin/it's".into(), "$x `y`".into()],
            env: vec![("A".to_owned(), "b 'c'\n".to_owned())],
            chdir: Some("/srv".into()),
            ..spec()
        };
        insta::assert_snapshot!(text(&spec, &circumstances()));
        insta::assert_snapshot!(boot::script(&spec).to_string_lossy());
    }

    #[test]
    fn machine_names_are_valid_whatever_the_name() {
        for (name, machine) in [("", "rootbuild"), ("…", "rootbuild"), ("hgweb.1", "hgweb-1")] {
            assert_eq!(machine_name(name), machine);
        }
        assert!(machine_name(&"long".repeat(40)).len() <= NAME_MAX);
    }
}
