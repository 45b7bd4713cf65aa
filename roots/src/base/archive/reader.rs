//! The members of an archive, one after the other.
//!
//! Read by hand rather than by the `tar` crate's iterator, which reads extended headers of any size
//! into memory, doesn't know GNU tar's present way of keeping holes, and stops without a word at an
//! archive's end, whether that is one or the file was cut off there.

use std::io::Read;

use rootbuild_cache::{Meta, Mtime};

use super::Limits;
use super::acl;
use super::error::{Problem, Refusal};
use super::header::{self, BLOCK, Block, Dialect, Header};
use super::input::problem_of;
use super::names::show;
use super::pax::Records;
use super::sparse::{self, Described, Piece};

/// Up to this size no archive is too large for what it is packed in.
const RATIO_FROM: u64 = 256 << 20;
/// Most bytes in the extended header of one member, and in those that count for all.
const EXTENDED_MAX: u64 = 8 << 20;
const GLOBAL_MAX: u64 = 16 << 10;
/// Most bytes in GNU's header for a long name.
const LONG_MAX: u64 = 64 << 10;

/// A member, with what the archive says about it in any of its headers.
#[derive(Debug)]
pub(super) struct Member {
    /// As it stands in the archive; not to be trusted.
    pub name: Vec<u8>,
    pub kind: Kind,
    pub meta: Meta,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// A file of `size` bytes; the archive holds `pieces` of it, the rest is holes.
    File {
        size: u64,
        pieces: Vec<Piece>,
    },
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// Reads the members from the archive's blocks.
pub(super) struct Reader<R> {
    input: R,
    limits: Limits,
    /// The archive's size as a file, if it is known.
    packed: Option<u64>,
    /// How many bytes and headers were read.
    position: u64,
    headers: u64,
    /// What is left of the present member's data, and of the padding behind it.
    data: u64,
    padding: u64,
    global: Records,
    /// The member that was read last.
    last: Option<Vec<u8>>,
}

/// What was said about a member before its header.
#[derive(Default)]
struct Ahead {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R, limits: Limits) -> Self {
        let global = Records::default();
        let packed = None;
        Self { input, limits, packed, position: 0, headers: 0, data: 0, padding: 0, global, last: None }
    }

    /// Says how large the archive is as a file.
    pub(super) fn packed(self, packed: u64) -> Self {
        Self { packed: Some(packed), ..self }
    }

    /// The next member, `None` at the end of the archive (nothing but zeros follows there).
    pub(super) fn next(&mut self) -> Result<Option<Member>, Problem> {
        self.skip_data()?;
        let mut ahead = Ahead::default();
        loop {
            let first = self.position == 0;
            let Some(block) = self.block_or_end()? else {
                return Err(if first {
                    Problem::NotTar { looks_like: None }
                } else {
                    Problem::Truncated { place: self.place("without its end mark, after") }
                });
            };
            if block == [0; BLOCK] {
                if ahead.records.is_some() || ahead.name.is_some() || ahead.link.is_some() {
                    return Err(self.corrupt("an extended header belongs to no member"));
                }
                self.end()?;
                return Ok(None);
            }
            let Some(header) = Header::new(block) else {
                return Err(if first {
                    Problem::NotTar { looks_like: super::input::looks_like(&block) }
                } else {
                    self.corrupt("a header's checksum is wrong")
                });
            };
            self.headers += 1;
            if self.headers > self.limits.entries {
                return Err(self.limit("members", self.limits.entries));
            }
            if !self.ahead(&header, &mut ahead)? {
                return self.member(&header, ahead).map(Some);
            }
        }
    }

