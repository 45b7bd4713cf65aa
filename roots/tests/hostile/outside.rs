//! What lies beside a root and must stay as it is, and somebody who swaps names to get at it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rootbuild_cache::{Digest, Store};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

/// How long each attack goes on; `ROOTBUILD_HOSTILE_SECONDS` for longer.
pub(crate) fn long() -> Duration {
    let wanted = std::env::var("ROOTBUILD_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok());
    wanted.map_or(Duration::from_millis(1500), Duration::from_secs)
}

const SECRET: &str = "what nobody may read into a root\n";

/// A directory beside a root, with what scrubbing, normalising, capturing, updating and removing look for.
pub(crate) struct Outside {
    pub(crate) dir: PathBuf,
    before: Vec<String>,
}

impl Outside {
    pub(crate) fn new(dir: PathBuf) -> Self {
        for name in ["", "tmp", "var/tmp", "var/lib/rpm", "etc", "home/a/.ansible/tmp", "b/c", "a"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let files =
            ["secret", "tmp/x", "var/tmp/x", "etc/machine-id", "etc/resolv.conf", "b/c/file", "a/file", "f"];
        for name in files.into_iter().chain(["home/a/.ansible/tmp/x", "var/lib/rpm/__db.001"]) {
            fs::write(dir.join(name), SECRET).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let database = rusqlite(&dir.join("var/lib/rpm/rpmdb.sqlite"));
        assert!(database.len() > 1000);
        let before = look(&dir);
        Self { dir, before }
    }

    /// Fails if anything there was read into the store, written, or became somebody else's.
    #[track_caller]
    pub(crate) fn is_whole(&self, store: &Store) {
        assert_eq!(look(&self.dir), self.before, "something outside was touched");
        assert!(!store.has_object(&Digest::of(SECRET.as_bytes())), "something outside was read");
    }
}

/// A database that would be written anew in a root.
pub(crate) fn rusqlite(path: &Path) -> Vec<u8> {
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.executescript('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB);'\n\
        'CREATE TABLE Installtid (key INTEGER, hnum INTEGER, idx INTEGER);'\n\
        'INSERT INTO Installtid VALUES (1234567, 1, 0);')\n";
    let made =
        std::process::Command::new("/usr/bin/python3").args(["-c", script]).arg(path).status().unwrap();
    assert!(made.success());
    fs::read(path).unwrap()
}

/// All that can be seen of a directory, but for when it was last read.
fn look(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut below = vec![dir.to_owned()];
    while let Some(path) = below.pop() {
        let stat = path.symlink_metadata().unwrap();
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let about = (stat.mode(), stat.uid(), stat.gid(), stat.size(), stat.mtime_nsec(), stat.ctime_nsec());
        found.push(format!("{} {about:?} {} {}", path.display(), stat.nlink(), Digest::of(&content)));
        if stat.is_dir() {
            below.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// Swaps names as fast as it can, until it is dropped.
pub(crate) struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Swapper {
    /// What `pairs` gives again and again is swapped: a name in a root, and another.
    pub(crate) fn start(pairs: impl Fn() -> Vec<(PathBuf, PathBuf)> + Send + 'static) -> Self {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let pairs = pairs();
                for _ in 0..20 {
                    for (one, other) in &pairs {
                        count.fetch_add(u64::from(swap(one, other).is_ok()), Ordering::Relaxed);
                    }
                }
            }
        });
        Self { stop, swaps, threads: vec![thread] }
    }

    pub(crate) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Exchanges a name in a root with another. Links are not followed on the way: one that stands for a directory
/// above, because it could not be swapped back, would lead the swapper itself out.
fn swap(one: &Path, other: &Path) -> rustix::io::Result<()> {
    let (parent, name) = (one.parent().unwrap(), one.file_name().unwrap());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat2(CWD, parent, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    rustix::fs::renameat_with(dir, name, CWD, other, RenameFlags::EXCHANGE)
}

/// Does `work` again and again for a while; none of it may take long: who is led to a FIFO waits for ever.
pub(crate) fn again(mut work: impl FnMut(u32)) {
    let start = Instant::now();
    let mut round = 0;
    while round < 2 || start.elapsed() < long() {
        let now = Instant::now();
        work(round);
        assert!(now.elapsed() < Duration::from_secs(60), "round {round} took {:?}", now.elapsed());
        round += 1;
    }
}

/// Fills `attic` with what a name in a root is swapped with: links out, and things that wait when opened.
/// Tells their names.
pub(crate) fn attic(attic: &Path, outside: &Outside) -> Vec<PathBuf> {
    fs::create_dir_all(attic).unwrap();
    let targets =
        ["", "tmp", "var", "etc", "home", "b", "secret", "etc/machine-id", "var/lib/rpm/rpmdb.sqlite"];
    let mut made = Vec::new();
    for (number, target) in targets.into_iter().enumerate() {
        let name = attic.join(number.to_string());
        symlink(outside.dir.join(target), &name).unwrap();
        made.push(name);
    }
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        // Opened for writing, it would be a way to reboot the machine; there mostly is none.
        ("device", FileType::CharacterDevice, rustix::fs::makedev(10, 130)),
    ] {
        let name = attic.join(name);
        rustix::fs::mknodat(CWD, &name, kind, Mode::from_raw_mode(0o666), device).unwrap();
        made.push(name);
    }
    let magic = attic.join("magic");
    symlink("/proc/self/root", &magic).unwrap();
    made.push(magic);
    made
}
