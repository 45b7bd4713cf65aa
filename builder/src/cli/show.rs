//! `rootbuild show`: what a root is made of.

use std::fmt::Write as _;

use clap::Args;
use rootbuild_cache::{Kind, Tree};
use rootbuild_roots::checkout::Areas;
use rootbuild_roots::scrub;
use serde_json::{Value, json};

use super::{Global, out};
use crate::event::LayerStatus;
use crate::render::Report;
use crate::{exit, generation};

/// Arguments of `rootbuild show`.
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
    let not_yet = || super::not_provisioned(root);
    let store = global.store_read_only()?.ok_or_else(not_yet)?;
    let published = super::standing(&store, &definition, root)?.ok_or_else(not_yet)?;
    let made_of = generation::newest(&store, &definition.path)
        .and_then(|mut generation| generation.roots.remove(&root.name))
        .filter(|made| made.tree == published.tree);
    let size = Size::of(&store.tree(&published.tree)?);
    let layers: Vec<_> = made_of
        .map(|made| made.layers)
        .unwrap_or_default()
        .into_iter()
        .map(|layer| (layer.record(&store), layer))
        .collect();
    let dropped: Vec<String> = scrub::RULES.iter().map(ToString::to_string).collect();

    if global.json {
        let layers: Vec<Value> = layers
            .iter()
            .map(|(record, layer)| {
                json!({
                    "step": layer.step,
                    "key": layer.key,
                    "tree": layer.tree,
                    "created": record.as_ref().map(|record| &record.created),
                    "status": record.as_ref().map(|record| status(&record.facts)),
                    "seconds": record.as_ref().map(|record| record.seconds),
                    "facts": record.as_ref().map(|record| facts(&record.facts)),
                })
            })
            .collect();
        out::json(&json!({
                "name": root.name, "tree": published.tree, "path": published.path.to_string_lossy(),
                "checkout": published.checkout.to_string_lossy(), "created": published.created,
                "host": root.host.value, "entries": size.entries, "files": size.files, "bytes": size.bytes,
                "layers": layers, "dropped": dropped,
                "private": published.private.as_ref().map(|private| paths(private).collect::<Vec<_>>()),
        }))?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    let _ = writeln!(text, "root      {}", root.name);
    let _ = writeln!(text, "tree      {}", published.tree);
    let _ = writeln!(text, "path      {}", published.path.display());
    let _ = writeln!(text, "host      {}", root.host.value);
    let _ = writeln!(text, "created   {}", published.created);
    let _ = writeln!(
        text,
        "content   {} entries, {} files, {}",
        size.entries,
        size.files,
        indicatif::HumanBytes(size.bytes)
    );
    if let Some(private) = &published.private {
        let _ = writeln!(
            text,
            "private   {}; all else may be shared with other roots: keep it read-only to services",
            paths(private).collect::<Vec<_>>().join(" ")
        );
    }
    let known = if layers.is_empty() { "    not known: another definition handed it over last" } else { "" };
    let _ = writeln!(text, "layers{known}");
    let standing_on = definition.parent(root);
    let base_step = format!("base:{}", root.base.value);
    for (record, layer) in layers {
        if let Some(below) = standing_on.filter(|_| layer.step == base_step) {
            let _ = writeln!(
                text,
                "  {}  b3:{}  the tree of root `{}`",
                layer.step,
                layer.tree.short(),
                below.name
            );
            continue;
        }
        let Some(record) = record else {
            let _ = writeln!(text, "  {}  b3:{}", layer.step, layer.tree.short());
            continue;
        };
        let facts = &record.facts;
        let tasks = tasks(facts);
        let packages =
            facts["packages"].as_array().map(|list| format!(", {} packages", list.len())).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}  b3:{}  {:.1} s{tasks}{packages}",
            layer.step,
            layer.tree.short(),
            record.seconds
        );
        for service in facts["deferred"].as_array().into_iter().flatten() {
            let field = |name: &str| service[name].as_str().unwrap_or("?").to_owned();
            let _ = writeln!(
                text,
                "    service `{}`: `{}` is left to its unit",
                field("service"),
                field("state")
            );
        }
    }
    if !global.quiet {
        text.push_str(&dropped_in_words());
    }
    out::text(&text)?;
    Ok(exit::OK)
}

