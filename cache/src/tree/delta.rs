//! Trees stored as what they have that another tree hasn't; the layout is described in `cache/FORMAT.md`.
//!
//! Of a root that is built again nearly all entries are those of the tree that its step stood on. Such a tree
//! is written as runs: so many entries of the *base* left out, so many taken, then so many of its own. A base
//! is never stored so itself, so that reading a tree takes two files at most.

use std::collections::HashMap;

use crate::digest::Digest;

use super::build::{MAX_ENTRIES, check_all, check_order, find_directories, text_length};
use super::codec::{
    CHECKSUM, COMPRESS_FROM, DecodeError, MAGIC, MAX_BODY, Metas, Reader, TAG_HARDLINK, ZSTD_LEVEL,
    put_bytes, put_mtime, put_varint, read_path, sealed, tag, unpack, within,
};
use super::merkle::{self, put_meta};
use super::paths::shared_length;
use super::{Entry, Kind, Meta, Origin, Tree, compare_paths};

/// The version of a tree that is stored as what it has over another.
pub(crate) const DELTA_VERSION: u32 = 2;

/// Magic, version, compression, two digests, and five numbers.
const HEADER: usize = 8 + 4 + 4 + 2 * 32 + 5 * 8;
/// A tree of fewer entries is small enough as it is.
pub(super) const WORTH_IT: usize = 1000;
/// The least that an own entry takes in the body: shared, length, tag, and one more.
const LEAST_ENTRY: usize = 4;

/// Entries of a base and of a tree, in the order of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// Entries of the base that the tree hasn't.
    skipped: u32,
    /// Entries of the base, after those, that the tree has too.
    copied: u32,
    /// Entries that only the tree has, after those.
    own: u32,
}

/// Which of a tree's entries are those of its base, and where they stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) base: Digest,
    runs: Vec<Run>,
}

impl Over {
    /// For each entry of the tree the number of the entry of the base that it is.
    fn places(&self) -> impl Iterator<Item = Option<usize>> {
        let mut at = 0usize;
        self.runs.iter().flat_map(move |run| {
            let from = at + run.skipped as usize;
            at = from + run.copied as usize;
            (from..at).map(Some).chain(std::iter::repeat_n(None, run.own as usize))
        })
    }
}

/// A tree as what it has that its base hasn't.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) base: Digest,
    pub(crate) tree: Digest,
    /// Entries of the tree.
    count: usize,
    runs: Vec<Run>,
    /// Links have no metadata here: theirs is that of what they link to.
    entries: Vec<Entry>,
}

impl Tree {
    /// What this tree has over `near`, or over the base that `near` itself is stored over. `None` where that is
    /// too much, or what `near` is in the store isn't known.
    pub(crate) fn delta(&self, near: &Self) -> Option<Delta> {
        let delta = self.any_delta(near)?;
        (self.is_large() && delta.entries.len() <= self.entries.len() / 4).then_some(delta)
    }

    /// [`Tree::delta`], worth it or not.
    pub(super) fn any_delta(&self, near: &Self) -> Option<Delta> {
        let same = equal_places(near, self);
        Some(match &near.origin {
            Origin::Unknown => return None,
            Origin::Full => Delta::new(self, near.digest(), same.into_iter()),
            Origin::Over(over) => {
                let theirs: Vec<Option<usize>> = over.places().collect();
                let places = same.into_iter().map(|at| theirs.get(at?).copied().flatten());
                Delta::new(self, over.base, places)
            }
        })
    }
}

/// For each entry of `tree` the number of the entry of `near` that it equals in everything.
fn equal_places(near: &Tree, tree: &Tree) -> Vec<Option<usize>> {
    let mut places = Vec::with_capacity(tree.entries.len());
    let mut at = 0;
    for entry in &tree.entries {
        while near.entries.get(at).is_some_and(|it| compare_paths(&it.path, &entry.path).is_lt()) {
            at += 1;
        }
        places.push(near.entries.get(at).is_some_and(|it| it == entry).then_some(at));
    }
    places
}

impl Delta {
    fn new(tree: &Tree, base: Digest, places: impl Iterator<Item = Option<usize>>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut entries = Vec::new();
        let (mut run, mut next) = (Run::default(), 0usize);
        for (place, entry) in places.zip(&tree.entries) {
            if let Some(at) = place {
                if at != next || run.own > 0 {
                    runs.push(run);
                    run = Run { skipped: word(at - next), ..Run::default() };
                }
                run.copied += 1;
                next = at + 1;
            } else {
                run.own += 1;
                let meta = match entry.kind {
                    Kind::Hardlink { .. } => Meta::default(),
                    _ => entry.meta.clone(),
                };
                entries.push(Entry { meta, ..entry.clone() });
            }
        }
        runs.push(run);
        Self { base, tree: tree.digest(), count: tree.entries.len(), runs, entries }
    }

