use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LARGE: usize = 16 << 20;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All objects of a store by name, each checked against its name.
fn objects(store: &Store) -> Vec<Digest> {
    let mut found = Vec::new();
    for fan in fs::read_dir(store.dir().join("objects")).unwrap() {
        let fan = fan.unwrap();
        for object in fs::read_dir(fan.path()).unwrap() {
            let object = object.unwrap();
            let name = format!("{}{}", fan.file_name().display(), object.file_name().display());
            let digest: Digest = name.parse().unwrap();
            assert_eq!(Digest::of(&fs::read(object.path()).unwrap()), digest);
            found.push(digest);
        }
    }
    found
}

/// What lies in the store's staging directories.
fn staged(store: &Store) -> usize {
    let dirs = fs::read_dir(store.dir().join("staging")).unwrap().map(|entry| entry.unwrap().path());
    dirs.filter(|path| path.is_dir()).map(|dir| fs::read_dir(dir).unwrap().count()).sum()
}

#[test]
fn an_object_is_read_back_by_its_digest() {
    let (_dir, store) = store();
    for size in [0, 1, 4095, 4096, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 2 * IN_MEMORY + 12345, LARGE + 1]
    {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
        let (digest, length) = store.put_object(&file_of(&bytes)).unwrap();
        assert_eq!((digest, length), (Digest::of(&bytes), size as u64));
        assert!(content(store.open_object(&digest).unwrap()) == bytes, "before the sync, {size} bytes");
        store.sync().unwrap();
        assert!(content(store.open_object(&digest).unwrap()) == bytes, "after the sync, {size} bytes");
        assert_eq!(store.put_object_bytes(&bytes).unwrap(), digest);
    }
    assert_eq!(objects(&store).len(), 9);
    assert_eq!(staged(&store), 0);
}

#[test]
fn a_file_that_nobody_writes_any_more_becomes_an_object_where_it_lies() {
    let (dir, store) = store();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a file of which only the descriptor is known is linked by root alone");
        return;
    }
    for size in [0, 1, IN_MEMORY, IN_MEMORY + 1, LARGE + 1] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
        let names = ["one", "two"].map(|name| dir.path().join(name));
        for name in &names {
            fs::write(name, &bytes).unwrap();
            let (digest, length) = store.adopt_object(&File::open(name).unwrap()).unwrap();
            assert_eq!((digest, length), (Digest::of(&bytes), size as u64));
            assert!(content(store.open_object(&digest).unwrap()) == bytes, "before the sync, {size} bytes");
        }
        store.sync().unwrap();
        let [one, two] = names.map(|name| fs::metadata(name).unwrap());
        let object = fs::metadata(store.object_path(&Digest::of(&bytes))).unwrap();
        assert_eq!((object.ino(), one.nlink(), two.nlink()), (one.ino(), 2, 1), "{size} bytes");
        for name in ["one", "two"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
    assert_eq!(objects(&store).len(), 5);
    assert_eq!(staged(&store), 0);
    // One that can't have a name there is copied.
    let elsewhere = rustix::fs::memfd_create("elsewhere", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut elsewhere = File::from(elsewhere);
    elsewhere.write_all(b"elsewhere").unwrap();
    assert_eq!(store.adopt_object(&elsewhere).unwrap().0, Digest::of(b"elsewhere"));
    store.sync().unwrap();
    assert_eq!(objects(&store).len(), 6);
}

#[test]
fn a_sync_that_was_begun_is_waited_for_by_the_next() {
    let (_dir, store) = store();
    store.begin_sync();
    store.begin_sync();
    let digest = store.put_object_bytes(b"content").unwrap();
    store.sync().unwrap();
    assert_eq!(objects(&store), [digest]);
    assert!(store.waiting().early.is_none());
}

#[test]
fn the_file_is_read_from_its_start_wherever_its_offset_is() {
    let (_dir, store) = store();
    let mut file = file_of(b"from the start");
    file.seek(io::SeekFrom::Start(5)).unwrap();
    assert_eq!(store.put_object(&file).unwrap().0, Digest::of(b"from the start"));
}

#[test]
fn an_object_has_its_name_only_once_it_is_synced() {
    let (_dir, store) = store();
    let other = Store::open(store.dir()).unwrap();
    let digest = store.put_object_bytes(b"content").unwrap();
    assert!(store.has_object(&digest) && store.clone().has_object(&digest));
    assert!(!other.has_object(&digest));
    store.sync().unwrap();
    assert!(other.has_object(&digest) && store.has_object(&digest));
    let path = store.object_path(&digest);
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o400);
}

#[test]
fn an_object_that_is_there_is_not_written_again() {
    let (_dir, store) = store();
    let digest = store.put_object_bytes(b"content").unwrap();
    store.put_object_bytes(b"content").unwrap();
    assert_eq!(staged(&store), 1);
    store.sync().unwrap();
    let inode = fs::metadata(store.object_path(&digest)).unwrap().ino();
    store.put_object(&file_of(b"content")).unwrap();
    assert_eq!(staged(&store), 0);
    // Put by two processes before either syncs: the first stays.
    let other = Store::open(store.dir()).unwrap();
    let second = store.put_object_bytes(b"second").unwrap();
    other.put_object_bytes(b"second").unwrap();
    other.sync().unwrap();
    store.sync().unwrap();
    assert_eq!(fs::metadata(store.object_path(&digest)).unwrap().ino(), inode);
    assert_eq!((objects(&store).len(), staged(&store)), (2, 0));
    assert!(store.has_object(&second));
}

