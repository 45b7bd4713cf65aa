//! What a package holds: an archive in cpio's format, compressed.

use std::io::{self, BufRead, BufReader, Read};

use super::header::wrong;

/// Bytes of a member's head.
const HEAD: usize = 110;
/// Most bytes of a name.
const NAME_MAX: u64 = 4096;
/// The name of what stands at the end.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Decompresses, whatever the bytes are compressed with.
pub(super) fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    /// Most memory that a decompressor may want: xz's largest preset needs 65 MB.
    const MEMORY: u64 = 256 << 20;
    let start = input.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, 0).map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        [0x5d, 0, 0, ..] => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(MEMORY).map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(input)?),
        [b'0', b'7', b'0', b'7', b'0', ..] => Box::new(input),
        [b'B', b'Z', b'h', ..] => {
            return Err(wrong("its payload is compressed with bzip2, which isn't supported"));
        }
        _ => return Err(wrong("its payload is compressed in a way that isn't known")),
    })
}

/// A member of the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// As it stands there; not to be trusted.
    pub(super) name: Vec<u8>,
    /// Type and permissions.
    pub(super) mode: u32,
    /// What tells that two members are one file.
    pub(super) inode: u64,
    /// How many names the file has.
    pub(super) links: u64,
    /// Bytes of content that follow.
    pub(super) size: u64,
}

/// Reads the members, one after the other.
pub(super) struct Members<R> {
    input: BufReader<R>,
    /// What is left of the present member, its padding included.
    left: u64,
    padding: u64,
}

impl<R: Read> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(128 << 10, input), left: 0, padding: 0 }
    }

    /// The next member; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        self.skip(self.left + self.padding)?;
        let mut head = [0; HEAD];
        self.input.read_exact(&mut head)?;
        if !matches!(&head[..6], b"070701" | b"070702") {
            return Err(wrong("a member of its payload isn't where it should be, or is larger than 4 GB"));
        }
        // 8 hexadecimal digits each: ino mode uid gid nlink mtime filesize devmajor devminor … namesize check
        let field = |index: usize| -> io::Result<u64> {
            let digits = &head[6 + index * 8..14 + index * 8];
            let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
            let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
            number.ok_or_else(|| wrong("a number in its payload is none"))
        };
        let length = field(11)?;
        if !(1..=NAME_MAX).contains(&length) {
            return Err(wrong("a name in its payload is too long"));
        }
        let mut name = Vec::new();
        (&mut self.input).take(length).read_to_end(&mut name)?;
        if name.len() as u64 != length || name.pop() != Some(0) {
            return Err(wrong("a name in its payload has no end"));
        }
        (self.left, self.padding) = (0, 0);
        self.skip(padding(HEAD as u64 + length))?;
        if name == TRAILER {
            return Ok(None);
        }
        let mode = u32::try_from(field(1)?).map_err(io::Error::other)?;
        let member = Member { name, mode, inode: field(0)?, links: field(4)?, size: field(6)? };
        (self.left, self.padding) = (member.size, padding(member.size));
        Ok(Some(member))
    }

    /// Reads of the present member's content; 0 at its end.
    pub(super) fn content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.input).take(bytes), &mut io::sink())? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What is missing to a multiple of four.
fn padding(bytes: u64) -> u64 {
    (4 - bytes % 4) % 4
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// An archive of these members: name, mode, inode, links, content.
    pub(in super::super) fn archive(members: &[(&str, u32, u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let end = ("TRAILER!!!", 0, 0, 1, &b""[..]);
        for (name, mode, inode, links, content) in members.iter().chain([&end]) {
            let (size, length) = (content.len(), name.len() + 1);
            write!(bytes, "070701{inode:08x}{mode:08x}{:016x}{links:08x}{:08x}{size:08x}", 0, 0).unwrap();
            write!(bytes, "{:032x}{length:08x}{:08x}{name}\0", 0, 0).unwrap();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn members_come_with_their_content_however_they_are_compressed() {
        let plain = archive(&[("./a", 0o100644, 7, 1, b"hello"), ("./d", 0o40755, 8, 2, b"")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let lzma = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), lzma);
        lzma.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in
            [plain.clone(), gzip.finish().unwrap(), xz.finish().unwrap(), lzma.finish().unwrap(), zstd]
        {
            let mut members = Members::new(decompress(bytes.as_slice()).unwrap());
            let first = members.next().unwrap().unwrap();
            assert_eq!((first.name.as_slice(), first.mode, first.size), (&b"./a"[..], 0o100644, 5));
            let mut buffer = [0; 99];
            let read = members.content(&mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"hello");
            assert_eq!(members.content(&mut buffer).unwrap(), 0);
            assert_eq!(members.next().unwrap().unwrap().name, b"./d");
            assert_eq!(members.next().unwrap(), None);
        }
        assert!(decompress(&b"BZh9"[..]).is_err() && decompress(&b""[..]).is_err());
    }

    #[test]
    fn an_archive_that_is_cut_off_or_damaged_is_refused_everywhere() {
        let whole = archive(&[("./a", 0o100644, 7, 1, b"hello"), ("./d", 0o40755, 8, 2, b"")]);
        let all = |bytes: &[u8]| -> io::Result<()> {
            let mut members = Members::new(bytes);
            while members.next()?.is_some() {}
            Ok(())
        };
        all(&whole).unwrap();
        for end in 0..whole.len() - 3 {
            assert!(all(&whole[..end]).is_err(), "{end}");
        }
        for (at, bytes) in [(0, b"0"), (14, b"z"), (94, b"f"), (14, b"+")] {
            let mut bad = whole.clone();
            bad[at + 1] = bytes[0];
            assert!(all(&bad).is_err(), "{at}");
        }
    }
}
