//! `rootbuild logs`: what a root's services said, from the journal.

use std::process::Command;

use clap::Args;

use super::Global;
use crate::render::Report;

/// Arguments of `rootbuild logs`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// Go on telling what comes
    #[arg(short = 'F', long)]
    pub follow: bool,

    /// How many lines, the last ones [default: all since the last boot]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u64>,

    /// Only what was said since then, as `journalctl --since` takes it (`-1h`, `today`)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
}

/// Runs the command: journalctl's output and exit code are its own.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let roots = super::asked_for(&definition, &arguments.roots)?;
    let mut command = Command::new("journalctl");
    command.args(["--boot", "--no-pager", "--quiet"]);
    command.args(if global.json { ["--output", "json"] } else { ["--output", "short"] });
    if arguments.follow {
        command.arg("--follow");
        if arguments.lines.is_none() {
            command.arg("--lines=10");
        }
    }
    if let Some(lines) = arguments.lines {
        command.arg(format!("--lines={lines}"));
    }
    if let Some(since) = &arguments.since {
        command.arg(format!("--since={since}"));
    }
    for (at, root) in roots.iter().enumerate() {
        if at > 0 {
            command.arg("+");
        }
        command.arg(format!("ROOTBUILD_ROOT={}", root.name));
        // What systemd says of its units.
        for unit in rootbuild_handoff::installed(&root.name)? {
            command.arg("+").arg(format!("UNIT={unit}"));
        }
    }
    let status = command.status().map_err(|error| {
        Report::failed("can't run `journalctl`").caused_by(&error).hint("it comes with systemd")
    })?;
    Ok(u8::try_from(status.code().unwrap_or(i32::from(crate::exit::FAILED))).unwrap_or(crate::exit::FAILED))
}