    /// As a file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = self.body();
        let packed = (body.len() >= COMPRESS_FROM)
            .then(|| zstd::bulk::compress(&body, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < body.len());
        let stored = packed.as_deref().unwrap_or(&body);
        let mut bytes = Vec::with_capacity(HEADER + stored.len() + CHECKSUM);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&DELTA_VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::from(packed.is_some()).to_le_bytes());
        bytes.extend_from_slice(self.tree.as_bytes());
        bytes.extend_from_slice(self.base.as_bytes());
        for number in [self.count, self.runs.len(), self.entries.len(), body.len(), stored.len()] {
            bytes.extend_from_slice(&(number as u64).to_le_bytes());
        }
        bytes.extend_from_slice(stored);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    fn body(&self) -> Vec<u8> {
        let mut metas = Metas::default();
        let link = |entry: &Entry| matches!(entry.kind, Kind::Hardlink { .. });
        let numbers: Vec<u64> =
            self.entries.iter().map(|it| if link(it) { 0 } else { metas.number(&it.meta) }).collect();
        let mut body = Vec::with_capacity(self.entries.len() * 72 + self.runs.len() * 4 + 64);
        put_varint(&mut body, metas.list.len() as u64);
        for meta in &metas.list {
            put_meta(&mut body, meta);
        }
        let mut own = self.entries.iter().zip(numbers);
        let mut before: &[u8] = &[];
        for run in &self.runs {
            for number in [run.skipped, run.copied, run.own] {
                put_varint(&mut body, u64::from(number));
            }
            for (entry, number) in own.by_ref().take(run.own as usize) {
                let shared = shared_length(&entry.path, before);
                put_varint(&mut body, shared as u64);
                put_bytes(&mut body, &entry.path[shared..]);
                body.push(tag(&entry.kind));
                put_what(&mut body, entry, number);
                before = &entry.path;
            }
        }
        body
    }

    /// Reads what [`Delta::encode`] gave. Whatever the bytes are, this neither panics nor takes memory out of
    /// proportion.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let content = sealed(bytes, DELTA_VERSION, HEADER)?;
        let (compressed, tree, base, [count, runs, own, length, stored]) = header(content)?;
        let body = &content[HEADER..];
        if body.len() != stored || (!compressed && stored != length) {
            return Err(DecodeError::Damaged);
        }
        let bounded = length <= MAX_BODY && count <= MAX_ENTRIES && own <= length / LEAST_ENTRY;
        if !bounded || runs > length || runs > count + 1 || own > count {
            return Err(DecodeError::Malformed("its numbers contradict each other"));
        }
        let unpacked;
        let body = if compressed {
            unpacked = unpack(body, length)?;
            &unpacked
        } else {
            body
        };
        let mut delta =
            Self { base, tree, count, runs: Vec::new(), entries: Vec::with_capacity(own.min(1 << 16)) };
        let mut reader = Reader { bytes: body, at: 0 };
        let metas = reader.metas()?;
        let mut text = 0usize;
        for _ in 0..runs {
            let run = Run { skipped: reader.word()?, copied: reader.word()?, own: reader.word()? };
            for _ in 0..run.own {
                let entry = read_own(&mut reader, &metas, delta.entries.last())?;
                text = text.saturating_add(text_length(&entry));
                within(text)?;
                delta.entries.push(entry);
            }
            delta.runs.push(run);
        }
        let copied: u64 = delta.runs.iter().map(|it| u64::from(it.copied)).sum();
        if reader.at != body.len() || delta.entries.len() != own || copied + own as u64 != count as u64 {
            return Err(DecodeError::Malformed("it has other entries than it says"));
        }
        Ok(delta)
    }

    /// The whole tree. What `base` is, is taken for granted; everything else is checked, the digest too.
    pub(crate) fn apply(self, base: Tree) -> Result<Tree, DecodeError> {
        let Tree { entries: theirs, directories: below, .. } = base;
        if self.count > theirs.len() + self.entries.len() {
            return Err(DecodeError::Malformed(BEYOND));
        }
        let mut entries = Vec::with_capacity(self.count);
        let mut same = Vec::with_capacity(self.count);
        let (mut own, mut at) = (self.entries.into_iter(), 0usize);
        let mut theirs = theirs.into_iter();
        for run in &self.runs {
            let (skipped, copied) = (run.skipped as usize, run.copied as usize);
            if skipped + copied > theirs.len() {
                return Err(DecodeError::Malformed(BEYOND));
            }
            if skipped > 0 {
                theirs.nth(skipped - 1);
            }
            at += skipped;
            entries.extend(theirs.by_ref().take(copied));
            same.extend((at..at + copied).map(Some));
            at += copied;
            entries.extend(own.by_ref().take(run.own as usize));
            same.extend(std::iter::repeat_n(None, run.own as usize));
        }
        drop(theirs);
        check_order(&entries)?;
        settle_links(&mut entries, &mut same)?;
        check_all(&entries, |at| same[at].is_some())?;
        let directories = find_directories(&entries)?;
        let directories = merkle::hash_like(&entries, directories, &below, &same);
        let tree =
            Tree { entries, directories, origin: Origin::Over(Over { base: self.base, runs: self.runs }) };
        if tree.digest() != self.tree {
            return Err(DecodeError::Malformed("its digest is another"));
        }
        Ok(tree)
    }
}

