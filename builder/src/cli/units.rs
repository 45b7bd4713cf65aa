//! `rootbuild units`: the units that a root gives the host.

use std::fmt::Write as _;

use clap::Args;
use rootbuild_roots::units::{GenerateError, Host, HostError, Level, Lifted, UnitsError};
use serde_json::{Value, json};

use super::{Global, out};
use crate::exit;
use crate::render::Report;

/// Where the files are put until the next boot.
const UNITS: &str = "/run/systemd/system";
/// Where users and groups are.
const USERS: &str = "/run/userdb";

/// Arguments of `rootbuild units`.
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
    super::require_root("rootbuild units")?;
    let not_yet = || super::not_provisioned(root);
    // Looking for a root makes no store.
    global.store_read_only()?.ok_or_else(not_yet)?;
    let store = global.store()?;
    let published = super::standing(&store, &definition, root)?.ok_or_else(not_yet)?;
    let lifted = crate::units::lift(&store, &definition, root, &published, Host::detect()?)?;
    if global.json {
        out::json(&as_json(&root.name, &lifted))?;
    } else {
        out::text(&as_text(&lifted))?;
        tell(global, &lifted);
    }
    Ok(exit::OK)
}

/// All files, each below its path.
fn as_text(lifted: &Lifted) -> String {
    let mut text = String::new();
    let units = lifted.files.iter().map(|file| (UNITS, &file.name, &file.text));
    let users = lifted.users.iter().map(|record| (USERS, &record.file, &record.text));
    for (index, (directory, name, content)) in units.chain(users).enumerate() {
        let blank = if index == 0 { "" } else { "\n" };
        let _ = write!(text, "{blank}# {directory}/{name}\n{content}");
    }
    text
}

fn as_json(root: &str, lifted: &Lifted) -> Value {
    let file = |directory: &str, name: &str, text: &str| json!({ "path": format!("{directory}/{name}"), "text": text });
    let units: Vec<Value> = lifted.files.iter().map(|it| file(UNITS, &it.name, &it.text)).collect();
    let users: Vec<Value> = lifted.users.iter().map(|it| file(USERS, &it.file, &it.text)).collect();
    let reports: Vec<Value> = lifted
        .reports
        .iter()
        .map(|report| {
            json!({
                "level": report.level.name(),
                "kind": report.finding.name(),
                "unit": report.unit,
                "file": report.place.as_ref().map(|place| &place.file),
                "line": report.place.as_ref().map(|place| place.line).filter(|line| *line > 0),
                "message": report.finding.to_string(),
            })
        })
        .collect();
    json!({
        "root": root,
        "target": lifted.target,
        "started": lifted.started,
        "address": lifted.names.address,
        "names": lifted.names.names,
        "units": units,
        "users": users,
        "reports": reports,
    })
}

/// Says what isn't as it would be on a machine of the root's own.
fn tell(global: &Global, lifted: &Lifted) {
    let told = |level: Level| lifted.reports.iter().filter(move |report| report.level == level);
    if global.quiet {
        return;
    }
    for report in told(Level::Warning) {
        anstream::eprintln!("warning: {report}");
    }
    let notes = told(Level::Note).count();
    if global.verbose > 0 {
        for report in told(Level::Note) {
            anstream::eprintln!("note: {report}");
        }
    } else if notes > 0 {
        anstream::eprintln!("note: {notes} more that nobody should miss; -v tells them");
    }
}

impl From<HostError> for Report {
    fn from(error: HostError) -> Self {
        Self::failed(error.to_string()).hint("units are for hosts that systemd runs, version 247 or newer")
    }
}

impl From<UnitsError> for Report {
    fn from(error: UnitsError) -> Self {
        let report = Self::failed(error.to_string());
        match &error {
            UnitsError::Read { source, .. } => report.caused_by(source),
            UnitsError::NoDirectory { .. } => report.hint("something fresh is mounted there for services"),
            UnitsError::NoState { .. } => {
                report.hint("a volume takes the place of a directory; another one is named in `state` of the root's `run`")
            }
            UnitsError::Missing { .. } => report.hint("install it, or change the definition"),
            UnitsError::Name(_) | UnitsError::Overlay { .. } => report,
        }
    }
}

impl From<GenerateError> for Report {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Sandbox(error) => error.into(),
            GenerateError::Io(ref source) => Self::failed(error.to_string()).caused_by(source),
            GenerateError::Ended { .. } => Self::failed(error.to_string()),
        }
    }
}
