//! `rootbuild plan`: what a provision would do, and why.

use clap::Args;
use serde_json::json;

use super::Global;
use crate::exit;
use crate::plan::{PlannedLayer, PlannedRoot, Planner};
use crate::render::Report;

/// Arguments of `rootbuild plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to plan [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// End with exit code 5 when anything would be built
    #[arg(long, env = "ROOTBUILD_DETAILED_EXITCODE", value_parser = clap::builder::FalseyValueParser::new())]
    pub detailed_exitcode: bool,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let store = global.store_read_only()?;
    let mut planner = Planner::new(&definition, store.as_ref());
    let mut plans = Vec::new();
    for root in super::asked_for(&definition, &arguments.roots)? {
        plans.push(planner.plan(&root.name).map_err(|error| Report::from_step(&root.name, None, &error))?);
    }
    if global.json {
        let roots: Vec<_> = plans
            .iter()
            .map(|plan| {
                let layers: Vec<_> = plan.layers.iter().map(layer_json).collect();
                json!({ "name": plan.name, "layers": layers })
            })
            .collect();
        println!("{}", json!({ "roots": roots }));
    } else {
        for plan in &plans {
            print(plan, global.quiet);
        }
    }
    let builds = plans.iter().any(PlannedRoot::builds);
    Ok(if builds && arguments.detailed_exitcode { exit::DIFFERENCES } else { exit::OK })
}

fn layer_json(layer: &PlannedLayer) -> serde_json::Value {
    json!({
        "step": layer.step,
        "status": if layer.tree.is_some() { "cached" } else { "build" },
        "tree": layer.tree,
        "reasons": layer.reasons,
        "seconds": layer.seconds,
    })
}

fn print(plan: &PlannedRoot, quiet: bool) {
    let cached = plan.layers.iter().filter(|layer| layer.tree.is_some()).count();
    let build = plan.layers.len() - cached;
    if build == 0 {
        if !quiet {
            anstream::println!("{}: nothing to do, {cached} layers cached", plan.name);
        }
        return;
    }
    anstream::println!("{}: {build} to build, {cached} cached", plan.name);
    for layer in &plan.layers {
        let state = if layer.tree.is_some() { "cached" } else { "build " };
        anstream::println!("  {state}  {}", layer.step);
        for reason in &layer.reasons {
            anstream::println!("            {}", sentence(reason));
        }
    }
}

/// A reason in words.
fn sentence(reason: &crate::engine::lookup::Reason) -> String {
    let subject = &reason.subject;
    match reason.kind {
        "new" => "not built yet like this".into(),
        "file" if reason.old.is_some() => format!("`{subject}` has changed"),
        "file" => subject.clone(),
        "appeared" => format!("`{subject}` is new"),
        "vanished" => format!("`{subject}` is gone"),
        "parent" => format!("the layer below ({subject}) has to be built first"),
        "lost" => "its tree is no longer in the store".into(),
        other => format!("{other}: {subject}"),
    }
}
