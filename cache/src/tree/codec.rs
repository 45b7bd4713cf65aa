//! Trees as bytes; the layout is described in `cache/FORMAT.md`.

use crate::digest::Digest;

use super::build::{
    MAX_ENTRIES, MAX_PATH, MAX_TEXT, MAX_XATTRS, check_all, check_order, find_directories, text_length,
    xattr_length,
};
use super::merkle::{self, Directory, put_meta};
use super::paths::shared_length;
use super::{Entry, Kind, Meta, Mtime, Origin, Tree, TreeError};

/// The version of a tree that is stored as a whole.
pub const TREE_VERSION: u32 = 1;

/// Starts every tree; its line ends show a file that went through a text-mode copy.
pub(super) const MAGIC: [u8; 8] = *b"RBTREE\r\n";
/// Magic, version, compression, and five numbers.
const HEADER: usize = 8 + 4 + 4 + 5 * 8;
/// Entry, end, objects before it, offset in the body, digest.
const DIRECTORY: usize = 4 * 4 + 32;
pub(super) const CHECKSUM: usize = 32;
/// Bodies below this aren't worth compressing, and stay the same bytes whatever zstd does.
pub(super) const COMPRESS_FROM: usize = 1024;
/// A body of more bytes than this is refused.
pub(super) const MAX_BODY: usize = 1 << 28;
pub(super) const ZSTD_LEVEL: i32 = 1;
/// The least that an entry takes in the body: shared, length, tag, and one more.
const LEAST_ENTRY: usize = 4;

/// Bytes that are no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They start with something else.
    #[error("not a tree")]
    NotATree,
    /// They are a tree of another version.
    #[error("a tree of format {found}")]
    Version {
        /// The version they name.
        found: u32,
    },
    /// They end early, or their checksum is wrong.
    #[error("a tree that is truncated or damaged")]
    Damaged,
    /// They were written wrong.
    #[error("a malformed tree: {0}")]
    Malformed(&'static str),
    /// They list something that makes no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

pub(super) const TAG_HARDLINK: u8 = 3;

pub(super) fn tag(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => 0,
        Kind::File { .. } => 1,
        Kind::Symlink { .. } => 2,
        Kind::Hardlink { .. } => TAG_HARDLINK,
        Kind::CharDevice { .. } => 4,
        Kind::BlockDevice { .. } => 5,
        Kind::Fifo => 6,
    }
}

/// Appends `number` as a LEB128 varint.
pub(super) fn put_varint(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 0x80")]
    buffer.push(number as u8);
}

/// Appends `bytes` with their length before them.
pub(super) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

impl Tree {
    /// The tree as bytes, as a store keeps it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parts = Parts::of(self);
        let packed = (parts.body.len() >= COMPRESS_FROM)
            .then(|| zstd::bulk::compress(&parts.body, ZSTD_LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < parts.body.len());
        let stored = packed.as_deref().unwrap_or(&parts.body);
        let mut bytes = Vec::with_capacity(
            HEADER + parts.directories.len() + parts.objects.len() + stored.len() + CHECKSUM,
        );
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&TREE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::from(packed.is_some()).to_le_bytes());
        let objects = parts.objects.len() / 32;
        for number in [self.entries.len(), self.directories.len(), objects, parts.body.len(), stored.len()] {
            bytes.extend_from_slice(&(number as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&parts.directories);
        bytes.extend_from_slice(&parts.objects);
        bytes.extend_from_slice(stored);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// A tree from the bytes that [`Tree::encode`] gave. Whatever the bytes are, this neither panics
    /// nor takes memory out of proportion; the digests inside are computed anew and compared.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let tree = Self::decode_own(bytes)?;
        if merkle::hash(&tree.entries, tree.directories.clone()) != tree.directories {
            return Err(DecodeError::Malformed(WRONG_TABLE));
        }
        Ok(tree)
    }

    /// [`Tree::decode`], for bytes that only we can have written: where the checksum is right, the digests
    /// are taken for what they say.
    pub(crate) fn decode_own(bytes: &[u8]) -> Result<Self, DecodeError> {
        let content = sealed(bytes, TREE_VERSION, HEADER)?;
        let header = Header::read(bytes)?;
        let (directories, rest) = content[HEADER..].split_at(header.directories * DIRECTORY);
        let (objects, stored) = rest.split_at(header.objects * 32);
        let unpacked;
        let body = if header.compressed {
            unpacked = unpack(stored, header.body)?;
            &unpacked
        } else {
            stored
        };
        let (entries, offsets) = read_entries(&header, objects, body)?;
        check_all(&entries, |_| false)?;
        check_order(&entries)?;
        let mut found = find_directories(&entries)?;
        if found.len() != header.directories {
            return Err(DecodeError::Malformed(WRONG_TABLE));
        }
        for (directory, row) in found.iter_mut().zip(directories.chunks_exact(DIRECTORY)) {
            directory.set_digest(row[16..].try_into().map_or(directory.digest(), Digest::from_bytes));
        }
        let tree = Self { entries, directories: found, origin: Origin::Unknown };
        // The table serves readers that skip subtrees, so it may not say anything else.
        if Parts::table(&tree, &offsets) != directories {
            return Err(DecodeError::Malformed(WRONG_TABLE));
        }
        Ok(tree)
    }
}

const WRONG_TABLE: &str = "its table of directories is wrong";

/// All of a file but its checksum, if that is right, the version `known`, and there are `least` bytes.
pub(super) fn sealed(bytes: &[u8], known: u32, least: usize) -> Result<&[u8], DecodeError> {
    let version = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::NotATree)?.get(..4);
    let version = version.and_then(|it| it.try_into().ok()).ok_or(DecodeError::Damaged)?;
    let found = u32::from_le_bytes(version);
    if found != known {
        return Err(DecodeError::Version { found });
    }
    let content = bytes.len().checked_sub(CHECKSUM).filter(|length| *length >= least);
    let (content, checksum) = bytes.split_at(content.ok_or(DecodeError::Damaged)?);
    if blake3::hash(content).as_bytes() == checksum { Ok(content) } else { Err(DecodeError::Damaged) }
}

