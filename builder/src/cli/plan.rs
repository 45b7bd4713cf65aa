//! `rootbuild plan`: what a provision would do, and why.

use std::collections::HashSet;
use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::forcing::Forcing;
use super::{Global, out, reasons};
use crate::exit;
use crate::plan::{PlannedLayer, PlannedRoot, Planner};
use crate::render::{Report, count};
use crate::sinks::words;

/// How many lines of a diff are shown; `explain` shows all.
const DIFF_LINES: usize = 12;

/// Arguments of `rootbuild plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to plan [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,

    /// End with exit code 5 when anything would be built
    #[arg(long, env = "ROOTBUILD_DETAILED_EXITCODE", value_parser = clap::builder::FalseyValueParser::new())]
    pub detailed_exitcode: bool,

    /// What would be built whatever is known of it.
    #[command(flatten)]
    pub forcing: Forcing,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let forced = arguments.forcing.resolve(&definition, &arguments.roots)?;
    let store = global.store_read_only()?;
    let mut planner = Planner::new(&definition, store.as_ref(), forced);
    let mut plans = Vec::new();
    for root in super::asked_for(&definition, &arguments.roots)? {
        plans.push(planner.plan(&root.name).map_err(|error| Report::from_step(&root.name, None, &error))?);
    }
    let work = Work::of(&plans);
    if global.json {
        let roots: Vec<_> = plans
            .iter()
            .map(|plan| {
                let layers: Vec<_> = plan.layers.iter().map(layer_json).collect();
                json!({ "name": plan.name, "layers": layers })
            })
            .collect();
        out::json(&json!({ "roots": roots, "seconds": work.seconds }))?;
    } else {
        let mut text: String = plans.iter().map(|plan| told(plan, global.quiet)).collect();
        if !global.quiet {
            text.push_str(&work.in_words(plans.len()));
        }
        if plans.iter().flat_map(|plan| &plan.layers).any(|layer| layer.hidden) {
            text.push_str("what files held is for root alone: as root, `rootbuild plan` shows it as diffs\n");
        }
        out::text(&text)?;
    }
    let builds = plans.iter().any(PlannedRoot::builds);
    Ok(if builds && arguments.detailed_exitcode { exit::DIFFERENCES } else { exit::OK })
}

pub(super) fn layer_json(layer: &PlannedLayer) -> serde_json::Value {
    json!({
        "step": layer.step,
        "status": if layer.tree.is_some() { "cached" } else { "build" },
        "certain": layer.tree.is_some() || layer.certain,
        "tree": layer.tree,
        "reasons": layer.reasons,
        "from": layer.reach,
        "seconds": layer.seconds,
    })
}

/// What there is to do in all: layers that roots share are built once.
#[derive(Debug, Default)]
struct Work {
    layers: usize,
    /// Of the layers of which it is known.
    seconds: f64,
    /// Layers of which it isn't.
    unknown: usize,
}

impl Work {
    fn of(plans: &[PlannedRoot]) -> Self {
        let mut work = Self::default();
        let mut seen = HashSet::new();
        for layer in plans.iter().flat_map(|plan| &plan.layers) {
            // The tree of another root is that root's work.
            let lent = layer.reasons.iter().all(|reason| reason.subject.starts_with("root "));
            if layer.tree.is_some() || (lent && !layer.reasons.is_empty()) {
                continue;
            }
            if !seen.insert((layer.key, &layer.step)) {
                continue;
            }
            work.layers += 1;
            match layer.seconds {
                Some(seconds) => work.seconds += seconds,
                None => work.unknown += 1,
            }
        }
        work
    }

    fn in_words(&self, roots: usize) -> String {
        if self.layers == 0 || (roots < 2 && self.layers < 2) {
            return String::new();
        }
        let layers = count(self.layers, "layer");
        let about = words::seconds(self.seconds);
        match (self.layers - self.unknown, self.unknown) {
            (0, _) => format!("{layers} to build\n"),
            (_, 0) => format!("{layers} to build, about {about} of work\n"),
            (_, unknown) => {
                format!("{layers} to build, about {about} of work and {unknown} never built yet\n")
            }
        }
    }
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
        text.push_str(&layer_told(layer, DIFF_LINES));
    }
    text
}

/// A layer in words, with its reasons and `most` lines of each diff.
pub(super) fn layer_told(layer: &PlannedLayer, most: usize) -> String {
    let mut text = String::new();
    if layer.tree.is_some() {
        let _ = writeln!(text, "  cached  {}", layer.step);
        return text;
    }
    let outlook = reasons::outlook(layer.reach.as_ref(), layer.seconds);
    let outlook = outlook.map(|outlook| format!("  ({outlook})")).unwrap_or_default();
    let _ = writeln!(text, "  build   {}{outlook}", layer.step);
    for reason in &layer.reasons {
        let _ = writeln!(text, "            {}", reasons::planned(reason, layer.certain));
        if let Some(diff) = &reason.diff {
            text.push_str(&reasons::diff(diff, "              ", most));
        }
    }
    text
}
