//! Generated trees with every kind of entry.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rootbuild_cache::{Entry, Kind, Meta, Mtime, Store, Tree};

/// One entry to be: where and what, in a form that shrinks well.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    parent: Index,
    name: Vec<u8>,
    kind: KindSeed,
    meta: MetaSeed,
}

#[derive(Debug, Clone)]
enum KindSeed {
    Directory,
    File { content: Content },
    Symlink { target: Vec<u8> },
    Link { to: Index },
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// A hole of so many KiB, bytes, and a hole again.
    Sparse(u64, Vec<u8>, u64),
}

#[derive(Debug, Clone)]
struct MetaSeed {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Mtime,
    user: Option<Vec<u8>>,
    trusted: Option<Vec<u8>>,
    capability: bool,
    acl: bool,
    default_acl: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(vec!["a", "b", "c", "d", "etc", "usr", "x.pyc", " ", "-rf", "a\nb", ".wh.a"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => select(vec![vec![0xff, 0xfe], vec![b'n'; 255], b"\xc3\xa4".to_vec(), b"\\134".to_vec(), vec![1]]),
        2 => "[a-f]{1,3}".prop_map(String::into_bytes),
    ]
}

fn kind(privileged: bool) -> impl Strategy<Value = KindSeed> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let number = select(vec![0u32, 1, 7, 255, 256, 260, 511]);
    let minor = select(vec![0u32, 3, 255, 256, 262_143]);
    let nodes = u32::from(privileged);
    prop_oneof![
        8 => Just(KindSeed::Directory),
        8 => bytes.clone().prop_map(|bytes| KindSeed::File { content: Content::Bytes(bytes) }),
        1 => (200_000usize..400_000)
            .prop_map(|length| KindSeed::File { content: Content::Bytes(vec![b'x'; length]) }),
        1 => (0u64..300, bytes, 0u64..300)
            .prop_map(|(a, bytes, b)| KindSeed::File { content: Content::Sparse(a, bytes, b) }),
        3 => select(vec!["a", "../../../../etc", "/abs/olute", "missing", "\u{e4}"])
            .prop_map(|target| KindSeed::Symlink { target: target.as_bytes().to_vec() }),
        1 => Just(KindSeed::Symlink { target: vec![b'l'; 1000] }),
        4 => any::<Index>().prop_map(|to| KindSeed::Link { to }),
        nodes => (number.clone(), minor.clone()).prop_map(|(a, b)| KindSeed::Char(a, b)),
        nodes => (number, minor).prop_map(|(a, b)| KindSeed::Block(a, b)),
        2 => Just(KindSeed::Fifo),
    ]
}

fn meta(privileged: bool) -> impl Strategy<Value = MetaSeed> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owners = if privileged { vec![0, 0, 1000, 65534, 4_000_000_000] } else { vec![uid] };
    let groups = if privileged { vec![0, 0, 100, 70_000] } else { vec![gid] };
    let modes = if privileged {
        vec![0o755, 0o644, 0o600, 0o000, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o070]
    } else {
        vec![0o755, 0o700, 0o750, 0o644]
    };
    let mtime = (
        prop_oneof![Just(0i64), -2_000_000_000i64..=2_000_000_000, Just(4_000_000_000)],
        0u32..1_000_000_000,
    )
        .prop_map(|(seconds, nanoseconds)| Mtime { seconds, nanoseconds });
    let value = || prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 0..40));
    let rarely = || prop::bool::weighted(0.1);
    (select(modes), select(owners), select(groups), mtime, value(), value(), rarely(), rarely(), rarely())
        .prop_map(move |(mode, uid, gid, mtime, user, trusted, capability, acl, default_acl)| MetaSeed {
            mode,
            uid,
            gid,
            mtime,
            user,
            trusted: trusted.filter(|_| privileged),
            capability: capability && privileged,
            acl: acl && privileged,
            default_acl: default_acl && privileged,
        })
}

/// Seeds for [`tree`].
pub(crate) fn seeds(privileged: bool, most: usize) -> impl Strategy<Value = Vec<Seed>> {
    let seed = (any::<Index>(), name(), kind(privileged), meta(privileged))
        .prop_map(|(parent, name, kind, meta)| Seed { parent, name, kind, meta });
    prop::collection::vec(seed, 0..most)
}

