//! Archives made by hand and by GNU tar, against what is unpacked of them.

mod formats;
mod hostile;
mod kept;
mod random;

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rootbuild_cache::{Store, Tree};
use tempfile::TempDir;

use super::input::Source;
use super::{ArchiveBase, Limits, Problem, Reader, Refusal, Unpacker};
use crate::base::{BaseContext, BaseError, BaseSource};
use crate::cancel::Cancel;
use crate::progress::StepEvent;

/// Whether this test may write owners and attributes; says so once if not.
fn privileged(test: &str) -> bool {
    let privileged = rustix::process::geteuid().is_root();
    if !privileged {
        eprintln!("skipped: {test}: needs root");
    }
    privileged
}

/// A directory to unpack into, and one beside it that nothing may touch.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        for name in ["root", "victim"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        fs::write(dir.path().join("victim/file"), "untouched").expect("a file");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where `name` is after unpacking.
    fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn base(&self, file: &str) -> ArchiveBase {
        ArchiveBase {
            name: "a".to_owned(),
            file: self.path(file),
            sha256: None,
            strip_components: 0,
            devices: false,
            limits: None,
            keyed: super::Keyed::default(),
        }
    }

    /// Unpacks bytes, all in this process and with nothing between them and the reader.
    fn unpack(&self, archive: &[u8]) -> Result<(), Problem> {
        self.unpack_as(&self.base("a.tar"), archive)
    }

    fn unpack_as(&self, base: &ArchiveBase, archive: &[u8]) -> Result<(), Problem> {
        let limits = base.limits.unwrap_or_default();
        let mut reader = Reader::new(Cursor::new(archive), limits);
        let unpacker = Unpacker::new(&self.path("root"), base, limits).expect("the root stands");
        unpacker.run(&mut reader).map(|_| ())
    }

    /// What stands beside the root, with everything in it.
    fn outside(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(self.dir.path()).sort_by_file_name() {
            let entry = entry.expect("readable");
            if !entry.path().starts_with(self.path("root")) {
                found.push((entry.path().to_owned(), fs::read(entry.path()).unwrap_or_default()));
            }
        }
        found
    }

    /// Builds `base` as the engine does.
    fn build(&self, base: &ArchiveBase) -> Result<serde_json::Value, BaseError> {
        self.build_with(base, &Cancel::new(), &|_| ())
    }

    fn build_with(
        &self,
        base: &ArchiveBase,
        cancel: &Cancel,
        sink: &(dyn Fn(StepEvent) + Sync),
    ) -> Result<serde_json::Value, BaseError> {
        let store = self.store();
        let context = BaseContext {
            store: &store,
            cancel,
            sink,
            scratch: self.dir.path(),
            offline: false,
            mirror: None,
        };
        base.build(context, &self.path("root"))
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).expect("a store")
    }

    /// The root as a tree.
    fn tree(&self, name: &str) -> Tree {
        crate::capture::capture_directory(&self.store(), &self.path(name), &Cancel::new()).expect("captured")
    }

    /// Runs a script in the directory beside the root.
    fn sh(&self, script: &str) -> String {
        let made =
            Command::new("sh").args(["-euc", script]).current_dir(self.dir.path()).output().expect("sh");
        assert!(made.status.success(), "{script}\n{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8_lossy(&made.stdout).into_owned()
    }

    /// Empties the root.
    fn again(&self) {
        fs::remove_dir_all(self.path("root")).expect("removable");
        fs::create_dir(self.path("root")).expect("a directory");
    }
}

/// An archive made block by block.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// Adds a header and data, whatever they say of each other.
    fn raw(mut self, header: &tar::Header, data: &[u8]) -> Self {
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn member(self, kind: u8, name: &[u8], link: &[u8], data: &[u8]) -> Self {
        self.raw(&header(kind, name, link, data.len() as u64), data)
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.member(b'0', name.as_bytes(), b"", data.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.member(b'5', name.as_bytes(), b"", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.member(b'2', name.as_bytes(), target.as_bytes(), b"")
    }

    fn hardlink(self, name: &str, target: &str) -> Self {
        self.member(b'1', name.as_bytes(), target.as_bytes(), b"")
    }

    /// Adds an extended header for what follows.
    fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..8).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n);
            data.extend(format!("{} {key}=", length.expect("short")).as_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.member(kind, b"pax", b"", &data)
    }

    /// The archive with its end mark.
    fn end(self) -> Vec<u8> {
        let mut bytes = self.0;
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    {
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag = [kind];
    }
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

/// What a member was refused for.
#[track_caller]
fn refusal(result: Result<(), Problem>) -> (String, Refusal) {
    match result {
        Err(Problem::Member { member, refusal }) => (member, refusal),
        other => panic!("not refused for a member: {other:?}"),
    }
}
