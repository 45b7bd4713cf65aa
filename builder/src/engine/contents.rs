//! Contents of the text files that a step read, kept beside its record so that a later change can be shown
//! as a diff.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rootbuild_cache::{Digest, Record, Store};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

/// The largest file whose content is kept.
const MOST: u64 = 256 << 10;

/// How many files of one record are kept at most.
const MOST_FILES: usize = 20_000;

/// How long a diff is looked for at most.
const PATIENCE: Duration = Duration::from_millis(200);

/// A diff gets no more lines once it has this many bytes.
const LONGEST: usize = 64 << 10;

/// The field of a record's facts that names the objects, by the files' names.
const FIELD: &str = "contents";

/// What vault files begin with: two ciphertexts have nothing in common.
const VAULT: &str = "$ANSIBLE_VAULT";

/// Keeps the contents of the text files `names`, relative to `dir`, and tells the facts which objects they
/// are. Files that are no text, too large or gone are passed over, and so is everything outside `dir`: it
/// isn't the project's.
pub fn keep<'a>(
    store: &Store,
    dir: &Path,
    names: impl IntoIterator<Item = &'a str>,
    facts: &mut Value,
) -> rootbuild_cache::Result<()> {
    let mut kept = BTreeMap::new();
    let mut put = false;
    for name in names.into_iter().take(MOST_FILES) {
        let Some(text) = inside(dir, name).then(|| text(&dir.join(name))).flatten() else { continue };
        if text.starts_with(VAULT) {
            continue;
        }
        let digest = Digest::of(text.as_bytes());
        if !store.has_object(&digest) {
            store.put_object_bytes(text.as_bytes())?;
            put = true;
        }
        kept.insert(name, digest);
    }
    if put {
        store.sync()?;
    }
    facts[FIELD] = json!(kept);
    Ok(())
}

/// What a file held when a record was made, if it was kept and may be read.
#[must_use]
pub fn kept(store: &Store, record: &Record, name: &str) -> Option<String> {
    let digest: Digest = serde_json::from_value(record.facts[FIELD][name].clone()).ok()?;
    let mut text = String::new();
    store.open_object(&digest).ok()?.take(MOST + 1).read_to_string(&mut text).ok()?;
    Some(text)
}

/// How a file differs from what it held when a record was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A unified diff, without the lines that name the files.
    Diff(String),
    /// The content is what it was: the permissions aren't.
    Permissions,
    /// What it held is known, but not to this user.
    Hidden,
    /// What it held wasn't kept, or the file can't be shown.
    Unknown,
}

/// How the file `name` in `dir` differs from what it held when `record` was made.
#[must_use]
pub fn change(store: &Store, record: &Record, dir: &Path, name: &str) -> Change {
    if !record.facts[FIELD][name].is_string() {
        return Change::Unknown;
    }
    match (kept(store, record, name), text(&dir.join(name))) {
        (None, _) if !rustix::process::geteuid().is_root() => Change::Hidden,
        (Some(before), Some(now)) if before == now => Change::Permissions,
        (Some(before), Some(now)) => Change::Diff(unified(&before, &now)),
        _ => Change::Unknown,
    }
}

/// A unified diff without the lines that name the files. Of two texts that have little in common it may be
/// longer than it need be, and a very long one is cut.
fn unified(before: &str, now: &str) -> String {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(before, now);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
        text.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            if text.len() > LONGEST {
                text.push_str("@@ and more @@\n");
                return text;
            }
            text.push(match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            });
            text.push_str(change.value().trim_end_matches('\n'));
            text.push('\n');
            if change.missing_newline() {
                text.push_str("\\ no line end at the end of the file\n");
            }
        }
    }
    text
}

/// Whether a name leads nowhere but below the directory that it is relative to.
fn inside(dir: &Path, name: &str) -> bool {
    !dir.as_os_str().is_empty()
        && Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// A text file's content, if it is one.
fn text(path: &Path) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.len() > MOST {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    (!text.contains('\0') && text.len() as u64 <= MOST).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changed_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let expected = "@@ -2,5 +2,5 @@\n b\n c\n-d\n+D\n e\n-f\n+f\n\\ no line end at the end of the file\n";
        assert_eq!(unified(before, "a\nb\nc\nD\ne\nf"), expected);
        assert_eq!(unified(before, before), "");
    }

    #[test]
    fn a_very_long_diff_is_cut() {
        let text = |odd: &str| -> String {
            (0..40_000).map(|n| if n % 10 == 0 { format!("{odd}{n}\n") } else { format!("{n}\n") }).collect()
        };
        let diff = unified(&text("a"), &text("b"));
        assert!(diff.len() < 2 * LONGEST && diff.ends_with("@@ and more @@\n"), "{}", diff.len());
    }

    #[test]
    fn only_what_lies_in_the_project_is_kept() {
        let dir = Path::new("/project");
        assert!(inside(dir, "roles/a/tasks/main.yml"));
        for name in ["../x", "/etc/shadow", "a/../../x"] {
            assert!(!inside(dir, name), "{name}");
        }
    }
}
