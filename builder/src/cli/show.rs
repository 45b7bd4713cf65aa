//! `rootbuild show`: what a root is made of.

use clap::Args;
use rootbuild_cache::{Kind, Tree};
use rootbuild_roots::{publish, scrub};
use serde_json::{Value, json};

use super::Global;
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
    let not_yet = || {
        Report::failed(format!("root `{}` isn't provisioned yet", root.name))
            .hint(format!("run `rootbuild provision {}`", root.name))
    };
    let store = global.store_read_only()?.ok_or_else(not_yet)?;
    let published = publish::current(&store, &root.name)?.ok_or_else(not_yet)?;
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
                    "seconds": record.as_ref().map(|record| record.seconds),
                    "facts": record.as_ref().map(|record| &record.facts),
                })
            })
            .collect();
        println!(
            "{}",
            json!({
                "name": root.name, "tree": published.tree, "path": published.path,
                "checkout": published.checkout, "created": published.created,
                "host": root.host, "entries": size.entries, "files": size.files, "bytes": size.bytes,
                "layers": layers, "dropped": dropped,
            })
        );
        return Ok(exit::OK);
    }
    anstream::println!("root      {}", root.name);
    anstream::println!("tree      {}", published.tree);
    anstream::println!("path      {}", published.path.display());
    anstream::println!("host      {}", root.host);
    anstream::println!("created   {}", published.created);
    anstream::println!(
        "content   {} entries, {} files, {}",
        size.entries,
        size.files,
        indicatif::HumanBytes(size.bytes)
    );
    anstream::println!("layers");
    for (record, layer) in layers {
        let Some(record) = record else {
            anstream::println!("  {}  b3:{}", layer.step, layer.tree.short());
            continue;
        };
        let facts = &record.facts;
        let tasks = facts["tasks"].as_u64().map(|tasks| format!(", {tasks} tasks")).unwrap_or_default();
        let packages =
            facts["packages"].as_array().map(|list| format!(", {} packages", list.len())).unwrap_or_default();
        anstream::println!(
            "  {}  b3:{}  {:.1} s{tasks}{packages}",
            layer.step,
            layer.tree.short(),
            record.seconds
        );
        for service in facts["deferred"].as_array().into_iter().flatten() {
            let text = |name: &str| service[name].as_str().unwrap_or("?").to_owned();
            anstream::println!("    service `{}`: `{}` is left to its unit", text("service"), text("state"));
        }
    }
    anstream::println!("dropped before capture");
    for rule in dropped {
        anstream::println!("  {rule}");
    }
    Ok(exit::OK)
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
