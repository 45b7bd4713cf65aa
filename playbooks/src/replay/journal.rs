//! Journals on disk: `<store>/replays/<initial state>/<n>.journal`, the highest `n` newest.
//!
//! A file is a line that names format and version, entries, and a keyed digest of all before it. An
//! entry is a tag, the length of what follows (32 bits, little-endian), and fields of fixed width but
//! for the last. A file that can't be read or isn't whole is passed over.

pub mod check;
pub mod holdings;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Store, durable};

use super::seal::Secret;

/// Names the format and its version.
const MAGIC: &[u8] = b"rootbuild journal 2\n";

/// Bytes of the digest at the end.
const CHECKSUM: usize = 32;

/// Journals kept for one initial state; the oldest go first.
const KEPT: usize = 16;

/// A journal is never longer.
const LONGEST: u64 = 1 << 30;

/// What is known of a request in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The state afterwards; the same for a request that left the root as it was.
    pub(super) next: Digest,
    /// How long it took in the root, in milliseconds.
    pub(super) millis: u32,
    /// The answer.
    pub(super) sealed: Vec<u8>,
}

/// A state in which the root is exactly known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// What the root is, however it was come to: states with the same are the same.
    pub(super) canonical: Digest,
    /// Whether that is the state's name from then on.
    pub(super) renames: bool,
    /// The root's tree.
    pub(super) tree: Digest,
    /// The object that holds what dies with a sandbox, if there is anything.
    pub(super) volatile: Option<Digest>,
}

/// One thing that a journal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A request in a state.
    Request { state: Digest, request: Digest, reply: Reply },
    /// A checkpoint at a state.
    Checkpoint { state: Digest, checkpoint: Checkpoint },
    /// What a request in a state fetched from repositories, as JSON.
    Fetched { state: Digest, request: Digest, list: Vec<u8> },
    /// The layer's tree when the run ends in a state.
    End { state: Digest, tree: Digest },
}

/// What all journals of one initial state know.
#[derive(Debug, Default)]
pub(super) struct Known {
    replies: HashMap<(Digest, Digest), Reply>,
    checkpoints: HashMap<Digest, Checkpoint>,
    /// By what the root was found to be, the states in which it was.
    same: HashMap<Digest, Vec<Digest>>,
    ends: HashMap<Digest, Digest>,
    fetched: HashMap<(Digest, Digest), Vec<u8>>,
}

impl Known {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// What was answered to a request.
    pub(super) fn reply(&self, state: &Digest, request: &Digest) -> Option<&Reply> {
        self.replies.get(&(*state, *request))
    }

    /// The checkpoint at a state.
    pub(super) fn checkpoint(&self, state: &Digest) -> Option<&Checkpoint> {
        self.checkpoints.get(state)
    }

    /// The states in which the root was found to be `canonical`, those of newer journals first.
    pub(super) fn same(&self, canonical: &Digest) -> &[Digest] {
        self.same.get(canonical).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a request fetched, as JSON, if it was anything.
    pub(super) fn fetched(&self, state: &Digest, request: &Digest) -> Option<&[u8]> {
        self.fetched.get(&(*state, *request)).map(Vec::as_slice)
    }

    /// The layer's tree, if the run ends in a state.
    pub(super) fn end(&self, state: &Digest) -> Option<&Digest> {
        self.ends.get(state)
    }

    /// Adds what an older journal tells, or one that is as old.
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Request { state, request, reply } => {
                self.replies.entry((state, request)).or_insert(reply);
            }
            Entry::Checkpoint { state, checkpoint } => {
                let same = self.same.entry(checkpoint.canonical).or_default();
                if !same.contains(&state) {
                    same.push(state);
                }
                let known = self.checkpoints.entry(state).or_insert_with(|| checkpoint.clone());
                // Where ways come together they stay together.
                if checkpoint.renames && !known.renames {
                    *known = checkpoint;
                }
            }
            Entry::Fetched { state, request, list } => {
                self.fetched.entry((state, request)).or_insert(list);
            }
            Entry::End { state, tree } => {
                self.ends.entry(state).or_insert(tree);
            }
        }
    }
}

/// The journals of one initial state.
#[derive(Debug)]
pub(super) struct Journals {
    dir: PathBuf,
    pub(super) secret: Secret,
}

impl Journals {
    /// The journals of `store` for runs that begin in `initial`.
    pub(super) fn of(store: &Store, initial: &Digest) -> io::Result<Self> {
        let home = store.dir().join("replays");
        DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
        Ok(Self { dir: home.join(initial.hex()), secret: Secret::of(&home.join("secret"))? })
    }

    /// Everything that they know, the newest first. What can't be read is passed over; `warn` is told.
    pub(super) fn known(&self, warn: &dyn Fn(String)) -> Known {
        let mut known = Known::default();
        for number in numbers(&self.dir).unwrap_or_default() {
            let path = self.path(number);
            match self.read(&path) {
                // The last answer to who asks again and again is the one that counts.
                Ok(entries) => entries.into_iter().rev().for_each(|entry| known.add(entry)),
                // Replaced between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn(format!("passed over the journal `{}`: {error}", path.display())),
            }
        }
        known
    }

