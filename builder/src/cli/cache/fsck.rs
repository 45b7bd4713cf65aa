//! `rootbuild cache fsck`: whether the store is whole, and putting right what can be.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use rootbuild_cache::fsck::{Finding, Remedy, Severity};
use rootbuild_cache::gc::{Collection, Telling};
use serde_json::json;

use super::{Global, Progress, existing, out};
use crate::render::{Report, count};
use crate::{exit, upkeep};

/// Arguments of `rootbuild cache fsck`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Put right what can be: what is damaged is moved to the store's `quarantine`
    #[arg(long, env = "ROOTBUILD_REPAIR", value_parser = clap::builder::FalseyValueParser::new())]
    pub repair: bool,

    /// Don't read contents, only look whether they are there
    #[arg(long, env = "ROOTBUILD_QUICK", value_parser = clap::builder::FalseyValueParser::new())]
    pub quick: bool,

    /// How long to wait for a collection, in seconds [default: for ever]
    #[arg(long, value_name = "SECONDS", env = "ROOTBUILD_LOCK_TIMEOUT")]
    pub lock_timeout: Option<u64>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let store = existing(global, "rootbuild cache fsck")?;
    let telling = Progress::new(global);
    let waiting =
        |holder: &rootbuild_cache::Holder| telling.phase(&format!("waiting for pid {}", holder.pid));
    // What is collected meanwhile would look like damage.
    let _alone =
        Collection::begin(&store, arguments.lock_timeout.map(Duration::from_secs), &waiting, &|| false)?;
    let mut findings = upkeep::check(&store, arguments.quick, &telling)?;
    let looked = findings.looked;
    let mut repairs = Vec::new();
    if arguments.repair {
        (findings, repairs) = upkeep::repair(&store, findings, &telling)?;
    }
    telling.clear();
    if global.json {
        out::json(&json!({
            "clean": !findings.is_damaged(),
            "looked": looked,
            "findings": findings.all,
            "repairs": repairs,
        }))?;
    } else {
        let mut text = String::new();
        for repair in &repairs {
            let (path, what) = (repair.finding.path.display(), &repair.finding.what);
            let _ = writeln!(text, "repaired  {path}: {what}: {}", repair.done);
        }
        let notes = global.verbose > 0;
        for finding in findings.all.iter().filter(|it| notes || it.severity != Severity::Note) {
            text.push_str(&told(finding));
        }
        if !global.quiet {
            let _ = writeln!(text, "{}", summary(&findings.all, looked));
        }
        out::text(&text)?;
    }
    Ok(if findings.is_damaged() { exit::STORE_DAMAGED } else { exit::OK })
}

fn told(finding: &Finding) -> String {
    let Finding { severity, path, what, remedy, .. } = finding;
    let word = match severity {
        Severity::Damage => "damaged ",
        Severity::Unknown => "unknown ",
        Severity::Note => "note    ",
    };
    let hint = match remedy {
        Remedy::Quarantine => " (--repair moves it away)",
        Remedy::Restore => " (--repair looks for them in checkouts)",
        Remedy::Rewrite => " (--repair writes them anew)",
        Remedy::Mode(_) => " (--repair changes that)",
        Remedy::Nothing => "",
    };
    format!("{word}  {}: {what}{hint}\n", path.display())
}

fn summary(findings: &[Finding], looked: u64) -> String {
    let of = |severity| findings.iter().filter(|it| it.severity == severity).count();
    let looked = count(usize::try_from(looked).unwrap_or(usize::MAX), "thing");
    match (of(Severity::Damage), of(Severity::Unknown)) {
        (0, 0) => format!("looked at {looked}: the store is whole"),
        (0, unknown) => {
            let names = count(unknown, "name");
            format!("looked at {looked}: the store is whole; {names} that this version doesn't know")
        }
        (damaged, _) => format!("looked at {looked}: {damaged} damaged"),
    }
}
