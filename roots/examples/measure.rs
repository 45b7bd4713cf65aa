//! Measures the file-system part on a root: `cargo run --release -p rootbuild-roots --example
//! measure -- ROOT WORK`, where ROOT is a directory (say, made by mmdebstrap) and WORK an empty one.
//! `cp -a` of the same root stands beside it. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rootbuild_cache::{Entry, Kind, Store, Tree};
use rootbuild_roots::Cancel;
use rootbuild_roots::capture::{capture_directory, capture_overlay};
use rootbuild_roots::checkout::checkout;
use rootbuild_roots::publish::publish;
use rootbuild_roots::working::{RootMount, WorkingRoot};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [root, work] = arguments.as_slice() else {
        return Err("usage: measure ROOT WORK".into());
    };
    let store = Store::open(&work.join("store"))?;
    let cancel = Cancel::new();

    let tree = timed("capture, all content new", || Ok(capture_directory(&store, root, &cancel)?))?;
    timed("store.sync", || Ok(store.sync()?))?;
    timed("put_tree", || Ok(store.put_tree(&tree)?))?;
    println!("{:>34} {}", "entries", tree.entries().len());
    for _ in 0..3 {
        timed("capture, content known", || Ok(capture_directory(&store, root, &cancel)?))?;
    }
    timed("load tree", || Ok(store.tree(&tree.digest())?))?;
    for number in 0..1 {
        timed("cp -a", || copy(root, &work.join(format!("cp{number}"))))?;
        let target = work.join(format!("checkout{number}"));
        fs::create_dir(&target)?;
        timed("checkout", || Ok(checkout(&store, &tree, &target, &cancel)?))?;
        timed("sync", || Ok(store.sync()?))?;
        timed("remove", || Ok(rootbuild_cache::remove_tree(&target)?))?;
        rootbuild_cache::remove_tree(&work.join(format!("cp{number}")))?;
    }
    let upper = work.join("upper");
    fs::create_dir(&upper)?;
    change(&tree, &upper)?;
    for _ in 0..5 {
        timed("overlay capture of 200 changes", || Ok(capture_overlay(&store, &tree, &upper, &cancel)?))?;
    }
    snapshots(&store, &tree, &cancel)?;
    publications(&store, &tree, work, &cancel)
}

/// What it costs to hand over a root of which one file changed.
fn publications(store: &Store, tree: &Tree, work: &Path, cancel: &Cancel) -> Outcome<()> {
    let definition = work.join("rootbuild.toml");
    for number in 0..5 {
        let mut entries = tree.entries().to_vec();
        if let Some(Entry { kind: Kind::File { object, size }, .. }) =
            entries.iter_mut().rev().find(|it| matches!(it.kind, Kind::File { .. }))
        {
            let text = format!("edit {number}");
            (*object, *size) = (store.put_object_bytes(text.as_bytes())?, text.len() as u64);
        }
        let edited = store.put_tree(&Tree::from_entries(entries)?)?;
        store.sync()?;
        timed(&format!("publish, edit {number}"), || {
            Ok(publish(store, "measured", &edited, &definition, cancel)?)
        })?;
    }
    Ok(())
}

/// What a step's root costs while it is worked on.
fn snapshots(store: &Store, tree: &Tree, cancel: &Cancel) -> Outcome<()> {
    let working = timed("working root", || Ok(WorkingRoot::on(store, &tree.digest(), cancel)?))?;
    let RootMount::Overlay { upper, .. } = working.mount() else { return Err("no overlay here".into()) };
    timed("fingerprint of nothing", || Ok(working.fingerprint(10_000)?))?;
    change(tree, &upper)?;
    timed("fingerprint of 200 changes", || Ok(working.fingerprint(10_000)?))?;
    timed("first snapshot of 200 changes", || Ok(working.snapshot(store, cancel)?))?;
    let mut last = None;
    for number in 0..5 {
        fs::write(upper.join("more"), number.to_string())?;
        last = timed("snapshot, one more change", || Ok(working.snapshot(store, cancel)?))?;
    }
    timed("snapshot, no more changes", || Ok(working.snapshot(store, cancel)?))?;
    timed("fingerprint", || Ok(working.fingerprint(10_000)?))?;
    let last = last.ok_or("no snapshot")?;
    timed("keep a snapshot", || Ok(last.keep(store)?))?;
    Ok(())
}

/// Times `work`: by the clock, and what this process and its children took of the processors (a
/// busy machine changes the first more than the second).
fn timed<T>(what: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let (start, before) = (Instant::now(), processor_ms()?);
    let done = work()?;
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1000.0, processor_ms()? - before);
    println!("{what:>34} {wall:>8.1} ms, processors {cpu:>6} ms");
    Ok(done)
}

fn processor_ms() -> Outcome<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    // In ticks of 10 ms: user, system, and both of the children.
    fields.map(|field| Ok(field.parse::<u64>()? * 10)).sum()
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err("cp failed".into()) }
}

/// 200 changed files, in as many places as there are, in an upper side.
fn change(tree: &Tree, upper: &Path) -> Outcome<()> {
    let files = tree.entries().iter().filter(|it| matches!(it.kind, Kind::File { .. }));
    let files: Vec<_> = files.collect();
    for number in 0..200 {
        let entry = files[number * files.len() / 200];
        let path = upper.join(String::from_utf8_lossy(&entry.path).as_ref());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, format!("changed {number}"))?;
    }
    Ok(())
}
