//! `rootbuild doctor`: whether this machine has what a provision needs. What can be tried is tried.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use rootbuild_roots::base::rpm::Bootstrap;
use serde::Serialize;
use serde_json::json;

use super::{Global, out};
use crate::definition::{BaseKind, Definition, FILE_NAME};
use crate::exit;
use crate::render::{Report, clean, count, unicode};

mod kernel;
mod sandbox;
mod store;
mod tools;

/// Arguments of `rootbuild doctor`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// The magic number of tmpfs, of linux/magic.h.
const TMPFS: i64 = 0x0102_1994;

/// A file system's magic number; the field's type differs between machines.
fn magic(stat: &rustix::fs::StatFs) -> i64 {
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the type differs between machines")]
    let magic = stat.f_type as i64;
    magic & 0xffff_ffff
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// It is there and works.
    Ok,
    /// It works with a loss, or may be missing here.
    Warning,
    /// It is needed and missing.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// What.
    name: &'static str,
    /// How it came out.
    status: Status,
    /// What was found.
    detail: String,
    /// What to do about it; `None` when nothing has to be done.
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), hint: None }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// Missing where it is needed, else a warning.
    fn lacking(needed: bool, name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        if needed { Self::missing(name, detail, hint) } else { Self::warning(name, detail, hint) }
    }
}

/// What the definition at hand needs; without one, nothing in particular.
#[derive(Debug, Default)]
struct Needs {
    rpm: bool,
    /// A base wants the host's rpm, and no other.
    host_rpm: bool,
    /// A base of source `rpm` has no lock: its packages must be chosen.
    dnf: bool,
    debian: bool,
    /// A base of source `debian` names no keyring of its own.
    debian_keyring: bool,
    /// The ansible-core version.
    ansible: Option<String>,
    /// Some root boots systemd while it is provisioned.
    boot: bool,
}

impl Needs {
    fn of(definition: &Definition) -> Self {
        let mut needs = Self::default();
        for base in &definition.bases {
            match &base.kind {
                BaseKind::Rpm(rpm) => {
                    needs.rpm = true;
                    needs.host_rpm |= rpm.bootstrap == Bootstrap::Host;
                    needs.dnf |= !rpm.lock.as_ref().is_some_and(|lock| lock.is_file());
                }
                BaseKind::Debian(debian) => {
                    needs.debian = true;
                    needs.debian_keyring |= debian.keyring.is_none();
                }
                BaseKind::Archive(_) | BaseKind::Root(_) | BaseKind::Tree(_) => {}
            }
        }
        if definition.roots.iter().any(|root| !root.playbooks.is_empty()) {
            needs.ansible = definition.ansible.as_ref().map(|ansible| ansible.core.value.clone());
        }
        needs.boot = definition.roots.iter().any(|root| root.boot);
        needs
    }
}

/// Runs the command.
pub fn run(global: &Global, _: &Arguments) -> Result<u8, Report> {
    let (definition, needs) = definition(global);
    let store = std::path::absolute(&global.store).unwrap_or_else(|_| global.store.clone());
    let mut checks = vec![tools::privileges(), definition];
    checks.extend(tools::all(&needs));
    checks.extend(kernel::all(&needs));
    let (of_store, scratch) = store::all(&store);
    checks.extend(of_store);
    checks.extend(scratch.map(|scratch| sandbox::check(scratch.path())));
    let missing = checks.iter().filter(|check| check.status == Status::Missing).count();
    if global.json {
        let store = store.to_string_lossy();
        out::json(&json!({ "ok": missing == 0, "store": store, "checks": checks }))?;
    } else {
        let mut text = told(&checks, global.quiet);
        if !global.quiet {
            let warnings = checks.iter().filter(|check| check.status == Status::Warning).count();
            let _ = writeln!(text, "{}", summary(missing, warnings));
        }
        out::text(&text)?;
    }
    Ok(if missing == 0 { exit::OK } else { exit::FAILED })
}

/// The definition, as far as there is one; a broken one doesn't keep the machine from being looked at.
fn definition(global: &Global) -> (Check, Needs) {
    let name = "definition";
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    match Definition::load(global.file.as_deref(), &cwd) {
        Ok(definition) => {
            let detail = format!("{}, {}", definition.path.display(), count(definition.roots.len(), "root"));
            (Check::ok(name, detail), Needs::of(&definition))
        }
        Err(_) if global.file.is_none() && !is_above(&cwd) => {
            (Check::ok(name, "none here: what only some bases need is optional"), Needs::default())
        }
        Err(error) => {
            let hint = "`rootbuild list` tells what is wrong, line by line";
            (Check::missing(name, error.to_string(), hint), Needs::default())
        }
    }
}

fn is_above(cwd: &Path) -> bool {
    cwd.ancestors().any(|dir| dir.join(FILE_NAME).symlink_metadata().is_ok())
}

fn summary(missing: usize, warnings: usize) -> String {
    match (missing, warnings) {
        (0, 0) => "everything that a provision needs is here".to_owned(),
        (0, warnings) => format!("a provision can run; {}", count(warnings, "warning")),
        (missing, _) => format!(
            "{missing} of the things that a provision needs {} missing",
            if missing == 1 { "is" } else { "are" }
        ),
    }
}

fn told(checks: &[Check], quiet: bool) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let symbols = unicode() && std::io::IsTerminal::is_terminal(&std::io::stdout());
    for check in checks.iter().filter(|check| !quiet || check.status != Status::Ok) {
        let (symbol, word, color) = match check.status {
            Status::Ok => ("✓", "ok     ", AnsiColor::Green),
            Status::Warning => ("!", "warning", AnsiColor::Yellow),
            Status::Missing => ("✗", "missing", AnsiColor::Red),
        };
        let style = Style::new().fg_color(Some(color.into())).bold();
        let mark = if symbols { symbol } else { word };
        let _ = writeln!(
            text,
            "{style}{mark}{style:#} {:width$}  {}",
            check.name,
            clean(&check.detail).replace('\n', " ")
        );
        if let Some(hint) = &check.hint {
            let indent = " ".repeat(mark.chars().count() + 1 + width + 2);
            let _ = writeln!(text, "{indent}hint: {}", clean(hint));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Check, Status, summary};

    #[test]
    fn what_is_not_needed_here_is_a_warning_and_not_missing() {
        assert_eq!(Check::lacking(true, "x", "", "").status, Status::Missing);
        assert_eq!(Check::lacking(false, "x", "", "").status, Status::Warning);
    }

    #[test]
    fn the_summary_counts_what_is_missing() {
        assert_eq!(summary(0, 0), "everything that a provision needs is here");
        assert_eq!(summary(0, 1), "a provision can run; 1 warning");
        assert_eq!(summary(1, 4), "1 of the things that a provision needs is missing");
        assert_eq!(summary(2, 0), "2 of the things that a provision needs are missing");
    }
}
