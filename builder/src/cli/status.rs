//! `rootbuild status`: what runs of each root.

use std::fmt::Write as _;

use clap::Args;
use indicatif::HumanBytes;
use rootbuild_cache::{Digest, Store};
use rootbuild_handoff::{Active, Manager, Survey, UnitStatus, survey};
use rootbuild_roots::publish;
use serde_json::{Value, json};

use super::{Global, events, handing, out};
use crate::definition::{Definition, Root};
use crate::render::{Report, count};
use crate::sinks::words;
use crate::{exit, generation};

/// Arguments of `rootbuild status`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The roots to show [default: all of the definition]
    #[arg(value_name = "ROOT")]
    pub roots: Vec<String>,
}

/// How a root stands.
struct Row<'a> {
    root: &'a Root,
    survey: Survey,
    /// The tree of what runs.
    tree: Option<Digest>,
    /// The last generation that had it.
    generation: Option<u64>,
    /// The checkout that was handed over last, and its tree.
    handed: Option<(u64, Digest)>,
}

/// Runs the command.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let asked = super::asked_for(&definition, &arguments.roots)?;
    let store = global.store_read_only()?;
    let names: Vec<String> = asked.iter().map(|root| root.name.clone()).collect();
    let silent = events::sinks(&Global { quiet: true, events: None, ..global.clone() }, &[], Vec::new())?;
    let surveys = handing::run(&silent, |_| async move {
        let manager = Manager::system().await?;
        let mut surveys = Vec::new();
        for name in &names {
            surveys.push(survey(&manager, name).await?);
        }
        Ok(surveys)
    })?;
    let rows: Vec<Row<'_>> = asked
        .into_iter()
        .zip(surveys)
        .map(|(root, survey)| row(store.as_ref(), &definition, root, survey))
        .collect::<Result<_, _>>()?;
    if global.json {
        out::json(&json!({ "roots": rows.iter().map(Row::to_json).collect::<Vec<_>>() }))?;
    } else {
        out::text(&text(&rows, global.verbose > 0))?;
    }
    let counted: Vec<&Row<'_>> =
        rows.iter().filter(|row| !arguments.roots.is_empty() || row.survey.installed).collect();
    let up = !counted.is_empty() && counted.iter().all(|row| row.survey.state() == "up");
    Ok(if up { exit::OK } else { exit::FAILED })
}

fn row<'a>(
    store: Option<&Store>,
    definition: &Definition,
    root: &'a Root,
    survey: Survey,
) -> Result<Row<'a>, Report> {
    let (mut tree, mut generation, mut handed) = (None, None, None);
    if let Some(store) = store {
        handed = super::standing(store, definition, root)?.map(|it| (it.number(), it.tree));
        if let Some(number) = survey.checkout {
            tree = publish::running::generation(store, &root.name, number)?.map(|it| it.tree);
            generation = tree
                .as_ref()
                .and_then(|tree| generation::number_of(store, &definition.path, &root.name, tree));
        }
    }
    Ok(Row { root, survey, tree, generation, handed })
}

impl Row<'_> {
    /// Whether something else was handed over than what runs.
    fn stale(&self) -> Option<bool> {
        let (number, _) = self.handed?;
        self.survey.checkout.map(|runs| runs != number)
    }

    fn restarts(&self) -> u32 {
        self.survey.units.iter().map(|unit| unit.restarts).sum()
    }

    fn uptime(&self) -> Option<f64> {
        let since = self.survey.since?;
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).ok()?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of some years")]
        Some(now.saturating_sub(since) as f64 / 1e6)
    }

    fn address(&self) -> Option<String> {
        self.root.run.units.address.map(|address| address.to_string())
    }

    fn to_json(&self) -> Value {
        let unit = |it: &UnitStatus| {
            json!({
                "unit": it.name,
                "name": words::unit(&self.root.name, &it.name),
                "active": it.active.name(),
                "sub": it.sub,
                "result": it.result,
                "text": it.text,
                "pid": it.pid,
                "restarts": it.restarts,
                "memory": it.memory,
            })
        };
        json!({
            "name": self.root.name,
            "state": self.survey.state(),
            "enabled": self.survey.enabled,
            "tree": self.tree,
            "generation": self.generation,
            "checkout": self.survey.checkout,
            "handed_over": self.handed.map(|(number, tree)| json!({ "checkout": number, "tree": tree })),
            "stale": self.stale(),
            "uptime": self.uptime(),
            "memory": self.survey.memory,
            "restarts": self.restarts(),
            "address": self.address(),
            "units": self.survey.units.iter().map(unit).collect::<Vec<_>>(),
        })
    }

    /// What is told of it in a line.
    fn line(&self) -> String {
        let survey = &self.survey;
        let mut parts = Vec::new();
        if let Some(tree) = &self.tree {
            parts.push(format!("b3:{}", tree.short()));
        }
        parts.extend(self.generation.map(|number| format!("generation {number}")));
        match self.stale() {
            Some(true) if self.handed.map(|it| it.0) < survey.checkout => {
                parts.push("older was handed over since".to_owned());
            }
            Some(true) => parts.push("stale: `rootbuild up` takes the newer one".to_owned()),
            Some(false) => parts.push("current".to_owned()),
            None if self.handed.is_none() && survey.state() == "down" => {
                parts.push("not provisioned".to_owned());
            }
            None => {}
        }
        if survey.state() != "down" {
            let services = survey.units.iter().filter(|it| it.pid != 0).count();
            parts.push(count(services, "service"));
            parts.extend(self.uptime().map(words::seconds));
            parts.extend(survey.memory.map(|bytes| HumanBytes(bytes).to_string()));
            if self.restarts() > 0 {
                parts.push(count(self.restarts() as usize, "restart"));
            }
            parts.extend(self.address());
        }
        parts.join("  ")
    }
}

fn text(rows: &[Row<'_>], verbose: bool) -> String {
    let width = rows.iter().map(|row| row.root.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let (name, state) = (&row.root.name, row.survey.state());
        let _ = writeln!(text, "{}", format!("{name:width$}  {state:8}  {}", row.line()).trim_end());
        for unit in &row.survey.units {
            if verbose || unit.active == Active::Failed || unit.is_restarting() {
                let said = if unit.text.is_empty() { String::new() } else { format!("  {}", unit.text) };
                let name = words::unit(&row.root.name, &unit.name);
                let _ =
                    writeln!(text, "{:width$}    {name}  {} ({}){said}", "", unit.active.name(), unit.sub);
            }
        }
    }
    text
}
