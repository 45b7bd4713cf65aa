//! `rootbuild completion`: a script that makes a shell complete our command line.
//!
//! The script asks this program itself at each Tab ([`answer`]), so that it knows the roots of the
//! definition at hand, and options stay right when rootbuild is upgraded.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::{Cli, Global, out};
use crate::definition::Definition;
use crate::engine::{Step, base_of};
use crate::exit;
use crate::render::Report;

/// The variable by which the script tells that it is asking.
const VARIABLE: &str = "ROOTBUILD_COMPLETE";

/// Arguments of `rootbuild completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
bash: echo 'source <(rootbuild completion bash)' >> ~/.bashrc
zsh:  echo 'source <(rootbuild completion zsh)' >> ~/.zshrc
fish: echo 'rootbuild completion fish | source' >> ~/.config/fish/config.fish")]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Runs the command.
pub fn run(_: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let shell = arguments.shell.to_string();
    let completer = Shells::builtins();
    let completer = completer
        .completer(&shell)
        .ok_or_else(|| Report::usage(format!("there is no completion for `{shell}`")))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "rootbuild", "rootbuild", "rootbuild", &mut script)
        .map_err(|error| Report::failed("can't make the script").caused_by(&error))?;
    out::bytes(&script)?;
    Ok(exit::OK)
}

/// Answers a script that asks what could come next; `true` if one did. To be called before anything
/// is written to stdout, and before there are threads (the variable is taken out of the environment).
pub fn answer() -> bool {
    let cwd = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin("rootbuild")
        .completer("rootbuild")
        .try_complete(std::env::args_os(), cwd.as_deref())
        // An error message in the middle of somebody's command line helps nobody.
        .unwrap_or(true)
}

/// The command line, with the roots and steps of the definition as candidates wherever one is asked for.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| {
            let asks_for =
                |what: &str| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == what));
            if asks_for("ROOT") {
                arg.add(ArgValueCandidates::new(roots))
            } else if asks_for("BASE") {
                arg.add(ArgValueCandidates::new(locks))
            } else if asks_for("STEP") {
                arg.add(ArgValueCandidates::new(steps))
            } else {
                arg
            }
        })
    })
}

/// The definition that the command line so far means.
fn definition() -> Option<Definition> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let named = file_option(&words).or_else(|| std::env::var_os("ROOTBUILD_FILE").map(PathBuf::from));
    Definition::load(named.as_deref(), &std::env::current_dir().ok()?).ok()
}

/// The steps of its roots, each once.
fn steps() -> Vec<CompletionCandidate> {
    let Some(definition) = definition() else { return Vec::new() };
    let names = definition.roots.iter().flat_map(|root| Step::of(root, base_of(&definition, root)));
    let names: BTreeSet<String> = names.map(|step| step.name()).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Its bases that name a lock.
fn locks() -> Vec<CompletionCandidate> {
    let bases = definition().map(|definition| definition.bases).unwrap_or_default();
    let locked = bases.iter().filter(|base| base.lock().is_some());
    locked.map(|base| CompletionCandidate::new(&base.name)).collect()
}

/// Its roots.
fn roots() -> Vec<CompletionCandidate> {
    let Some(definition) = definition() else { return Vec::new() };
    definition
        .roots
        .iter()
        .map(|root| {
            let base = format!("on {}", root.base.value);
            CompletionCandidate::new(&root.name).help(Some(base.into()))
        })
        .collect()
}

/// The value of `-f`, `--file` on a command line that isn't finished.
fn file_option(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-f" || word == "--file" {
            return words.next().map(PathBuf::from);
        }
        if let Some(value) = word.to_str().and_then(|word| word.strip_prefix("--file=")) {
            return Some(PathBuf::from(OsStr::new(value)));
        }
    }
    None
}
