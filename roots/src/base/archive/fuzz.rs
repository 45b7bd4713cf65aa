//! A hostile archive: read, then unpacked into a directory of its own.

use super::reader::{Kind, Reader};
use super::unpack::Unpacker;
use super::{ArchiveBase, Keyed, Limits, names};

/// Small enough to be met.
fn limits() -> Limits {
    Limits { entries: 200, bytes: 1 << 22, depth: 32, ..Limits::default() }
}

/// Reads every member; where there is one, unpacks all of it, which leaves nothing outside its directory.
pub fn fuzz(data: &[u8]) {
    let limits = limits();
    let mut reader = Reader::new(data, limits);
    let mut members = 0;
    while let Ok(Some(member)) = reader.next() {
        members += 1;
        if let Ok(Some(path)) = names::path(&member.name, 0, limits.depth) {
            assert!(!path.starts_with(b"/") && path.split(|byte| *byte == b'/').all(|part| part != b".."));
        }
        if let Kind::File { size, pieces } = &member.kind {
            assert!(
                pieces.iter().all(|(at, length)| at.checked_add(*length).is_some_and(|end| end <= *size))
            );
        }
    }
    let Ok(dir) = tempfile::tempdir() else { return };
    let root = dir.path().join("root");
    if members == 0 || std::fs::create_dir(&root).is_err() {
        return;
    }
    let base = ArchiveBase {
        name: "fuzz".to_owned(),
        file: dir.path().join("archive"),
        sha256: None,
        strip_components: u32::from(data.len().is_multiple_of(7)),
        devices: false,
        limits: Some(limits),
        keyed: Keyed::default(),
    };
    if let Ok(unpacker) = Unpacker::new(&root, &base, limits) {
        let _ = unpacker.run(&mut Reader::new(data, limits));
    }
    let beside = std::fs::read_dir(dir.path()).map(Iterator::count);
    assert!(beside.is_ok_and(|names| names == 1), "something was written beside the root");
    let _ = rootbuild_cache::remove_tree(&root);
}
