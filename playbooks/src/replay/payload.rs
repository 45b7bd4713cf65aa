//! AnsiballZ payloads: which part of a module's text is the same whenever its content is.
//!
//! Ansible makes the zip anew in each run, with the time of day in every entry and once more in the
//! wrapper. So a payload is told apart by what its zip holds (names and bytes) instead.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use memchr::memmem;

/// The places of a payload's text that say nothing about what it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    /// Up to the zip.
    pub(super) before: &'a [u8],
    /// The zip, in base64.
    pub(super) zip: &'a [u8],
    /// From the zip on.
    pub(super) after: &'a [u8],
}

/// What marks the text as AnsiballZ's.
const MARK: &[u8] = b"_ANSIBALLZ_WRAPPER";

/// What the zip stands behind: up to ansible-core 2.18, and from 2.19 on.
const ZIPS: [&[u8]; 2] = [b"    ZIPDATA = '", b"\nzip_data='"];

/// What the time stands behind, and what ends it.
const DATES: [(&[u8], &[u8]); 2] =
    [(b"        zinfo.date_time = (", b")\n"), (b"\ndate_time=datetime.datetime(", b"),\n")];

impl<'a> Payload<'a> {
    /// The parts of `text`, if it is such a payload.
    pub(super) fn of(text: &'a [u8]) -> Option<Self> {
        memmem::find(&text[..text.len().min(4096)], MARK)?;
        for start in ZIPS {
            if let Some(at) = memmem::find(text, start) {
                let from = at + start.len();
                let to = from + memchr::memchr(b'\'', &text[from..])?;
                let (before, rest) = text.split_at(from);
                let (zip, after) = rest.split_at(to - from);
                return Some(Self { before, zip, after });
            }
        }
        None
    }
}

/// `text`, which is no zip, cut where the time of day stood.
pub(super) fn without_date(text: &[u8]) -> [&[u8]; 2] {
    for (start, end) in DATES {
        if let Some(at) = memmem::find(text, start) {
            let from = at + start.len();
            if let Some(length) = memmem::find(&text[from..], end).filter(|length| *length < 100) {
                return [&text[..from], &text[from + length..]];
            }
        }
    }
    [text, b""]
}

/// More zips than a run has modules.
const MOST_KNOWN: usize = 1000;

/// The digest of what a base64 zip holds; of the text itself if it is no zip that we can read. A run sends the same
/// zip for each task that has the same module, so it is read once.
pub(super) fn content(zip: &[u8]) -> blake3::Hash {
    static KNOWN: LazyLock<Mutex<HashMap<[u8; 32], blake3::Hash>>> = LazyLock::new(Mutex::default);
    let text = *blake3::hash(zip).as_bytes();
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(content) = known().get(&text) {
        return *content;
    }
    let content = unpacked(zip);
    let mut known = known();
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(text, content);
    content
}

fn unpacked(zip: &[u8]) -> blake3::Hash {
    let bytes = BASE64_STANDARD.decode(zip).ok();
    bytes
        .and_then(|bytes| {
            let mut entries = entries(&bytes)?;
            entries.sort_unstable();
            let mut hasher = blake3::Hasher::new();
            for (name, method, data) in entries {
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
                hasher.update(&method.to_le_bytes());
                hasher.update(&(data.len() as u64).to_le_bytes()).update(data);
            }
            Some(hasher.finalize())
        })
        .unwrap_or_else(|| blake3::hash(zip))
}

/// An entry's name, compression method and compressed bytes.
type Entry<'a> = (&'a [u8], u16, &'a [u8]);

/// The entries of a zip, by its central directory. Nothing where it has a form that Ansible doesn't make.
fn entries(zip: &[u8]) -> Option<Vec<Entry<'_>>> {
    let end = zip.len().checked_sub(22)?;
    if zip.get(end..end + 4)? != b"PK\x05\x06" {
        return None;
    }
    let count = short(zip, end + 10)?;
    let mut at = long(zip, end + 16)?;
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut total = 0;
    for _ in 0..count {
        if zip.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (method, size) = (short(zip, at + 10)?, long(zip, at + 20)?);
        let (name, extra, comment) = (short(zip, at + 28)?, short(zip, at + 30)?, short(zip, at + 32)?);
        let local = long(zip, at + 42)?;
        let names = zip.get(at + 46..at + 46 + usize::from(name))?;
        if zip.get(local..local + 4)? != b"PK\x03\x04" {
            return None;
        }
        let skipped = usize::from(short(zip, local + 26)?) + usize::from(short(zip, local + 28)?);
        let data = local + 30 + skipped;
        let data = zip.get(data..data.checked_add(size)?)?;
        // Entries that share their data would make a small zip a long read.
        total += data.len();
        if total > zip.len() {
            return None;
        }
        entries.push((names, method, data));
        at += 46 + usize::from(name) + usize::from(extra) + usize::from(comment);
    }
    Some(entries)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by Python's zipfile: {"a.py": "x = 1\n"} at two times of day, and with "x = 2\n".
    const MORNING: &str = "UEsDBBQAAAAAAAAAIVw7ifaLBgAAAAYAAAAEAAAAYS5weXggPSAxClBLAQIUAxQAAAAAAAAAIVw7ifaLBgAAAAYAAAAEAAAAAAAAAAAAAACAAQAAAABhLnB5UEsFBgAAAAABAAEAMgAAACgAAAAAAA==";
    const EVENING: &str = "UEsDBBQAAAAAAACgIVw7ifaLBgAAAAYAAAAEAAAAYS5weXggPSAxClBLAQIUAxQAAAAAAACgIVw7ifaLBgAAAAYAAAAEAAAAAAAAAAAAAACAAQAAAABhLnB5UEsFBgAAAAABAAEAMgAAACgAAAAAAA==";

    #[test]
    fn a_zip_is_what_it_holds_and_not_when_it_was_made() {
        assert_ne!(MORNING, EVENING);
        assert_eq!(content(MORNING.as_bytes()), content(EVENING.as_bytes()));
        let other = MORNING.replace("PSAxCl", "PSAyCl");
        assert_ne!(other, MORNING);
        assert_ne!(content(other.as_bytes()), content(MORNING.as_bytes()));
        // Whatever is no zip is told apart by its text.
        assert_ne!(content(b"abc"), content(b"abd"));
        assert_ne!(content(&MORNING.as_bytes()[4..]), content(&EVENING.as_bytes()[4..]));
    }

    #[test]
    fn both_forms_of_the_wrapper_are_known() {
        let old = b"#!py\n_ANSIBALLZ_WRAPPER = True\n    ZIPDATA = 'QUJD'\n        zinfo.date_time = (2026, 1, 2, 3, 4, 5)\n        z.x\n";
        let new = b"_ANSIBALLZ_WRAPPER = True\n_main(\nprofile='x',\ndate_time=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),\nzip_data='QUJD',\n)\n";
        for text in [old.as_slice(), new.as_slice()] {
            let payload = Payload::of(text).unwrap();
            assert_eq!(payload.zip, b"QUJD");
            let kept: Vec<u8> = [without_date(payload.before), without_date(payload.after)].concat().concat();
            assert!(!String::from_utf8(kept).unwrap().contains("2026"));
        }
        assert_eq!(Payload::of(b"ZIPDATA = 'x'"), None);
    }
}
