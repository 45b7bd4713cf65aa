//! Unpacking ahead of the host's rpm, which takes one package after the other, with one core.
//!
//! While it installs, the other cores write packages anew: behind the same headers the same archive, but not compressed.
//! What was xz stays in an xz file, where it is stored; what was gzip stands there as it is, since zlib's `gzread` passes
//! on what isn't gzip (it says so, and rpm reads by it). Each takes the place of the original once it is whole, so rpm may
//! find either. Signatures and headers stay, byte for byte, and rpm checks each file that it unpacks by its digest in the
//! header.

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use flate2::Crc;

use super::header::PackageFile;
use super::payload::decompress;

/// How many times the packages' own size must be free: what is unpacked ahead must not be missing to rpm.
const ROOM: u64 = 16;

/// Most cores that are worth it: rpm has to keep up.
const CORES_MAX: usize = 4;

/// Does `work`, which reads the package files in `dir`, while they are replaced by ones that are read faster.
/// `sizes` are those of the packages, with their files. The directory is of no use afterwards.
pub(in super::super) fn with<T>(dir: &Path, mut sizes: Vec<(u64, PathBuf)>, work: impl FnOnce() -> T) -> T {
    let cores = thread::available_parallelism().map_or(1, NonZero::get) - 1;
    let whole: u64 = sizes.iter().map(|(size, _)| size).sum();
    let free = rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    if free / ROOM < whole {
        return work();
    }
    // The largest ones first: there is most to be won.
    sizes.sort();
    sizes.reverse();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..cores.min(CORES_MAX) {
            let new = dir.join(format!(".ahead-{number}"));
            let (next, stop, sizes) = (&next, &stop, &sizes);
            scope.spawn(move || {
                while let Some((_, file)) = sizes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // What can't be had like this (a full disk) is there as it was.
                    if let Ok(true) = stored(file, &new, stop) {
                        let _ = fs::rename(&new, file);
                    }
                    let _ = fs::remove_file(&new);
                }
            });
        }
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

/// Writes a package anew, its payload stored; `false` where that isn't known how, or makes no difference.
fn stored(from: &Path, to: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let mut package = PackageFile::open(from)?;
    let start = package.start();
    let payload = package.rewound()?;
    let is_xz = match payload.fill_buf()? {
        [0x1f, 0x8b, ..] => false,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => true,
        _ => return Ok(false),
    };
    let mut out = BufWriter::with_capacity(256 << 10, File::create(to)?);
    io::copy(&mut File::open(from)?.take(start), &mut out)?;
    let mut archive = Until { stop, input: decompress(payload)? };
    if is_xz {
        xz(&mut archive, &mut out)?;
    } else {
        io::copy(&mut archive, &mut out)?;
    }
    out.flush()?;
    Ok(true)
}

/// Reads until nobody wants it any more.
struct Until<'a, R> {
    stop: &'a AtomicBool,
    input: R,
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it isn't needed any more"));
        }
        self.input.read(buffer)
    }
}