/// The tree that a whole file says it is.
pub(super) fn named(bytes: &[u8]) -> Result<Digest, DecodeError> {
    let content = sealed(bytes, TREE_VERSION, HEADER)?;
    Header::read(bytes)?;
    let root = content.get(HEADER + 16..HEADER + DIRECTORY).and_then(|it| it.try_into().ok());
    root.map(Digest::from_bytes).ok_or(DecodeError::Damaged)
}

struct Header {
    compressed: bool,
    entries: usize,
    directories: usize,
    objects: usize,
    body: usize,
}

impl Header {
    /// Reads the header of a file whose checksum is right, and checks it against the number of bytes there
    /// are.
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let number = |place: usize| {
            let at = 16 + place * 8;
            let number = bytes[at..at + 8].try_into().map_or(u64::MAX, u64::from_le_bytes);
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let compressed = match word(12) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(DecodeError::Malformed("its compression is unknown")),
        };
        let header = Self {
            compressed,
            entries: number(0),
            directories: number(1),
            objects: number(2),
            body: number(3),
        };
        let stored = number(4);
        let length = header
            .directories
            .checked_mul(DIRECTORY)
            .and_then(|sum| header.objects.checked_mul(32)?.checked_add(sum))
            .and_then(|sum| sum.checked_add(stored)?.checked_add(HEADER + CHECKSUM));
        if length != Some(bytes.len()) {
            return Err(DecodeError::Damaged);
        }
        let sound = header.body <= MAX_BODY
            && header.entries <= MAX_ENTRIES
            && header.entries <= header.body / LEAST_ENTRY
            && header.directories <= header.entries
            && header.objects <= header.entries
            && (header.compressed || stored == header.body);
        if sound { Ok(header) } else { Err(DecodeError::Malformed("its numbers contradict each other")) }
    }
}

pub(super) fn unpack(stored: &[u8], length: usize) -> Result<Vec<u8>, DecodeError> {
    use std::io::Read;
    let wrong = |_| DecodeError::Malformed("its body doesn't decompress");
    // Grows with what really comes out: the length is only a claim.
    let mut body = Vec::with_capacity(length.min(stored.len().saturating_mul(16)));
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(wrong)?.single_frame();
    let limit = length as u64 + 1;
    decoder.by_ref().take(limit).read_to_end(&mut body).map_err(wrong)?;
    if body.len() != length || !decoder.finish().is_empty() {
        return Err(DecodeError::Malformed("its body has another length"));
    }
    Ok(body)
}

/// The parts of a tree's file.
struct Parts {
    directories: Vec<u8>,
    objects: Vec<u8>,
    body: Vec<u8>,
}

