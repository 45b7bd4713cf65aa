//! The command line: one file per subcommand, which holds its arguments and what it does.

pub mod bazel;
mod building;
pub mod cache;
pub mod completion;
pub mod doctor;
pub mod down;
mod events;
pub mod exec;
pub mod explain;
pub mod forcing;
mod handing;
pub mod init;
pub mod list;
pub mod lock;
pub mod log;
pub mod logs;
pub mod mirror;
mod out;
pub mod pin;
pub mod plan;
pub mod provision;
mod reasons;
pub mod restart;
pub mod rollback;
pub mod sbom;
pub mod shell;
pub mod show;
mod srcs;
pub mod status;
pub mod trace;
pub mod units;
pub mod up;
pub mod usage;

use std::path::PathBuf;

use clap::{ArgAction, Args, ColorChoice, Parser, Subcommand};
use rootbuild_cache::{Floor, Store};
use rootbuild_roots::publish::{self, Published};

use crate::definition::Definition;
use crate::render::Report;

/// Turns Ansible playbooks into root file systems: plain directories, cached by content.
#[derive(Debug, Parser)]
#[command(name = "rootbuild", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command; each has its twin in the environment.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The definition, or the directory it is in [default: rootbuild.toml, searched upward]
    #[arg(short, long, global = true, value_name = "FILE", env = "ROOTBUILD_FILE")]
    pub file: Option<PathBuf>,

    /// Where objects, trees and roots are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ROOTBUILD_STORE",
        default_value = "/var/lib/rootbuild"
    )]
    pub store: PathBuf,

    /// How much of the store's file system has to stay free: a share, or a size (3%, 10G)
    #[arg(long, global = true, value_name = "SHARE", env = "ROOTBUILD_MIN_FREE", default_value = "3%")]
    pub min_free: Floor,

    /// Print the result as JSON on stdout
    #[arg(long, global = true, env = "ROOTBUILD_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,

    /// Append every event as a line of JSON to FILE (a pipe or /dev/fd/N will do)
    #[arg(long, global = true, value_name = "FILE", env = "ROOTBUILD_EVENTS")]
    pub events: Option<PathBuf>,

    /// Say only what went wrong
    #[arg(short, long, global = true, env = "ROOTBUILD_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,

    /// Say more: every task (-v); with -vv, -vvv, … Ansible gets -v, -vv, …, which shows in the log
    #[arg(short, long, global = true, action = ArgAction::Count, env = "ROOTBUILD_VERBOSE")]
    pub verbose: u8,

    /// Colours
    #[arg(long, global = true, value_name = "WHEN", env = "ROOTBUILD_COLOR", default_value = "auto")]
    pub color: ColorChoice,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a definition to start from
    Init(init::Arguments),
    /// Build roots, as far as they aren't cached, and hand them over
    Provision(provision::Arguments),
    /// Show what a provision would do, and why
    Plan(plan::Arguments),
    /// Show how each layer of a root came, what a provision would do with it, and why
    Explain(explain::Arguments),
    /// List the roots of the definition
    List(list::Arguments),
    /// Show what a root is made of
    Show(show::Arguments),
    /// Show the last log of a root
    Log(log::Arguments),
    /// Open a shell in a root; what it changes is dropped
    Shell(shell::Arguments),
    /// Print what is in a root: its packages, and the layer that brought each
    Sbom(sbom::Arguments),
    /// Print the systemd units that a root gives this host
    Units(units::Arguments),
    /// Run roots as services of this host, or bring what runs to what was provisioned last
    Up(up::Arguments),
    /// Stop roots
    Down(down::Arguments),
    /// Show what runs of each root
    Status(status::Arguments),
    /// Restart what runs
    Restart(restart::Arguments),
    /// Go back to what ran before
    Rollback(rollback::Arguments),
    /// Show what services of roots said
    Logs(logs::Arguments),
    /// Run a command in a root that runs, beside its services
    Exec(exec::Arguments),
    /// Write down exactly which packages make up a base, or take newer ones
    Lock(lock::Arguments),
    /// Keep a tree, whatever else is removed from the store
    Pin(pin::PinArguments),
    /// Keep trees no longer
    Unpin(pin::UnpinArguments),
    /// Tell how large the store is, remove what isn't needed, check that it is whole
    Cache(cache::Arguments),
    /// Build and use roots for Bazel: what the rules call
    #[command(hide = true)]
    Bazel(bazel::Arguments),
    /// Check that this machine has what a provision needs
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completion(completion::Arguments),
}

