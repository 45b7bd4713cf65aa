//! Trees for tests: random ones, and one with everything that a tree can hold.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Entry, Kind, Meta, Mtime, Tree, parent_path};
use crate::digest::Digest;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[abc]{1,2}".prop_map(String::into_bytes),
        1 => vec(any::<u8>().prop_filter("no slash, no NUL", |b| *b != b'/' && *b != 0), 1..12)
            .prop_filter("no dots", |name| name != b"." && name != b".."),
    ]
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattrs = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => proptest::collection::btree_map("user\\.[ab]{1,3}".prop_map(String::into_bytes), vec(any::<u8>(), 0..20), 0..3),
    ];
    let id = prop_oneof![3 => Just(0u32), 1 => any::<u32>()];
    let mtime =
        (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Mtime { seconds, nanoseconds });
    (0..0o10000u32, id.clone(), id, mtime, xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| Meta {
        mode,
        uid,
        gid,
        mtime,
        xattrs: xattrs.into_iter().collect(),
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Directory),
        4 => (any::<[u8; 32]>(), 0..u64::MAX / 2)
            .prop_map(|(bytes, size)| Kind::File { object: Digest::from_bytes(bytes), size }),
        1 => vec(1..=255u8, 1..30).prop_map(|target| Kind::Symlink { target }),
        // The target is chosen among the others afterwards.
        2 => any::<u16>().prop_map(|pick| Kind::Hardlink { target: pick.to_le_bytes().to_vec() }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

/// Entries that make a tree, in no particular order, hardlinks to any name of their group's holder.
pub(super) fn entries() -> impl Strategy<Value = Vec<Entry>> {
    (vec((vec(name(), 1..5), meta(), kind()), 0..60), meta())
        .prop_map(|(wanted, root)| place(wanted, root))
        .prop_shuffle()
}

fn place(wanted: Vec<(Vec<Vec<u8>>, Meta, Kind)>, root: Meta) -> Vec<Entry> {
    let mut placed: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    placed.insert(Vec::new(), Entry { path: Vec::new(), meta: root, kind: Kind::Directory });
    let mut links = Vec::new();
    for (components, mut meta, kind) in wanted {
        let path = components.join(&b'/');
        let mut above = parent_path(&path);
        let mut missing = Vec::new();
        let fits = loop {
            let Some(parent) = above else { break true };
            match placed.get(parent) {
                Some(entry) => break entry.is_directory(),
                None => missing.push(parent.to_vec()),
            }
            above = parent_path(parent);
        };
        if !fits || placed.contains_key(&path) {
            continue;
        }
        for parent in missing {
            let entry = Entry { path: parent.clone(), meta: Meta::default(), kind: Kind::Directory };
            placed.insert(parent, entry);
        }
        if let Kind::Hardlink { target } = kind {
            links.push((path.clone(), usize::from(u16::from_le_bytes([target[0], target[1]]))));
            // Keeps the name from being taken.
            placed.insert(path.clone(), Entry { path, meta, kind: Kind::Fifo });
            continue;
        }
        if matches!(kind, Kind::Symlink { .. }) {
            meta.mode = 0o777;
        }
        placed.insert(path.clone(), Entry { path, meta, kind });
    }
    for (path, _) in &links {
        placed.remove(path);
    }
    let holders: Vec<Entry> = placed.values().filter(|entry| !entry.is_directory()).cloned().collect();
    for (path, pick) in links {
        if holders.is_empty() {
            break;
        }
        let holder = &holders[pick % holders.len()];
        let kind = Kind::Hardlink { target: holder.path.clone() };
        placed.insert(path.clone(), Entry { path, meta: holder.meta.clone(), kind });
    }
    placed.into_values().collect()
}

pub(super) fn tree() -> impl Strategy<Value = Tree> {
    entries().prop_map(|entries| Tree::from_entries(entries).unwrap())
}

pub(super) fn entry(path: &[u8], mode: u32, kind: Kind) -> Entry {
    Entry { path: path.to_vec(), meta: Meta { mode, ..Meta::default() }, kind }
}

pub(super) fn file(path: &[u8], content: &[u8]) -> Entry {
    entry(path, 0o644, Kind::File { object: Digest::of(content), size: content.len() as u64 })
}

pub(super) fn link(path: &[u8], target: &[u8]) -> Entry {
    entry(path, 0o644, Kind::Hardlink { target: target.to_vec() })
}

pub(super) fn directory(path: &[u8]) -> Entry {
    entry(path, 0o755, Kind::Directory)
}

/// Every kind of entry, names that are no UTF-8, attributes, setuid, a hardlink group across
/// directories, times before 1970.
pub(super) fn everything() -> Vec<Entry> {
    let mut root = directory(b"");
    root.meta.mtime = Mtime { seconds: 1_700_000_000, nanoseconds: 1 };
    let mut setuid = file(b"bin/su", b"su");
    setuid.meta.mode = 0o4755;
    setuid.meta.mtime = Mtime { seconds: -1, nanoseconds: 999_999_999 };
    let mut capable = file(b"bin/ping", b"ping");
    capable.meta.mode = 0o755;
    capable.meta.xattrs = vec![
        (b"user.note".to_vec(), Vec::new()),
        (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 0x20, 0, 0]),
    ];
    let mut owned = file(b"home/\xff\xfe\n", b"");
    (owned.meta.uid, owned.meta.gid) = (1000, 4_294_967_294);
    vec![
        entry(b"tmp", 0o1777, Kind::Directory),
        file(b"tmp/.x", b"x"),
        setuid,
        capable,
        directory(b"bin"),
        entry(b"bin/sh", 0o777, Kind::Symlink { target: b"../usr/bin/\xc3\x28".to_vec() }),
        link(b"bin/group", b"home/group"),
        file(b"home/group", b"grouped"),
        link(b"home/a", b"home/group"),
        directory(b"home"),
        owned,
        directory(b"dev"),
        entry(b"dev/null", 0o666, Kind::CharDevice { major: 1, minor: 3 }),
        entry(b"dev/loop300", 0o660, Kind::BlockDevice { major: 7, minor: 300 }),
        entry(b"dev/fifo", 0o600, Kind::Fifo),
        root,
        file(b"bin.txt", b"sorts after bin/sh"),
    ]
}
