//! What was used, and what it was at its first use.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::look::{Listing, Look, Target, list, look, target};

/// One name that was used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Use {
    /// Absolute, without `.`; without `..` too unless it stands after a link.
    pub(crate) path: PathBuf,
    /// Number of the task that was current at the first use.
    pub(crate) task: u32,
    /// What was there when its content was first asked for.
    pub(crate) read: Option<Look>,
    /// What was there when it was first looked for.
    pub(crate) probe: Option<Look>,
    /// What the name itself was when that was first asked for.
    pub(crate) target: Option<Target>,
    /// What was in it when it was first listed.
    pub(crate) list: Option<Listing>,
    /// Whether the traced programs wrote, made or removed it.
    pub(crate) written: bool,
    /// What was there when it was first written, if that was kept in part.
    before: Option<Look>,
}

/// Everything that was used.
#[derive(Debug, Default)]
pub(super) struct Notes {
    uses: Vec<Use>,
    by_path: HashMap<PathBuf, usize>,
    pub(super) connections: BTreeSet<String>,
    pub(super) gaps: BTreeSet<String>,
}

impl Notes {
    pub(super) fn into_uses(self) -> (Vec<Use>, Vec<String>, Vec<String>) {
        (self.uses, self.connections.into_iter().collect(), self.gaps.into_iter().collect())
    }

    fn of(&mut self, path: &Path, task: u32) -> &mut Use {
        let index = match self.by_path.get(path) {
            Some(index) => *index,
            None => {
                let index = self.uses.len();
                self.uses.push(Use { path: path.to_owned(), task, ..Use::default() });
                self.by_path.insert(path.to_owned(), index);
                index
            }
        };
        &mut self.uses[index]
    }

    /// Its content is about to be read; that of a directory is its list.
    pub(super) fn read(&mut self, path: &Path, task: u32) {
        let one = self.of(path, task);
        if one.written {
            // What was written is no input, but for what was there before and was kept.
            one.read = one.read.or(one.before.take());
        } else if one.read.is_none() {
            let found = look(path).settled(path);
            one.read = Some(found);
            if found == Look::Dir {
                self.list(path, task);
            }
        }
    }

    /// It is about to be looked for. `closely`: a file then counts as read.
    pub(super) fn probe(&mut self, path: &Path, task: u32, closely: bool) {
        let one = self.of(path, task);
        if one.written || one.read.is_some() {
            return;
        }
        let found = look(path);
        one.probe = one.probe.or(Some(found));
        if closely && matches!(found, Look::File(_)) {
            one.read = Some(found.settled(path));
        }
    }

    /// What the name itself is, is about to be asked. `closely` is as above.
    pub(super) fn target(&mut self, path: &Path, task: u32, closely: bool) {
        let one = self.of(path, task);
        if one.written || one.target.is_some() {
            return;
        }
        let found = target(path);
        match found {
            Target::Plain(plain @ Look::File(_)) if closely && one.read.is_none() => {
                one.read = Some(plain.settled(path));
            }
            Target::Link(_) if closely => {
                one.target = Some(found);
                self.probe(path, task, true);
                return;
            }
            _ => {}
        }
        one.target = Some(found);
    }

    /// It is about to be listed.
    pub(super) fn list(&mut self, path: &Path, task: u32) {
        let one = self.of(path, task);
        if one.list.is_some() || one.written {
            return;
        }
        match list(path, |_| false) {
            Ok(listing) => one.list = Some(listing),
            Err(_) => one.probe = one.probe.or(Some(look(path))),
        }
    }

    /// It is about to be written, made, moved or removed. `keeps`: what is there stays in part.
    pub(super) fn write(&mut self, path: &Path, task: u32, keeps: bool) {
        let one = self.of(path, task);
        if one.written {
            return;
        }
        one.written = true;
        // The last moment to see what was read.
        one.read = one.read.map(|found| found.hashed(path));
        if keeps && one.read.is_none() {
            one.before = Some(look(path).hashed(path));
        }
    }

    /// Whether the traced programs themselves wrote it.
    pub(super) fn is_written(&self, path: &Path) -> bool {
        self.by_path.get(path).is_some_and(|index| self.uses[*index].written)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn one(notes: Notes) -> Use {
        let (mut uses, ..) = notes.into_uses();
        assert_eq!(uses.len(), 1);
        uses.remove(0)
    }

    #[test]
    fn what_was_read_before_it_was_written_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(&path, "before").unwrap();
        let mut notes = Notes::default();
        notes.read(&path, 1);
        notes.write(&path, 1, true);
        fs::write(&path, "after").unwrap();
        notes.read(&path, 2);
        let used = one(notes);
        let before = tempfile::tempdir().unwrap();
        fs::write(before.path().join("x"), "before").unwrap();
        let digest = crate::inputs::digest::file(&before.path().join("x")).unwrap();
        assert!(matches!(used.read, Some(Look::File(content)) if content.digest == Some(digest)));
        assert!(used.written && used.task == 1);
    }

    #[test]
    fn what_was_only_appended_to_counts_once_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "before").unwrap();
        for (read, counts) in [(false, false), (true, true)] {
            let mut notes = Notes::default();
            notes.write(&path, 1, true);
            if read {
                notes.read(&path, 1);
            }
            assert_eq!(one(notes).read.is_some(), counts);
        }
        let mut notes = Notes::default();
        notes.write(&path, 1, false);
        notes.read(&path, 1);
        assert!(one(notes).read.is_none());
    }

    #[test]
    fn a_name_that_was_looked_for_in_vain_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut notes = Notes::default();
        notes.probe(&path, 3, false);
        fs::write(&path, "").unwrap();
        notes.probe(&path, 4, false);
        assert_eq!(one(notes).probe, Some(Look::Absent));
    }
}
