//! `--verify-replay`: what a record or a journal gave, against what running the step whole gives.

use std::cmp::Ordering;
use std::fmt;

use rootbuild_cache::tree::compare_paths;
use rootbuild_cache::{Digest, Entry, Kind, Store, Tree};

/// How many differing paths an error names.
const NAMED: usize = 50;

/// The trees of one step aren't the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// The step.
    pub step: String,
    /// How the first tree came: `cached` or `replayed`.
    pub how: &'static str,
    /// What differs, by path.
    pub paths: Vec<Difference>,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, how, count) = (&self.step, self.how, self.paths.len());
        let paths = if count == 1 { "1 path differs" } else { &format!("{count} paths differ") };
        write!(f, "the {how} tree of `{step}` isn't the one that running it whole gives: {paths}")?;
        for Difference { path, what } in self.paths.iter().take(NAMED) {
            let path = String::from_utf8_lossy(path);
            match what {
                What::OnlyFirst => write!(f, "\n/{path}: only in the {how} tree")?,
                What::OnlyWhole => write!(f, "\n/{path}: only in the whole run's tree")?,
                What::Both(what) => write!(f, "\n/{path}: differs in {}", what.join(", "))?,
            }
        }
        if count > NAMED {
            write!(f, "\nand {} more", count - NAMED)?;
        }
        Ok(())
    }
}

/// A path at which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As in [`Entry::path`].
    pub path: Vec<u8>,
    /// In what.
    pub what: What,
}

/// In what two trees differ at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Only the first tree has it.
    OnlyFirst,
    /// Only the tree of the whole run has it.
    OnlyWhole,
    /// Both have it, and these of its properties differ.
    Both(Vec<&'static str>),
}

/// Where the trees `first` and `whole` of the store differ; modification times don't count.
pub(super) fn differences(
    store: &Store,
    first: &Digest,
    whole: &Digest,
) -> rootbuild_cache::Result<Vec<Difference>> {
    if first == whole {
        return Ok(Vec::new());
    }
    Ok(compare(&store.tree(first)?, &store.tree(whole)?))
}

fn compare(first: &Tree, whole: &Tree) -> Vec<Difference> {
    let (mut ours, mut theirs) = (first.entries().iter().peekable(), whole.entries().iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => compare_paths(&one.path, &other.path),
        };
        let one = if order == Ordering::Greater { None } else { ours.next() };
        let other = if order == Ordering::Less { None } else { theirs.next() };
        let (entry, what) = match (one, other) {
            (Some(one), Some(other)) => (one, What::Both(properties(one, other))),
            (Some(one), None) => (one, What::OnlyFirst),
            (None, Some(other)) => (other, What::OnlyWhole),
            (None, None) => break,
        };
        if what != What::Both(Vec::new()) {
            found.push(Difference { path: entry.path.clone(), what });
        }
    }
    found
}

/// The properties in which two entries of one path differ.
fn properties(one: &Entry, other: &Entry) -> Vec<&'static str> {
    let mut differ = Vec::new();
    let mut tell = |what, same: bool| {
        if !same {
            differ.push(what);
        }
    };
    tell("mode", one.meta.mode == other.meta.mode);
    tell("owner", (one.meta.uid, one.meta.gid) == (other.meta.uid, other.meta.gid));
    tell("attributes", one.meta.xattrs == other.meta.xattrs);
    let kind = match (&one.kind, &other.kind) {
        (Kind::File { .. }, Kind::File { .. }) => "content",
        (Kind::Symlink { .. }, Kind::Symlink { .. }) => "target",
        (Kind::Hardlink { .. }, Kind::Hardlink { .. }) => "hardlink",
        (Kind::CharDevice { .. }, Kind::CharDevice { .. })
        | (Kind::BlockDevice { .. }, Kind::BlockDevice { .. }) => "device",
        _ => "type",
    };
    tell(kind, one.kind == other.kind);
    differ
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::{Meta, Mtime};

    use super::*;

    fn entry(path: &str, content: &str) -> Entry {
        let (object, size) = (Digest::of(content.as_bytes()), content.len() as u64);
        let meta = Meta { mode: 0o644, ..Meta::default() };
        Entry { path: path.into(), meta, kind: Kind::File { object, size } }
    }

    fn tree(mut entries: Vec<Entry>) -> Tree {
        entries.extend(Tree::default().into_entries());
        Tree::from_entries(entries).unwrap()
    }

    #[test]
    fn every_path_that_differs_is_told_with_what_differs() {
        let mut moved = entry("same", "x");
        moved.meta.mtime = Mtime { seconds: 7, nanoseconds: 0 };
        let mut other = entry("d", "2");
        (other.meta.mode, other.meta.uid) = (0o600, 5);
        let link = Entry { kind: Kind::Symlink { target: b"x".into() }, ..entry("e", "") };
        let first = tree(vec![entry("a", "1"), entry("d", "1"), entry("e", "1"), entry("same", "x")]);
        let whole = tree(vec![entry("c", "1"), other, link, moved]);
        let paths = compare(&first, &whole);
        let differs = Differs { step: "site.yml".into(), how: "replayed", paths };
        insta::assert_snapshot!(differs);
        assert!(compare(&first, &first).is_empty());
    }

    #[test]
    fn one_path_and_very_many_are_counted_right() {
        let one = Difference { path: b"a".to_vec(), what: What::OnlyFirst };
        let told = |count| {
            let paths = vec![one.clone(); count];
            Differs { step: "s".into(), how: "cached", paths }.to_string()
        };
        assert!(told(1).contains("1 path differs"));
        assert!(told(70).contains("70 paths differ") && told(70).ends_with("and 20 more"));
        assert_eq!(told(70).lines().count(), 52);
    }
}
