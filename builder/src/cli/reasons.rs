//! Reasons in words: why a layer would be built, or was.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};

use crate::engine::history::Told;
use crate::engine::lookup::Reason;
use crate::plan::Reach;
use crate::render::clean;
use crate::sinks::words;

const GONE: Style = AnsiColor::Red.on_default();
const NEW: Style = AnsiColor::Green.on_default();
const PLACE: Style = AnsiColor::Cyan.on_default();

/// Values are cut after this many characters.
const LONGEST_VALUE: usize = 60;

/// A reason in words, without its diff.
pub(super) fn sentence(reason: &Told) -> String {
    let Told { kind, subject, old, new } = reason;
    let changed = |what: String| match (old, new) {
        (Some(old), Some(new)) => format!("{what}: {} → {}", value(old), value(new)),
        (None, Some(new)) => format!("{what} is set now: {}", value(new)),
        (Some(old), None) => format!("{what} isn't set any more (was {})", value(old)),
        (None, None) => format!("{what} has changed"),
    };
    let text = match kind.as_str() {
        "new" => "not built yet like this".into(),
        "file" if old.is_none() && new.is_none() && subject.starts_with("and ") => subject.clone(),
        "file" => format!("`{subject}` has changed"),
        "permissions" => format!("the permissions of `{subject}` have changed"),
        "appeared" => format!("`{subject}` wasn't there, and is now"),
        "vanished" => format!("`{subject}` is gone"),
        "listing" | "directory" => format!("what is in `{subject}` has changed"),
        "link" => format!("`{subject}` leads elsewhere"),
        // Of these only digests are known.
        "environment" => {
            let how = match (old, new) {
                (None, Some(_)) => "is set now",
                (Some(_), None) => "isn't set any more",
                _ => "has changed",
            };
            format!("the environment variable `{subject}` {how}")
        }
        "python" => "the Python that runs Ansible is another".into(),
        "output" => format!("`{subject}`, which the playbook wrote, isn't as it left it"),
        "project" => "files of the project have come or gone (what Ansible read wasn't traced)".into(),
        "variable" => changed(format!("the variable `{subject}`")),
        "unset" => match old {
            Some(old) => format!("`{subject}` isn't set any more (was {})", value(old)),
            None => format!("`{subject}` isn't set any more"),
        },
        "option" => changed(format!("`{subject}` of the base")),
        "ansible-core" => ansible_core(old.as_deref(), new.as_deref()),
        "host" | "network" | "boot" | "services" | "inventory" | "playbook" => {
            changed(format!("`{subject}`"))
        }
        "parent" if new.is_some() => format!("the layer below (`{subject}`) has another tree"),
        "parent" => match subject.strip_prefix("root ") {
            Some(root) => format!("root `{root}` has to be built first"),
            None => format!("the layer below (`{subject}`) has to be built first"),
        },
        "lost" => "its tree is no longer in the store".into(),
        "forced" => "asked for (`--rebuild`, `--no-cache`)".into(),
        "rootbuild" => format!("rootbuild {subject} builds it otherwise than the one before"),
        other => changed(format!("{other} `{subject}`")),
    };
    clean(&text).replace('\n', " ")
}

/// The same for a planned reason.
pub(super) fn planned(reason: &Reason, certain: bool) -> String {
    let text = sentence(&Told::from(reason));
    let open = reason.kind == "parent" && !certain;
    if open { format!("{text}; if that comes out as it was, this layer stays") } else { text }
}

/// `ansible-core 2.16.19 b3:…` is the version and the digest of its requirements.
fn ansible_core(old: Option<&str>, new: Option<&str>) -> String {
    let version = |text: Option<&str>| text.and_then(|text| text.split(' ').nth(1)).map(str::to_owned);
    match (version(old), version(new)) {
        (Some(old), Some(new)) if old != new => format!("ansible-core: {old} → {new}"),
        _ => "the requirements of ansible-core have changed".to_owned(),
    }
}