/// The private areas of a root, from its top.
fn paths(private: &Areas) -> impl Iterator<Item = String> {
    private.paths().map(|path| format!("/{}", String::from_utf8_lossy(path)))
}

/// How a layer came when its record was made.
fn status(facts: &Value) -> LayerStatus {
    let number = |name: &str| facts["replay"][name].as_u64().unwrap_or(0);
    let whole = number("answered") > 0 && number("live") == 0 && number("resent") == 0;
    if whole { LayerStatus::Replayed } else { LayerStatus::Built }
}

/// The tasks of a layer in words, and what journals had to do with them.
fn tasks(facts: &Value) -> String {
    let Some(tasks) = facts["tasks"].as_u64() else { return String::new() };
    let replayed = facts["tasks_replayed"].as_u64().unwrap_or(0);
    match status(facts) {
        LayerStatus::Replayed => format!(", {tasks} tasks, all replayed"),
        _ if replayed > 0 => format!(", {tasks} tasks, {replayed} of them replayed"),
        _ => format!(", {tasks} tasks"),
    }
}

/// The facts of a record that are for people: not where copies of its inputs lie.
fn facts(facts: &Value) -> Value {
    let mut facts = facts.clone();
    if let Value::Object(map) = &mut facts {
        for internal in ["contents", "first_use"] {
            map.remove(internal);
        }
    }
    facts
}

/// What is dropped before a root is captured, by reason.
fn dropped_in_words() -> String {
    let mut text = "dropped before capture\n".to_owned();
    let mut reasons: Vec<&str> = Vec::new();
    for rule in scrub::RULES {
        if !reasons.contains(&rule.reason) {
            reasons.push(rule.reason);
        }
    }
    for reason in reasons {
        let _ = writeln!(text, "  {reason}:");
        let paths: Vec<String> = scrub::RULES
            .iter()
            .filter(|rule| rule.reason == reason)
            .map(|rule| match rule.action {
                scrub::Action::EmptyDirectory => format!("{}/*", rule.path),
                scrub::Action::Remove => rule.path.to_owned(),
                scrub::Action::RemoveIfEmpty => format!("{} (where empty)", rule.path),
                scrub::Action::EmptyFile => format!("{} (made empty)", rule.path),
            })
            .collect();
        for line in paths.chunks(3) {
            let _ = writeln!(text, "    {}", line.join("  "));
        }
    }
    text
}

/// How big a tree is.
struct Size {
    entries: usize,
    files: usize,
    bytes: u64,
}

impl Size {
    fn of(tree: &Tree) -> Self {
        let mut size = Self { entries: tree.entries().len(), files: 0, bytes: 0 };
        for entry in tree.entries() {
            if let Kind::File { size: bytes, .. } = entry.kind {
                size.files += 1;
                size.bytes += bytes;
            }
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_journals_had_to_do_with_a_layer_is_told() {
        let facts = |tasks_replayed: u64, live: u64| json!({"tasks": 5, "tasks_replayed": tasks_replayed, "replay": {"answered": tasks_replayed, "live": live, "resent": 0}});
        assert_eq!(tasks(&json!({"tasks": 5})), ", 5 tasks");
        assert_eq!(tasks(&facts(0, 9)), ", 5 tasks");
        assert_eq!(tasks(&facts(3, 2)), ", 5 tasks, 3 of them replayed");
        assert_eq!(tasks(&facts(5, 0)), ", 5 tasks, all replayed");
        assert_eq!(tasks(&json!({"packages": []})), "");
    }
}
