//! The headers of a package file: read from bytes that nobody has vouched for yet.
//!
//! Read by hand: what is signed are the header's own bytes, of which a parser that gives back structures
//! has to make new ones, and no size is believed before it is bounded.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of the lead, and what it starts with.
const LEAD: usize = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// What a header starts with: its magic and version.
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];
/// Most entries, and most bytes of data, of a header: what rpm itself takes.
const ENTRIES_MAX: u32 = 0xffff;
const DATA_MAX: u32 = 256 << 20;

/// Types of values.
const INT16: u32 = 3;
const INT32: u32 = 4;
const STRING: u32 = 6;
const BINARY: u32 = 7;
const STRINGS: u32 = 8;

/// A header: its bytes as they are in the file, and where its values lie in them.
#[derive(Debug)]
pub(super) struct Header {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where the data starts in `bytes`.
    data: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

/// A package file, opened behind its headers.
#[derive(Debug)]
pub(super) struct PackageFile {
    /// What stands before the signed part: the signatures.
    pub(super) signatures: Header,
    /// What the package is.
    pub(super) header: Header,
    /// The rest: the compressed payload.
    pub(super) payload: BufReader<File>,
}

impl PackageFile {
    /// Opens a package file and reads its headers.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(64 << 10, File::open(path)?);
        let mut lead = [0; LEAD];
        reader.read_exact(&mut lead)?;
        if lead[..4] != LEAD_MAGIC {
            return Err(wrong("it is no RPM package"));
        }
        let signatures = Header::read(&mut reader)?;
        let padding = (8 - signatures.bytes.len() % 8) % 8;
        reader.read_exact(&mut lead[..padding])?;
        let header = Header::read(&mut reader)?;
        Ok(Self { signatures, header, payload: reader })
    }

    /// Where in the file the payload starts.
    pub(super) fn start(&self) -> u64 {
        (LEAD + self.signatures.bytes.len().next_multiple_of(8) + self.header.bytes.len()) as u64
    }

    /// The payload from its start, as it is in the file.
    pub(super) fn rewound(&mut self) -> io::Result<&mut BufReader<File>> {
        self.payload.seek(SeekFrom::Start(self.start()))?;
        Ok(&mut self.payload)
    }
}

impl Header {
    pub(super) fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut bytes = vec![0; 16];
        reader.read_exact(&mut bytes)?;
        let (entries, size) = (number(&bytes, 8), number(&bytes, 12));
        if bytes[..4] != HEADER_MAGIC {
            return Err(wrong("a header isn't where it should be"));
        }
        if entries > ENTRIES_MAX || size > DATA_MAX {
            return Err(wrong("a header is too large"));
        }
        let (entries, rest) = (entries as usize, entries as u64 * 16 + u64::from(size));
        // No more memory than there are bytes.
        if reader.take(rest).read_to_end(&mut bytes)? as u64 != rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let entry = |at: usize| Entry {
            tag: number(&bytes, at),
            kind: number(&bytes, at + 4),
            offset: number(&bytes, at + 8) as usize,
            count: number(&bytes, at + 12) as usize,
        };
        let entries = (0..entries).map(|index| entry(16 + index * 16)).collect::<Vec<_>>();
        let data = 16 + entries.len() * 16;
        Ok(Self { bytes, entries, data })
    }

    /// The header as it is in the file: what is signed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The data from where the value of `tag` starts, if it is of that kind, and its count.
    fn value(&self, tag: u32, kind: u32) -> Option<(&[u8], usize)> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag && entry.kind == kind)?;
        Some((self.bytes.get(self.data.checked_add(entry.offset)?..)?, entry.count))
    }

    /// A binary value.
    pub(super) fn binary(&self, tag: u32) -> Option<&[u8]> {
        let (data, count) = self.value(tag, BINARY)?;
        data.get(..count)
    }

    /// The first string of a value; those that aren't UTF-8 don't count.
    pub(super) fn string(&self, tag: u32) -> Option<&str> {
        let (data, _) = self.value(tag, STRING).or_else(|| self.value(tag, STRINGS))?;
        std::str::from_utf8(until_nul(data)?).ok()
    }

    /// All strings of a value; none where it isn't there.
    pub(super) fn strings(&self, tag: u32) -> io::Result<Vec<&[u8]>> {
        let Some((mut data, count)) = self.value(tag, STRINGS) else { return Ok(Vec::new()) };
        let mut strings = Vec::new();
        for _ in 0..count {
            let string = until_nul(data).ok_or_else(|| wrong("a header's text has no end"))?;
            data = &data[string.len() + 1..];
            strings.push(string);
        }
        Ok(strings)
    }

    /// All numbers of a value (of 32 or 16 bits); none where it isn't there.
    pub(super) fn numbers(&self, tag: u32) -> io::Result<Vec<u32>> {
        let short = |data: &[u8]| u32::from(u16::from_be_bytes([data[0], data[1]]));
        let ((data, count), width) = match (self.value(tag, INT32), self.value(tag, INT16)) {
            (Some(value), _) => (value, 4),
            (None, Some(value)) => (value, 2),
            (None, None) => return Ok(Vec::new()),
        };
        let data = count.checked_mul(width).and_then(|length| data.get(..length));
        let data = data.ok_or_else(|| wrong("a header's numbers go beyond its end"))?;
        Ok(data.chunks_exact(width).map(|it| if width == 4 { number(it, 0) } else { short(it) }).collect())
    }
}

