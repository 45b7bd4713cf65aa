use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::tree::strategy::{directory, entry, everything, tree};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `bytes` with the checksum that they should have: the tests mean what lies behind it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let content = bytes.len() - CHECKSUM;
    let checksum = blake3::hash(&bytes[..content]);
    bytes[content..].copy_from_slice(checksum.as_bytes());
    bytes
}

/// A tree whose body gets compressed.
fn large() -> Tree {
    let mut entries = vec![directory(b"")];
    for number in 0..300 {
        entries.push(entry(format!("fifo-{number}").as_bytes(), 0o600, Kind::Fifo));
    }
    Tree::from_entries(entries).unwrap()
}

/// These bytes lie in every store there is; see `cache/FORMAT.md`. If they change, so must
/// `TREE_VERSION`.
#[test]
fn the_bytes_of_a_known_tree_never_change() {
    let tree = Tree::from_entries(everything()).unwrap();
    let want = "\
        5242545245450d0a01000000000000001100000000000000050000000000000006000000000000001e010000\
        000000001e0100000000000000000000110000000000000060000000ba75a4e50e313aba75a8f82acb8f0fd4\
        2deea6b477b52315d6aed75f79f08f6d0100000006000000000000006a000000816790fca1bd86bb2cb9124c\
        c5963f192282f2b30f569a4a7518d90586989065070000000b00000004000000b80000006a80535ce7ccba2e\
        4936c21c5d78d6afc449217d54673fd759ac9175cea3a4070b0000000f00000004000000e8000000ee60ff57\
        0155e8d2256ec84cc7e272de5f460edbb1172c53ca953801121840350f00000011000000050000000b010000\
        ae8215daaa5fee76025a0b1c81777b593323507e3079420a43701641e852e811b45a4137c3bd44d50c9dc1ed\
        76e293d1c05efbd5bcf4f242d59df255567499695fea9116ba9b9bd22fd301d1204ecbe080a5dcfbe743ae25\
        1384be7b8bbea9a81be2705376b39153c888b620ca32c72eade406a747d16776e8d7b619d6bf0a66bc59eee8\
        92b99330a818455113f4f51e486590c46899f9fc686769e0608425c1af1349b9f5f9a1a6a0404dea36dcc949\
        9bcb25c9adc112b7cc9a93cae41f32623ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697\
        548d30b50aed03000000a403000000ed030000021373656375726974792e6361706162696c69747908010000\
        020020000009757365722e6e6f746500ff03000000ed130000008003000000b003000000b603000000a403e8\
        07feffffff0f00ff070000000000000080c49fd50c01000362696e0000000003062f67726f75700101000007\
        040470696e67010200000404027368020300000d2e2e2f7573722f62696e2fc328050175010401ff93ebdc03\
        0203042e747874010100001200036465760000000003052f6669666f0605000004076c6f6f70333030050600\
        0007ac0204046e756c6c0407000001030004686f6d650000000004022f610302050567726f757003020503ff\
        fe0a01080000000003746d700009000003032f2e780101000001814ebccd2ffbd9a142364c9a8ffca27fa958\
        8680bae1a4305db0604e0d806c99";
    assert_eq!(hex(&tree.encode()), want);
}

#[test]
fn a_compressed_tree_of_an_older_zstd_is_read() {
    // Written by zstd 1.5.7; other versions may write others.
    let bytes = include_bytes!("compressed.tree");
    assert!(Tree::decode(bytes).unwrap() == large());
}

#[test]
fn a_large_body_is_compressed() {
    let bytes = large().encode();
    assert_eq!(bytes[12], 1);
    assert!(bytes.len() < 1500, "{} bytes", bytes.len());
    assert!(Tree::decode(&bytes).unwrap() == large());
}

#[test]
fn an_unknown_version_is_refused_by_its_number() {
    for version in [0, 2, u32::MAX] {
        let mut bytes = Tree::default().encode();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        assert_eq!(Tree::decode(&bytes), Err(DecodeError::Version { found: version }));
    }
    assert_eq!(Tree::decode(b"#!/bin/sh\n"), Err(DecodeError::NotATree));
    assert_eq!(Tree::decode(b""), Err(DecodeError::NotATree));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed() {
    let bytes = Tree::from_entries(everything()).unwrap().encode();
    for length in 0..bytes.len() {
        assert!(Tree::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Tree::decode(&bytes).is_err(), "bit {bit}");
    }
    assert_eq!(Tree::decode(&[bytes.clone(), vec![0]].concat()), Err(DecodeError::Damaged));
}

#[test]
fn claims_beyond_the_bytes_are_refused_without_believing_them() {
    for place in 0..5 {
        for claim in [u64::MAX, 1 << 40, 1 << 28, 1 << 20, 3] {
            for tree in [Tree::from_entries(everything()).unwrap(), large()] {
                let mut bytes = tree.encode();
                let at = 16 + place * 8;
                bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
                assert!(Tree::decode(&sealed(bytes)).is_err(), "number {place} is {claim}");
            }
        }
    }
}

#[test]
fn a_body_that_unfolds_too_far_is_refused() {
    // 256 MiB of zeros pack into a few KiB; as entries they are 64 million times the root.
    let stored = zstd::bulk::compress(&vec![0; MAX_BODY], 1).unwrap();
    let mut bytes = Tree::default().encode()[..HEADER].to_vec();
    for (place, number) in [MAX_BODY / LEAST_ENTRY, 0, 0, MAX_BODY, stored.len()].into_iter().enumerate() {
        bytes[16 + place * 8..][..8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    bytes[12] = 1;
    bytes.extend_from_slice(&stored);
    bytes.extend_from_slice(&[0; CHECKSUM]);
    assert!(Tree::decode(&sealed(bytes)).is_err());
}

#[test]
fn a_table_that_says_something_else_is_refused() {
    let bytes = Tree::from_entries(everything()).unwrap().encode();
    for at in HEADER..HEADER + DIRECTORY * 5 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let error = Tree::decode(&sealed(bytes)).unwrap_err();
        assert_eq!(error, DecodeError::Malformed("its table of directories is wrong"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(tree in tree()) {
        let bytes = tree.encode();
        prop_assert_eq!(&bytes, &tree.encode());
        prop_assert_eq!(Tree::decode(&bytes), Ok(tree));
    }

    #[test]
    fn hostile_bytes_give_a_tree_or_an_error(
        tree in tree(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Option<Index>>(),
    ) {
        let mut bytes = tree.encode();
        for (at, byte) in changes {
            let last = bytes.len() - CHECKSUM;
            bytes[at.index(last)] = byte;
        }
        if let Some(cut) = cut {
            let from = cut.index(bytes.len() - CHECKSUM);
            bytes.drain(from..bytes.len() - CHECKSUM);
        }
        // What is accepted is a tree in every respect, so it can be written again.
        if let Ok(read) = Tree::decode(&sealed(bytes)) {
            prop_assert_eq!(Tree::from_entries(read.entries().to_vec()).unwrap(), read.clone());
            prop_assert_eq!(Tree::decode(&read.encode()), Ok(read));
        }
    }

    #[test]
    fn random_bytes_after_the_magic_never_panic(rest in vec(any::<u8>(), 0..400), entries in 0..50u64, body in 0..300u64) {
        let mut bytes = Tree::default().encode()[..HEADER].to_vec();
        for (place, number) in [entries, 0, 0, body, body].into_iter().enumerate() {
            bytes[16 + place * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend(rest.into_iter().chain(std::iter::repeat(0)).take(usize::try_from(body).unwrap() + CHECKSUM));
        let _ = Tree::decode(&sealed(bytes));
    }
}
