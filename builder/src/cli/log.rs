//! `rootbuild log`: the last log of a root.

use std::fs;

use clap::Args;
use serde_json::json;

use super::{Global, out};
use crate::render::Report;
use crate::{exit, logs};

/// Arguments of `rootbuild log`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The root
    #[arg(value_name = "ROOT")]
    pub root: String,

    /// Print only the log's path
    #[arg(long)]
    pub path: bool,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let root = super::one_root(&definition, &arguments.root)?;
    let store = global.store_read_only()?;
    if let Some(store) = &store {
        super::standing(store, &definition, root)?;
    }
    let found = store
        .map(|store| logs::latest(store.dir(), &root.name))
        .transpose()
        .map_err(|error| {
            let report =
                Report::failed(format!("can't look for the logs of `{}`", root.name)).caused_by(&error);
            if rustix::process::geteuid().is_root() {
                return report;
            }
            report.hint("logs may hold what playbooks keep secret: only root can read them")
        })?
        .flatten();
    let Some(path) = found else {
        return Err(Report::failed(format!("root `{}` has no log", root.name))
            .hint(format!("a log is written when something is built: rootbuild provision {}", root.name)));
    };
    if global.json {
        out::json(&json!({ "root": root.name, "path": path.to_string_lossy() }))?;
    } else if arguments.path {
        out::text(&format!("{}\n", path.display()))?;
    } else {
        let log = fs::read(&path)
            .map_err(|error| Report::failed(format!("can't read `{}`", path.display())).caused_by(&error))?;
        out::bytes(&log)?;
    }
    Ok(exit::OK)
}