impl Parts {
    fn of(tree: &Tree) -> Self {
        let entries = &tree.entries;
        let mut metas = Metas::default();
        let numbers: Vec<u64> = entries
            .iter()
            .map(
                |entry| {
                    if matches!(entry.kind, Kind::Hardlink { .. }) { 0 } else { metas.number(&entry.meta) }
                },
            )
            .collect();
        let mut body = Vec::with_capacity(entries.len() * 32 + 64);
        put_varint(&mut body, metas.list.len() as u64);
        for meta in &metas.list {
            put_meta(&mut body, meta);
        }
        let mut objects = Vec::new();
        let mut offsets = Vec::with_capacity(tree.directories.len());
        let mut before: &[u8] = &[];
        for (entry, number) in entries.iter().zip(numbers) {
            if entry.is_directory() {
                offsets.push(Offset { body: body.len(), objects: objects.len() / 32 });
            }
            let shared = shared_length(&entry.path, before);
            put_varint(&mut body, shared as u64);
            put_bytes(&mut body, &entry.path[shared..]);
            body.push(tag(&entry.kind));
            if let Kind::Hardlink { target } = &entry.kind {
                put_varint(&mut body, tree.position(target).unwrap_or_default() as u64);
            } else {
                put_varint(&mut body, number);
                put_mtime(&mut body, entry.meta.mtime);
            }
            match &entry.kind {
                Kind::File { object, size } => {
                    put_varint(&mut body, *size);
                    objects.extend_from_slice(object.as_bytes());
                }
                Kind::Symlink { target } => put_bytes(&mut body, target),
                Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                    put_varint(&mut body, u64::from(*major));
                    put_varint(&mut body, u64::from(*minor));
                }
                Kind::Directory | Kind::Hardlink { .. } | Kind::Fifo => {}
            }
            before = &entry.path;
        }
        Self { directories: Self::table(tree, &offsets), objects, body }
    }

    fn table(tree: &Tree, offsets: &[Offset]) -> Vec<u8> {
        let mut table = Vec::with_capacity(tree.directories.len() * DIRECTORY);
        for (directory, offset) in tree.directories.iter().zip(offsets) {
            put_directory(&mut table, directory, offset);
        }
        table
    }
}

/// Where a directory's entry stands: in the body, and after how many objects.
struct Offset {
    body: usize,
    objects: usize,
}

#[allow(clippy::cast_possible_truncation, reason = "entries and body are below 2^31: MAX_ENTRIES, MAX_BODY")]
fn put_directory(table: &mut Vec<u8>, directory: &Directory, offset: &Offset) {
    for number in [directory.index(), directory.end(), offset.objects, offset.body] {
        table.extend_from_slice(&(number as u32).to_le_bytes());
    }
    table.extend_from_slice(directory.digest().as_bytes());
}

/// The different metas of a tree but for their times: a root has dozens, not thousands.
#[derive(Default)]
pub(super) struct Metas<'a> {
    pub(super) list: Vec<&'a Meta>,
    plain: std::collections::HashMap<MetaKey<'a>, u64>,
}

type MetaKey<'a> = (u32, u32, u32, &'a [(Vec<u8>, Vec<u8>)]);

impl<'a> Metas<'a> {
    pub(super) fn number(&mut self, meta: &'a Meta) -> u64 {
        let list = &mut self.list;
        *self.plain.entry((meta.mode, meta.uid, meta.gid, &meta.xattrs)).or_insert_with(|| {
            list.push(meta);
            list.len() as u64 - 1
        })
    }
}

pub(super) fn put_mtime(buffer: &mut Vec<u8>, mtime: Mtime) {
    // Zigzag: times before 1970 are legal, and stay short.
    let seconds = mtime.seconds;
    put_varint(buffer, (seconds.cast_unsigned() << 1) ^ (seconds >> 63).cast_unsigned());
    put_varint(buffer, u64::from(mtime.nanoseconds));
}

/// Reads numbers and byte strings off a slice.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

const SHORT: DecodeError = DecodeError::Malformed("its body ends early");

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(SHORT)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Malformed("a number in its body is too large"))
    }

    pub(super) fn word(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Malformed("a number in its body is too large"))
    }

    pub(super) fn size(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?).map_err(|_| SHORT)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.size()?;
        self.take(length)
    }

    pub(super) fn mtime(&mut self) -> Result<Mtime, DecodeError> {
        let zigzag = self.varint()?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        Ok(Mtime { seconds, nanoseconds: self.word()? })
    }

    fn meta(&mut self) -> Result<Meta, DecodeError> {
        let (mode, uid, gid) = (self.word()?, self.word()?, self.word()?);
        let mut xattrs = Vec::new();
        let count = self.size()?;
        if count > MAX_XATTRS {
            return Err(DecodeError::Malformed("an entry has too many attributes"));
        }
        for _ in 0..count {
            xattrs.push((self.bytes()?.to_vec(), self.bytes()?.to_vec()));
        }
        Ok(Meta { mode, uid, gid, mtime: Mtime::default(), xattrs })
    }

    /// What is neither a file nor a hardlink.
    pub(super) fn kind(&mut self, tag: u8) -> Result<Kind, DecodeError> {
        Ok(match tag {
            0 => Kind::Directory,
            2 => Kind::Symlink { target: self.bytes()?.to_vec() },
            4 => Kind::CharDevice { major: self.word()?, minor: self.word()? },
            5 => Kind::BlockDevice { major: self.word()?, minor: self.word()? },
            6 => Kind::Fifo,
            _ => return Err(DecodeError::Malformed("an entry is of an unknown kind")),
        })
    }

    pub(super) fn metas(&mut self) -> Result<Vec<Meta>, DecodeError> {
        let mut metas = Vec::new();
        let mut text = 0usize;
        for _ in 0..self.varint()? {
            let meta = self.meta()?;
            text = text.saturating_add(xattr_length(&meta));
            within(text)?;
            metas.push(meta);
        }
        Ok(metas)
    }
}