const BEYOND: &str = "it takes more of its base than there is";

#[allow(clippy::cast_possible_truncation, reason = "a tree has fewer than 2^32 entries: `MAX_ENTRIES`")]
fn word(number: usize) -> u32 {
    number as u32
}

type Numbers = [usize; 5];

/// Whether the body is compressed, the tree, its base, and the numbers.
fn header(bytes: &[u8]) -> Result<(bool, Digest, Digest, Numbers), DecodeError> {
    let compressed = match bytes[12..16] {
        [0, 0, 0, 0] => false,
        [1, 0, 0, 0] => true,
        _ => return Err(DecodeError::Malformed("its compression is unknown")),
    };
    let digest = |at: usize| bytes[at..at + 32].try_into().map(Digest::from_bytes);
    let (Ok(tree), Ok(base)) = (digest(16), digest(48)) else { return Err(DecodeError::Damaged) };
    let mut numbers = [0; 5];
    for (number, bytes) in numbers.iter_mut().zip(bytes[80..HEADER].chunks_exact(8)) {
        let read = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
        *number = usize::try_from(read).unwrap_or(usize::MAX);
    }
    Ok((compressed, tree, base, numbers))
}

/// What a file begins with tells: the tree that it is stored over, if it is stored so. Nothing is checked.
pub(crate) fn base_of(start: &[u8]) -> Option<Digest> {
    let version = start.strip_prefix(&MAGIC)?.get(..4)?;
    let base = start.get(48..80)?.try_into().ok()?;
    (version == DELTA_VERSION.to_le_bytes()).then(|| Digest::from_bytes(base))
}

/// So many bytes of a file's start are enough for [`base_of`].
pub(crate) const START: usize = 80;

/// Whether a whole file is undamaged, and the tree `digest` as it says itself. Whether it says the truth is for
/// who reads it.
pub(crate) fn is_sound(bytes: &[u8], digest: &Digest) -> bool {
    if base_of(bytes).is_some() {
        let content = sealed(bytes, DELTA_VERSION, HEADER);
        content.is_ok_and(|content| &content[16..48] == digest.as_bytes())
    } else {
        super::codec::named(bytes).is_ok_and(|named| named == *digest)
    }
}

fn put_what(body: &mut Vec<u8>, entry: &Entry, number: u64) {
    if let Kind::Hardlink { target } = &entry.kind {
        return put_bytes(body, target);
    }
    put_varint(body, number);
    put_mtime(body, entry.meta.mtime);
    match &entry.kind {
        Kind::File { object, size } => {
            put_varint(body, *size);
            body.extend_from_slice(object.as_bytes());
        }
        Kind::Symlink { target } => put_bytes(body, target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_varint(body, u64::from(*major));
            put_varint(body, u64::from(*minor));
        }
        Kind::Directory | Kind::Hardlink { .. } | Kind::Fifo => {}
    }
}

fn read_own(reader: &mut Reader<'_>, metas: &[Meta], before: Option<&Entry>) -> Result<Entry, DecodeError> {
    let path = read_path(reader, before)?;
    let tag = reader.byte()?;
    if tag == TAG_HARDLINK {
        let kind = Kind::Hardlink { target: reader.bytes()?.to_vec() };
        return Ok(Entry { path, meta: Meta::default(), kind });
    }
    let meta = metas.get(reader.size()?).ok_or(DecodeError::Malformed("an entry's metadata is missing"))?;
    let meta = Meta { mtime: reader.mtime()?, ..meta.clone() };
    let kind = match tag {
        1 => {
            let size = reader.varint()?;
            let object = reader.take(32)?.try_into().map(Digest::from_bytes);
            Kind::File { object: object.map_err(|_| DecodeError::Damaged)?, size }
        }
        tag => reader.kind(tag)?,
    };
    Ok(Entry { path, meta, kind })
}

/// Gives links what they link to has, which must come before them; one to something of the tree's own isn't
/// what it is in the base.
fn settle_links(entries: &mut [Entry], same: &mut [Option<usize>]) -> Result<(), DecodeError> {
    let wrong = DecodeError::Malformed("a hardlink leads nowhere");
    let mut firsts: HashMap<Vec<u8>, usize> = HashMap::new();
    for at in 0..entries.len() {
        let (before, rest) = entries.split_at_mut(at);
        let Some(Entry { meta, kind: Kind::Hardlink { target }, .. }) = rest.first_mut() else { continue };
        let first = match firsts.get(target) {
            Some(first) => *first,
            None => {
                let found = before.binary_search_by(|it| compare_paths(&it.path, target));
                let first = found.map_err(|_| wrong.clone())?;
                firsts.insert(target.clone(), first);
                first
            }
        };
        if matches!(before[first].kind, Kind::Directory | Kind::Hardlink { .. }) {
            return Err(wrong);
        }
        if same[at].is_none() {
            *meta = before[first].meta.clone();
        } else if *meta != before[first].meta {
            return Err(wrong);
        }
        if same[first].is_none() {
            same[at] = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
