//! Files with holes: which pieces of them an archive holds. GNU tar has written them in four ways.

use super::error::Refusal;
use super::header::{BLOCK, Block};
use super::pax::{Records, decimal};

/// Most pieces of one file.
const PIECES_MAX: usize = 1 << 20;

/// A piece of a file that isn't a hole: offset and length.
pub(super) type Piece = (u64, u64);

/// How an extended header describes holes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Described {
    /// In the header itself (versions 0.0 and 0.1): the file's size and its pieces.
    Here(u64, Vec<Piece>),
    /// Before the file's data (version 1.0): the file's size.
    InData(u64),
}

/// What an extended header says of holes; `None` where it says nothing.
pub(super) fn described(records: &Records) -> Result<Option<Described>, Refusal> {
    if !records.has_prefix("GNU.sparse.") {
        return Ok(None);
    }
    let of = |key| records.number(key, "size");
    let version = (of("GNU.sparse.major")?, of("GNU.sparse.minor")?);
    let missing = Refusal::Sparse("it doesn't say how large the file is");
    match version {
        (Some(1), Some(0)) => {
            return Ok(Some(Described::InData(of("GNU.sparse.realsize")?.ok_or(missing)?)));
        }
        (None | Some(0), _) => {}
        _ => return Err(Refusal::Sparse("its version isn't known")),
    }
    let size = of("GNU.sparse.size")?.ok_or(missing)?;
    let pieces = match records.get("GNU.sparse.map") {
        Some(map) => {
            let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(decimal).collect();
            pairs(&numbers.ok_or(Refusal::Sparse("it isn't a list of numbers"))?)?
        }
        None => scattered(records)?,
    };
    if of("GNU.sparse.numblocks")?.is_some_and(|count| count != pieces.len() as u64) {
        return Err(Refusal::Sparse("it has more or fewer pieces than it says"));
    }
    Ok(Some(Described::Here(size, pieces)))
}

/// Version 0.0: offset, length, offset, length, each a record of its own.
fn scattered(records: &Records) -> Result<Vec<Piece>, Refusal> {
    let mut numbers = Vec::new();
    for (key, value) in records.iter() {
        let odd = match key {
            b"GNU.sparse.offset" => 0,
            b"GNU.sparse.numbytes" => 1,
            _ => continue,
        };
        if numbers.len() % 2 != odd {
            return Err(Refusal::Sparse("offsets and lengths don't alternate"));
        }
        numbers.push(decimal(value).ok_or(Refusal::Sparse("it isn't a list of numbers"))?);
    }
    pairs(&numbers)
}

fn pairs(numbers: &[u64]) -> Result<Vec<Piece>, Refusal> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Refusal::Sparse("an offset has no length"));
    }
    Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

/// Version 1.0: reads the map from blocks in front of the data, as far as it goes.
pub(super) fn in_data<E>(
    mut block: impl FnMut() -> Result<Block, E>,
) -> Result<Result<Vec<Piece>, Refusal>, E> {
    let mut lines = Lines { block: [0; BLOCK], at: BLOCK };
    let mut numbers = Vec::new();
    let mut wanted = None;
    while wanted.is_none_or(|wanted| numbers.len() < wanted) {
        let Some(number) = lines.number(&mut block)? else {
            return Ok(Err(Refusal::Sparse("it isn't a list of numbers")));
        };
        match wanted {
            None => match usize::try_from(number) {
                Ok(count @ 0..=PIECES_MAX) => wanted = Some(count * 2),
                _ => return Ok(Err(Refusal::Sparse("it has too many pieces"))),
            },
            Some(_) => numbers.push(number),
        }
    }
    Ok(pairs(&numbers))
}

struct Lines {
    block: Block,
    at: usize,
}

impl Lines {
    fn number<E>(&mut self, next: &mut impl FnMut() -> Result<Block, E>) -> Result<Option<u64>, E> {
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                (self.block, self.at) = (next()?, 0);
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return Ok(decimal(&digits)),
                _ if digits.len() == 20 => return Ok(None),
                byte => digits.push(byte),
            }
        }
    }
}

