//! What the fuzz targets run (`fuzz/`), and how the suite runs them for a moment: on the inputs that are kept
//! in `fuzz/corpus`, and on those changed at random, always in the same way. Not for anything else.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::tree::{Delta, Tree};

/// A tree as it is stored.
///
/// # Panics
/// What was decoded isn't the same after it was stored.
pub fn tree(data: &[u8]) {
    let _ = Tree::decode(data);
    // The checksum keeps what is random from being looked into.
    let whole = [data, blake3::hash(data).as_bytes()].concat();
    if let Ok(delta) = Delta::decode(&whole) {
        let _ = delta.apply(Tree::default());
    }
    let Ok(tree) = Tree::decode(&whole) else { return };
    let again = Tree::decode(&tree.encode());
    assert_eq!(again.as_ref(), Ok(&tree));
    assert_eq!(again.map(|it| it.digest()), Ok(tree.digest()));
    let entries = tree.entries().to_vec();
    assert_eq!(Tree::from_entries(entries).ok(), Some(tree));
}

/// A record of a layer as it is stored.
pub fn record(data: &[u8]) {
    crate::records::fuzz(data);
}

/// The inputs that are kept for a target, in an order that doesn't change.
///
/// # Panics
/// There are none.
#[must_use]
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("`{}`: {error}", dir.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "`{}` is empty", dir.display());
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

/// Runs a target on its corpus, and on at most `rounds` inputs made of it, until `time` is over.
///
/// # Panics
/// The target does; the input is told.
pub fn smoke(target: &str, rounds: u32, time: Duration, run: impl Fn(&[u8])) {
    let run = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
            eprintln!("the target `{target}` panics on \"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
    };
    let corpus = corpus(target);
    corpus.iter().for_each(|input| run(input));
    let start = Instant::now();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        if start.elapsed() > time {
            break;
        }
        run(&random.changed(&corpus));
    }
}

/// xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % end.max(1)
    }

    /// An input made of one or two others.
    fn changed(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        const TELLING: [u8; 8] = [0, 0xff, 0x7f, 0x80, b'0', b'/', b'.', b'\n'];
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            match self.below(6) {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = TELLING[self.below(TELLING.len())],
                2 => input.truncate(at),
                3 => input.insert(at, TELLING[self.below(TELLING.len())]),
                4 => {
                    let other = &corpus[self.below(corpus.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[self.below(other.len()).min(other.len())..]);
                }
                _ => {
                    let end = (at + self.below(64)).min(input.len());
                    let part = input.get(at..end).unwrap_or_default().to_vec();
                    input.splice(at..at, part);
                }
            }
        }
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_secs(1);

    #[test]
    fn trees_made_at_random_harm_nobody() {
        smoke("tree", 20_000, MOMENT, tree);
    }

    #[test]
    fn records_made_at_random_harm_nobody() {
        smoke("record", 20_000, MOMENT, record);
    }
}
