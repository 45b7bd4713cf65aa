use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::tree::strategy::{entries, everything, tree};
use crate::tree::{Mtime, TreeError};

/// `tree` as if it had been loaded.
fn whole(tree: Tree) -> Tree {
    tree.stored_whole()
}

/// A tree, and one made of it by leaving out, changing and adding.
fn changed() -> impl Strategy<Value = (Tree, Tree)> {
    (entries(), entries(), vec((any::<Index>(), 0..4u8), 0..8)).prop_map(|(base, more, changes)| {
        let base = Tree::from_entries(base).unwrap();
        let mut entries = base.entries().to_vec();
        for (at, what) in changes {
            let at = at.index(entries.len());
            let path = entries[at].path.clone();
            match what {
                _ if path.is_empty() => {}
                0 => {
                    let below = [&path[..], b"/"].concat();
                    entries.retain(|it| it.path != path && !it.path.starts_with(&below));
                }
                1 => entries[at].meta.mtime = Mtime { seconds: 3, nanoseconds: 4 },
                2 => entries[at].meta.uid = 7,
                _ => {}
            }
        }
        for entry in more {
            if !entries.iter().any(|it| it.path == entry.path) {
                entries.push(entry);
            }
        }
        (whole(base), fitting(entries))
    })
}

/// The tree of those of the entries that make one.
fn fitting(mut entries: Vec<Entry>) -> Tree {
    loop {
        match Tree::from_entries(entries.clone()) {
            Ok(tree) => return tree,
            Err(crate::Error::Tree(TreeError::Parent { path } | TreeError::Hardlink { path, .. })) => {
                entries.retain(|it| it.path != path);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn sealed_anew(mut bytes: Vec<u8>) -> Vec<u8> {
    let content = bytes.len() - CHECKSUM;
    let checksum = blake3::hash(&bytes[..content]);
    bytes[content..].copy_from_slice(checksum.as_bytes());
    bytes
}

/// These bytes lie in stores; see `cache/FORMAT.md`. If they change, so must `DELTA_VERSION`.
#[test]
fn the_bytes_of_a_known_difference_never_change() {
    let base = whole(Tree::from_entries(everything()).unwrap());
    let mut entries = everything();
    entries.retain(|it| it.path != b"dev/null" && it.path != b"home/a");
    entries.iter_mut().filter(|it| it.path == b"bin/su").for_each(|it| it.meta.mode = 0o755);
    let tree = Tree::from_entries(entries).unwrap();
    let bytes = tree.any_delta(&base).unwrap().encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let want = "\
        5242545245450d0a020000000000000049200b97394759acf19fa4eceb87905f174ad39609b16c9fcadc1812\
        c69af59dba75a4e50e313aba75a8f82acb8f0fd42deea6b477b52315d6aed75f79f08f6d0f00000000000000\
        040000000000000001000000000000004300000000000000430000000000000001ed03000000000501000662\
        696e2f7375010001ff93ebdc03021be2705376b39153c888b620ca32c72eade406a747d16776e8d7b619d6bf\
        0a66010400010100010400bd3c8a7ab80169a535e560dfcd2251a9f559da568dfc75a06158303c22547de3";
    assert_eq!(hex, want);
    assert_eq!(Delta::decode(&bytes).unwrap().apply(base), Ok(tree));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed() {
    let base = whole(Tree::default());
    let bytes = Tree::from_entries(everything()).unwrap().any_delta(&base).unwrap().encode();
    for length in 0..bytes.len() {
        assert!(Delta::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Delta::decode(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn claims_beyond_the_bytes_are_refused_without_believing_them() {
    let base = whole(Tree::default());
    let bytes = Tree::from_entries(everything()).unwrap().any_delta(&base).unwrap().encode();
    for place in 0..5 {
        for claim in [u64::MAX, 1 << 40, 1 << 28, 1 << 20, 7] {
            let mut bytes = bytes.clone();
            bytes[80 + place * 8..][..8].copy_from_slice(&claim.to_le_bytes());
            assert!(Delta::decode(&sealed_anew(bytes)).is_err(), "number {place} is {claim}");
        }
    }
}

#[test]
fn a_difference_does_not_fit_another_base() {
    let base = whole(Tree::from_entries(everything()).unwrap());
    let mut entries = everything();
    entries.retain(|it| it.path != b"dev/null");
    let delta = || Tree::from_entries(entries.clone()).unwrap().any_delta(&base).unwrap();
    assert!(delta().apply(Tree::default()).is_err());
    let mut other = everything();
    other.iter_mut().filter(|it| it.path == b"bin/su").for_each(|it| it.meta.mode = 0o755);
    assert!(delta().apply(Tree::from_entries(other).unwrap()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_its_base_and_what_differs((base, tree) in changed()) {
        let delta = tree.any_delta(&base).unwrap();
        let read = Delta::decode(&delta.encode()).unwrap();
        prop_assert_eq!(&read, &delta);
        let applied = read.apply(base.clone()).unwrap();
        prop_assert_eq!(applied.digest(), tree.digest());
        prop_assert_eq!(applied.stored_base(), Some(base.digest()));
        prop_assert_eq!(applied, tree);
    }

    #[test]
    fn any_tree_can_be_over_any_other(base in tree(), tree in tree()) {
        let base = whole(base);
        let delta = tree.any_delta(&base).unwrap();
        prop_assert_eq!(Delta::decode(&delta.encode()).unwrap().apply(base), Ok(tree));
    }

    /// A third tree is over the base of the second, without the base at hand.
    #[test]
    fn differences_do_not_pile_up((base, second) in changed(), third in tree(), touched: Index) {
        let near = second.any_delta(&base).unwrap().apply(base.clone()).unwrap();
        let mut entries = second.entries().to_vec();
        let at = touched.index(entries.len());
        entries[at].meta.mtime = Mtime { seconds: 9, nanoseconds: 9 };
        for third in [fitting(entries), third] {
            let delta = third.any_delta(&near).unwrap();
            prop_assert_eq!(delta.base, base.digest());
            prop_assert_eq!(Delta::decode(&delta.encode()).unwrap().apply(base.clone()), Ok(third));
        }
    }

    #[test]
    fn hostile_bytes_give_a_tree_or_an_error(
        (base, tree) in changed(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = tree.any_delta(&base).unwrap().encode();
        for (at, byte) in changes {
            let last = bytes.len() - CHECKSUM;
            bytes[at.index(last)] = byte;
        }
        let read = Delta::decode(&sealed_anew(bytes)).and_then(|delta| delta.apply(base));
        if let Ok(read) = read {
            prop_assert_eq!(Tree::from_entries(read.entries().to_vec()).unwrap(), read);
        }
    }
}