fn read_entries(
    header: &Header,
    objects: &[u8],
    body: &[u8],
) -> Result<(Vec<Entry>, Vec<Offset>), DecodeError> {
    let mut reader = Reader { bytes: body, at: 0 };
    let metas = reader.metas()?;
    let count = objects.len() / 32;
    let mut objects = objects.chunks_exact(32);
    let mut entries: Vec<Entry> = Vec::with_capacity(header.entries.min(1 << 16));
    let mut offsets = Vec::with_capacity(header.directories.min(1 << 16));
    let mut text = 0usize;
    for _ in 0..header.entries {
        let offset = Offset { body: reader.at, objects: count - objects.len() };
        let path = read_path(&mut reader, entries.last())?;
        let tag = reader.byte()?;
        let (meta, kind) = if tag == TAG_HARDLINK {
            read_hardlink(reader.size()?, &entries)?
        } else {
            let number = reader.size()?;
            let meta = metas.get(number).ok_or(DecodeError::Malformed("an entry's metadata is missing"))?;
            let mtime = reader.mtime()?;
            (Meta { mtime, ..meta.clone() }, read_kind(tag, &mut reader, &mut objects)?)
        };
        if matches!(kind, Kind::Directory) {
            offsets.push(offset);
        }
        let entry = Entry { path, meta, kind };
        text = text.saturating_add(text_length(&entry));
        within(text)?;
        entries.push(entry);
    }
    if reader.at != body.len() || objects.len() != 0 {
        return Err(DecodeError::Malformed("it has more than its entries"));
    }
    Ok((entries, offsets))
}

/// What front coding and shared metadata unfold to is bounded, whatever the file's own size.
pub(super) fn within(text: usize) -> Result<(), DecodeError> {
    if text > MAX_TEXT {
        return Err(DecodeError::Malformed("it unfolds to more than 1 GiB"));
    }
    Ok(())
}

pub(super) fn read_path(reader: &mut Reader<'_>, before: Option<&Entry>) -> Result<Vec<u8>, DecodeError> {
    let shared = reader.size()?;
    let rest = reader.bytes()?;
    let shared = before
        .map_or(&[][..], |entry| &entry.path)
        .get(..shared)
        .ok_or(DecodeError::Malformed("a path shares more than there is"))?;
    if shared.len() + rest.len() > MAX_PATH {
        return Err(DecodeError::Malformed("a path is too long"));
    }
    let mut path = Vec::with_capacity(shared.len() + rest.len());
    path.extend_from_slice(shared);
    path.extend_from_slice(rest);
    Ok(path)
}

fn read_hardlink(first: usize, entries: &[Entry]) -> Result<(Meta, Kind), DecodeError> {
    let first = entries.get(first).ok_or(DecodeError::Malformed("a hardlink comes before its first name"))?;
    if matches!(first.kind, Kind::Directory | Kind::Hardlink { .. }) {
        return Err(DecodeError::Malformed("a hardlink to a directory or to a hardlink"));
    }
    Ok((first.meta.clone(), Kind::Hardlink { target: first.path.clone() }))
}

fn read_kind(
    tag: u8,
    reader: &mut Reader<'_>,
    objects: &mut std::slice::ChunksExact<'_, u8>,
) -> Result<Kind, DecodeError> {
    if tag != 1 {
        return reader.kind(tag);
    }
    let size = reader.varint()?;
    let object = objects.next().and_then(|bytes| bytes.try_into().ok());
    let object = object.ok_or(DecodeError::Malformed("a file has no object"))?;
    Ok(Kind::File { object: Digest::from_bytes(object), size })
}

#[cfg(test)]
mod tests;
