//! `rootbuild list`: the roots of the definition and how they stand.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use rootbuild_roots::publish::{self, PublishError, Published};
use serde_json::json;

use super::{Global, out};
use crate::definition::Root;
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
    let mut errors = Vec::new();
    for root in &definition.roots {
        let standing = match &store {
            Some(store) => publish::current_of(store, &root.name, &definition.path),
            None => Ok(None),
        };
        match standing {
            Ok(published) => rows.push(Row { root, published, owner: None }),
            Err(error @ PublishError::Owned { .. }) => {
                if let PublishError::Owned { owner, .. } = &error {
                    rows.push(Row { root, published: None, owner: Some(owner.clone()) });
                }
                errors.push(Report::from(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    tell(global, &rows)?;
    // The others are shown all the same.
    if errors.is_empty() { Ok(exit::OK) } else { Err(Report::several(errors)) }
}

/// A root of the definition.
struct Row<'a> {
    root: &'a Root,
    /// As it stands.
    published: Option<Published>,
    /// The other definition that its name belongs to.
    owner: Option<PathBuf>,
}

fn tell(global: &Global, rows: &[Row<'_>]) -> Result<(), Report> {
    if global.json {
        let roots: Vec<_> = rows
            .iter()
            .map(|Row { root, published, owner }| {
                json!({
                    "name": root.name,
                    "base": root.base.value,
                    "host": root.host.value,
                    "playbooks": root.playbooks.iter().map(|playbook| &playbook.name).collect::<Vec<_>>(),
                    "tree": published.as_ref().map(|published| published.tree),
                    "path": published.as_ref().map(|published| published.path.to_string_lossy()),
                    "created": published.as_ref().map(|published| &published.created),
                    "owner": owner.as_ref().map(|owner| owner.to_string_lossy()),
                })
            })
            .collect();
        return out::json(&json!({ "roots": roots }));
    }
    let name_width = rows.iter().map(|row| row.root.name.len()).max().unwrap_or(0);
    let base_width = rows.iter().map(|row| row.root.base.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Row { root, published, owner } in rows {
        let (name, base) = (&root.name, &root.base.value);
        let state = match (published, owner) {
            (Some(published), _) => format!("b3:{}  {}", published.tree.short(), published.path.display()),
            (None, Some(owner)) => format!("belongs to `{}`", owner.display()),
            (None, None) => "not provisioned yet".to_owned(),
        };
        let _ = writeln!(text, "{name:name_width$}  {base:base_width$}  {state}");
    }
    out::text(&text)
}