    /// Adds a journal, durably, and removes the oldest ones beyond those that are kept.
    pub(super) fn add(&self, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        entries.iter().for_each(|entry| encode(&mut bytes, entry));
        bytes.extend_from_slice(&self.secret.checksum(&bytes));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let new = self.dir.join(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        let older = numbers(&self.dir)?;
        let mut number = older.first().map_or(1, |newest| newest.saturating_add(1));
        while let Err(error) = durable::rename_new(&new, &self.path(number)) {
            // Another run adds one at the same time; both stay.
            if !self.path(number).exists() {
                let _ = fs::remove_file(&new);
                return Err(io::Error::other(error));
            }
            number += 1;
        }
        for number in older.into_iter().skip(KEPT - 1) {
            let _ = fs::remove_file(self.path(number));
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.journal"))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let odd = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        if fs::metadata(path)?.len() > LONGEST {
            return Err(odd("it is too long"));
        }
        let bytes = fs::read(path)?;
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| odd("it is of another version"))?;
        let length = rest.len().checked_sub(CHECKSUM).ok_or_else(|| odd("it isn't whole"))?;
        let (mut entries, checksum) = rest.split_at(length);
        if self.secret.checksum(&bytes[..MAGIC.len() + length]) != checksum {
            return Err(odd("it isn't whole, or of another store"));
        }
        let mut found = Vec::new();
        while !entries.is_empty() {
            found.push(decode(&mut entries).ok_or_else(|| odd("an entry makes no sense"))?);
        }
        Ok(found)
    }
}

/// The numbers of the journals in `dir`, highest first; none where there is no such directory.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".journal")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

pub(super) fn encode(bytes: &mut Vec<u8>, entry: &Entry) {
    let (tag, digests, rest): (u8, &[&Digest], Vec<u8>) = match entry {
        Entry::Request { state, request, reply } => {
            let rest = [reply.millis.to_le_bytes().as_slice(), &reply.sealed].concat();
            (1, &[state, request, &reply.next], rest)
        }
        Entry::Checkpoint { state, checkpoint: Checkpoint { canonical, renames, tree, volatile } } => {
            let mut rest = vec![u8::from(*renames)];
            rest.extend(volatile.iter().flat_map(Digest::as_bytes));
            (2, &[state, canonical, tree], rest)
        }
        Entry::End { state, tree } => (3, &[state, tree], Vec::new()),
        Entry::Fetched { state, request, list } => (4, &[state, request], list.clone()),
    };
    let length = digests.len() * 32 + rest.len();
    bytes.push(tag);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    digests.iter().for_each(|digest| bytes.extend_from_slice(digest.as_bytes()));
    bytes.extend_from_slice(&rest);
}

pub(super) fn decode(bytes: &mut &[u8]) -> Option<Entry> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (mut fields, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bytes = rest;
    let mut digest = || {
        let (digest, rest) = fields.split_first_chunk::<32>()?;
        fields = rest;
        Some(Digest::from_bytes(*digest))
    };
    Some(match tag {
        1 => {
            let (state, request, next) = (digest()?, digest()?, digest()?);
            let (millis, sealed) = fields.split_first_chunk::<4>()?;
            let reply = Reply { next, millis: u32::from_le_bytes(*millis), sealed: sealed.to_vec() };
            Entry::Request { state, request, reply }
        }
        2 => {
            let (state, canonical, tree) = (digest()?, digest()?, digest()?);
            let (renames, rest) = fields.split_first()?;
            let volatile =
                if rest.is_empty() { None } else { Some(Digest::from_bytes(rest.try_into().ok()?)) };
            let renames = *renames != 0;
            Entry::Checkpoint { state, checkpoint: Checkpoint { canonical, renames, tree, volatile } }
        }
        3 => {
            let (state, tree) = (digest()?, digest()?);
            fields.is_empty().then_some(Entry::End { state, tree })?
        }
        4 => Entry::Fetched { state: digest()?, request: digest()?, list: fields.to_vec() },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn entries(answer: &[u8]) -> Vec<Entry> {
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        let reply = Reply { next: b, millis: 7, sealed: answer.to_vec() };
        let checkpoint = Checkpoint { canonical: c, renames: true, tree: a, volatile: Some(b) };
        vec![
            Entry::Request { state: a, request: c, reply },
            Entry::Checkpoint { state: b, checkpoint: checkpoint.clone() },
            Entry::Checkpoint { state: c, checkpoint: Checkpoint { volatile: None, ..checkpoint } },
            Entry::End { state: c, tree: b },
        ]
    }

    #[test]
    fn the_newest_journal_is_believed_and_damaged_ones_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let journals = Journals::of(&store, &Digest::of(b"initial")).unwrap();
        let warned = RefCell::new(Vec::new());
        let known = || journals.known(&|text| warned.borrow_mut().push(text));
        assert!(known().is_empty());
        for number in 0..20_u8 {
            journals.add(&entries(&[number])).unwrap();
        }
        assert_eq!(numbers(&journals.dir).unwrap(), (5..=20).rev().collect::<Vec<_>>());
        let answer = || known().reply(&Digest::of(b"a"), &Digest::of(b"c")).unwrap().sealed.clone();
        assert_eq!(answer(), [19]);
        let newest = journals.path(20);
        let mut bytes = fs::read(&newest).unwrap();
        bytes[40] ^= 1;
        fs::write(&newest, &bytes).unwrap();
        assert_eq!(answer(), [18]);
        fs::write(journals.path(19), b"rootbuild journal 1\n").unwrap();
        fs::write(journals.path(18), &bytes[..bytes.len() - 1]).unwrap();
        warned.borrow_mut().clear();
        assert_eq!(answer(), [16]);
        assert_eq!(warned.borrow().len(), 3);
        let known = known();
        assert_eq!(known.checkpoint(&Digest::of(b"c")).unwrap().volatile, None);
        assert_eq!(known.end(&Digest::of(b"c")), Some(&Digest::of(b"b")));
    }
}
