//! Two trees side by side, times included.

use std::collections::HashMap;

use rootbuild_cache::tree::compare_paths;
use rootbuild_cache::{Entry, Kind, Tree};

/// Which entries two trees have in common.
pub(super) struct Compared<'o> {
    /// For each entry of the new tree the number of the one of that path in the old tree, and whether they are
    /// equal.
    entries: Vec<Option<(usize, bool)>>,
    gone: Vec<&'o Entry>,
}

impl<'o> Compared<'o> {
    pub(super) fn new(old: &'o Tree, new: &Tree) -> Self {
        let (theirs, ours) = (old.entries(), new.entries());
        let mut compared = Self { entries: Vec::with_capacity(ours.len()), gone: Vec::new() };
        let mut next = 0;
        while let Some(entry) = ours.get(compared.entries.len()) {
            let at = compared.entries.len();
            while theirs.get(next).is_some_and(|it| compare_paths(&it.path, &entry.path).is_lt()) {
                compared.gone.push(&theirs[next]);
                next += 1;
            }
            let Some(other) = theirs.get(next).filter(|it| it.path == entry.path) else {
                compared.entries.push(None);
                continue;
            };
            let equal = entry.is_directory() && other.is_directory();
            let below = equal.then(|| (old.directory(next), new.directory(at)));
            match below {
                // What is below is the same, but maybe for times, which are no part of a digest.
                Some((Some(old_one), Some(new_one))) if old_one == new_one => {
                    let pairs = theirs[next..].iter().zip(&ours[at..]).take(new_one.0).enumerate();
                    let same = pairs.map(|(nth, (a, b))| Some((next + nth, a.meta.mtime == b.meta.mtime)));
                    compared.entries.extend(same);
                    next += new_one.0;
                }
                _ => {
                    compared.entries.push(Some((next, other == entry)));
                    next += 1;
                }
            }
        }
        compared.gone.extend(&theirs[next..]);
        compared
    }

    /// The number of the old tree's entry of that path.
    pub(super) fn beside(&self, at: usize) -> Option<usize> {
        self.entries[at].map(|(number, _)| number)
    }

    /// Whether that is equal.
    pub(super) fn is_same(&self, at: usize) -> bool {
        self.entries[at].is_some_and(|(_, same)| same)
    }

    /// The entries that only the old tree has.
    pub(super) fn gone(&self) -> &[&'o Entry] {
        &self.gone
    }
}

/// Which entries stay, of those that are `good`: of a file with several names all have to be, and none may have
/// been added or have gone.
pub(super) fn staying(old: &Tree, new: &Tree, mut good: Vec<bool>) -> Vec<bool> {
    let mut before: HashMap<&[u8], usize> = HashMap::new();
    for entry in old.entries() {
        if let Kind::Hardlink { target } = &entry.kind {
            *before.entry(target).or_default() += 1;
        }
    }
    let mut names: HashMap<&[u8], Vec<usize>> = before.keys().map(|target| (*target, Vec::new())).collect();
    for (at, entry) in new.entries().iter().enumerate() {
        if let Kind::Hardlink { target } = &entry.kind {
            names.entry(target).or_default().push(at);
        }
    }
    for (target, links) in names {
        let first = new.range(target).start;
        let there = new.entries().get(first).is_some_and(|it| it.path == target);
        let all = before.get(target).copied().unwrap_or(0) == links.len();
        if there && !(all && good[first] && links.iter().all(|link| good[*link])) {
            good[first] = false;
            links.iter().for_each(|link| good[*link] = false);
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::{Digest, Meta, Mtime};

    use super::*;

    fn entry(path: &str, kind: Kind, seconds: i64) -> Entry {
        let mtime = Mtime { seconds, nanoseconds: 0 };
        Entry { path: path.into(), meta: Meta { mode: 0o755, mtime, ..Meta::default() }, kind }
    }

    fn file(path: &str, text: &str, seconds: i64) -> Entry {
        entry(path, Kind::File { object: Digest::of(text.as_bytes()), size: text.len() as u64 }, seconds)
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Kind::Hardlink { target: target.into() }, 0)
    }

    fn tree(entries: &[Entry]) -> Tree {
        let directories = ["", "a", "b"].map(|path| entry(path, Kind::Directory, 0));
        Tree::from_entries(directories.iter().chain(entries).cloned().collect()).unwrap()
    }

    /// The paths of the new tree that aren't the same, and what is gone.
    fn differing(old: &Tree, new: &Tree) -> (Vec<String>, Vec<String>) {
        let compared = Compared::new(old, new);
        for at in 0..new.entries().len() {
            let path = |it: usize| &old.entries()[it].path;
            assert!(compared.beside(at).is_none_or(|it| *path(it) == new.entries()[at].path));
        }
        let text = |entry: &Entry| String::from_utf8(entry.path.clone()).unwrap();
        let others = (0..new.entries().len()).filter(|at| !compared.is_same(*at));
        let others = others.map(|at| text(&new.entries()[at])).collect();
        (others, compared.gone().iter().map(|it| text(it)).collect())
    }

    #[test]
    fn what_differs_is_found_below_equal_directories_too_if_it_is_a_time() {
        let old = tree(&[file("a/x", "x", 1), file("b/x", "x", 1), file("b/y", "y", 1)]);
        assert_eq!(differing(&old, &old), (vec![], vec![]));
        let new = tree(&[file("a/x", "x", 2), file("b/w", "w", 1), file("b/y", "z", 1)]);
        let (others, gone) = differing(&old, &new);
        assert_eq!((others, gone), (vec!["a/x".into(), "b/w".into(), "b/y".into()], vec!["b/x".into()]));
    }

    #[test]
    fn a_file_of_several_names_stays_with_all_of_them_or_goes() {
        let stays = |old: &Tree, new: &Tree| {
            let compared = Compared::new(old, new);
            let good = (0..new.entries().len()).map(|at| compared.is_same(at)).collect();
            let stay = staying(old, new, good);
            let files = |at: &usize| !new.entries()[*at].is_directory() && stay[*at];
            (0..stay.len()).filter(files).count()
        };
        let both = tree(&[file("a/x", "x", 0), link("b/x", "a/x"), file("b/y", "y", 0)]);
        assert_eq!(stays(&both, &both), 3);
        assert_eq!(stays(&both, &tree(&[file("a/x", "x", 0), file("b/y", "y", 0)])), 1);
        assert_eq!(stays(&both, &tree(&[file("b/x", "x", 0), file("b/y", "y", 0)])), 1);
        assert_eq!(stays(&tree(&[file("a/x", "x", 0), file("b/x", "x", 0)]), &both), 0);
    }
}