fn until_nul(data: &[u8]) -> Option<&[u8]> {
    Some(&data[..data.iter().position(|byte| *byte == 0)?])
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// An error about what is in the file.
pub(super) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header of these values, as it would be in a file.
    pub(in super::super) fn header(values: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|(.., bytes)| bytes.iter().copied()).collect();
        let mut header = [&HEADER_MAGIC[..], &[0; 4]].concat();
        header.extend(u32::try_from(values.len()).unwrap().to_be_bytes());
        header.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let mut offset = 0;
        for (tag, kind, count, bytes) in values {
            for number in [*tag, *kind, offset, *count] {
                header.extend(number.to_be_bytes());
            }
            offset += u32::try_from(bytes.len()).unwrap();
        }
        header.extend(data);
        header
    }

    #[test]
    fn values_are_found_by_tag_and_kind() {
        let bytes = header(&[
            (1000, STRING, 1, b"bash\0"),
            (1027, STRINGS, 2, b"a\0bc\0"),
            (1030, INT16, 2, &[0o100, 0, 1, 2]),
            (1028, INT32, 1, &[0, 1, 0, 0]),
            (268, BINARY, 3, b"sig"),
        ]);
        let header = Header::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(header.bytes(), bytes);
        assert_eq!(header.string(1000), Some("bash"));
        assert_eq!(header.strings(1027).unwrap(), [&b"a"[..], b"bc"]);
        assert_eq!(header.numbers(1030).unwrap(), [0o40000, 258]);
        assert_eq!(header.numbers(1028).unwrap(), [65536]);
        assert_eq!(header.binary(268), Some(&b"sig"[..]));
        assert_eq!((header.string(268), header.binary(1), header.numbers(1).unwrap().len()), (None, None, 0));
    }

    #[test]
    fn a_header_that_lies_about_its_sizes_is_refused() {
        let good = header(&[(1028, INT32, 9, &[0; 4]), (1027, STRINGS, 2, b"a\0"), (268, BINARY, 99, b"x")]);
        let read = Header::read(&mut good.as_slice()).unwrap();
        assert!(read.numbers(1028).is_err() && read.strings(1027).is_err() && read.binary(268).is_none());
        for (at, bytes) in [(8, [0xff; 4]), (12, [0xff; 4]), (12, [0, 0, 0xff, 0]), (0, [0; 4])] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&bytes);
            assert!(Header::read(&mut bad.as_slice()).is_err(), "{at} {bytes:?}");
        }
        let mut far = good;
        far[16 + 8..16 + 12].copy_from_slice(&[0xff; 4]);
        assert!(Header::read(&mut far.as_slice()).unwrap().numbers(1028).unwrap().is_empty());
    }
}
