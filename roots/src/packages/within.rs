//! Finding and reading files of a tree: links are followed inside the tree only.

use std::io::{self, Read};

use rootbuild_cache::{Entry, Kind, Store, Tree};

use super::PackagesError;

/// As the kernel: more links than that lead nowhere.
const MOST_LINKS: usize = 40;

/// The entry that `path` leads to, links and hardlinks followed as inside the root.
pub(super) fn find<'t>(tree: &'t Tree, path: &str) -> Option<&'t Entry> {
    // What is still to be gone, the next component last.
    let mut rest: Vec<Vec<u8>> = components(path.as_bytes()).rev().collect();
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            at.pop();
            continue;
        }
        at.push(name);
        let Kind::Symlink { target } = &tree.resolve(tree.get(&at.join(&b'/'))?).kind else { continue };
        links += 1;
        if links > MOST_LINKS {
            return None;
        }
        at.pop();
        if target.starts_with(b"/") {
            at.clear();
        }
        rest.extend(components(target).rev());
    }
    tree.get(&at.join(&b'/')).map(|entry| tree.resolve(entry))
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

/// Whether there is a regular file at `path`.
pub(super) fn has_file(tree: &Tree, path: &str) -> bool {
    find(tree, path).is_some_and(|entry| matches!(entry.kind, Kind::File { .. }))
}

/// The text of the regular file at `path`, of at most `most` bytes; `None` where there is none. What isn't
/// UTF-8 is replaced.
pub(super) fn text(
    store: &Store,
    tree: &Tree,
    path: &str,
    most: u64,
) -> Result<Option<String>, PackagesError> {
    let Some(Kind::File { object, size }) = find(tree, path).map(|entry| &entry.kind) else {
        return Ok(None);
    };
    let failed = |source| PackagesError::Read { path: path.to_owned(), source };
    if *size > most {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is too large")));
    }
    let mut bytes = Vec::new();
    store.open_object(object)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use rootbuild_cache::{Digest, Meta};

    use super::*;

    fn tree(entries: &[(&str, Kind)]) -> Tree {
        let entry = |(path, kind): &(&str, Kind)| Entry {
            path: path.as_bytes().to_vec(),
            meta: Meta { mode: 0o755, ..Meta::default() },
            kind: kind.clone(),
        };
        let root = Entry { path: Vec::new(), meta: Meta::default(), kind: Kind::Directory };
        Tree::from_entries(entries.iter().map(entry).chain([root]).collect()).unwrap()
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    #[test]
    fn links_are_followed_inside_the_tree_and_circles_end() {
        let file = Kind::File { object: Digest::of(b"x"), size: 1 };
        let tree = tree(&[
            ("usr", Kind::Directory),
            ("usr/lib", Kind::Directory),
            ("usr/lib/os-release", file),
            ("etc", Kind::Directory),
            ("etc/os-release", link("../usr/lib/os-release")),
            ("etc/out", link("../../../../usr/lib/os-release")),
            ("etc/absolute", link("/usr/./lib")),
            ("etc/circle", link("circle")),
            ("etc/nowhere", link("/root/x")),
        ]);
        for path in ["etc/os-release", "etc/out", "etc/absolute/os-release", "/usr/lib/os-release"] {
            assert_eq!(find(&tree, path).unwrap().path, b"usr/lib/os-release", "{path}");
        }
        for path in ["etc/circle", "etc/nowhere", "usr/lib/os-release/x", "usr/bin"] {
            assert!(find(&tree, path).is_none(), "{path}");
        }
        assert!(!has_file(&tree, "usr/lib") && has_file(&tree, "etc/os-release"));
    }
}
