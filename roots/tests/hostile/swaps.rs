//! Names in a root are swapped for links and pipes while we work there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, Tree, remove_tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::capture_directory;
use rootbuild_roots::checkout::checkout;
use rootbuild_roots::publish::publish;
use rootbuild_roots::working::{RootMount, WorkingRoot};
use rustix::fs::{CWD, FileType, Mode};

use crate::common::{Bench, privileged};
use crate::outside::{Outside, Swapper, again, attic, rusqlite};

/// What all the attacks are tried on; `salt` makes it another root.
fn fill(root: &Path, salt: &str) {
    for dir in ["a/b/c", "tmp/t", "var/tmp", "var/lib/rpm", "etc", "home/a/.ansible/tmp", "b", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for name in ["a/file", "a/b/file", "a/b/c/file", "tmp/x", "tmp/t/y", "var/tmp/x", "home/a/.ansible/tmp/x"]
    {
        fs::write(root.join(name), format!("{name} {salt}")).unwrap();
    }
    for number in 0..40 {
        fs::write(root.join(format!("b/{number}")), format!("{number} {salt}")).unwrap();
    }
    for name in ["etc/machine-id", "etc/resolv.conf", "var/lib/rpm/__db.001", "f"] {
        fs::write(root.join(name), format!("{name} {salt}")).unwrap();
    }
    fs::hard_link(root.join("a/file"), root.join("b/hard")).unwrap();
    symlink("/etc/passwd", root.join("b/link")).unwrap();
    for (name, kind) in [("b/fifo", FileType::Fifo), ("b/device", FileType::CharacterDevice)] {
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o622), device).unwrap();
    }
}

/// Names of the root, each with what it is swapped for.
fn pairs(root: &Path, attic: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    const NAMES: [&str; 14] = [
        "a",
        "tmp",
        "var",
        "etc",
        "home",
        "b",
        "a/b",
        "a/file",
        "a/b/c",
        "b/7",
        "b/fifo",
        "etc/machine-id",
        "tmp/t",
        "var/lib/rpm/rpmdb.sqlite",
    ];
    // Each link meets each name, and each name comes back to its place in between.
    let cross = NAMES.iter().flat_map(|name| attic.iter().map(move |other| (root.join(name), other.clone())));
    cross.flat_map(|pair| [pair.clone(), pair]).collect()
}

/// A place with a root's neighbours, and the store beside it.
fn place(name: &str) -> Option<(Bench, Outside, Vec<PathBuf>)> {
    if !privileged(name) {
        return None;
    }
    let bench = Bench::new();
    let outside = Outside::new(bench.path("outside"));
    let attic = attic(&bench.path("attic"), &outside);
    Some((bench, outside, attic))
}

#[test]
fn a_capture_is_not_led_out_by_swapped_names() {
    let Some((bench, outside, attic)) = place("a_capture_is_not_led_out_by_swapped_names") else { return };
    let root = bench.make_dir("root");
    fill(&root, "");
    let inside = root.clone();
    let swapper = Swapper::start(move || pairs(&inside, &attic));
    let (mut whole, mut refused) = (0, 0);
    again(|_| match capture_directory(&bench.store, &root, &Cancel::new()) {
        Ok(_) => whole += 1,
        Err(_) => refused += 1,
    });
    assert!(swapper.swaps() > 100 && whole + refused > 1, "{} {whole} {refused}", swapper.swaps());
    drop(swapper);
    outside.is_whole(&bench.store);
}

#[test]
fn a_step_s_end_is_not_led_out_by_swapped_names() {
    let name = "a_step_s_end_is_not_led_out_by_swapped_names";
    let Some((bench, outside, attic)) = place(name) else { return };
    again(|round| {
        let working = WorkingRoot::empty(&bench.store).unwrap();
        let RootMount::Plain(root) = working.mount() else { panic!("a base's root is plain") };
        fill(&root, &round.to_string());
        rusqlite(&root.join("var/lib/rpm/rpmdb.sqlite"));
        let attic = attic.clone();
        let _swapper = Swapper::start(move || pairs(&root, &attic));
        let _ = working.finish(&bench.store, &Cancel::new());
    });
    outside.is_whole(&bench.store);
}