    /// Takes a header that speaks of what follows; `false` where this is a member itself.
    fn ahead(&mut self, header: &Header, ahead: &mut Ahead) -> Result<bool, Problem> {
        let twice = |taken: bool, reader: &Self| {
            if taken { Err(reader.corrupt("a member has two extended headers of one kind")) } else { Ok(()) }
        };
        match header.kind() {
            b'x' => {
                twice(ahead.records.is_some(), self)?;
                let data = self.whole(header, EXTENDED_MAX)?;
                let records = Records::parse(&data).map_err(|refusal| self.corrupt(refusal.to_string()))?;
                ahead.records = Some(records);
            }
            b'g' => {
                let data = self.whole(header, GLOBAL_MAX)?;
                let records = Records::parse(&data).map_err(|refusal| self.corrupt(refusal.to_string()))?;
                let own = ["path", "linkpath", "size"].iter().any(|key| records.get(key).is_some());
                if own || records.has_prefix("GNU.sparse.") {
                    return Err(self.corrupt("a global header names a member"));
                }
                self.global.add(records);
                if self.global.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64
                    > GLOBAL_MAX
                {
                    return Err(self.corrupt("its global headers are too long"));
                }
            }
            b'L' => {
                twice(ahead.name.is_some(), self)?;
                ahead.name = Some(without_nul(self.whole(header, LONG_MAX)?));
            }
            b'K' => {
                twice(ahead.link.is_some(), self)?;
                ahead.link = Some(without_nul(self.whole(header, LONG_MAX)?));
            }
            // The label of a volume: a name, nothing else.
            b'V' => {
                self.data(header.size().map_err(|refusal| self.corrupt(refusal.to_string()))?)?;
                self.skip_data()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn member(&mut self, header: &Header, ahead: Ahead) -> Result<Member, Problem> {
        let own = ahead.records.unwrap_or_default();
        let named = own.get("GNU.sparse.name").or_else(|| own.get("path")).map(<[u8]>::to_vec);
        let name = named.or(ahead.name).unwrap_or_else(|| header.name());
        let link = own.get("linkpath").map(<[u8]>::to_vec).or(ahead.link);
        let link = link.unwrap_or_else(|| header.link());
        let member = self.describe(header, &own, name.clone(), link)?;
        self.last = Some(name);
        Ok(member)
    }

    fn describe(
        &mut self,
        header: &Header,
        own: &Records,
        name: Vec<u8>,
        link: Vec<u8>,
    ) -> Result<Member, Problem> {
        let refuse = |refusal| Problem::member(&name, refusal);
        let records = self.global.with(own.clone());
        if records.has_prefix("GNU.volume.") {
            return Err(refuse(Refusal::Volume));
        }
        if records.has_prefix("GNU.dumpdir") {
            return Err(refuse(Refusal::Incremental));
        }
        if own.has_prefix("SCHILY.realsize") {
            return Err(refuse(Refusal::Sparse("it is written as `star` does it")));
        }
        let mut meta = meta(header, &records).map_err(refuse)?;
        let size = size(header, own).map_err(refuse)?;
        let content = |what| if size == 0 { Ok(()) } else { Err(refuse(Refusal::Content(what))) };
        let kind = match header.kind() {
            // A slash at the end made a directory before there was a type for it.
            b'0' | b'\0' | b'7' | b'5' if header.kind() == b'5' || name.ends_with(b"/") => {
                content("directory")?;
                Kind::Directory
            }
            b'0' | b'\0' | b'7' => {
                self.data(size)?;
                self.file(&name, size, own)?
            }
            b'S' => {
                self.data(0)?;
                let file = self.gnu_sparse(&name, header, size)?;
                self.data(size)?;
                file
            }
            b'1' => {
                content("hard link")?;
                Kind::Hardlink(link)
            }
            b'2' => {
                content("symbolic link")?;
                meta.mode = 0o777;
                Kind::Symlink(link)
            }
            b'3' | b'4' => {
                content("device")?;
                let (major, minor) = header.device().map_err(refuse)?;
                if header.kind() == b'3' {
                    Kind::CharDevice(major, minor)
                } else {
                    Kind::BlockDevice(major, minor)
                }
            }
            b'6' => {
                content("FIFO")?;
                Kind::Fifo
            }
            b'M' => return Err(refuse(Refusal::Volume)),
            b'D' => return Err(refuse(Refusal::Incremental)),
            other => return Err(refuse(Refusal::Type(other))),
        };
        Ok(Member { name, kind, meta })
    }

    /// A regular file, whose data begins here.
    fn file(&mut self, name: &[u8], stored: u64, own: &Records) -> Result<Kind, Problem> {
        let refuse = |refusal| Problem::member(name, refusal);
        let (size, pieces) = match sparse::described(own).map_err(refuse)? {
            None => return Ok(Kind::File { size: stored, pieces: vec![(0, stored)] }),
            Some(Described::Here(size, pieces)) => (size, pieces),
            Some(Described::InData(size)) => {
                let pieces = sparse::in_data(|| {
                    let mut block = [0; BLOCK];
                    if self.data < BLOCK as u64 {
                        return Err(refuse(Refusal::Sparse("it isn't complete")));
                    }
                    self.exact(&mut block, name)?;
                    self.data -= BLOCK as u64;
                    Ok(block)
                })?;
                (size, pieces.map_err(refuse)?)
            }
        };
        let pieces = sparse::checked(size, self.data, pieces).map_err(refuse)?;
        Ok(Kind::File { size, pieces })
    }

    /// A file with holes as GNU tar first kept them: in further blocks behind the header.
    fn gnu_sparse(&mut self, name: &[u8], header: &Header, stored: u64) -> Result<Kind, Problem> {
        let bad = || Problem::member(name, Refusal::Sparse("it can't be read"));
        if header.dialect != Dialect::Gnu {
            return Err(bad());
        }
        let (size, mut pieces, mut more) = header.sparse().ok_or_else(bad)?;
        while more {
            let mut block = [0; BLOCK];
            self.exact(&mut block, name)?;
            self.headers += 1;
            if self.headers > self.limits.entries {
                return Err(self.limit("members", self.limits.entries));
            }
            let (further, again) = header::more_sparse(&block).ok_or_else(bad)?;
            pieces.extend(further);
            more = again;
        }
        let pieces =
            sparse::checked(size, stored, pieces).map_err(|refusal| Problem::member(name, refusal))?;
        Ok(Kind::File { size, pieces })
    }

    /// Reads the present member's data, in the order of its pieces, into the whole of `buffer`.
    pub(super) fn read_data(&mut self, buffer: &mut [u8], name: &[u8]) -> Result<(), Problem> {
        let wanted = buffer.len() as u64;
        if wanted > self.data {
            return Err(Problem::member(name, Refusal::Sparse("it is longer than the member")));
        }
        self.exact(buffer, name)?;
        self.data -= wanted;
        Ok(())
    }

    /// How many bytes were read of the archive, before compression.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Begins the data of a header: so many bytes, then zeros up to the next block.
    fn data(&mut self, size: u64) -> Result<(), Problem> {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        if size > self.limits.bytes {
            return Err(self.limit("bytes", self.limits.bytes));
        }
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 16 * BLOCK];
        let mut left = self.data + self.padding;
        let last = self.last.clone().unwrap_or_default();
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.exact(&mut buffer[..part], &last)?;
            left -= part as u64;
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    /// All data of a header that speaks of others.
    fn whole(&mut self, header: &Header, most: u64) -> Result<Vec<u8>, Problem> {
        let size = header.size().map_err(|refusal| self.corrupt(refusal.to_string()))?;
        if size > most {
            return Err(self.corrupt("an extended header is too long"));
        }
        self.data(size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.exact(&mut data, b"(extended header)")?;
        self.data = 0;
        self.skip_data()?;
        Ok(data)
    }

    /// A block of headers; `None` at the end of the file.
    fn block_or_end(&mut self) -> Result<Option<Block>, Problem> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ if self.position < BLOCK as u64 => Err(Problem::NotTar { looks_like: None }),
            _ => Err(Problem::Truncated { place: self.place("in a header after") }),
        }
    }

    fn exact(&mut self, buffer: &mut [u8], name: &[u8]) -> Result<(), Problem> {
        if self.fill(buffer)? < buffer.len() {
            return Err(Problem::Truncated { place: format!("in the member `{}`", show(name)) });
        }
        Ok(())
    }

    /// Reads as much as there is; every byte of the archive comes through here.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(problem_of(error, self.last.as_deref().map(show)));
                }
            }
        }
        self.position += filled as u64;
        // Headers, padding and what follows the end count too: none of it may go on for ever.
        if self.position
            > self.limits.bytes.saturating_add(self.limits.entries.saturating_mul(2 * BLOCK as u64))
        {
            return Err(self.limit("bytes", self.limits.bytes));
        }
        if let Some(packed) = self.packed
            && self.position > RATIO_FROM
            && self.position / packed.max(1) > self.limits.ratio
        {
            return Err(self.limit("times its size inside", self.limits.ratio));
        }
        Ok(filled)
    }

    /// After the end mark: zeros up to the end of the file.
    fn end(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 16 * BLOCK];
        loop {
            let count = self.fill(&mut buffer)?;
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(Problem::Trailing);
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn place(&self, how: &str) -> String {
        let last = self.last.as_deref().unwrap_or_default();
        format!("{how} the member `{}`", show(last))
    }

    fn corrupt(&self, message: impl Into<String>) -> Problem {
        Problem::Corrupt { last: self.last.as_deref().map(show), message: message.into() }
    }

    pub(super) fn limit(&self, what: &'static str, limit: u64) -> Problem {
        Problem::Limit { what, limit, last: self.last.as_deref().map(show) }
    }
}

/// GNU's long names end with a NUL; one anywhere else is for the check of names to find.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn meta(header: &Header, records: &Records) -> Result<Meta, Refusal> {
    let uid = records.id("uid", "owner")?.map_or_else(|| header.uid(), Ok)?;
    let gid = records.id("gid", "group")?.map_or_else(|| header.gid(), Ok)?;
    let mtime = match records.mtime()? {
        Some(mtime) => mtime,
        None => Mtime { seconds: header.mtime()?, nanoseconds: 0 },
    };
    Ok(Meta { mode: header.mode()?, uid, gid, mtime, xattrs: acl::xattrs(records)? })
}

/// The size of a member's data. Where the header has no room for it, only the extended header says
/// it; else both must say the same, or two readers would see two archives.
fn size(header: &Header, own: &Records) -> Result<u64, Refusal> {
    const HEADER_MAX: u64 = 0o777_7777_7777;
    let Some(extended) = own.number("size", "size")? else { return header.size() };
    if extended > i64::MAX.cast_unsigned() {
        return Err(Refusal::Number("size"));
    }
    match header.size() {
        Ok(header) if header != extended && extended <= HEADER_MAX => {
            Err(Refusal::Sizes { header, extended })
        }
        _ => Ok(extended),
    }
}
