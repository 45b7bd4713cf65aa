//! rpm's headers as its database keeps them: an index of tags and their data, big-endian.
//!
//! ```text
//! u32 entries   u32 bytes of data   entries × (u32 tag, u32 type, u32 offset, u32 count)   data
//! ```

/// When the package was built; kept.
const BUILD_TIME: u32 = 1006;
/// When it was installed.
const INSTALL_TIME: u32 = 1008;
/// In which transaction.
const INSTALL_TID: u32 = 1128;
/// Numbers of four bytes.
const INT32: u32 = 4;

/// The transaction that every package of a root belongs to.
pub(super) const TRANSACTION: u32 = 1;

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Where in the header the only number of a tag is.
fn place(header: &[u8], tag: u32) -> Option<usize> {
    let entries = usize::try_from(number(header, 0)?).ok()?;
    let data = 8usize.checked_add(entries.checked_mul(16)?)?;
    for entry in (8..data).step_by(16) {
        if number(header, entry)? == tag
            && number(header, entry + 4)? == INT32
            && number(header, entry + 12)? == 1
        {
            let at = data.checked_add(usize::try_from(number(header, entry + 8)?).ok()?)?;
            return (at.checked_add(4)? <= header.len()).then_some(at);
        }
    }
    None
}

/// What to write into a header, and where: the time of building as that of installing, one transaction. Nothing where
/// tags share bytes, which rpm's never do: then what is written for one would be read for another.
pub(super) fn changes(header: &[u8]) -> Vec<(usize, [u8; 4])> {
    let places = [BUILD_TIME, INSTALL_TIME, INSTALL_TID].map(|tag| place(header, tag));
    let mut places: Vec<usize> = places.into_iter().flatten().collect();
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[1] - pair[0] < 4) {
        return Vec::new();
    }
    let built = place(header, BUILD_TIME).and_then(|at| number(header, at)).unwrap_or(0);
    let time = place(header, INSTALL_TIME).map(|at| (at, built.to_be_bytes()));
    let transaction = place(header, INSTALL_TID).map(|at| (at, TRANSACTION.to_be_bytes()));
    time.into_iter().chain(transaction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_cut_off_or_lie_are_left_alone() {
        assert!(changes(b"").is_empty());
        assert!(changes(&[0xff; 64]).is_empty());
        let mut header = vec![0, 0, 0, 1, 0, 0, 0, 4];
        for value in [INSTALL_TIME, INT32, 0xffff_fff0, 1] {
            header.extend(value.to_be_bytes());
        }
        header.extend([9; 4]);
        assert!(changes(&header).is_empty());
        header[16..20].fill(0);
        assert_eq!(changes(&header), [(24, [0; 4])]);
    }

    #[test]
    fn headers_whose_tags_share_bytes_are_left_alone() {
        for (other, left) in [(0_u32, true), (3, true), (4, false)] {
            let mut header = vec![0, 0, 0, 2, 0, 0, 0, 8];
            for (tag, at) in [(BUILD_TIME, 0), (INSTALL_TID, other)] {
                for value in [tag, INT32, at, 1] {
                    header.extend(value.to_be_bytes());
                }
            }
            header.extend([9; 8]);
            assert_eq!(changes(&header).is_empty(), left, "{other}");
        }
    }
}
