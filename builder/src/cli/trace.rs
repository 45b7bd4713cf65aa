//! `rootbuild __trace`, which nobody calls but rootbuild itself: becomes a command whose reading is traced.

use std::ffi::OsString;

use clap::Args;
use rootbuild_playbooks::trace::{self, Launcher};

use super::Global;
use crate::render::Report;

/// The subcommand's name.
const NAME: &str = "__trace";

/// What a shell says when a program can't be started.
const NOT_STARTED: u8 = 127;

/// Become a command, with whoever started this one watching what it reads
#[derive(Debug, Args)]
pub struct Arguments {
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the command.
pub fn run(_: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let error = trace::enter(&arguments.command);
    anstream::eprintln!("rootbuild: can't start `{}`: {error}", arguments.command[0].display());
    Ok(NOT_STARTED)
}

/// This program, for the runs that it traces.
#[must_use]
pub fn launcher() -> Option<Launcher> {
    let program = std::env::current_exe().ok()?;
    Some(Launcher { program, arguments: vec![NAME.into(), "--".into()] })
}
