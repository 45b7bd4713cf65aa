//! A launcher for tests: becomes the command that its arguments are, traced.

use std::process::ExitCode;

fn main() -> ExitCode {
    let command: Vec<_> = std::env::args_os().skip(1).collect();
    let error = rootbuild_playbooks::trace::enter(&command);
    eprintln!("trace-launcher: {error}");
    ExitCode::from(127)
}
