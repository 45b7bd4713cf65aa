//! Any edits in any order give the tree of a build from nothing.

use std::collections::HashMap;
use std::env;

use rootbuild_tests::privileged;

use super::cluster::{Cluster, Edit};
use super::lines::LINES;

/// How many sequences are tried; a night has time for 200.
const SEQUENCES: &str = "ROOTBUILD_TEST_SEQUENCES";
/// What they are made from: another number, other sequences.
const SEED: &str = "ROOTBUILD_TEST_SEED";
/// Edits in a sequence.
const LENGTH: usize = 4;

/// Small and good enough to choose edits (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("below a usize")
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Edits that can be made beside each other. Another ansible-core is left out, for its time.
fn toggles() -> Vec<&'static Edit> {
    LINES
        .iter()
        .flat_map(|line| line.edits)
        .filter(|edit| !matches!(edit, Edit::Replace("../rootbuild.toml", ..)))
        .collect()
}

#[test]
fn any_sequence_of_edits_gives_the_tree_of_a_build_from_nothing() {
    if !privileged("any_sequence_of_edits_gives_the_tree_of_a_build_from_nothing") {
        return;
    }
    let (sequences, seed) = (number(SEQUENCES, 2), number(SEED, 1));
    let toggles = toggles();
    let cluster = Cluster::new();
    // What a build from nothing gives for each set of edits: asked once.
    let mut known: HashMap<Vec<usize>, String> = HashMap::new();
    for sequence in 0..sequences {
        let mut random = Random(seed.wrapping_mul(0x1_0000_0000).wrapping_add(sequence));
        let mut made: Vec<usize> = Vec::new();
        let mut past = Vec::new();
        for _ in 0..LENGTH {
            // One to three edits come or go, as between two runs of somebody at work.
            for _ in 0..=random.below(3) {
                let which = random.below(toggles.len());
                if let Some(at) = made.iter().position(|other| *other == which) {
                    made.remove(at);
                } else {
                    made.push(which);
                }
            }
            made.sort_unstable();
            past.push(made.clone());
            let edits: Vec<_> = made.iter().map(|which| toggles[*which]).collect();
            cluster.write(&edits);
            let story = || format!("{SEED}={seed}, sequence {sequence}: {past:?}, now {edits:?}");
            let built = cluster.provision(&[]).unwrap_or_else(|error| panic!("{}: {error}", story()));
            let fresh = known.entry(made.clone()).or_insert_with(|| cluster.built_from_nothing());
            assert_eq!(built.tree, *fresh, "{}; ran {:?}", story(), built.ran);
        }
    }
}
