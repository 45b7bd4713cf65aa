//! `rootbuild plan`: what a provision would do, and why.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::forcing::Forcing;
use super::{Global, out, reasons, srcs};
use crate::engine::lookup::Reason;
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

    /// Print instead which files roots read, by what is known of them, as `srcs` of the Bazel rules
    #[arg(long)]
    pub bazel: bool,

    /// With --bazel: end with exit code 5 where RECIPE, an output of the rule, doesn't declare all of them
    #[arg(long, value_name = "RECIPE", requires = "bazel")]
    pub check: Option<PathBuf>,

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
    if let Some(recipe) = &arguments.check {
        return srcs::check(global, &definition, &plans, recipe);
    }
    if arguments.bazel {
        return srcs::print(global, &definition, &plans);
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
        let mut diffs = Diffs::new(DIFF_LINES);
        let mut text: String = plans.iter().map(|plan| told(plan, global.quiet, &mut diffs)).collect();
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
fn told(plan: &PlannedRoot, quiet: bool, diffs: &mut Diffs) -> String {
    let cached = plan.layers.iter().filter(|layer| layer.tree.is_some()).count();
    let build = plan.layers.len() - cached;
    if build == 0 {
        let all = count(cached, "layer");
        return if quiet { String::new() } else { format!("{}: nothing to do, {all} cached\n", plan.name) };
    }
    let mut text = format!("{}: {build} to build, {cached} cached\n", plan.name);
    for layer in &plan.layers {
        text.push_str(&layer_told(layer, diffs));
    }
    text
}

/// The diffs that were shown: roots and layers change for the same reasons, and each is shown once.
pub(super) struct Diffs {
    /// How many lines of each.
    most: usize,
    shown: HashSet<(String, String)>,
}

impl Diffs {
    /// None shown yet; of each at most `most` lines will be.
    pub(super) fn new(most: usize) -> Self {
        Self { most, shown: HashSet::new() }
    }

    /// The lines below a reason, unless they were shown before.
    fn below(&mut self, reason: &Reason) -> String {
        let Some(diff) = &reason.diff else { return String::new() };
        let is_new = self.shown.insert((reason.subject.clone(), diff.clone()));
        if is_new { reasons::diff(diff, "              ", self.most) } else { String::new() }
    }
}

/// A layer in words, with its reasons.
pub(super) fn layer_told(layer: &PlannedLayer, diffs: &mut Diffs) -> String {
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
        text.push_str(&diffs.below(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::{Digest, LayerKey};

    use super::*;
    use crate::plan::Reach;

    fn layer(step: &str, tree: Option<&str>, reasons: Vec<Reason>) -> PlannedLayer {
        PlannedLayer {
            step: step.to_owned(),
            key: Some(LayerKey(Digest::of(step.as_bytes()))),
            tree: tree.map(|tree| Digest::of(tree.as_bytes())),
            reasons,
            certain: true,
            ..PlannedLayer::default()
        }
    }

    fn plans() -> Vec<PlannedRoot> {
        let diff = Some("@@ -1 +1 @@\n-Listen 80\n+Listen \u{1b}[31m8080\n".to_owned());
        let file = Reason { diff, ..Reason::new("file", "roles/web/templates/web.j2") };
        let mut web = layer("web.yml", None, vec![file.clone()]);
        web.reach = Some(Reach { role: Some("web".into()), task: Some(31), of: Some(40) });
        web.seconds = Some(12.0);
        let above = PlannedLayer {
            certain: false,
            seconds: Some(70.0),
            ..layer("top.yml", None, vec![Reason::new("parent", "web.yml")])
        };
        let root = |name: &str, layers| PlannedRoot { name: name.to_owned(), layers };
        vec![
            root("a", vec![layer("base:el7", Some("x"), Vec::new()), web.clone(), above]),
            root("b", vec![layer("base:el7", Some("x"), Vec::new()), web]),
            root("c", vec![layer("base:el7", Some("x"), Vec::new())]),
            root("d", vec![layer("base:new", None, vec![Reason::new("new", "base:new")])]),
            root("e", vec![layer("base:on", None, vec![Reason::new("parent", "root d")])]),
        ]
    }

    fn text(quiet: bool) -> String {
        let mut diffs = Diffs::new(DIFF_LINES);
        let text: String = plans().iter().map(|plan| told(plan, quiet, &mut diffs)).collect();
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_plan_is_told_with_reasons_and_each_diff_once() {
        let plans = plans();
        insta::assert_snapshot!(format!("{}{}", text(false), Work::of(&plans).in_words(plans.len())));
        assert!(!text(true).contains("nothing to do"));
    }

    #[test]
    fn layers_that_roots_share_are_counted_once() {
        let work = Work::of(&plans());
        assert_eq!((work.layers, work.unknown), (3, 1));
        assert!((work.seconds - 82.0).abs() < f64::EPSILON);
    }
}
