//! Whatever the bytes are: no panic, and nothing outside the root.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A name or target that may try to get out.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 2 => Just("link"), 1 => Just(".."), 1 => Just("."), 1 => Just(""), 1 => Just("victim"),
        1 => Just("dev"),
    ];
    (any::<bool>(), vec(part, 1..5)).prop_map(|(absolute, parts)| {
        let start = if absolute && parts.len() > 3 { "/" } else { "" };
        format!("{start}{}", parts.join("/")).into_bytes()
    })
}

/// Kind, name, link, data, and how it is extended.
type Random = (u8, Vec<u8>, Vec<u8>, Vec<u8>, u8);

/// A member of any kind; some with extended headers.
fn member() -> impl Strategy<Value = Random> {
    let kind = prop::sample::select(b"00005555222221116347SxgLKVMDZ".to_vec());
    (kind, name(), name(), vec(any::<u8>(), 0..700), 0..8_u8)
}

fn archive(members: &[Random]) -> Vec<u8> {
    let mut tar = Tar::default();
    for (kind, name, link, data, how) in members {
        let sized = matches!(kind, b'0' | b'7' | b'S' | b'x' | b'g' | b'L' | b'K' | b'V' | b'D' | b'M');
        let data: &[u8] = if sized { data } else { b"" };
        tar = match how {
            0 => tar.pax(b'x', &[("path", name), ("linkpath", link), ("SCHILY.xattr.user.x", data)]),
            1 => tar.member(b'L', b"long", b"", name),
            2 => tar.pax(b'x', &[("GNU.sparse.size", b"900"), ("GNU.sparse.map", b"0,512,700,9")]),
            _ => tar,
        };
        tar = match kind {
            b'L' | b'K' => tar.member(*kind, b"long", b"", link),
            b'x' => tar.pax(b'x', &[("linkpath", link), ("mtime", b"-1.5")]),
            _ => tar.member(*kind, name, link, data),
        };
    }
    tar.end()
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) }
}

/// Unpacks, for better or worse, and looks at what is outside.
fn harmless(bytes: &[u8]) -> Result<(), TestCaseError> {
    let place = Place::new();
    let before = place.outside();
    // Device nodes too: those are the most that an archive may be allowed.
    let base = ArchiveBase { devices: true, ..place.base("a.tar") };
    let _ = place.unpack_as(&base, bytes);
    prop_assert_eq!(place.outside(), before);
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_archive_writes_outside_its_root(members in vec(member(), 1..12)) {
        harmless(&archive(&members))?;
    }

    #[test]
    fn no_damaged_archive_writes_outside_its_root(
        members in vec(member(), 1..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        mend in any::<bool>(),
    ) {
        let mut bytes = archive(&members);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let start = at - at % 512;
            if mend && start + 512 <= bytes.len() {
                mend_checksum(&mut bytes[start..start + 512]);
            }
        }
        harmless(&bytes)?;
    }

    #[test]
    fn no_bytes_at_all_write_outside_the_root(bytes in vec(any::<u8>(), 0..4096)) {
        harmless(&bytes)?;
        let place = Place::new();
        let source = Cursor::new(&bytes);
        if let Ok((input, _)) = super::super::input::open(source) {
            let base = place.base("a");
            let limits = base.limits.unwrap_or_default();
            let unpacker = Unpacker::new(&place.path("root"), &base, limits).expect("the root stands");
            let _ = unpacker.run(&mut Reader::new(input, limits));
        }
    }

    #[test]
    fn no_damaged_compressed_archive_panics(
        members in vec(member(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        kind in 0..3_u8,
    ) {
        let bytes = archive(&members);
        let mut packed = match kind {
            0 => {
                let mut gzip = flate2::read::GzEncoder::new(&bytes[..], flate2::Compression::fast());
                let mut packed = Vec::new();
                std::io::Read::read_to_end(&mut gzip, &mut packed).expect("packed");
                packed
            }
            1 => liblzma::encode_all(&bytes[..], 0).expect("packed"),
            _ => zstd::encode_all(&bytes[..], 1).expect("packed"),
        };
        for (at, byte) in damage {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        let place = Place::new();
        let before = place.outside();
        if let Ok((input, _)) = super::super::input::open(Cursor::new(packed)) {
            let base = place.base("a");
            let limits = base.limits.unwrap_or_default();
            let unpacker = Unpacker::new(&place.path("root"), &base, limits).expect("the root stands");
            let _ = unpacker.run(&mut Reader::new(input, limits));
        }
        prop_assert_eq!(place.outside(), before);
    }
}

/// Makes a damaged header look whole, so that what is in it is read.
fn mend_checksum(block: &mut [u8]) {
    let Some(known) = block.get(257..262) else { return };
    if known == b"ustar" {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
