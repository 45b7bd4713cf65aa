//! `rootbuild up`: roots run as units of this host.

use std::thread::ScopedJoinHandle;

use clap::Args;
use rootbuild_handoff::{Manager, Options};
use rootbuild_roots::units::Host;

use super::handing::{self, Patience, Project};
use super::{Global, events, not_provisioned, standing};
use crate::exit;
use crate::render::Report;

/// Arguments of `rootbuild up`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to run [default: all of the definition but those with `start = false`]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// Have them come up at boot from now on
    #[arg(long, env = "ROOTBUILD_ENABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub enable: bool,

    /// Leave a root that doesn't come up as it is, instead of going back to what ran before
    #[arg(long, env = "ROOTBUILD_NO_ROLLBACK", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_rollback: bool,

    /// Whom to wait for.
    #[command(flatten)]
    pub patience: Patience,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let project = Project::open(global, "rootbuild up")?;
    let Project { definition, store } = &project;
    let names = super::asked_for(definition, &arguments.roots)?;
    let all = arguments.roots.is_empty();
    let names: Vec<&str> =
        names.into_iter().filter(|root| !all || root.run.start).map(|root| root.name.as_str()).collect();
    let roots = handing::in_order(definition, &names);
    // Whether there is anybody to hand roots to, before anything is done.
    handing::run(&events::sinks(global, &[], Vec::new())?, |_| async { Manager::system().await.map(drop) })?;
    let host = Host::detect()?;
    let _lock = project.lock(global, &arguments.patience, "starting roots")?;
    let (mut handed, mut errors) = (Vec::new(), Vec::new());
    let lift = &|root| match standing(store, definition, root)? {
        Some(published) => project.handed(global, root, published, host),
        None => Err(not_provisioned(root)),
    };
    // Each is looked through for itself, and may have generators to run.
    let lifted = std::thread::scope(|scope| {
        let threads: Vec<_> = roots.into_iter().map(|root| scope.spawn(move || lift(root))).collect();
        threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for lifted in lifted {
        match lifted.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // Nothing to run; but what others start after it is right to.
            Ok(it) if it.lifted.started.is_empty() && all => {}
            Ok(it) if it.lifted.started.is_empty() => {
                let report = Report::failed(format!("root `{}` has no services that could run", it.name));
                errors.push(
                    report.hint(format!(
                        "`rootbuild units {}` tells what can't be taken over, and why",
                        it.name
                    )),
                );
            }
            Ok(it) => handed.push(it),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(Report::several(errors));
    }
    if handed.is_empty() {
        if !global.quiet {
            anstream::eprintln!("no root has services: there is nothing to run");
        }
        if global.json {
            super::out::json(&serde_json::json!({ "roots": [], "seconds": 0.0 }))?;
        }
        return Ok(exit::OK);
    }
    let options = Options { enable: arguments.enable, rollback: !arguments.no_rollback, restart: false };
    handing::bring(global, &project, handed, options)
}
