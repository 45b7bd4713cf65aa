//! Where two trees differ.

use std::iter::FusedIterator;
use std::ops::Range;

use super::{Entry, Kind, Tree, compare_paths};

/// What two trees have at a path where they differ: the one, the other, or both something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'t> {
    /// What is there in the one tree.
    pub old: Option<&'t Entry>,
    /// What is there in the other.
    pub new: Option<&'t Entry>,
}

/// See [`Tree::differences`].
#[derive(Debug, Clone)]
pub struct Differences<'t> {
    trees: [&'t Tree; 2],
    /// What is still to be looked at of each.
    rest: [Range<usize>; 2],
}

impl<'t> Differences<'t> {
    pub(super) fn new(old: &'t Tree, new: &'t Tree) -> Self {
        Self { trees: [old, new], rest: [0..old.entries.len(), 0..new.entries.len()] }
    }

    fn first(&self, side: usize) -> Option<&'t Entry> {
        self.rest[side].clone().next().map(|at| &self.trees[side].entries[at])
    }

    fn skip(&mut self, side: usize, entries: usize) {
        self.rest[side].start += entries;
    }

    /// The same names of both trees: passes them over, and equal directories with all below them; whether they
    /// are equal.
    fn both(&mut self, old: &Entry, new: &Entry) -> bool {
        let of = |side: usize| self.trees[side].directory(self.rest[side].start);
        let (lengths, equal) = match (of(0), of(1)) {
            (Some((left, one)), Some((right, other))) if one == other => ([left, right], true),
            _ => ([1, 1], self.equal(old, new)),
        };
        self.skip(0, lengths[0]);
        self.skip(1, lengths[1]);
        equal
    }

    fn equal(&self, old: &Entry, new: &Entry) -> bool {
        let (a, b) = (&old.meta, &new.meta);
        let meta = (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs);
        // Links are equal if what they link to is.
        let first = |side: usize, entry: &'t Entry| &self.trees[side].resolve(entry).kind;
        meta && old.kind == new.kind
            && (!matches!(old.kind, Kind::Hardlink { .. })
                || self.first(0).map(|it| first(0, it)) == self.first(1).map(|it| first(1, it)))
    }
}

impl<'t> Iterator for Differences<'t> {
    type Item = Difference<'t>;

    fn next(&mut self) -> Option<Difference<'t>> {
        loop {
            let (old, new) = match (self.first(0), self.first(1)) {
                (None, None) => return None,
                (Some(old), Some(new)) => match compare_paths(&old.path, &new.path) {
                    std::cmp::Ordering::Less => (Some(old), None),
                    std::cmp::Ordering::Greater => (None, Some(new)),
                    std::cmp::Ordering::Equal => {
                        if self.both(old, new) {
                            continue;
                        }
                        return Some(Difference { old: Some(old), new: Some(new) });
                    }
                },
                one => one,
            };
            self.skip(0, usize::from(old.is_some()));
            self.skip(1, usize::from(new.is_some()));
            return Some(Difference { old, new });
        }
    }
}

impl FusedIterator for Differences<'_> {}