#[test]
fn what_is_not_there_is_missing() {
    let (_dir, store) = store();
    let digest = Digest::of(b"nothing");
    assert!(!store.has_object(&digest));
    let error = store.open_object(&digest).unwrap_err();
    assert!(matches!(&error, Error::Missing { what } if *what == format!("object {digest}")), "{error}");
}

#[test]
fn a_truncated_object_is_mended_when_its_content_comes_again() {
    let (_dir, store) = store();
    let digest = store.put_object_bytes(b"content").unwrap();
    store.sync().unwrap();
    let path = store.object_path(&digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "con").unwrap();
    store.put_object_bytes(b"content").unwrap();
    store.sync().unwrap();
    assert_eq!(objects(&store), [digest]);
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let (dir, store) = store();
    for path in [dir.path(), Path::new("/dev/null")] {
        let error = store.put_object(&File::open(path).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::Io { path: at, .. } if at == path), "{error}");
    }
}

#[test]
fn a_sparse_file_stays_sparse() {
    let (_dir, store) = store();
    let mib = 1u64 << 20;
    for (size, data) in [(64 * mib, 17 * mib + 5), (64 * mib, 0), (3 * mib, mib), (64 * mib, 64 * mib - 7)] {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"island", data).unwrap();
        let size = file.metadata().unwrap().len();
        let (digest, length) = store.put_object(&file).unwrap();
        store.sync().unwrap();
        let object = store.open_object(&digest).unwrap();
        let stat = object.metadata().unwrap();
        assert_eq!((length, stat.len()), (size, size));
        assert!(stat.blocks() * 512 <= 64 * 1024, "{} blocks for {size} bytes", stat.blocks());
        assert_eq!(Digest::of(&content(object)), digest);
    }
}

#[test]
fn a_file_that_changes_meanwhile_never_becomes_an_object_that_lies() {
    let (_dir, store) = store();
    let done = AtomicBool::new(false);
    for size in [100_000usize, IN_MEMORY + 100_000] {
        let file = file_of(&vec![1; size]);
        let (mut stored, mut refused) = (0, 0);
        done.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 2u8.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    for at in (0..size).step_by(50_000) {
                        file.write_all_at(&[round; 1000], at as u64).unwrap();
                    }
                    file.set_len((size - usize::from(round)) as u64).unwrap();
                    thread::sleep(std::time::Duration::from_micros(u64::from(round) * 20));
                    if round == u8::MAX {
                        break;
                    }
                }
            });
            let start = std::time::Instant::now();
            while start.elapsed().as_millis() < 400 {
                match store.put_object(&file) {
                    Ok(_) => stored += 1,
                    Err(Error::Io { .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(stored + refused > 0);
    }
    store.sync().unwrap();
    // Checks each object against its name.
    objects(&store);
    assert_eq!(staged(&store), 0);
}

#[test]
fn many_threads_can_put_the_same_objects() {
    let (_dir, store) = store();
    let other = Store::open(store.dir()).unwrap();
    thread::scope(|scope| {
        for number in 0..8u32 {
            let store = if number % 2 == 0 { &store } else { &other };
            scope.spawn(move || {
                for object in 0..100u32 {
                    let bytes = object.to_le_bytes().repeat(1 + object as usize * 7);
                    let digest = store.put_object_bytes(&bytes).unwrap();
                    assert!(store.has_object(&digest));
                    assert_eq!(content(store.open_object(&digest).unwrap()), bytes);
                    if (object + number) % 25 == 0 {
                        store.sync().unwrap();
                    }
                }
            });
        }
    });
    store.sync().unwrap();
    other.sync().unwrap();
    assert_eq!((objects(&store).len(), staged(&store)), (100, 0));
}

#[test]
fn a_rayon_thread_can_be_given_the_next_file_while_it_hashes() {
    use rayon::prelude::*;
    let (_dir, store) = store();
    let bytes = |number: u8| vec![number; LARGE];
    let files: Vec<File> = (0..4u8).map(|number| file_of(&bytes(number))).collect();
    let digests: Vec<Digest> = files.par_iter().map(|file| store.put_object(file).unwrap().0).collect();
    for (number, digest) in digests.iter().enumerate() {
        assert_eq!(*digest, Digest::of(&bytes(number.to_le_bytes()[0])));
    }
}

#[test]
fn a_file_that_holds_more_than_it_says_is_refused() {
    let (_dir, store) = store();
    let file = File::open("/proc/self/status").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert!(matches!(store.put_object(&file), Err(Error::Io { .. })));
}

#[test]
fn unsynced_objects_go_with_their_store() {
    let (_dir, store) = store();
    store.put_object_bytes(b"content").unwrap();
    let path = store.dir().to_owned();
    drop(store);
    assert_eq!(fs::read_dir(path.join("staging")).unwrap().count(), 0);
    assert!(!Store::open(&path).unwrap().has_object(&Digest::of(b"content")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn holes_never_change_the_content(
        islands in vec((0..1_500_000u64, vec(any::<u8>(), 1..9000)), 0..6),
        end in 0..2_000_000u64,
        large: bool,
    ) {
        let (_dir, store) = store();
        let file = tempfile::tempfile().unwrap();
        // Beyond `IN_MEMORY` a file is streamed twice, below it only when it has holes.
        let base = if large { IN_MEMORY as u64 } else { 0 };
        file.set_len(base + end).unwrap();
        for (at, bytes) in &islands {
            file.write_all_at(bytes, base + at).unwrap();
        }
        let want = { let mut copy = file.try_clone().unwrap(); copy.rewind().unwrap(); content(copy) };
        let (digest, size) = store.put_object(&file).unwrap();
        prop_assert_eq!((digest, size), (Digest::of(&want), want.len() as u64));
        prop_assert!(content(store.open_object(&digest).unwrap()) == want, "the object is the file");
    }
}
