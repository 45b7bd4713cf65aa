//! Measures trees and objects: `cargo run --release -p rootbuild-cache --example speed [DIRECTORY]`.
//!
//! Takes the names and metadata of up to 50,000 entries below DIRECTORY (default `/usr`), makes up
//! the objects, and prints the best of twenty runs in milliseconds, as elapsed and as processor time
//! of this thread (which says more on a busy machine); then 1,000 trees that differ in 200 files each, and
//! 2,000 small files.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use rootbuild_cache::{Digest, Entry, Kind, Meta, Mtime, Store, Tree};

const ENTRIES: usize = 50_000;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let root = std::env::args_os().nth(1).unwrap_or_else(|| "/usr".into());
    let root = Path::new(&root);
    let mut entries = Vec::new();
    scan(root, root, &mut entries)?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(&dir.path().join("store"))?;
    println!("{} entries", entries.len());

    let mut reversed = entries.clone();
    reversed.reverse();
    best("from entries, sorted", || Ok(Tree::from_entries(entries.clone())?))?;
    best("from entries, reversed", || Ok(Tree::from_entries(reversed.clone())?))?;
    let tree = Tree::from_entries(entries)?;
    let bytes = tree.encode();
    best("encode", || Ok(tree.encode()))?;
    best("decode", || Ok(Tree::decode(&bytes)?))?;
    let digest = store.put_tree(&tree)?;
    println!("{} bytes", bytes.len());
    best("load", || Ok(store.tree(&digest)?))?;
    best("load, all digests anew", || Ok(store.checked_tree(&digest)?))?;
    let file =
        |digest: &Digest| dir.path().join("store/trees").join(&digest.hex()[..2]).join(&digest.hex()[2..]);
    best("save", || {
        std::fs::remove_file(file(&digest))?;
        store.put_tree(&tree)?;
        Ok(())
    })?;

    // As a step leaves it: 200 files are others.
    let base = store.tree(&digest)?;
    let near = edited(&base, 0)?;
    let changed = store.put_tree_like(&near, &base)?;
    println!("{} bytes", std::fs::metadata(file(&changed))?.len());
    best("load, 200 differ", || Ok(store.tree(&changed)?))?;
    best("save, 200 differ", || {
        std::fs::remove_file(file(&changed))?;
        store.put_tree_like(&near, &base)?;
        Ok(())
    })?;
    best("save again", || Ok(store.put_tree_like(&near, &base)?))?;
    best("differences of the two", || {
        let found = base.differences(&near).count();
        if found == 200 { Ok(()) } else { Err(format!("{found} differ").into()) }
    })?;
    let (start, before) = (Instant::now(), size(&dir.path().join("store/trees"))?);
    let mut last = store.tree(&changed)?;
    for number in 1..1000 {
        let digest = store.put_tree_like(&edited(&base, number)?, &last)?;
        if number == 1 {
            last = store.tree(&digest)?;
        }
    }
    println!("{:24} {:8.2}", "999 more", start.elapsed().as_secs_f64() * 1e3);
    println!("{} bytes", size(&dir.path().join("store/trees"))? - before);

    let start = Instant::now();
    for number in 0..2000u32 {
        store.put_object_bytes(&number.to_le_bytes().repeat(500))?;
    }
    println!("{:24} {:8.2}", "put 2,000 objects", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    store.sync()?;
    println!("{:24} {:8.2}", "sync them", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// The tree with 200 other files, others for each number.
fn edited(tree: &Tree, number: usize) -> Result<Tree, Box<dyn std::error::Error>> {
    let mut entries = tree.entries().to_vec();
    let files: Vec<usize> =
        (0..entries.len()).filter(|at| matches!(entries[*at].kind, Kind::File { .. })).collect();
    for place in 0..200 {
        let entry = &mut entries[files[(place * files.len() / 200 + number) % files.len()]];
        entry.kind =
            Kind::File { object: Digest::of(&(place * 1000 + number).to_le_bytes()), size: number as u64 };
    }
    Ok(Tree::from_entries_like(tree, entries)?)
}

/// The bytes of all files below.
fn size(path: &Path) -> std::io::Result<u64> {
    let stat = path.symlink_metadata()?;
    if !stat.is_dir() {
        return Ok(stat.len());
    }
    path.read_dir()?.map(|entry| size(&entry?.path())).sum()
}

fn best<T>(what: &str, run: impl Fn() -> Result<T, Box<dyn std::error::Error>>) -> Outcome {
    let (mut elapsed, mut processor) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..20 {
        let (start, used) = (Instant::now(), processor_time()?);
        run()?;
        elapsed = elapsed.min(start.elapsed().as_secs_f64() * 1e3);
        processor = processor.min(processor_time()? - used);
    }
    println!("{what:24} {elapsed:8.2} {processor:8.2}");
    Ok(())
}

/// The time that this thread has spent on a processor, in milliseconds.
fn processor_time() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e6)
}

fn scan(root: &Path, path: &Path, entries: &mut Vec<Entry>) -> std::io::Result<()> {
    if entries.len() >= ENTRIES {
        return Ok(());
    }
    let stat = path.symlink_metadata()?;
    let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes().to_vec();
    let kind = if stat.is_dir() {
        Kind::Directory
    } else if stat.is_symlink() {
        Kind::Symlink { target: path.read_link()?.as_os_str().as_bytes().to_vec() }
    } else {
        Kind::File { object: Digest::of(&name), size: stat.len() }
    };
    let mtime =
        Mtime { seconds: stat.mtime(), nanoseconds: u32::try_from(stat.mtime_nsec()).unwrap_or_default() };
    let meta =
        Meta { mode: stat.mode() & 0o7777, uid: stat.uid(), gid: stat.gid(), mtime, xattrs: Vec::new() };
    entries.push(Entry { path: name, meta, kind });
    if stat.is_dir() {
        let mut names: Vec<_> = path.read_dir()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
        names.sort();
        for name in names {
            scan(root, &name, entries)?;
        }
    }
    Ok(())
}
