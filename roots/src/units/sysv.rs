//! Init scripts that no unit stands for.

use std::collections::BTreeSet;
use std::io;

use super::load::Found;
use super::name::UnitName;
use super::policy;
use super::report::{Finding, Level, Place, Report};
use super::rewrite::Context;

/// Where the links of the runlevels are that a machine with services has.
const RUNLEVELS: [&str; 8] = [
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/rc4.d",
    "/etc/rc5.d",
    "/etc/rc.d/rc2.d",
    "/etc/rc.d/rc3.d",
    "/etc/rc.d/rc4.d",
    "/etc/rc.d/rc5.d",
];

/// Reports the init scripts that a boot would start and no unit replaces, and `rc.local`.
pub(super) fn report(context: &Context<'_>, reports: &mut Vec<Report>) -> io::Result<()> {
    let mut scripts = BTreeSet::new();
    for level in RUNLEVELS {
        for link in context.tree.list(level)? {
            let script =
                link.strip_prefix('S').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            if let Some(script) = script.filter(|script| !script.is_empty()) {
                scripts.insert((script.to_owned(), format!("{level}/{link}")));
            }
        }
    }
    let mut told = BTreeSet::new();
    for (script, link) in scripts {
        let name = UnitName::parse(&format!("{}.service", script.trim_end_matches(".sh")));
        let replaced = name.as_ref().is_some_and(|name| {
            context.index.find(name) != Found::Missing || policy::not_lifted(&name.to_string()).is_some()
        });
        if !replaced && told.insert(script.clone()) {
            sysv(reports, format!("/etc/init.d/{script}"), link);
        }
    }
    for path in ["/etc/rc.local", "/etc/rc.d/rc.local"] {
        if context.tree.is_executable(path) && context.tree.resolve(path) == path {
            sysv(reports, path.to_owned(), path.to_owned());
        }
    }
    Ok(())
}

fn sysv(reports: &mut Vec<Report>, unit: String, file: String) {
    let place = Some(Place { file, line: 0 });
    reports.push(Report { unit, place, finding: Finding::Sysv, level: Level::Warning });
}