#[test]
fn the_end_of_a_step_on_an_overlay_is_not_led_out_by_swapped_names() {
    let name = "the_end_of_a_step_on_an_overlay_is_not_led_out_by_swapped_names";
    let Some((bench, outside, attic)) = place(name) else { return };
    let base = bench.make_dir("base");
    fill(&base, "base");
    let parent = stored(&bench, &base);
    again(|round| {
        let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
        let upper = match working.mount() {
            RootMount::Overlay { upper, .. } => upper,
            RootMount::Plain(root) => root,
        };
        let _ = fs::remove_dir_all(upper.join("b"));
        if !upper.join("a").exists() {
            fill(&upper, &round.to_string());
        }
        let attic = attic.clone();
        let _swapper = Swapper::start(move || pairs(&upper, &attic));
        let _ = working.finish(&bench.store, &Cancel::new());
    });
    outside.is_whole(&bench.store);
}

fn stored(bench: &Bench, root: &Path) -> Digest {
    let tree = capture_directory(&bench.store, root, &Cancel::new()).unwrap();
    bench.store.sync().unwrap();
    bench.store.put_tree(&tree).unwrap()
}

fn tree(bench: &Bench, name: &str, salt: &str) -> Tree {
    let root = bench.make_dir(name);
    fill(&root, salt);
    let digest = stored(bench, &root);
    bench.store.tree(&digest).unwrap()
}

#[test]
fn a_checkout_is_not_led_out_by_swapped_names() {
    let name = "a_checkout_is_not_led_out_by_swapped_names";
    let Some((bench, outside, attic)) = place(name) else { return };
    let tree = tree(&bench, "source", "");
    again(|round| {
        let target = bench.make_dir(&format!("target-{round}"));
        let (inside, attic) = (target.clone(), attic.clone());
        let swapper = Swapper::start(move || pairs(&inside, &attic));
        let _ = checkout(&bench.store, &tree, &target, &Cancel::new());
        drop(swapper);
        let _ = remove_tree(&target);
    });
    outside.is_whole(&bench.store);
}

/// Checkouts that are written or removed just now, wherever they stand.
fn in_the_works(store: &Path) -> Vec<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let staged = below(store.join("staging")).map(|dir| dir.join("root"));
    staged.chain(below(store.join("checkouts/hgweb"))).filter(|dir| dir.is_dir()).collect()
}

#[test]
fn an_update_is_not_led_out_by_swapped_names() {
    let name = "an_update_is_not_led_out_by_swapped_names";
    let Some((bench, outside, attic)) = place(name) else { return };
    let trees = ["one", "two", "three"].map(|salt| tree(&bench, salt, salt).digest());
    let store = bench.store.dir().to_owned();
    let swapper = Swapper::start(move || {
        in_the_works(&store).iter().flat_map(|root| pairs(root, &attic)).take(300).collect()
    });
    let definition = Path::new("/nowhere/rootbuild.toml");
    let mut published = 0;
    again(|round| {
        let tree = &trees[round as usize % trees.len()];
        published += u32::from(publish(&bench.store, "hgweb", tree, definition, &Cancel::new()).is_ok());
    });
    drop(swapper);
    crate::common::settle(&bench.store);
    outside.is_whole(&bench.store);
    // Nothing of it stays: who comes next has a whole root.
    for tree in trees.iter().chain(&trees) {
        let (current, changed) = publish(&bench.store, "hgweb", tree, definition, &Cancel::new()).unwrap();
        // What is current stays what somebody has made of it.
        if changed {
            let found = capture_directory(&bench.store, &current.checkout, &Cancel::new()).unwrap();
            assert_eq!(found.digest(), *tree, "after {published} publications");
        }
    }
}

#[test]
fn a_removal_is_not_led_out_by_swapped_names() {
    let name = "a_removal_is_not_led_out_by_swapped_names";
    let Some((bench, outside, attic)) = place(name) else { return };
    again(|round| {
        let root = bench.make_dir(&format!("root-{round}"));
        fill(&root, "");
        let (inside, attic) = (root.clone(), attic.clone());
        let _swapper = Swapper::start(move || pairs(&inside, &attic));
        let _ = remove_tree(&root);
    });
    outside.is_whole(&bench.store);
}
