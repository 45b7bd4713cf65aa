//! What became of a lock, in words and as JSON.

use std::fmt::Write as _;

use rootbuild_roots::base::{LockWritten, PackageChange, Relocked, Update};
use serde_json::{Value, json};

use crate::render::{clean, count, unicode};

/// One base's object.
pub(super) fn json(base: &str, relocked: &Relocked) -> Value {
    let Relocked { path, written, packages, changes, held, notes } = relocked;
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| {
            let PackageChange { name, arch, old, new, repository, old_repository } = change;
            json!({
                "name": name,
                "arch": arch,
                "old": old,
                "new": new,
                "repository": repository,
                "old_repository": old_repository,
            })
        })
        .collect();
    json!({
        "name": base,
        "lock": path.to_string_lossy(),
        "status": match written {
            LockWritten::New => "new",
            LockWritten::Changed => "changed",
            LockWritten::Unchanged => "unchanged",
        },
        "packages": packages,
        "changes": changes,
        "held": held.iter().map(|(name, newest)| json!({"name": name, "newest": newest})).collect::<Vec<_>>(),
        "reasons": notes,
    })
}

/// The lines for people: `lock` is the file as they know it.
pub(super) fn words(base: &str, lock: &str, relocked: &Relocked, update: &Update, quiet: bool) -> String {
    let arrow = if unicode() { "→" } else { "->" };
    clean(&lines(base, lock, relocked, update, quiet, arrow))
}

fn lines(base: &str, lock: &str, relocked: &Relocked, update: &Update, quiet: bool, arrow: &str) -> String {
    let Relocked { written, packages, changes, held, notes, .. } = relocked;
    let mut text = String::new();
    let all = count(*packages, "package");
    // Writing to a string can't fail.
    let _ = match written {
        LockWritten::New => writeln!(text, "{base}: {lock}: {all} locked"),
        LockWritten::Unchanged if quiet => Ok(()),
        LockWritten::Unchanged => writeln!(text, "{base}: {lock}: unchanged, {all}"),
        LockWritten::Changed => writeln!(text, "{base}: {lock}: {}, {all}", summary(changes)),
    };
    for note in notes {
        let _ = writeln!(text, "  why: {note}");
    }
    // Everything is new in a new lock.
    if *written == LockWritten::Changed {
        text.push_str(&table(changes, arrow));
    }
    for (name, newest) in held {
        let _ = writeln!(text, "  `{name}` can't become {newest}: other packages don't fit that");
    }
    if let (Update::Names(names), false) = (update, quiet) {
        for name in names {
            let told =
                changes.iter().any(|change| change.name == *name) || held.iter().any(|(n, _)| n == name);
            if !told {
                let _ = writeln!(text, "  `{name}` is the newest there is");
            }
        }
    }
    text
}

/// `2 changed, 1 added`.
fn summary(changes: &[PackageChange]) -> String {
    let number = |of: fn(&PackageChange) -> bool| changes.iter().filter(|change| of(change)).count();
    let parts = [
        (number(|change| change.old.is_some() && change.new.is_some()), "changed"),
        (number(|change| change.old.is_none()), "added"),
        (number(|change| change.new.is_none()), "removed"),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "no package changed".to_owned() } else { parts.join(", ") }
}

/// A line for each package: name, old version, new version, repository.
fn table(changes: &[PackageChange], arrow: &str) -> String {
    let rows: Vec<[String; 4]> = changes.iter().map(|change| row(change, arrow)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name_width, old_width, new_width] = [0, 1, 2].map(width);
    let mut text = String::new();
    for [name, old, new, repository] in rows {
        let _ =
            writeln!(text, "  {name:name_width$}  {old:old_width$}  {arrow} {new:new_width$}  {repository}");
    }
    text
}

fn row(change: &PackageChange, arrow: &str) -> [String; 4] {
    let PackageChange { name, arch, old, new, repository, old_repository } = change;
    let rebuilt = old.is_some() && old == new && old_repository.is_none();
    let repository = match old_repository {
        Some(before) => format!("{before} {arrow} {repository}"),
        None if rebuilt => format!("{repository} (other content)"),
        None => repository.clone(),
    };
    let shown = |evr: &Option<String>, none: &str| evr.clone().unwrap_or_else(|| none.to_owned());
    [format!("{name}.{arch}"), shown(old, "(added)"), shown(new, "(removed)"), repository]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, old: Option<&str>, new: Option<&str>, from: Option<&str>) -> PackageChange {
        PackageChange {
            name: name.to_owned(),
            arch: "x86_64".to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
            repository: "updates".to_owned(),
            old_repository: from.map(str::to_owned),
        }
    }

    fn relocked(written: LockWritten) -> Relocked {
        let changes = vec![
            change("bash", Some("4.2.46-34.el7"), Some("4.2.46-35.el7_9"), Some("os")),
            change("bind-license", Some("32:9.11.4-26.P2.el7"), None, None),
            change("glibc", Some("2.17-317.el7"), Some("2.17-317.el7"), None),
            change("sed", None, Some("4.2.2-7.el7"), None),
        ];
        Relocked {
            path: "/p/bases/el7.lock".into(),
            written,
            packages: 161,
            changes: if written == LockWritten::Unchanged { Vec::new() } else { changes },
            held: vec![("openssl".to_owned(), "1:1.0.2k-26.el7_9".to_owned())],
            notes: vec!["the package `sed` isn't locked".to_owned()],
        }
    }

    fn told(written: LockWritten, update: &Update, quiet: bool) -> String {
        lines("el7", "bases/el7.lock", &relocked(written), update, quiet, "→")
    }

    #[test]
    fn what_became_of_a_lock_is_a_table() {
        let update = Update::Names(["bash", "openssl", "zlib"].map(str::to_owned).to_vec());
        let all = [
            told(LockWritten::Changed, &update, false),
            told(LockWritten::New, &Update::Nothing, false),
            told(LockWritten::Unchanged, &Update::Nothing, false),
        ];
        insta::assert_snapshot!(all.join("---\n"));
        assert!(!told(LockWritten::Unchanged, &update, true).contains("unchanged"));
    }

    #[test]
    fn a_changed_lock_as_json_has_old_and_new() {
        insta::assert_snapshot!(format!("{:#}", json("el7", &relocked(LockWritten::Changed))));
    }
}
