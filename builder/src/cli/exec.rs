//! `rootbuild exec`: a command in a root that runs, beside its services.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::Command;

use clap::Args;
use rootbuild_handoff::mounted;
use rootbuild_roots::units::{self, Directories};

use super::Global;
use crate::exit;
use crate::render::Report;

/// What a command has in common with the services of its root: where it runs, not how it is held.
const KEPT: [&str; 10] = [
    "RootDirectory",
    "MountAPIVFS",
    "Slice",
    "BindPaths",
    "BindReadOnlyPaths",
    "NetworkNamespacePath",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "LogExtraFields",
];

/// Arguments of `rootbuild exec`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The root
    #[arg(value_name = "ROOT")]
    pub root: String,

    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the command; ends with the exit code of what ran inside.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let root = super::one_root(&definition, &arguments.root)?;
    super::require_root("rootbuild exec")?;
    let settings = settings(&root.name)?;
    let (Some(settings), Some(_)) = (settings, mounted(&root.name)) else {
        return Err(Report::failed(format!("root `{}` doesn't run", root.name)).hint(format!(
            "`rootbuild up {0}` starts it; `rootbuild shell {0}` enters it as it is handed over",
            root.name
        )));
    };
    // As a unit of its own: process 1 owns it, and it stops with the root.
    let mut run = Command::new("systemd-run");
    run.args(["--quiet", "--collect", "--wait", "--service-type=exec"]);
    run.arg(format!("--unit=rootbuild-{}-exec-{}.service", root.name, std::process::id()));
    run.arg(format!("--description=Command in the root {}", root.name));
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    run.arg(if terminal { "--pty" } else { "--pipe" });
    for (key, value) in settings {
        run.arg("-p").arg(format!("{key}={value}"));
    }
    let root_unit = format!("rootbuild-{}-root.service", root.name);
    run.args(["-p", &format!("Requires={root_unit}"), "-p", &format!("After={root_unit}")]);
    run.args(["-p", "WorkingDirectory=-/root", "-p", "PrivateTmp=no"]);
    let environment = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME", "/root".to_owned()),
        ("USER", "root".to_owned()),
        ("LOGNAME", "root".to_owned()),
    ];
    let seen = ["TERM", "COLORTERM"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    for (name, value) in environment.into_iter().chain(seen) {
        run.arg(format!("--setenv={name}={value}"));
    }
    // The command is looked for in the root, not on the host.
    run.args(["--", "/bin/sh", "-c", "\"$@\"; exit $?", "sh"]).args(&arguments.command);
    let status = run.status().map_err(|error| {
        Report::failed("can't run `systemd-run`").caused_by(&error).hint("it comes with systemd")
    })?;
    Ok(u8::try_from(status.code().unwrap_or(i32::from(exit::FAILED))).unwrap_or(exit::FAILED))
}

/// Where the services of a root run, by what is installed of them; `None`: nothing is.
fn settings(root: &str) -> Result<Option<Vec<(String, String)>>, Report> {
    for directories in [Directories::for_good(), Directories::until_boot()] {
        let Some(snapshot) = units::snapshot(&directories, root)? else { continue };
        let text = snapshot.drop_ins().find(|text| text.contains("RootDirectory="));
        if let Some(text) = text {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let kept = pairs.filter(|(key, _)| KEPT.contains(key));
            return Ok(Some(kept.map(|(key, value)| (key.to_owned(), value.replace("%%", "%"))).collect()));
        }
    }
    Ok(None)
}
