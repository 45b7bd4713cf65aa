use proptest::prelude::*;
use proptest::sample::Index;

use super::strategy::{directory, entries, entry, everything, file, link, tree};
use super::*;

fn build(entries: Vec<Entry>) -> Result<Tree, TreeError> {
    match Tree::from_entries(entries) {
        Ok(tree) => Ok(tree),
        Err(crate::Error::Tree(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.entries().iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn entries_stand_in_canonical_order() {
    let tree = build(everything()).unwrap();
    let want = [
        "",
        "bin",
        "bin/group",
        "bin/ping",
        "bin/sh",
        "bin/su",
        "bin.txt",
        "dev",
        "dev/fifo",
        "dev/loop300",
        "dev/null",
        "home",
        "home/a",
        "home/group",
        "home/\u{fffd}\u{fffd}\n",
        "tmp",
        "tmp/.x",
    ];
    assert_eq!(paths(&tree), want);
}

#[test]
fn the_first_name_of_a_hardlink_group_is_the_file() {
    let tree = build(everything()).unwrap();
    let first = tree.get(b"bin/group").unwrap();
    assert_eq!(first.kind, Kind::File { object: Digest::of(b"grouped"), size: 7 });
    for other in [&b"home/a"[..], b"home/group"] {
        let other = tree.get(other).unwrap();
        assert_eq!(other.kind, Kind::Hardlink { target: b"bin/group".to_vec() });
        assert_eq!(tree.resolve(other), first);
    }
    assert_eq!(tree.resolve(first), first);
}

#[test]
fn a_subtree_is_found_by_its_path() {
    let tree = build(everything()).unwrap();
    let names = |path: &[u8]| tree.subtree(path).iter().map(|entry| entry.path.clone()).collect::<Vec<_>>();
    assert_eq!(names(b"dev"), [&b"dev"[..], b"dev/fifo", b"dev/loop300", b"dev/null"]);
    assert_eq!(names(b"bin.txt"), [b"bin.txt"]);
    assert_eq!(names(b"").len(), tree.entries().len());
    assert!(names(b"nothing").is_empty());
    assert_eq!(tree.get(b"nothing"), None);
    assert_eq!(tree.directory_digest(b"bin.txt"), None);
    assert_eq!(tree.directory_digest(b""), Some(tree.digest()));
}

#[test]
fn an_empty_tree_is_the_default_tree() {
    assert_eq!(build(vec![directory(b"")]).unwrap(), Tree::default());
}

#[test]
fn malformed_entries_are_refused_with_their_path() {
    let with = |more: Vec<Entry>| {
        build([vec![directory(b""), directory(b"d"), file(b"f", b"")], more].concat()).unwrap_err()
    };
    assert_eq!(build(Vec::new()).unwrap_err(), TreeError::NoRoot);
    assert_eq!(build(vec![directory(b"d")]).unwrap_err(), TreeError::NoRoot);
    assert_eq!(build(vec![file(b"", b"")]).unwrap_err(), TreeError::NoRoot);
    assert_eq!(with(vec![file(b"d", b"")]), TreeError::Duplicate { path: b"d".to_vec() });
    assert_eq!(with(vec![file(b"x/y", b"")]), TreeError::Parent { path: b"x/y".to_vec() });
    assert_eq!(with(vec![file(b"f/y", b"")]), TreeError::Parent { path: b"f/y".to_vec() });
    for path in [&b"/d"[..], b"d/", b"d//x", b"..", b"d/../x", b"./d", b"d/a\0b", b"/", b"//"] {
        let error = with(vec![file(path, b"")]);
        assert!(matches!(&error, TreeError::Path { path: at, .. } if at == path), "{path:?}: {error}");
    }
    assert!(matches!(with(vec![file(&[b'x'; 256], b"")]), TreeError::Path { .. }));
}

#[test]
fn wrong_hardlinks_are_refused() {
    let with = |link: Entry| {
        build(vec![directory(b""), directory(b"d"), file(b"f", b""), self::link(b"g", b"f"), link])
            .unwrap_err()
    };
    for target in [&b"nothing"[..], b"d", b"g", b"h", b""] {
        let error = with(link(b"h", target));
        assert!(matches!(&error, TreeError::Hardlink { target: at, .. } if at == target), "{error}");
    }
    let mut other = link(b"h", b"f");
    other.meta.uid = 1;
    assert!(matches!(with(other), TreeError::Hardlink { .. }));
}

#[test]
fn impossible_metadata_is_refused() {
    let with = |change: fn(&mut Entry)| {
        let mut entry = file(b"f", b"");
        change(&mut entry);
        matches!(build(vec![directory(b""), entry]), Err(TreeError::Meta { .. }))
    };
    assert!(!with(|_| ()));
    assert!(with(|entry| entry.meta.mode = 0o100_644));
    assert!(with(|entry| entry.meta.mtime.nanoseconds = 1_000_000_000));
    assert!(with(|entry| entry.meta.xattrs = vec![(b"a".to_vec(), vec![]), (b"a".to_vec(), vec![1])]));
    assert!(with(|entry| entry.meta.xattrs = vec![(Vec::new(), Vec::new())]));
    assert!(with(|entry| entry.meta.xattrs = vec![(b"a".to_vec(), vec![0; 65_537])]));
    assert!(with(|entry| entry.kind = Kind::Symlink { target: Vec::new() }));
    assert!(with(|entry| entry.kind = Kind::Symlink { target: b"a\0".to_vec() }));
    assert!(with(|entry| entry.kind = Kind::File { object: Digest::of(b""), size: u64::MAX }));
}

#[test]
fn a_link_has_the_one_mode_that_links_have() {
    let tree =
        build(vec![directory(b""), entry(b"l", 0o755, Kind::Symlink { target: b"x".to_vec() })]).unwrap();
    assert_eq!(tree.get(b"l").unwrap().meta.mode, 0o777);
}

/// These digests name trees in every store there is. If one changes, so must `TREE_VERSION` and the
/// version in the directories' digests.
#[test]
fn the_digests_of_known_trees_never_change() {
    let everything = build(everything()).unwrap();
    let mut got = vec![Tree::default().digest().to_string()];
    for path in [&b""[..], b"bin", b"dev", b"home", b"tmp"] {
        got.push(everything.directory_digest(path).unwrap().to_string());
    }
    let want = [
        "b3:dfa3073a894973c513457ac719f85914ed8fa24308d373598ee46d110a77e694",
        "b3:ba75a4e50e313aba75a8f82acb8f0fd42deea6b477b52315d6aed75f79f08f6d",
        "b3:816790fca1bd86bb2cb9124cc5963f192282f2b30f569a4a7518d90586989065",
        "b3:6a80535ce7ccba2e4936c21c5d78d6afc449217d54673fd759ac9175cea3a407",
        "b3:ee60ff570155e8d2256ec84cc7e272de5f460edbb1172c53ca95380112184035",
        "b3:ae8215daaa5fee76025a0b1c81777b593323507e3079420a43701641e852e811",
    ];
    assert_eq!(got, want);
}

#[test]
fn a_time_is_no_part_of_the_identity_and_everything_else_is() {
    let tree = build(everything()).unwrap();
    let digest_with = |path: &[u8], change: &dyn Fn(&mut Entry)| {
        let mut entries = everything();
        change(entries.iter_mut().find(|entry| entry.path == path).unwrap());
        build(entries).unwrap().digest()
    };
    assert_eq!(digest_with(b"bin/su", &|entry| entry.meta.mtime.seconds += 1), tree.digest());
    let mut seen = vec![tree.digest()];
    type Change<'a> = (&'a [u8], &'a dyn Fn(&mut Entry));
    let changes: [Change<'_>; 15] = [
        (b"", &|entry| entry.meta.mode = 0o700),
        (b"bin/su", &|entry| entry.meta.mode = 0o755),
        (b"bin/su", &|entry| entry.meta.uid = 1),
        (b"bin/su", &|entry| entry.meta.gid = 1),
        (b"bin/su", &|entry| entry.kind = Kind::File { object: Digest::of(b"SU"), size: 2 }),
        (b"bin/su", &|entry| entry.kind = Kind::File { object: Digest::of(b"su"), size: 3 }),
        (b"bin/su", &|entry| entry.path = b"bin/sv".to_vec()),
        (b"bin/ping", &|entry| drop(entry.meta.xattrs.pop())),
        (b"bin/ping", &|entry| entry.meta.xattrs[0].1.push(0)),
        (b"bin/sh", &|entry| entry.kind = Kind::Symlink { target: b"x".to_vec() }),
        (b"dev/null", &|entry| entry.kind = Kind::CharDevice { major: 1, minor: 5 }),
        (b"dev/null", &|entry| entry.kind = Kind::CharDevice { major: 3, minor: 1 }),
        (b"dev/null", &|entry| entry.kind = Kind::BlockDevice { major: 1, minor: 3 }),
        (b"home/a", &|entry| entry.kind = file(b"", b"grouped").kind),
        (b"tmp", &|entry| entry.meta.mode = 0o777),
    ];
    for (path, change) in changes {
        let digest = digest_with(path, change);
        assert!(!seen.contains(&digest), "a change of {}", String::from_utf8_lossy(path));
        seen.push(digest);
    }
}

#[test]
fn a_directory_changes_with_what_its_hardlinks_are() {
    // `b/link` is the same name of the same path in both trees; its inode is another.
    let tree = |content: &[u8]| {
        let entries = vec![
            directory(b""),
            directory(b"a"),
            file(b"a/file", content),
            directory(b"b"),
            link(b"b/link", b"a/file"),
        ];
        build(entries).unwrap()
    };
    let (one, two) = (tree(b"one"), tree(b"two"));
    assert_ne!(one.directory_digest(b"b"), two.directory_digest(b"b"));
    assert_eq!(one.directory_digest(b"b"), tree(b"one").directory_digest(b"b"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_input_does_not_matter(entries in entries(), seed: u64) {
        let tree = build(entries.clone()).unwrap();
        let mut other = entries;
        other.sort_by_key(|entry| Digest::of(&[&seed.to_le_bytes()[..], &entry.path].concat()));
        prop_assert_eq!(&build(other).unwrap(), &tree);
        prop_assert_eq!(build(tree.entries().to_vec()).unwrap(), tree);
    }

    #[test]
    fn a_tree_like_another_is_what_it_would_be_alone(
        base in tree(),
        other in entries(),
        changes in proptest::collection::vec((any::<Index>(), 0..4u8), 0..6),
    ) {
        let mut entries = base.entries().to_vec();
        for (pick, change) in changes {
            let entry = pick.get(&entries).clone();
            let group = base.resolve(&entry).path.clone();
            match change {
                // Gone, with all below it, and a group as a whole.
                0 if !entry.path.is_empty() => entries.retain(|it| {
                    !it.path.starts_with(&entry.path) && base.resolve(it).path != group
                }),
                // Another owner.
                1 => entries.iter_mut().filter(|it| base.resolve(it).path == group).for_each(|it| it.meta.uid ^= 1),
                // Another time, which is no difference.
                2 => entries.iter_mut().for_each(|it| it.meta.mtime.seconds ^= 1),
                // Another content.
                _ => entries.iter_mut().filter(|it| it.path == group).for_each(|it| {
                    if let Kind::File { size, .. } = &mut it.kind {
                        *size ^= 1;
                    }
                }),
            }
            if entries.is_empty() {
                entries = base.entries().to_vec();
            }
        }
        for entries in [entries, other] {
            let Ok(alone) = Tree::from_entries(entries.clone()) else { continue };
            let like = Tree::from_entries_like(&base, entries).unwrap();
            prop_assert_eq!(&like, &alone);
        }
    }

    #[test]
    fn the_children_of_a_directory_are_all_that_is_in_it(tree in tree()) {
        for (number, entry) in tree.entries().iter().enumerate() {
            let mut next = number + 1;
            for child in tree.children(&entry.path) {
                let path = &child.entries[0].path;
                prop_assert_eq!(child.at, next);
                prop_assert_eq!(parent_path(path), Some(&entry.path[..]));
                prop_assert_eq!(child.entries, tree.subtree(path));
                prop_assert_eq!(child.digest, tree.directory_digest(path));
                prop_assert_eq!(child.digest.map(|it| (child.entries.len(), it)), tree.directory(child.at));
                next += child.entries.len();
            }
            prop_assert_eq!(next, number + tree.subtree(&entry.path).len());
        }
    }

    #[test]
    fn what_is_below_a_known_directory_need_not_be_there(tree in tree(), picks: Vec<Index>) {
        let mut known = std::collections::HashMap::new();
        let mut entries = tree.entries().to_vec();
        for pick in picks {
            let path = pick.get(tree.entries()).path.clone();
            let Some(digest) = tree.directory_digest(&path) else { continue };
            let below = |it: &Entry| tree.subtree(&path).iter().skip(1).any(|inner| inner.path == it.path);
            let linked = tree.entries().iter().any(|it| match &it.kind {
                Kind::Hardlink { .. } => below(it) || below(tree.resolve(it)),
                _ => false,
            });
            if !linked {
                entries.retain(|it| !below(it));
                known.insert(path, digest);
            }
        }
        prop_assert_eq!(Tree::digest_of(entries, &known).unwrap(), tree.digest());
    }

    #[test]
    fn any_name_of_a_group_can_hold_its_inode(tree in tree(), pick: Index) {
        let links: Vec<&Entry> =
            tree.entries().iter().filter(|entry| matches!(entry.kind, Kind::Hardlink { .. })).collect();
        prop_assume!(!links.is_empty());
        let link = pick.get(&links);
        let first = tree.resolve(link).clone();
        let mut entries = tree.entries().to_vec();
        for entry in &mut entries {
            if entry.path == link.path {
                entry.kind = first.kind.clone();
            } else if entry.path == first.path || tree.resolve(entry).path == first.path {
                entry.kind = Kind::Hardlink { target: link.path.clone() };
            }
        }
        prop_assert_eq!(build(entries).unwrap(), tree);
    }

    #[test]
    fn parents_come_first_and_subtrees_are_contiguous(tree in tree()) {
        for (at, entry) in tree.entries().iter().enumerate() {
            if let Some(parent) = parent_path(&entry.path) {
                let parent = tree.position(parent).unwrap();
                prop_assert!(parent < at && tree.entries()[parent].is_directory());
                prop_assert!(tree.subtree(&tree.entries()[parent].path).contains(entry));
            }
            prop_assert_eq!(tree.get(&entry.path), Some(entry));
            if let Kind::Hardlink { target } = &entry.kind {
                let first = tree.position(target).unwrap();
                prop_assert!(first < at, "the first name comes first");
                let itself = matches!(tree.entries()[first].kind, Kind::Hardlink { .. });
                prop_assert!(!itself, "a first name is no link");
                prop_assert_eq!(&tree.entries()[first].meta, &entry.meta);
            }
        }
    }

    #[test]
    fn equal_subtrees_have_equal_digests_and_others_have_not(one in tree(), two in tree()) {
        for entry in one.entries().iter().filter(|entry| entry.is_directory()) {
            let Some(other) = two.directory_digest(&entry.path) else { continue };
            let strip = |tree: &Tree| -> Vec<(Entry, Entry)> {
                let mut pairs: Vec<(Entry, Entry)> = tree
                    .subtree(&entry.path)
                    .iter()
                    .map(|entry| (entry.clone(), tree.resolve(entry).clone()))
                    .collect();
                for (entry, first) in &mut pairs {
                    (entry.meta.mtime, first.meta.mtime) = Default::default();
                }
                pairs
            };
            prop_assert_eq!(one.directory_digest(&entry.path) == Some(other), strip(&one) == strip(&two));
        }
    }

    #[test]
    fn differences_are_what_a_comparison_of_all_entries_finds(one in tree(), two in tree()) {
        let all: std::collections::BTreeSet<&[u8]> =
            one.entries().iter().chain(two.entries()).map(|entry| entry.path.as_slice()).collect();
        let timeless = |tree: &Tree, path: &[u8]| {
            let untimed = |entry: &Entry| {
                let mut entry = entry.clone();
                entry.meta.mtime = Mtime::default();
                entry
            };
            tree.get(path).map(|entry| (untimed(entry), untimed(tree.resolve(entry))))
        };
        let mut want: Vec<&[u8]> =
            all.into_iter().filter(|path| timeless(&one, path) != timeless(&two, path)).collect();
        want.sort_by(|a, b| compare_paths(a, b));
        let found: Vec<&[u8]> = one
            .differences(&two)
            .map(|it| {
                let path = it.old.or(it.new).unwrap().path.as_slice();
                assert_eq!((it.old, it.new), (one.get(path), two.get(path)));
                path
            })
            .collect();
        prop_assert_eq!(found, want);
        prop_assert_eq!(one.differences(&one).count(), 0);
    }
}
