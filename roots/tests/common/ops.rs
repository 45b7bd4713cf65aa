//! What steps do in a root, at random.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rootbuild_cache::{Kind, Tree};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, XattrFlags};

/// Something a step does. What can't be done (a name that is taken) isn't.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(Index, u8),
    Append(Index),
    Create(Index, u8, u8),
    MakeDir(Index, u8),
    Chmod(Index, u32),
    Chown(Index, u32),
    Rename(Index, Index, u8),
    Exchange(Index, Index),
    Remove(Index),
    Recreate(Index),
    Link(Index, Index, u8),
    SetXattr(Index, u8),
    DropXattr(Index),
    Node(Index, u8, u32),
    Fifo(Index, u8),
    Symlink(Index, u8),
    Socket(Index, u8),
    Touch(Index),
    Unchanged(Index),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let at = || any::<Index>();
    let name = || 0u8..8;
    prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(a, b)| Op::Write(a, b)),
        2 => at().prop_map(Op::Append),
        2 => (at(), name(), any::<u8>()).prop_map(|(a, b, c)| Op::Create(a, b, c)),
        2 => (at(), name()).prop_map(|(a, b)| Op::MakeDir(a, b)),
        2 => (at(), select(vec![0o644, 0o755, 0o4755, 0o1777, 0o600])).prop_map(|(a, b)| Op::Chmod(a, b)),
        1 => (at(), select(vec![0, 1000, 65534])).prop_map(|(a, b)| Op::Chown(a, b)),
        8 => (at(), at(), name()).prop_map(|(a, b, c)| Op::Rename(a, b, c)),
        2 => (at(), at()).prop_map(|(a, b)| Op::Exchange(a, b)),
        4 => at().prop_map(Op::Remove),
        3 => at().prop_map(Op::Recreate),
        4 => (at(), at(), name()).prop_map(|(a, b, c)| Op::Link(a, b, c)),
        1 => (at(), any::<u8>()).prop_map(|(a, b)| Op::SetXattr(a, b)),
        1 => at().prop_map(Op::DropXattr),
        1 => (at(), name(), 0u32..3).prop_map(|(a, b, c)| Op::Node(a, b, c)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Fifo(a, b)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Symlink(a, b)),
        1 => (at(), name()).prop_map(|(a, b)| Op::Socket(a, b)),
        1 => at().prop_map(Op::Touch),
        1 => at().prop_map(Op::Unchanged),
    ]
}

/// Every path in the merged view, the top first; directories too.
fn walk(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()).collect();
            names.sort();
            found.extend(names);
        }
    }
    found
}

fn name(number: u8) -> OsString {
    match number {
        0 => OsString::from_vec(vec![0xff, b'x']),
        1 => "n".repeat(255).into(),
        n => format!("{n}").into(),
    }
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_file())
}

pub(crate) fn run_op(top: &Path, op: &Op) -> Option<()> {
    // The top itself is not to be removed or renamed.
    let all = walk(top);
    let pick = |index: &Index| all[index.index(all.len())].clone();
    let below = |index: &Index| (all.len() > 1).then(|| all[1 + index.index(all.len() - 1)].clone());
    let dirs: Vec<_> = all.iter().filter(|path| is_dir(path)).cloned().collect();
    let dir = |index: &Index| dirs[index.index(dirs.len())].clone();
    match op {
        Op::Write(at, byte) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            fs::write(path, [*byte; 100]).ok()
        }
        Op::Append(at) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            OpenOptions::new().append(true).open(path).ok()?.write_all(b"more").ok()
        }
        Op::Create(at, new, byte) => {
            let path = dir(at).join(name(*new));
            OpenOptions::new().write(true).create_new(true).open(path).ok()?.write_all(&[*byte]).ok()
        }
        Op::MakeDir(at, new) => fs::create_dir(dir(at).join(name(*new))).ok(),
        Op::Chmod(at, mode) => {
            let path = pick(at);
            if path.is_symlink() {
                return None;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).ok()
        }
        Op::Chown(at, id) => std::os::unix::fs::lchown(pick(at), Some(*id), Some(*id)).ok(),
        Op::Rename(from, to, new) => {
            let to = dir(to).join(name(*new));
            rustix::fs::renameat_with(CWD, below(from)?, CWD, to, RenameFlags::empty()).ok()
        }
        Op::Exchange(a, b) => {
            rustix::fs::renameat_with(CWD, below(a)?, CWD, below(b)?, RenameFlags::EXCHANGE).ok()
        }
        Op::Remove(at) => remove(&below(at)?),
        Op::Recreate(at) => {
            let path = below(at).filter(|path| is_dir(path))?;
            remove(&path)?;
            fs::create_dir(&path).ok()?;
            fs::write(path.join("new"), "new").ok()
        }
        Op::Link(from, to, new) => fs::hard_link(below(from)?, dir(to).join(name(*new))).ok(),
        Op::SetXattr(at, byte) => {
            let value = [*byte; 3];
            rustix::fs::lsetxattr(pick(at), "trusted.changed", &value, XattrFlags::empty()).ok()
        }
        Op::DropXattr(at) => rustix::fs::lremovexattr(pick(at), "trusted.rootbuild").ok(),
        Op::Node(at, new, kind) => {
            let (kind, device) = match kind {
                0 => (FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
                1 => (FileType::BlockDevice, rustix::fs::makedev(7, 0)),
                _ => (FileType::CharacterDevice, rustix::fs::makedev(0, 1)),
            };
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), kind, Mode::from_raw_mode(0o640), device).ok()
        }
        Op::Fifo(at, new) => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), FileType::Fifo, mode, 0).ok()
        }
        Op::Symlink(at, new) => symlink("../elsewhere", dir(at).join(name(*new))).ok(),
        Op::Socket(at, new) => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, dir(at).join(name(*new)), FileType::Socket, mode, 0).ok()
        }
        Op::Touch(at) => {
            let now = rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 7 };
            let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
            rustix::fs::utimensat(CWD, pick(at), &times, AtFlags::SYMLINK_NOFOLLOW).ok()
        }
        Op::Unchanged(at) => {
            let path = Some(pick(at)).filter(|path| is_file(path))?;
            let old = fs::read(&path).ok()?;
            fs::write(path, old).ok()
        }
    }
}

fn remove(path: &Path) -> Option<()> {
    if is_dir(path) { fs::remove_dir_all(path).ok() } else { fs::remove_file(path).ok() }
}

/// What overlayfs can't have in a lower side.
pub(crate) fn without_whiteouts(tree: Tree) -> Tree {
    let mut entries = tree.into_entries();
    for entry in &mut entries {
        if entry.kind == (Kind::CharDevice { major: 0, minor: 0 }) {
            entry.kind = Kind::CharDevice { major: 1, minor: 3 };
        }
    }
    Tree::from_entries(entries).unwrap()
}

pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
