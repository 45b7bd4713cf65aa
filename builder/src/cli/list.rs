//! `rootbuild list`: the roots of the definition and how they stand.

use std::fmt::Write as _;

use clap::Args;
use rootbuild_roots::publish;
use serde_json::json;

use super::{Global, out};
use crate::exit;
use crate::render::Report;

/// Arguments of `rootbuild list`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(global: &Global, _: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let store = global.store_read_only()?;
    let mut rows = Vec::new();
    for root in &definition.roots {
        let published = match &store {
            Some(store) => publish::current(store, &root.name)?,
            None => None,
        };
        rows.push((root, published));
    }
    if global.json {
        let roots: Vec<_> = rows
            .iter()
            .map(|(root, published)| {
                json!({
                    "name": root.name,
                    "base": root.base.value,
                    "host": root.host.value,
                    "playbooks": root.playbooks.iter().map(|playbook| &playbook.name).collect::<Vec<_>>(),
                    "tree": published.as_ref().map(|published| published.tree),
                    "path": published.as_ref().map(|published| published.path.to_string_lossy()),
                    "created": published.as_ref().map(|published| &published.created),
                })
            })
            .collect();
        out::json(&json!({ "roots": roots }))?;
        return Ok(exit::OK);
    }
    let name_width = rows.iter().map(|(root, _)| root.name.len()).max().unwrap_or(0);
    let base_width = rows.iter().map(|(root, _)| root.base.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (root, published) in &rows {
        let (name, base) = (&root.name, &root.base.value);
        let state = match published {
            Some(published) => format!("b3:{}  {}", published.tree.short(), published.path.display()),
            None => "not provisioned yet".to_owned(),
        };
        let _ = writeln!(text, "{name:name_width$}  {base:base_width$}  {state}");
    }
    out::text(&text)?;
    Ok(exit::OK)
}