/// Writes an xz file of one block whose data is stored: <https://tukaani.org/xz/xz-file-format.txt>.
fn xz(input: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    /// No check of the content.
    const FLAGS: [u8; 2] = [0, 0];
    /// One filter, LZMA2, with a dictionary of 1 MiB; its size counts the checksum behind it.
    const BLOCK: [u8; 8] = [2, 0, 0x21, 1, 16, 0, 0, 0];
    /// Most bytes of a chunk.
    const CHUNK: u64 = 1 << 16;
    out.write_all(b"\xfd7zXZ\0")?;
    out.write_all(&FLAGS)?;
    out.write_all(&checksum(&FLAGS))?;
    out.write_all(&BLOCK)?;
    out.write_all(&checksum(&BLOCK))?;
    let (mut stored, mut size) = (BLOCK.len() as u64 + 4, 0);
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        let read = input.take(CHUNK).read_to_end(&mut chunk)?;
        let Some(last) = read.checked_sub(1) else { break };
        // The first chunk starts the dictionary.
        let control = if size == 0 { 1 } else { 2 };
        let last = u16::try_from(last).map_err(io::Error::other)?.to_be_bytes();
        out.write_all(&[control, last[0], last[1]])?;
        out.write_all(&chunk)?;
        stored += 3 + read as u64;
        size += read as u64;
    }
    stored += 1;
    let padding = stored.next_multiple_of(4) - stored;
    out.write_all(&[0; 4][..1 + usize::try_from(padding).map_err(io::Error::other)?])?;
    let mut index = vec![0, 1];
    for mut number in [stored, size] {
        while number >= 0x80 {
            index.push(0x80 | (number & 0x7f) as u8);
            number >>= 7;
        }
        index.push((number & 0x7f) as u8);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    out.write_all(&index)?;
    out.write_all(&checksum(&index))?;
    let mut footer = u32::try_from(index.len() / 4).map_err(io::Error::other)?.to_le_bytes().to_vec();
    footer.extend(FLAGS);
    out.write_all(&checksum(&footer))?;
    out.write_all(&footer)?;
    out.write_all(b"YZ")
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::super::header::tests::header;
    use super::*;

    /// A package file of empty headers and this payload.
    fn package(payload: &[u8]) -> Vec<u8> {
        let mut lead = [0; 96];
        lead[..4].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb]);
        let signatures = header(&[(268, 7, 3, b"sig")]);
        let padding = vec![0; signatures.len().next_multiple_of(8) - signatures.len()];
        [&lead[..], &signatures, &padding, &header(&[(1000, 6, 1, b"bash\0")]), payload].concat()
    }

    fn compressed(archive: &[u8]) -> [Vec<u8>; 2] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(archive).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(archive).unwrap();
        [gzip.finish().unwrap(), xz.finish().unwrap()]
    }

    #[test]
    fn a_package_written_anew_has_the_same_headers_and_archive() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for length in [0, 1, 2, 3, 4, 5, 65_534, 65_535, 65_536, 65_537, 1_000_000] {
            let archive: Vec<u8> = (0..length).map(|at: u32| (at / 7 % 251) as u8).collect();
            let [gzip, xz] = compressed(&archive);
            for (payload, is_xz) in [(gzip, false), (xz, true)] {
                fs::write(&from, package(&payload)).unwrap();
                assert!(stored(&from, &to, &AtomicBool::new(false)).unwrap());
                let start = package(&[]).len();
                let new = fs::read(&to).unwrap();
                assert_eq!(new[..start], package(&[]));
                if is_xz {
                    assert_eq!(new[start..start + 2], payload[..2], "the same container");
                    let mut read = Vec::new();
                    decompress(&new[start..]).unwrap().read_to_end(&mut read).unwrap();
                    assert!(read == archive, "{length}");
                } else {
                    assert!(new[start..] == archive, "{length}");
                }
            }
        }
    }

    #[test]
    fn packages_are_replaced_by_whole_ones_or_left() {
        let dir = tempfile::tempdir().unwrap();
        let archive = vec![7; 1 << 20];
        let [gzip, xz] = compressed(&archive);
        let cut = &xz[..xz.len() / 2];
        let files = [("gzip", package(&gzip)), ("cut", package(cut)), ("none", package(b"070701"))];
        let sizes: Vec<(u64, PathBuf)> = files.iter().map(|(name, _)| (1, dir.path().join(name))).collect();
        for (name, bytes) in &files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        with(dir.path(), sizes, || {
            let several = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
            while several && fs::metadata(dir.path().join("gzip")).unwrap().len() < 1 << 20 {
                thread::yield_now();
            }
        });
        for (name, bytes) in &files[1..] {
            assert!(fs::read(dir.path().join(name)).unwrap() == *bytes, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left over");
    }
}
