//! `rootbuild explain`: how each layer of a root came, and what a provision would do with it now.

use std::fmt::Write as _;

use clap::Args;
use rootbuild_cache::Record;
use serde_json::{Value, json};

use super::{Global, out, plan, reasons};
use crate::engine::Forced;
use crate::engine::history::Made;
use crate::event::LayerStatus;
use crate::exit;
use crate::plan::{PlannedLayer, Planner};
use crate::render::{Report, clean};
use crate::sinks::words;

/// Arguments of `rootbuild explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The root
    #[arg(value_name = "ROOT")]
    pub root: String,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let root = super::one_root(&definition, &arguments.root)?;
    let store = global.store_read_only()?;
    let mut planner = Planner::new(&definition, store.as_ref(), Forced::default());
    let planned = planner.plan(&root.name).map_err(|error| Report::from_step(&root.name, None, &error))?;
    if global.json {
        let layers: Vec<Value> = planned.layers.iter().map(layer_json).collect();
        out::json(&json!({ "name": root.name, "layers": layers }))?;
        return Ok(exit::OK);
    }
    let mut text = format!("{}\n", root.name);
    let mut diffs = plan::Diffs::new(usize::MAX - 2);
    for layer in &planned.layers {
        text.push_str(&plan::layer_told(layer, &mut diffs));
        for line in came(layer) {
            let _ = writeln!(text, "            {}", clean(&line).replace('\n', " "));
        }
    }
    if planned.layers.iter().any(|layer| layer.hidden) {
        text.push_str("what files held is for root alone: as root, `rootbuild explain` shows it as diffs\n");
    }
    out::text(&text)?;
    Ok(exit::OK)
}

fn layer_json(layer: &PlannedLayer) -> Value {
    let mut object = plan::layer_json(layer);
    let latest = layer.latest.as_ref();
    object["last"] = json!({
        "made": latest.and_then(|latest| latest.made.as_ref()),
        "made_for": latest.and_then(|latest| latest.made_for.as_ref()),
        "recorded": layer.record.as_ref().map(|record| &record.created),
        "seconds": layer.record.as_ref().map(|record| record.seconds),
        "tasks": layer.record.as_ref().map(|record| record.facts["tasks"].clone()),
        "replay": layer.record.as_ref().map(|record| record.facts["replay"].clone()),
    });
    object
}

/// How the layer came that is there, or the latest one, line by line.
fn came(layer: &PlannedLayer) -> Vec<String> {
    let mut lines = Vec::new();
    let latest = layer.latest.as_ref();
    let made = latest.and_then(|latest| latest.made.as_ref());
    match (made, &layer.record) {
        (Some(made), _) => {
            lines.push(format!("{} at {}", how(made), minute(&made.at)));
            lines.extend(made.reasons.iter().map(|told| format!("  why: {}", reasons::sentence(told))));
        }
        (None, Some(record)) => {
            let took = words::seconds(record.seconds);
            lines.push(format!("built in {took} at {}", minute(&record.created)));
        }
        (None, None) => {}
    }
    if let Some(owner) = latest.and_then(|latest| latest.made_for.as_ref()) {
        lines.push(format!("  for root `{owner}`, which has this layer too: `rootbuild explain {owner}`"));
    }
    if let Some(record) = &layer.record {
        lines.extend(replay(record));
    }
    lines
}

/// What the journal had to do with it.
fn replay(record: &Record) -> Vec<String> {
    let replay = &record.facts["replay"];
    let mut lines = Vec::new();
    let diverged = &replay["diverged"];
    if let Some(task) = diverged["task"].as_str() {
        let source = diverged["source"].as_str().map(|source| format!(" ({source})")).unwrap_or_default();
        let why = diverged["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("  ran in the root from task `{task}`{source} on{why}"));
    }
    if let Some(why) = replay["journal_ended"].as_str() {
        lines.push(format!("  can be replayed only in part: {why}"));
    }
    lines
}

fn how(made: &Made) -> String {
    let text = words::layer(made.status, made.tasks_run, made.tasks_replayed, made.seconds);
    if made.status == LayerStatus::Cached { "found".to_owned() } else { text }
}

/// `2026-01-02T03:04:05.678Z` as `2026-01-02 03:04 UTC`.
fn minute(timestamp: &str) -> String {
    match (timestamp.get(..10), timestamp.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_told_to_the_minute() {
        assert_eq!(super::minute("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04 UTC");
        assert_eq!(super::minute("never"), "never");
    }
}
