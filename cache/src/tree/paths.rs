//! Paths of a tree: their order, and what they may be.

use std::cmp::Ordering;

/// The order of a tree: bytes, with `/` before every other one, so that a directory is followed by
/// everything below it, and siblings stand in the order of their names.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    match a.iter().zip(b).position(|(x, y)| x != y) {
        None => a.len().cmp(&b.len()),
        Some(at) => match (a[at], b[at]) {
            (b'/', _) => Ordering::Less,
            (_, b'/') => Ordering::Greater,
            (x, y) => x.cmp(&y),
        },
    }
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
    if path.contains(&0) {
        return Some("holds a NUL byte");
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" => return Some("has an empty component"),
            b"." | b".." => return Some("has a component `.` or `..`"),
            long if long.len() > MAX_COMPONENT => return Some("has a component of more than 255 bytes"),
            _ => {}
        }
    }
    None
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
