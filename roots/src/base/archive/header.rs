//! One header block, as it stands in the archive.

use super::error::Refusal;
use super::sparse::Piece;

/// Archives come in blocks of this many bytes.
pub(super) const BLOCK: usize = 512;
pub(super) type Block = [u8; BLOCK];

/// Which dialect a header is written in; decides what stands behind the first 257 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before POSIX: nothing stands there.
    V7,
    /// POSIX: device numbers and a prefix for the name.
    Ustar,
    /// GNU: device numbers, times, and the map of holes.
    Gnu,
}

/// A header block whose checksum is right.
#[derive(Debug, Clone)]
pub(super) struct Header {
    block: Block,
    pub(super) dialect: Dialect,
}

impl Header {
    /// Reads a block; `None` where its checksum is wrong, so that it is no header.
    pub(super) fn new(block: Block) -> Option<Self> {
        let stored = octal(&block[148..156])?;
        let blank = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
        let bytes = || block.iter().enumerate().map(|(at, byte)| blank(at, *byte));
        let unsigned: i64 = bytes().map(i64::from).sum();
        // Some old tars took bytes for signed.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored != unsigned && stored != signed {
            return None;
        }
        let dialect = match &block[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        };
        Some(Self { block, dialect })
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = if self.dialect == Dialect::Ustar { text(&self.block[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, Refusal> {
        let mode = number(&self.block[100..108]).ok_or(Refusal::Number("mode"))?;
        // Some archives have the file's type in it too.
        Ok(u32::try_from(mode).map_err(|_| Refusal::Number("mode"))? & 0o7777)
    }

    pub(super) fn uid(&self) -> Result<u32, Refusal> {
        id(number(&self.block[108..116])).ok_or(Refusal::Number("owner"))
    }

    pub(super) fn gid(&self) -> Result<u32, Refusal> {
        id(number(&self.block[116..124])).ok_or(Refusal::Number("group"))
    }

    pub(super) fn size(&self) -> Result<u64, Refusal> {
        let size = number(&self.block[124..136]).ok_or(Refusal::Number("size"))?;
        u64::try_from(size).map_err(|_| Refusal::Number("size"))
    }

    pub(super) fn mtime(&self) -> Result<i64, Refusal> {
        number(&self.block[136..148]).ok_or(Refusal::Number("time"))
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32), Refusal> {
        if self.dialect == Dialect::V7 {
            return Err(Refusal::Number("device number"));
        }
        let of = |field: &[u8]| number(field).and_then(|number| u32::try_from(number).ok());
        let both = of(&self.block[329..337]).zip(of(&self.block[337..345]));
        both.ok_or(Refusal::Number("device number"))
    }

    /// What a GNU header says of a file with holes: its size with them, the first of its pieces
    /// (offset and length), and whether further blocks with pieces follow.
    pub(super) fn sparse(&self) -> Option<(u64, Vec<Piece>, bool)> {
        let size = u64::try_from(number(&self.block[483..495])?).ok()?;
        Some((size, pieces(&self.block[386..482])?, self.block[482] != 0))
    }
}

/// The pieces in a further block of a GNU header, and whether another such block follows.
pub(super) fn more_sparse(block: &Block) -> Option<(Vec<Piece>, bool)> {
    Some((pieces(&block[..504])?, block[504] != 0))
}

fn pieces(fields: &[u8]) -> Option<Vec<Piece>> {
    let (all, _) = fields.as_chunks::<24>();
    // The list ends where a field was never written.
    all.iter()
        .take_while(|piece| piece[12] != 0)
        .map(|piece| {
            let of = |field: &[u8]| u64::try_from(number(field)?).ok();
            of(&piece[..12]).zip(of(&piece[12..]))
        })
        .collect()
}

/// A user or group id; the highest means "leave it" to the kernel, and is none.
pub(super) fn id(number: Option<i64>) -> Option<u32> {
    number.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX)
}

/// A text field: what stands before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number field: octal digits, or (for what is too large or negative) binary with its first bit set.
/// An empty field is 0.
fn number(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80 | 0xff => {
            let negative = field[0] == 0xff;
            let mut value = if negative { -1_i128 } else { 0 };
            for byte in &field[1..] {
                value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
            }
            i64::try_from(value).ok()
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777"), Some(0o777_7777_7777));
        assert_eq!(number(b"12345678"), None);
        assert_eq!(number(b"-1\0\0\0\0\0\0"), None);
        let mut large = [0; 12];
        (large[0], large[7]) = (0x80, 1);
        assert_eq!(number(&large), Some(1 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn the_id_that_means_none_is_none() {
        assert_eq!(id(Some(i64::from(u32::MAX))), None);
        assert_eq!(id(Some(-1)), None);
        assert_eq!(id(Some(0xffff_fffe)), Some(0xffff_fffe));
    }

    #[test]
    fn a_block_with_a_wrong_checksum_is_no_header() {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").expect("short");
        header.set_size(3);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert_eq!(Header::new(block).expect("right").name(), b"x");
        block[0] = b'y';
        assert!(Header::new(block).is_none());
        assert!(Header::new([0xff; BLOCK]).is_none());
    }
}
