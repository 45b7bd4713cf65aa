//! `rootbuild plan`: what a provision would do, and why.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{Global, out};
use crate::exit;
use crate::plan::{PlannedLayer, PlannedRoot, Planner};
use crate::render::{Report, count};

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
        out::json(&json!({ "roots": roots }))?;
    } else {
        let text: String = plans.iter().map(|plan| told(plan, global.quiet)).collect();
        out::text(&text)?;
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

/// A plan in words; with `quiet` nothing of roots that are as they should be.
fn told(plan: &PlannedRoot, quiet: bool) -> String {
    let cached = plan.layers.iter().filter(|layer| layer.tree.is_some()).count();
    let build = plan.layers.len() - cached;
    if build == 0 {
        let all = count(cached, "layer");
        return if quiet { String::new() } else { format!("{}: nothing to do, {all} cached\n", plan.name) };
    }
    let mut text = format!("{}: {build} to build, {cached} cached\n", plan.name);
    for layer in &plan.layers {
        let state = if layer.tree.is_some() { "cached" } else { "build " };
        let _ = writeln!(text, "  {state}  {}", layer.step);
        for reason in &layer.reasons {
            let _ = writeln!(text, "            {}", sentence(reason));
        }
    }
    text
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
