//! A process that is killed at any moment, and a machine that loses power at any moment, leave a
//! store in which everything visible is whole.

#![allow(clippy::unwrap_used, reason = "a test; clippy knows only functions marked as such")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rootbuild_cache::{Digest, Entry, Input, Kind, LayerKey, Meta, Record, Store, Tree};

const STORE: &str = "ROOTBUILD_TEST_STORE";
const SEED: &str = "ROOTBUILD_TEST_SEED";
/// Where the writer tells the trees that it was told are durable.
const SAID: &str = "ROOTBUILD_TEST_SAID";
const AGAIN: &str = "ROOTBUILD_TEST_AGAIN";

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
            entries.push(Entry {
                path: number.to_string().into_bytes(),
                meta,
                kind: Kind::File { object, size },
            });
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
        if let Some(said) = std::env::var_os(SAID) {
            let mut said = fs::OpenOptions::new().append(true).create(true).open(said).unwrap();
            writeln!(said, "{tree}").unwrap();
        }
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

/// Whether every thread of the process is stopped, out of any system call.
fn all_stopped(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap).all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    })
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The image of a mounted file system is what its disk holds: copied as it is, without a sync, it is
/// what a machine finds that lost power at that moment.
#[test]
fn losing_power_at_any_moment_leaves_only_whole_things() {
    let name = "losing_power_at_any_moment_leaves_only_whole_things";
    if std::env::var_os(AGAIN).is_none() {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            println!("skipped: {name}: needs root and loop devices");
            return;
        }
        // Mounts of its own, which vanish with it.
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        let status = unshare.args(["--exact", name, "--nocapture"]).env(AGAIN, "").status().unwrap();
        assert!(status.success());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [image, copy, mounted, said] = ["image", "copy", "mounted", "said"].map(|name| dir.path().join(name));
    fs::create_dir(&mounted).unwrap();
    File::create(&image).unwrap().set_len(512 << 20).unwrap();
    run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
    let (mut trees, mut told) = (0, 0);
    for round in 0..4u64 {
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mounted.as_ref()]);
        let _ = fs::remove_file(&said);
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer"])
            .env(STORE, mounted.join("store"))
            .env(SEED, (round * 1_000).to_string())
            .env(SAID, &said)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(300 + round * 171));
        let pid = rustix::process::Pid::from_child(&writer);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        // The copy takes a while, so nothing may be written meanwhile.
        while !all_stopped(writer.id()) {
            thread::sleep(Duration::from_millis(1));
        }
        run("cp", &["--sparse=always".as_ref(), image.as_ref(), copy.as_ref()]);
        writer.kill().unwrap();
        writer.wait().unwrap();
        run("umount", &[mounted.as_ref()]);
        fs::rename(&copy, &image).unwrap();
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mounted.as_ref()]);
        trees += check(&mounted.join("store")).1;
        if let Some(store) = Store::open_read_only(&mounted.join("store")).unwrap() {
            for line in fs::read_to_string(&said).unwrap_or_default().lines() {
                store.tree(&line.parse().unwrap()).unwrap();
                told += 1;
            }
        }
        run("umount", &[mounted.as_ref()]);
    }
    assert!(trees > 0 && told > 0, "no writer ever got anything done");
    println!("{told} trees were durable as told");
}
