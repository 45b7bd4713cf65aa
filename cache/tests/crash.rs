//! A process that is killed at any moment leaves a store in which everything visible is whole.

#![allow(clippy::unwrap_used, reason = "a test; clippy knows only functions marked as such")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rootbuild_cache::{Digest, Entry, Input, Kind, LayerKey, Meta, Record, Store, Tree};

const STORE: &str = "ROOTBUILD_TEST_STORE";
const SEED: &str = "ROOTBUILD_TEST_SEED";

/// Not a test of its own: what the killed process does, for ever.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let mut seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir)).unwrap();
    loop {
        seed += 1;
        let mut entries = vec![Entry {
            path: Vec::new(),
            meta: Meta { mode: 0o755, ..Meta::default() },
            kind: Kind::Directory,
        }];
        for number in 0..6u64 {
            let (object, size) = match number {
                0 => {
                    let file = tempfile::tempfile().unwrap();
                    file.set_len(10 << 20).unwrap();
                    file.write_all_at(&seed.to_le_bytes(), 5 << 20).unwrap();
                    store.put_object(&file).unwrap()
                }
                _ => {
                    // Some are new, some are known, some are large.
                    let bytes = (seed * (number % 3) + number).to_le_bytes().repeat(1 << (number * 2));
                    (store.put_object_bytes(&bytes).unwrap(), bytes.len() as u64)
                }
            };
            let meta = Meta { mode: 0o644, ..Meta::default() };
            entries.push(Entry { path: number.to_string().into_bytes(), meta, kind: Kind::File { object, size } });
        }
        if seed.is_multiple_of(2) {
            store.sync().unwrap();
        }
        let tree = store.put_tree(&Tree::from_entries(entries).unwrap()).unwrap();
        let record = Record {
            tree,
            inputs: vec![Input { kind: "file".into(), name: (seed % 40).to_string(), digest: None }],
            seconds: 0.0,
            created: String::new(),
            facts: serde_json::Value::Null,
        };
        store.add_record(&key(), &record).unwrap();
    }
}

fn key() -> LayerKey {
    LayerKey(Digest::of(b"key"))
}

/// Names two levels below `dir`, joined.
fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for fan in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        for entry in fs::read_dir(fan.path()).unwrap().map(Result::unwrap) {
            names.push(format!("{}{}", fan.file_name().display(), entry.file_name().display()));
        }
    }
    names
}

/// Everything visible is what its name says, and whole. Returns the numbers of objects and trees.
fn check(dir: &Path) -> (usize, usize) {
    let Some(store) = Store::open_read_only(dir).unwrap() else { return (0, 0) };
    let objects = names(&dir.join("objects"));
    for name in &objects {
        let digest: Digest = name.parse().unwrap();
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(store.open_object(&digest).unwrap()).unwrap();
        assert_eq!(hasher.finalize().as_bytes(), digest.as_bytes());
    }
    let trees = names(&dir.join("trees"));
    for name in &trees {
        for entry in store.tree(&name.parse().unwrap()).unwrap().entries() {
            if let Kind::File { object, size } = &entry.kind {
                assert_eq!(store.open_object(object).unwrap().metadata().unwrap().len(), *size);
            }
        }
    }
    let records = store.records(&key()).unwrap();
    for record in &records {
        assert!(store.has_tree(&record.tree));
    }
    let written = dir.join("layers").join(&key().0.hex()[..2]).join(&key().0.hex()[2..]);
    // None was passed over: every record file was readable.
    assert_eq!(fs::read_dir(written).map_or(0, Iterator::count), records.len());
    (objects.len(), trees.len())
}

#[test]
fn killing_at_any_moment_leaves_only_whole_things() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (mut before, mut grown) = ((0, 0), 0);
    for round in 0..24u64 {
        let mut writers: Vec<_> = (0..2)
            .map(|writer| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "writer"])
                    .env(STORE, &path)
                    .env(SEED, (round * 2_000 + writer * 1_000).to_string())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // From before the store is made until well into the work.
        thread::sleep(Duration::from_millis(2 + round * 37 % 230));
        for writer in &mut writers {
            assert_eq!(writer.try_wait().unwrap(), None, "a writer ended by itself");
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        let now = check(&path);
        assert!(now >= before, "something vanished");
        grown += u32::from(now > before);
        before = now;
    }
    assert!(grown > 0, "no writer ever got anything done");
    let store = Store::open(&path).unwrap();
    assert_eq!(fs::read_dir(path.join("staging")).unwrap().count(), 0);
    assert!(store.records(&key()).unwrap().len() <= rootbuild_cache::records::MAX_RECORDS);
    // Nothing is left but whole things; a fresh one can be added.
    File::open(path.join("format")).unwrap();
    store.put_tree(&Tree::default()).unwrap();
    check(&path);
}
