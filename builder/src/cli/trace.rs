//! `rootbuild __trace`, which nobody calls but rootbuild itself: becomes a command whose reading is traced.
//! No subcommand for people, and so none of the command line's: its options have twins in the environment,
//! which here is the command's.

use std::ffi::OsString;

use rootbuild_playbooks::trace::{self, Launcher};

/// The first argument that asks for it.
const NAME: &str = "__trace";

/// What a shell says when a program can't be started.
const NOT_STARTED: u8 = 127;

/// Becomes the command that the arguments are, if they ask for it; the exit code if that fails.
#[must_use]
pub fn answer() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != NAME {
        return None;
    }
    let command: Vec<OsString> = arguments.collect();
    let error = trace::enter(&command);
    let program = command.first().map(|program| program.display().to_string()).unwrap_or_default();
    anstream::eprintln!("rootbuild: can't start `{program}`: {error}");
    Some(NOT_STARTED)
}

/// This program, for the runs that it traces.
#[must_use]
pub fn launcher() -> Option<Launcher> {
    let program = std::env::current_exe().ok()?;
    Some(Launcher { program, arguments: vec![NAME.into()] })
}
