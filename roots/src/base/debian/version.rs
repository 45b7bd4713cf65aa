//! Which of two Debian versions is newer.

use std::cmp::Ordering;

/// Compares `[epoch:]version[-revision]` as dpkg does.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    let ((version_a, revision_a), (version_b, revision_b)) = (revision(a), revision(b));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| parts(version_a, version_b))
        .then_with(|| parts(revision_a, revision_b))
}

fn epoch(version: &str) -> (u64, &str) {
    version
        .split_once(':')
        .and_then(|(epoch, rest)| Some((epoch.parse().ok()?, rest)))
        .unwrap_or((0, version))
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// Text and numbers in turn, each compared in its way.
fn parts(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (number_a, after_a) =
            rest_a.split_at(rest_a.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_a.len()));
        let (number_b, after_b) =
            rest_b.split_at(rest_b.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_b.len()));
        let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let found = text(text_a, text_b)
            .then_with(|| number_a.len().cmp(&number_b.len()))
            .then_with(|| number_a.cmp(number_b));
        if found != Ordering::Equal {
            return found;
        }
        (a, b) = (after_a, after_b);
    }
    Ordering::Equal
}

/// Letter by letter: `~` before the end, the end before letters, letters before anything else.
fn text(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let found = (0..a.len().max(b.len())).map(|at| weight(a.get(at)).cmp(&weight(b.get(at))));
    found.into_iter().find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ordered = [
            "0.9",
            "1.0~rc1",
            "1.0~rc1+b1",
            "1.0",
            "1.0-0",
            "1.0-1~deb12u1",
            "1.0-1",
            "1.0-1+b1",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.2-1",
            "1.10-1",
            "1.10-1.1",
            "2-1",
            "10-1",
            "1:0.1-1",
        ];
        for (index, low) in ordered.iter().enumerate() {
            assert_eq!(compare(low, low), Ordering::Equal);
            for high in &ordered[index + 1..] {
                let same = (*low == "1.0" && *high == "1.0-0").then_some(Ordering::Equal);
                assert_eq!(compare(low, high), same.unwrap_or(Ordering::Less), "{low} {high}");
                assert_eq!(compare(high, low), same.unwrap_or(Ordering::Greater), "{high} {low}");
            }
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
    }
}
