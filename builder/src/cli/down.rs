//! `rootbuild down`: roots stop, and their units go.

use clap::Args;
use rootbuild_handoff::{self as handoff, Manager, Told};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

use super::handing::{self, Patience, Project};
use super::{Global, events, out};
use crate::event::Event;
use crate::exit;
use crate::render::Report;

/// Arguments of `rootbuild down`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to stop [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// Have them not come up at boot any more: nothing of them is left on the host but their `state`
    #[arg(long, env = "ROOTBUILD_DISABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub disable: bool,

    /// Whom to wait for.
    #[command(flatten)]
    pub patience: Patience,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let project = Project::open(global, "rootbuild down")?;
    let asked = super::asked_for(&project.definition, &arguments.roots)?;
    let names: Vec<&str> = asked.iter().map(|root| root.name.as_str()).collect();
    let sink = events::sinks(global, &names, Vec::new())?;
    let _lock = project.lock(global, &arguments.patience, "stopping roots")?;
    let roots: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sink.event(&Event::Started { roots: roots.clone() });
    let (telling, start) = (Arc::clone(&sink), Instant::now());
    let (store, disable) = (&project.store, arguments.disable);
    let left = handing::run(&sink, |cancel| async move {
        let manager = Manager::system().await?;
        let mut told = move |it: Told| telling.event(&handing::event(it));
        let left = handoff::down(&manager, &roots, &cancel, &mut told).await?;
        let stopped: Vec<String> =
            left.iter().filter(|(_, left)| left.is_empty()).map(|(root, _)| root.clone()).collect();
        handoff::uninstall(store, &manager, &stopped, disable).await?;
        Ok(left)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    for (root, left) in &left {
        sink.event(&Event::UnitsSettled {
            root: root.clone(),
            action: "stop",
            state: if left.is_empty() { "down" } else { "failed" },
            checkout: 0,
            restarted: Vec::new(),
            seconds,
        });
    }
    sink.event(&Event::Finished { seconds });
    if global.json {
        let roots: Vec<_> = left
            .iter()
            .map(|(name, left)| {
                json!({ "name": name, "state": if left.is_empty() { "down" } else { "failed" },
                        "left": left.iter().map(|it| &it.unit).collect::<Vec<_>>() })
            })
            .collect();
        out::json(&json!({ "roots": roots }))?;
    }
    let reports: Vec<Report> = left
        .iter()
        .flat_map(|(root, left)| {
            left.iter().map(move |it| {
                Report::failed(format!("`{}` of root `{root}` doesn't stop: {}", it.unit, it.reason))
                    .hint(format!("`systemctl status {}` shows why", it.unit))
            })
        })
        .collect();
    if reports.is_empty() { Ok(exit::OK) } else { Err(Report::several(reports)) }
}
