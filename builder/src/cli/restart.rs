//! `rootbuild restart`: what runs is started anew, as it is.

use clap::Args;
use rootbuild_handoff::Options;
use rootbuild_roots::publish::running;
use rootbuild_roots::units::Host;

use super::Global;
use super::handing::{self, Patience, Project};
use crate::render::Report;

/// Arguments of `rootbuild restart`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to restart [default: all that run]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// Whom to wait for.
    #[command(flatten)]
    pub patience: Patience,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let project = Project::open(global, "rootbuild restart")?;
    let asked = super::asked_for(&project.definition, &arguments.roots)?;
    let host = Host::detect()?;
    let _lock = project.lock(global, &arguments.patience, "restarting roots")?;
    let mut handed = Vec::new();
    let names: Vec<&str> = asked.iter().map(|root| root.name.as_str()).collect();
    for root in handing::only_in_order(&project.definition, &names) {
        match running::running(&project.store, &root.name)? {
            Some(published) => handed.push(project.handed(global, root, published, host)?),
            None if arguments.roots.is_empty() => {}
            None => return Err(handing::not_running(&root.name)),
        }
    }
    let options = Options { enable: false, rollback: false, restart: true };
    handing::bring(global, &project, handed, options)
}