fn value(text: &str) -> String {
    let digest = |text: &str| text.len() == 67 && text.starts_with("b3:");
    if digest(text) {
        return text[..15].to_owned();
    }
    let mut short: String = text.chars().take(LONGEST_VALUE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A diff for a terminal, indented, at most `most` lines of it.
pub(super) fn diff(text: &str, indent: &str, most: usize) -> String {
    let mut shown = String::new();
    let lines = clean(text);
    let lines: Vec<&str> = lines.lines().collect();
    // Cutting off a line or two would save nothing.
    let cut = if lines.len() > most + 2 { most } else { lines.len() };
    for line in &lines[..cut] {
        let style = match line.as_bytes().first() {
            Some(b'-') => GONE,
            Some(b'+') => NEW,
            Some(b'@') => PLACE,
            _ => Style::new(),
        };
        let _ = writeln!(shown, "{indent}{style}{line}{style:#}");
    }
    if cut < lines.len() {
        let _ = writeln!(shown, "{indent}… {} more lines", lines.len() - cut);
    }
    shown
}

/// From where on tasks would run, and how long that may take: `from role `web` on, about 12 s`.
pub(super) fn outlook(reach: Option<&Reach>, seconds: Option<f64>) -> Option<String> {
    let from = reach.and_then(|reach| match (&reach.role, reach.task, reach.of) {
        (Some(role), ..) => Some(format!("from role `{role}` on")),
        (None, Some(task), Some(of)) => Some(format!("from task {task} of {of} on")),
        (None, Some(task), None) => Some(format!("from task {task} on")),
        (None, None, _) => None,
    });
    let about = seconds.map(|seconds| format!("about {}", words::seconds(seconds)));
    let parts: Vec<String> = from.into_iter().chain(about).collect();
    (!parts.is_empty()).then(|| clean(&parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_reason_has_its_words() {
        let tree = format!("b3:{}", "0123456789abcdef".repeat(4));
        let long = format!("\"{}\"", "x".repeat(100));
        let reasons = [
            ("new", "site.yml", None, None),
            ("file", "roles/web/tasks/main.yml", Some(tree.as_str()), Some(tree.as_str())),
            ("permissions", "files/run", Some(tree.as_str()), Some(tree.as_str())),
            ("appeared", "host_vars/web0.yml", None, Some(tree.as_str())),
            ("vanished", "library/mine.py", Some(tree.as_str()), None),
            ("listing", "library", Some(tree.as_str()), Some(tree.as_str())),
            ("environment", "HTTP_PROXY", None, None),
            ("variable", "is_testing", Some("true"), Some("false")),
            ("variable", "motd", None, Some(long.as_str())),
            ("variable", "motd", None, None),
            ("unset", "is_testing", Some("true"), None),
            ("host", "host", Some("web0"), Some("web1")),
            ("network", "network", Some("none"), Some("host")),
            ("inventory", "inventory", None, Some("hosts")),
            (
                "ansible-core",
                "ansible-core",
                Some("ansible-core 2.16.18 b3:1"),
                Some("ansible-core 2.16.19 b3:2"),
            ),
            (
                "ansible-core",
                "ansible-core",
                Some("ansible-core 2.16.19 b3:1"),
                Some("ansible-core 2.16.19 b3:2"),
            ),
            ("option", "packages", Some("@core"), Some("@core, python")),
            ("parent", "base:el7", None, None),
            ("parent", "base:el7", Some(tree.as_str()), Some(tree.as_str())),
            ("lost", "site.yml", Some(tree.as_str()), None),
            ("forced", "site.yml", None, None),
            ("rootbuild", "0.1.0", None, None),
            ("environment", "HTTP_PROXY", None, Some(tree.as_str())),
            ("python", "/usr/bin/python3", Some(tree.as_str()), Some(tree.as_str())),
            ("output", "files/made", Some(tree.as_str()), Some(tree.as_str())),
            ("project", ".", Some(tree.as_str()), Some(tree.as_str())),
            ("something-new", "x", Some("1"), Some("2")),
        ];
        let told: Vec<String> = reasons
            .into_iter()
            .map(|(kind, subject, old, new)| {
                sentence(&Told {
                    kind: kind.into(),
                    subject: subject.into(),
                    old: old.map(str::to_owned),
                    new: new.map(str::to_owned),
                })
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_long_diff_is_cut_and_says_so() {
        let text: String = (0..30).map(|n| format!("+{n}\n")).collect();
        let shown = anstream::adapter::strip_str(&diff(&text, "  ", 3)).to_string();
        assert_eq!(shown, "  +0\n  +1\n  +2\n  … 27 more lines\n");
        assert_eq!(diff("+a\n", "", 3).lines().count(), 1);
    }
}