impl Global {
    /// Loads the definition.
    pub fn definition(&self) -> Result<Definition, Report> {
        let cwd = std::env::current_dir()
            .map_err(|error| Report::usage("can't tell the working directory").caused_by(&error))?;
        Definition::load(self.file.as_deref(), &cwd).map_err(Report::from)
    }

    /// Opens the store for writing; needs root.
    pub fn store(&self) -> Result<Store, Report> {
        let store = Store::open(&std::path::absolute(&self.store).unwrap_or_else(|_| self.store.clone()))?;
        store.keep_free(self.min_free);
        Ok(store)
    }

    /// Opens the store for reading; `None` where there is none yet.
    pub fn store_read_only(&self) -> Result<Option<Store>, Report> {
        Ok(Store::open_read_only(&std::path::absolute(&self.store).unwrap_or_else(|_| self.store.clone()))?)
    }
}

/// An error unless this process is root.
pub fn require_root(what: &str) -> Result<(), Report> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Report::usage(format!("`{what}` needs root privileges"))
        .hint("owners, devices and namespaces of a root can only be made by root: run it with sudo"))
}

/// The roots that arguments name (all, if none is named), in the order of the definition. The roots that
/// they stand on are not among them: those are built for them, but not asked for.
pub fn asked_for<'a>(
    definition: &'a Definition,
    names: &[String],
) -> Result<Vec<&'a crate::definition::Root>, Report> {
    let mut roots = definition.select(names)?;
    roots.retain(|root| names.is_empty() || names.contains(&root.name));
    Ok(roots)
}

/// What is told of a root that doesn't stand yet.
pub fn not_provisioned(root: &crate::definition::Root) -> Report {
    Report::failed(format!("root `{}` isn't provisioned yet", root.name))
        .hint(format!("run `rootbuild provision {}`", root.name))
}

/// The root as it stands, unless its name belongs to another definition on this store: that is an error, as
/// it is for a provision.
pub fn standing(
    store: &Store,
    definition: &Definition,
    root: &crate::definition::Root,
) -> Result<Option<Published>, Report> {
    Ok(publish::current_of(store, &root.name, &definition.path)?)
}

/// An error if the name of any of these roots belongs to another definition: nothing is built that couldn't
/// be handed over.
pub fn owned(store: &Store, definition: &Definition, names: &[String]) -> Result<(), Report> {
    let roots = definition.select(names)?;
    let errors: Vec<Report> = roots
        .into_iter()
        .filter(|root| names.contains(&root.name))
        .filter_map(|root| standing(store, definition, root).err())
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Report::several(errors)) }
}

/// The root that an argument names, or an error with the nearest name.
pub fn one_root<'a>(definition: &'a Definition, name: &str) -> Result<&'a crate::definition::Root, Report> {
    definition.select(std::slice::from_ref(&name.to_owned()))?;
    Ok(crate::engine::known_root(definition, name))
}

impl Cli {
    /// Does what was asked and returns the exit code; errors go to stderr.
    #[must_use]
    pub fn run(&self) -> u8 {
        let global = &self.global;
        let result = match &self.command {
            Command::Init(arguments) => init::run(global, arguments),
            Command::Provision(arguments) => provision::run(global, arguments),
            Command::Plan(arguments) => plan::run(global, arguments),
            Command::Explain(arguments) => explain::run(global, arguments),
            Command::List(arguments) => list::run(global, arguments),
            Command::Show(arguments) => show::run(global, arguments),
            Command::Log(arguments) => log::run(global, arguments),
            Command::Shell(arguments) => shell::run(global, arguments),
            Command::Sbom(arguments) => sbom::run(global, arguments),
            Command::Units(arguments) => units::run(global, arguments),
            Command::Up(arguments) => up::run(global, arguments),
            Command::Down(arguments) => down::run(global, arguments),
            Command::Status(arguments) => status::run(global, arguments),
            Command::Restart(arguments) => restart::run(global, arguments),
            Command::Rollback(arguments) => rollback::run(global, arguments),
            Command::Logs(arguments) => logs::run(global, arguments),
            Command::Exec(arguments) => exec::run(global, arguments),
            Command::Lock(arguments) => lock::run(global, arguments),
            Command::Pin(arguments) => pin::pin(global, arguments),
            Command::Unpin(arguments) => pin::unpin(global, arguments),
            Command::Cache(arguments) => cache::run(global, arguments),
            Command::Bazel(arguments) => bazel::run(global, arguments),
            Command::Doctor(arguments) => doctor::run(global, arguments),
            Command::Completion(arguments) => completion::run(global, arguments),
        };
        result.unwrap_or_else(|report| {
            report.print(global.json);
            report.exit_code()
        })
    }
}
