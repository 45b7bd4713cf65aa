//! One operation of the store per process, for `tests/bench/store.py`, which measures time and memory from
//! outside:
//!
//! ```text
//! files capture STORE DIRECTORY                        prints the tree's digest
//! files upper STORE TREE UPPER                         the same of an overlay's upper side over the tree
//! files change STORE TREE NUMBER SALT                  a tree with so many other files; prints its digest
//! files checkout STORE TREE TARGET private|linked|chosen
//! files publish STORE NAME TREE                       all of a publication that nothing prepared
//! files prepared STORE NAME TREE                      one that was prepared while a step worked, as in a provision;
//!                                                      prints the milliseconds of it, and those of the preparation
//! files stand STORE NUMBER TREE TREE                 so many roots, each of the first tree and then of the second; files
//!                                                      are shared where contents can't be
//! files collect STORE                                 removes all generations but those that stand, with what
//!                                                      only they need
//! files bare links|clones|copies FROM TO THREADS       only the system calls; prints milliseconds
//! ```

mod bare;

use std::path::Path;
use std::time::{Duration, Instant};

use rootbuild_cache::gc::{self, Collection, Policy};
use rootbuild_cache::{Digest, Kind, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{capture_directory, capture_overlay};
use rootbuild_roots::checkout::{Areas, Sharing, checkout_as};
use rootbuild_roots::publish::{self, Wanted};

/// A definition that isn't there: nobody else's.
const DEFINITION: &str = "/nonexistent/rootbuild.toml";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["capture", store, directory] => capture(&open(store)?, Path::new(directory)),
        ["upper", store, tree, upper] => capture_upper(&open(store)?, &tree.parse()?, Path::new(upper)),
        ["change", store, tree, number, salt] => change(&open(store)?, &tree.parse()?, number.parse()?, salt),
        ["checkout", store, tree, target, how] => {
            check_out(&open(store)?, &tree.parse()?, Path::new(target), how)
        }
        ["publish", store, name, tree] => {
            publish::publish(&open(store)?, name, &tree.parse()?, Path::new(DEFINITION), &Cancel::new())?;
            Ok(())
        }
        ["prepared", store, name, tree] => publish_prepared_one(&open(store)?, name, &tree.parse()?),
        ["stand", store, number, older, newer] => {
            stand(&open(store)?, number.parse()?, &[older.parse()?, newer.parse()?])
        }
        ["collect", store] => collect(&open(store)?),
        ["bare", how, from, to, threads] => bare::run(how, Path::new(from), Path::new(to), threads.parse()?),
        _ => Err("see the comment at the top of roots/examples/files/main.rs".into()),
    }
}

fn publish_prepared_one(store: &Store, name: &str, tree: &Digest) -> Outcome<()> {
    let (definition, cancel) = (Path::new(DEFINITION), Cancel::new());
    let near = publish::current(store, name)?.ok_or("publish something first")?.tree;
    let start = Instant::now();
    let prepared = publish::prepare(store, name, &near).ok_or("nothing can be prepared")?;
    while !prepared.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = start.elapsed();
    // A step goes on for longer than that.
    std::thread::sleep(Duration::from_millis(300));
    // It comes from the capture, which is this process' work as well.
    store.keep_in_hand(store.tree(tree)?);
    let start = Instant::now();
    publish::publish_prepared(store, name, tree, definition, &cancel, Some(prepared))?;
    let milliseconds = |it: Duration| it.as_secs_f64() * 1000.0;
    println!("{:.1} {:.1}", milliseconds(start.elapsed()), milliseconds(before));
    Ok(())
}

fn stand(store: &Store, number: usize, trees: &[Digest; 2]) -> Outcome<()> {
    let (definition, nothing) = (Path::new(DEFINITION), Areas::new::<&str>([]));
    for name in (0..number).map(|it| format!("root{it}")) {
        for tree in trees {
            let wanted = Wanted { tree, definition, private: Some(&nothing), prepared: None };
            publish::publish_as(store, &name, wanted, &Cancel::new())?;
        }
    }
    Ok(())
}

fn collect(store: &Store) -> Outcome<()> {
    let collection = Collection::begin(store, None, &|_| {}, &|| false)?;
    let (needs, items) = publish::old::holdings(store, 1)?;
    let outcome = gc::collect(&collection, &needs, items, Policy::new(None, None), 0, &())?;
    println!("{}", outcome.items.iter().filter(|it| it.goes).count());
    Ok(())
}

fn open(store: &str) -> Outcome<Store> {
    Ok(Store::open(Path::new(store))?)
}

fn capture(store: &Store, directory: &Path) -> Outcome<()> {
    let tree = capture_directory(store, directory, &Cancel::new())?;
    store.sync()?;
    println!("{}", store.put_tree(&tree)?);
    Ok(())
}

fn capture_upper(store: &Store, lower: &Digest, upper: &Path) -> Outcome<()> {
    let lower = store.tree(lower)?;
    let tree = capture_overlay(store, &lower, upper, &Cancel::new())?;
    store.sync()?;
    println!("{}", store.put_tree_like(&tree, &lower)?);
    Ok(())
}

/// Files in as many places as there are get another content.
fn change(store: &Store, tree: &Digest, number: usize, salt: &str) -> Outcome<()> {
    let mut entries = store.tree(tree)?.into_entries();
    let files: Vec<usize> =
        (0..entries.len()).filter(|at| matches!(entries[*at].kind, Kind::File { .. })).collect();
    for nth in 0..number {
        let at = files[nth * files.len() / number];
        let text = format!("{salt} {nth}\n");
        let object = store.put_object_bytes(text.as_bytes())?;
        let path = entries[at].path.clone();
        entries[at].kind = Kind::File { object, size: text.len() as u64 };
        entries[at].meta.mtime.seconds += 1;
        let meta = entries[at].meta.clone();
        // Its other names have its metadata.
        for entry in &mut entries {
            if matches!(&entry.kind, Kind::Hardlink { target } if *target == path) {
                entry.meta = meta.clone();
            }
        }
    }
    store.sync()?;
    println!("{}", store.put_tree(&Tree::from_entries(entries)?)?);
    Ok(())
}

fn check_out(store: &Store, tree: &Digest, target: &Path, how: &str) -> Outcome<()> {
    std::fs::create_dir(target)?;
    let everything = Areas::new::<&str>([]);
    let sharing = match how {
        "private" => Sharing::Private,
        "linked" => Sharing::Linked(&everything),
        _ => Sharing::where_needed(store, target, &everything),
    };
    let fresh = checkout_as(store, &store.tree(tree)?, target, sharing, &Cancel::new())?;
    if !fresh.is_empty() {
        store.sync()?;
        fresh.share(store, target)?;
    }
    Ok(())
}
