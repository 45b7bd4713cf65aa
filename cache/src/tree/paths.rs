//! Paths of a tree: their order, and what they may be.

use std::cmp::Ordering;

/// The order of a tree: bytes, with `/` before every other one, so that a directory is followed by
/// everything below it, and siblings stand in the order of their names.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let at = shared_length(a, b);
    match (a.get(at), b.get(at)) {
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (x, y) => x.cmp(&y),
    }
}

/// How many bytes `a` and `b` have in common at their start.
pub(super) fn shared_length(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = 8;
    let words = a.chunks_exact(WORD).zip(b.chunks_exact(WORD)).take_while(|(x, y)| x == y).count();
    let rest = a[words * WORD..].iter().zip(&b[words * WORD..]).take_while(|(x, y)| x == y).count();
    words * WORD + rest
}

/// The path of the directory that holds `path`; `None` for the root.
#[must_use]
pub fn parent_path(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash]))
}

/// The last component of `path`; empty for the root.
#[must_use]
pub fn base_name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// Linux' NAME_MAX, in bytes.
const MAX_COMPONENT: usize = 255;

/// What makes a path unfit for a tree, if anything does.
pub(super) fn fault(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return None;
    }
    path.split(|byte| *byte == b'/').find_map(name_fault)
}

/// What makes one component of a path (which holds no slash) unfit, if anything does.
pub(super) fn name_fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has an empty component"),
        b"." | b".." => Some("has a component `.` or `..`"),
        long if long.len() > MAX_COMPONENT => Some("has a component of more than 255 bytes"),
        nul if nul.contains(&0) => Some("holds a NUL byte"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_followed_by_what_is_below_it() {
        let mut paths: Vec<&[u8]> = vec![b"a.b", b"a", b"a/z", b"", b"a-", b"a/z/1", b"a\x01", b"a/z.", b"b"];
        paths.sort_by(|a, b| compare_paths(a, b));
        let want: Vec<&[u8]> = vec![b"", b"a", b"a/z", b"a/z/1", b"a/z.", b"a\x01", b"a-", b"a.b", b"b"];
        assert_eq!(paths, want);
    }

    #[test]
    fn common_starts_are_measured_whatever_their_length() {
        let text = b"0123456789abcdefghij";
        for length in 0..=text.len() {
            let mut other = text[..length].to_vec();
            assert_eq!(shared_length(text, &other), length);
            other.push(b'!');
            assert_eq!(shared_length(text, &other), length);
        }
    }

    #[test]
    fn parents_and_names_are_cut_at_the_last_slash() {
        assert_eq!(parent_path(b""), None);
        assert_eq!(parent_path(b"a"), Some(&b""[..]));
        assert_eq!(parent_path(b"a/b/c"), Some(&b"a/b"[..]));
        assert_eq!((base_name(b"a/b"), base_name(b"a"), base_name(b"")), (&b"b"[..], &b"a"[..], &b""[..]));
    }

    #[test]
    fn malformed_paths_are_told_apart() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b".", b"a/../b", b"a\0", &[b'x'; 256]] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
        for good in [&b""[..], b"a", b"...", b"a/.b/c..", b"\xff\n", &[b'x'; 255]] {
            assert_eq!(fault(good), None, "{good:?}");
        }
    }
}
