//! Usage errors whose cause isn't on the command line: every option has a twin in the environment.

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Error};

use super::Cli;

/// Says which variable a wrong value came from, if it came from one.
#[must_use]
pub fn environment_hint(error: &Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let cli = Cli::command();
    let variable = std::iter::once(&cli)
        .chain(cli.get_subcommands())
        .flat_map(clap::Command::get_arguments)
        .filter(|known| known.get_long().is_some_and(|long| is(argument, long)))
        .find_map(clap::Arg::get_env)?;
    let set = std::env::var_os(variable)?;
    (set == value).then(|| format!("hint: the environment says so: {}={value}", variable.display()))
}

/// Whether `argument`, as clap shows it (`--verbose...`, `--jobs <N>`), is the option `long`.
fn is(argument: &str, long: &str) -> bool {
    let Some(rest) = argument.strip_prefix("--").and_then(|rest| rest.strip_prefix(long)) else {
        return false;
    };
    rest.is_empty() || rest.starts_with([' ', '.', '='])
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn an_option_is_known_however_it_is_shown() {
        assert!(is("--verbose...", "verbose") && is("--jobs <N>", "jobs") && is("--quiet", "quiet"));
        assert!(!is("--events <FILE>", "event") && !is("<ROOT>", "root"));
    }
}
