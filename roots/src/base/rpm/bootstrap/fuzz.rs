//! A package's header, and behind it the payload.

use super::header::Header;
use super::payload::{Members, decompress};
use super::unpack;

/// A payload that gives more than this is cut off.
const MOST: u64 = 1 << 22;

/// Reads everything that a bootstrap reads.
pub fn fuzz(data: &[u8]) {
    let mut rest = data;
    if let Ok(header) = Header::read(&mut rest) {
        let _ = unpack::listed(&header);
        for tag in [62, 257, 267, 268, 1000, 1124] {
            let _ = (header.string(tag), header.binary(tag), header.strings(tag), header.numbers(tag));
        }
    } else {
        rest = data;
    }
    let Ok(payload) = decompress(rest) else { return };
    let mut members = Members::new(std::io::Read::take(payload, MOST));
    let mut buffer = [0; 4096];
    while let Ok(Some(member)) = members.next() {
        let mut size = 0;
        while let Ok(read @ 1..) = members.content(&mut buffer) {
            size += read as u64;
        }
        assert!(size <= member.size);
    }
}
