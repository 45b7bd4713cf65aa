//! The `rootbuild` command.

use std::process::ExitCode;

use clap::{ColorChoice, Parser};
use rootbuild::cli::{Cli, completion, trace, usage};
use rootbuild::{bug, exit};

fn main() -> ExitCode {
    ExitCode::from(bug::guarded(run))
}

fn run() -> u8 {
    if let Some(code) = trace::answer() {
        return code;
    }
    if completion::answer() {
        return exit::OK;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers (stdout, 0), the rest is a usage error (stderr, 2).
            let _ = error.print();
            if let Some(hint) = usage::environment_hint(&error) {
                anstream::eprintln!("{hint}");
            }
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    match cli.global.color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ROOTBUILD_LOG")
                // What is wrong with a certificate is told by who asked for it.
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,rustls_platform_verifier=off")),
        )
        .without_time()
        .init();
    cli.run()
}
