//! `rootbuild pin` and `rootbuild unpin`: trees that stay whatever else goes.

use clap::Args;
use rootbuild_cache::pins::{Pin, is_name};
use rootbuild_cache::{Digest, Store};
use rootbuild_roots::publish;
use serde_json::json;

use super::{Global, out};
use crate::exit;
use crate::generation;
use crate::render::Report;

/// Arguments of `rootbuild pin`.
#[derive(Debug, Args)]
pub struct PinArguments {
    /// A name for it: letters, digits, `_`, `.` and `-`
    #[arg(value_name = "NAME")]
    pub name: String,

    /// What to keep: a tree (`b3:…`), a root as it stands, or `ROOT@N`, as it was N generations before
    #[arg(value_name = "TREE|ROOT[@N]")]
    pub what: String,
}

/// Arguments of `rootbuild unpin`.
#[derive(Debug, Args)]
pub struct UnpinArguments {
    /// The names that were given with `pin`
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// Runs `rootbuild pin`.
pub fn pin(global: &Global, arguments: &PinArguments) -> Result<u8, Report> {
    let PinArguments { name, what } = arguments;
    if !is_name(name) {
        return Err(Report::usage(format!("`{}` can't be a pin's name", name.escape_debug()))
            .hint("letters, digits, `_`, `.` and `-`, at most 100, the first a letter or digit"));
    }
    let store = super::cache::existing(global, "rootbuild pin")?;
    let (tree, words) = resolve(global, &store, what)?;
    let created = jiff::Timestamp::now().to_string();
    if !store.has_tree(&tree) {
        return Err(Report::usage(format!("tree `{tree}` isn't in the store")));
    }
    store.pin(name, &Pin { tree, what: words.clone(), created })?;
    if global.json {
        out::json(&json!({ "name": name, "tree": tree, "what": words }))?;
    } else if !global.quiet {
        out::text(&format!("pinned {words} as `{name}`: {tree}\n"))?;
    }
    Ok(exit::OK)
}

/// Runs `rootbuild unpin`.
pub fn unpin(global: &Global, arguments: &UnpinArguments) -> Result<u8, Report> {
    let store = super::cache::existing(global, "rootbuild unpin")?;
    let known = store.pins()?;
    let unknown: Vec<Report> = arguments
        .names
        .iter()
        .filter(|name| !known.iter().any(|(pin, _)| pin == *name))
        .map(|name| {
            let report = Report::usage(format!("nothing is pinned as `{}`", name.escape_debug()));
            match crate::definition::nearest(name, known.iter().map(|(pin, _)| pin.as_str())) {
                Some(near) => report.hint(format!("did you mean `{near}`?")),
                None => report.hint("`rootbuild cache size` lists pins"),
            }
        })
        .collect();
    if !unknown.is_empty() {
        return Err(Report::several(unknown));
    }
    for name in &arguments.names {
        store.unpin(name)?;
    }
    Ok(exit::OK)
}

/// The tree that is meant, and what it is in words.
fn resolve(global: &Global, store: &Store, what: &str) -> Result<(Digest, String), Report> {
    if what.starts_with("b3:") {
        let tree = what.parse().map_err(|_| Report::usage(format!("`{what}` is no digest")))?;
        return Ok((tree, "a tree".to_owned()));
    }
    let (root, back) = what.split_once('@').unwrap_or((what, "0"));
    let back: usize = back.parse().map_err(|_| {
        Report::usage(format!("`{}` is no number of generations", back.escape_debug()))
            .hint(format!("`{root}@1` is the root as it was before it last changed"))
    })?;
    if back == 0 && global.file.is_none() {
        // Known without the definition too.
        if let Some(published) = publish::current(store, root)? {
            return Ok((published.tree, format!("root `{root}`")));
        }
    }
    let definition = global.definition()?;
    super::one_root(&definition, root)?;
    let found = generation::back(store, &definition.path, root, back);
    let tree = found.ok_or_else(|| {
        Report::failed(format!("root `{root}` has no generation {back} before the current one"))
            .hint("generations are counted back from the one that stands, `@0`")
    })?;
    let words = if back == 0 {
        format!("root `{root}`")
    } else {
        format!("root `{root}`, {back} before the current one")
    };
    Ok((tree, words))
}
