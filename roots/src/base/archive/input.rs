//! The archive's file: read once, hashed and counted on the way, decompressed by what it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::error::Problem;
use crate::cancel::Cancel;
use crate::progress::{StepEvent, StepSink};

const BUFFER: usize = 256 * 1024;
/// How often progress is told.
const TELL_EACH: u64 = 4 << 20;
/// Memory a decompressor may take; `xz -9` needs 64 MiB, `zstd --long=29` 512 MiB.
const MEMORY_MAX: u64 = 1 << 30;
const WINDOW_LOG_MAX: u32 = 30;

/// Reads the file from its beginning, whatever was read of it before.
pub(super) struct Source<'a> {
    file: &'a File,
    at: u64,
    size: u64,
    told: u64,
    hash: Sha256,
    cancel: &'a Cancel,
    sink: StepSink<'a>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a File, cancel: &'a Cancel, sink: StepSink<'a>) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, at: 0, size, told: 0, hash: Sha256::new(), cancel, sink })
    }

    /// The file's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads what is left of the file, and gives its sha256 in hexadecimal digits.
    pub(super) fn digest(mut self) -> io::Result<String> {
        let mut buffer = vec![0; BUFFER];
        while self.read(&mut buffer)? > 0 {}
        self.tell(self.at);
        Ok(self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn tell(&mut self, done: u64) {
        self.told = done;
        (self.sink)(StepEvent::Progress { done, total: self.size.max(done), bytes: true });
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        let count = loop {
            match self.file.read_at(buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.hash.update(&buffer[..count]);
        self.at += count as u64;
        if self.at - self.told >= TELL_EACH {
            self.tell(self.at);
        }
        Ok(count)
    }
}

/// What compresses an archive that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// The archive's blocks, decompressed if its first bytes say that it is compressed.
pub(super) fn open<'a>(source: impl Read + 'a) -> Result<(Box<dyn Read + 'a>, Compression), Problem> {
    let mut input = BufReader::with_capacity(BUFFER, source);
    let start = input.fill_buf().map_err(Problem::Read)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => {
            let gzip = Gzip { member: Some(GzDecoder::new(input)) };
            (named(Box::new(gzip), Compression::Gzip), Compression::Gzip)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(MEMORY_MAX, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| Problem::Read(error.into()))?;
            let xz = liblzma::bufread::XzDecoder::new_stream(input, stream);
            (named(Box::new(xz), Compression::Xz), Compression::Xz)
        }
        // A frame, or one that is to be skipped (`pzstd` begins with those).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut zstd = zstd::stream::read::Decoder::with_buffer(input).map_err(Problem::Read)?;
            zstd.window_log_max(WINDOW_LOG_MAX).map_err(Problem::Read)?;
            (named(Box::new(zstd), Compression::Zstd), Compression::Zstd)
        }
        _ => {
            if let Some(kind) = other_compression(start) {
                return Err(Problem::Compression(kind));
            }
            (Box::new(input), Compression::None)
        }
    })
}

/// Gzip allows several members in a row; zeros may follow the last.
struct Gzip<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            match member.read(buffer)? {
                0 => {}
                count => return Ok(count),
            }
            let Some(ended) = self.member.take() else { break };
            let mut input = ended.into_inner();
            match input.fill_buf()?.first() {
                Some(0x1f) => self.member = Some(GzDecoder::new(input)),
                _ => only_zeros(input)?,
            }
        }
        Ok(0)
    }
}

fn only_zeros(mut input: impl BufRead) -> io::Result<()> {
    loop {
        let part = input.fill_buf()?;
        let length = part.len();
        if length == 0 {
            return Ok(());
        }
        if part.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows after their end"));
        }
        input.consume(length);
    }
}

/// An error of a decompressor, marked as such; errors of the file below pass as they are.
#[derive(Debug)]
struct Damaged {
    kind: &'static str,
    message: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Damaged {}

struct Named<'a> {
    inner: Box<dyn Read + 'a>,
    kind: &'static str,
}

fn named<'a>(inner: Box<dyn Read + 'a>, compression: Compression) -> Box<dyn Read + 'a> {
    // Headers are read 512 bytes at a time: not each through the decompressor.
    Box::new(BufReader::with_capacity(BUFFER, Named { inner, kind: compression.name() }))
}

impl Read for Named<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let passes = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted;
            if passes {
                return error;
            }
            let message = match error.kind() {
                io::ErrorKind::UnexpectedEof => "they end in the middle (the file is truncated)".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), Damaged { kind: self.kind, message })
        })
    }
}

/// What an error while reading the archive means; `last` is the last whole member.
pub(super) fn problem_of(error: io::Error, last: Option<String>) -> Problem {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Damaged>()) {
        Some(damaged) => Problem::Damaged { kind: damaged.kind, last, message: damaged.message.clone() },
        None => Problem::Read(error),
    }
}

fn other_compression(start: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 6] = [
        (b"BZh", "bzip2"),
        (b"LZIP", "lzip"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x89LZO", "lzop"),
        (b"\x1f\x9d", "compress"),
        (b"\x5d\0\0", "lzma"),
    ];
    magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind)
}

/// What a file that is no tar archive may be, by its first bytes.
pub(super) fn looks_like(start: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 9] = [
        (b"PK\x03\x04", "a zip file"),
        (b"070701", "a cpio archive"),
        (b"hsqs", "a squashfs image"),
        (b"!<arch>\n", "a Debian package or another ar archive"),
        (b"\xed\xab\xee\xdb", "an RPM package"),
        (b"7z\xbc\xaf", "a 7z archive"),
        (b"QFI\xfb", "a disk image"),
        (b"\x1f\x8b", "compressed twice"),
        (b"<", "a page of HTML or XML"),
    ];
    magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind)
}