/// The pieces of a file of `size` bytes, checked: in order, within the file, and `stored` bytes in all.
pub(super) fn checked(size: u64, stored: u64, pieces: Vec<Piece>) -> Result<Vec<Piece>, Refusal> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    if pieces.len() > PIECES_MAX {
        return Err(Refusal::Sparse("it has too many pieces"));
    }
    let pieces: Vec<_> = pieces.into_iter().filter(|(_, length)| *length > 0).collect();
    for (offset, length) in &pieces {
        if *offset < end {
            return Err(Refusal::Sparse("its pieces overlap or aren't in order"));
        }
        // Each piece begins on a block of the archive.
        if sum % BLOCK as u64 != 0 {
            return Err(Refusal::Sparse("a piece doesn't end on a block"));
        }
        end = offset
            .checked_add(*length)
            .filter(|end| *end <= size)
            .ok_or(Refusal::Sparse("a piece lies behind the end"))?;
        sum = sum.checked_add(*length).ok_or(Refusal::Sparse("its pieces are too long"))?;
    }
    if sum != stored {
        return Err(Refusal::Sparse("its pieces aren't as long as the member"));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Records {
        let lines = text.lines().map(|line| {
            let length = line.len() + 2 + if line.len() + 3 > 9 { 2 } else { 1 };
            format!("{length} {line}\n")
        });
        Records::parse(lines.collect::<String>().as_bytes()).expect("well-formed")
    }

    #[test]
    fn every_way_of_describing_holes_is_understood() {
        let pieces = vec![(512, 1024), (4096, 10)];
        let zero = records(
            "GNU.sparse.size=5000\nGNU.sparse.numblocks=2\nGNU.sparse.offset=512\nGNU.sparse.numbytes=1024\nGNU.sparse.offset=4096\nGNU.sparse.numbytes=10",
        );
        assert_eq!(described(&zero), Ok(Some(Described::Here(5000, pieces.clone()))));
        let one = records("GNU.sparse.size=5000\nGNU.sparse.numblocks=2\nGNU.sparse.map=512,1024,4096,10");
        assert_eq!(described(&one), Ok(Some(Described::Here(5000, pieces.clone()))));
        let data = records("GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=5000");
        assert_eq!(described(&data), Ok(Some(Described::InData(5000))));
        assert_eq!(described(&records("path=x")), Ok(None));
        let mut map = [0; BLOCK];
        map[..22].copy_from_slice(b"2\n512\n1024\n4096\n10\n\0\0\0");
        assert_eq!(in_data::<()>(|| Ok(map)), Ok(Ok(pieces)));
    }

    #[test]
    fn maps_that_make_no_sense_are_refused() {
        for text in [
            "GNU.sparse.size=10\nGNU.sparse.map=1",
            "GNU.sparse.size=10\nGNU.sparse.map=1,x",
            "GNU.sparse.map=1,2",
            "GNU.sparse.size=10\nGNU.sparse.numblocks=3\nGNU.sparse.map=1,2",
            "GNU.sparse.size=10\nGNU.sparse.numbytes=1\nGNU.sparse.offset=1",
            "GNU.sparse.major=2\nGNU.sparse.minor=0\nGNU.sparse.realsize=1",
        ] {
            assert!(described(&records(text)).is_err(), "{text}");
        }
        assert!(in_data::<()>(|| Ok([b'9'; BLOCK])).expect("no i/o").is_err());
        assert!(in_data::<()>(|| Ok([0; BLOCK])).expect("no i/o").is_err());
        for (size, stored, pieces) in [
            (10, 20, vec![(0, 20)]),
            (4096, 1024, vec![(512, 512), (0, 512)]),
            (4096, 1024, vec![(0, 512), (100, 512)]),
            (4096, 200, vec![(0, 100), (1000, 100)]),
            (4096, 100, vec![(0, 512)]),
            (u64::MAX, 4, vec![(u64::MAX - 1, 4)]),
        ] {
            assert!(checked(size, stored, pieces.clone()).is_err(), "{pieces:?}");
        }
        assert_eq!(
            checked(4096, 612, vec![(0, 512), (600, 0), (1000, 100)]),
            Ok(vec![(0, 512), (1000, 100)])
        );
    }
}