/// The tree that the seeds stand for; contents go to the store.
pub(crate) fn tree(store: &Store, seeds: &[Seed]) -> Tree {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let plain = Meta { mode: 0o755, uid, gid, ..Meta::default() };
    let root_meta = seeds.first().map_or(plain, |seed| seed.meta.meta(&KindSeed::Directory));
    let mut entries = vec![Entry { path: Vec::new(), meta: root_meta, kind: Kind::Directory }];
    let mut directories = vec![Vec::new()];
    for seed in seeds {
        let parent: &Vec<u8> = seed.parent.get(&directories);
        let mut path = parent.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&seed.name);
        if entries.iter().any(|entry| entry.path == path) {
            continue;
        }
        let mut meta = seed.meta.meta(&seed.kind);
        let kind = match &seed.kind {
            KindSeed::Directory => {
                directories.push(path.clone());
                Kind::Directory
            }
            KindSeed::File { content } => file(store, content),
            KindSeed::Symlink { target } => Kind::Symlink { target: target.clone() },
            KindSeed::Char(major, minor) => Kind::CharDevice { major: *major, minor: *minor },
            KindSeed::Block(major, minor) => Kind::BlockDevice { major: *major, minor: *minor },
            KindSeed::Fifo => Kind::Fifo,
            KindSeed::Link { to } => {
                let linkable: Vec<&Entry> = entries
                    .iter()
                    .filter(|entry| !matches!(entry.kind, Kind::Directory | Kind::Hardlink { .. }))
                    .collect();
                if linkable.is_empty() {
                    continue;
                }
                let target: &Entry = linkable[to.index(linkable.len())];
                meta = target.meta.clone();
                Kind::Hardlink { target: target.path.clone() }
            }
        };
        entries.push(Entry { path, meta, kind });
    }
    Tree::from_entries(entries).unwrap()
}

fn file(store: &Store, content: &Content) -> Kind {
    match content {
        Content::Bytes(bytes) => {
            let object = store.put_object_bytes(bytes).unwrap();
            Kind::File { object, size: bytes.len() as u64 }
        }
        Content::Sparse(before, bytes, after) => {
            let mut file: File = tempfile::tempfile().unwrap();
            file.flush().unwrap();
            file.write_all_at(bytes, before * 1024).unwrap();
            file.set_len(before * 1024 + bytes.len() as u64 + after * 1024).unwrap();
            let (object, size) = store.put_object(&file).unwrap();
            Kind::File { object, size }
        }
    }
}

impl MetaSeed {
    fn meta(&self, kind: &KindSeed) -> Meta {
        let regular = matches!(kind, KindSeed::File { .. });
        let directory = matches!(kind, KindSeed::Directory);
        let symlink = matches!(kind, KindSeed::Symlink { .. });
        let mut xattrs = Vec::new();
        if let (Some(value), true) = (&self.user, regular || directory) {
            xattrs.push((b"user.rootbuild test".to_vec(), value.clone()));
        }
        if let Some(value) = &self.trusted {
            xattrs.push((b"trusted.rootbuild".to_vec(), value.clone()));
        }
        if self.capability && regular {
            // VFS_CAP_REVISION_2, effective, cap_net_raw.
            let words = [0x0200_0001u32, 1 << 13, 0, 0, 0];
            let value = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            xattrs.push((b"security.capability".to_vec(), value));
        }
        if self.acl && !symlink {
            xattrs.push((b"system.posix_acl_access".to_vec(), acl(self.mode)));
        }
        if self.default_acl && directory {
            xattrs.push((b"system.posix_acl_default".to_vec(), acl(0o750)));
        }
        xattrs.sort();
        // Who isn't root must be let into directories.
        let entered = if directory && !rustix::process::geteuid().is_root() { 0o700 } else { 0 };
        let mode = if symlink { 0o777 } else { self.mode | entered };
        Meta { mode, uid: self.uid, gid: self.gid, mtime: self.mtime, xattrs }
    }
}

/// An access control list with one named user, which agrees with the mode.
fn acl(mode: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (0x01u16, (mode >> 6) & 7, NOBODY), // owner
        (0x02, 7, 1000),                    // a named user
        (0x04, 5, NOBODY),                  // group
        (0x10, (mode >> 3) & 7, NOBODY),    // mask: what the mode's group bits show
        (0x20, mode & 7, NOBODY),           // others
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(permissions).unwrap().to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}
