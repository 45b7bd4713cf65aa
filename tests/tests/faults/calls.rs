//! The system calls that change a file system, and what each is about.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

/// What one call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The open file in this argument.
    Open(usize),
    /// The name in this argument.
    Name(usize),
    /// The name in the second argument, below the directory in the first.
    At(usize, usize),
}

use About::{At, Name, Open};

/// Flags of `open` without which it changes nothing.
const CREATE: u64 = 0o100;
const TRUNCATE: u64 = 0o1000;
/// `FICLONE`
const CLONE: u64 = 0x4004_9409;

const CALLS: &[(&str, About)] = &[
    ("open", Name(0)),
    ("openat", At(0, 1)),
    ("openat2", At(0, 1)),
    ("creat", Name(0)),
    ("write", Open(0)),
    ("pwrite64", Open(0)),
    ("writev", Open(0)),
    ("pwritev", Open(0)),
    ("pwritev2", Open(0)),
    ("copy_file_range", Open(2)),
    ("sendfile", Open(0)),
    ("splice", Open(2)),
    ("ftruncate", Open(0)),
    ("truncate", Name(0)),
    ("fallocate", Open(0)),
    ("ioctl", Open(0)),
    ("mkdir", Name(0)),
    ("mkdirat", At(0, 1)),
    ("mknod", Name(0)),
    ("mknodat", At(0, 1)),
    ("symlink", Name(1)),
    ("symlinkat", At(1, 2)),
    ("link", Name(1)),
    ("linkat", At(2, 3)),
    ("rename", Name(1)),
    ("renameat", At(2, 3)),
    ("renameat2", At(2, 3)),
    ("unlink", Name(0)),
    ("unlinkat", At(0, 1)),
    ("rmdir", Name(0)),
    ("fsync", Open(0)),
    ("fdatasync", Open(0)),
    ("syncfs", Open(0)),
    ("sync_file_range", Open(0)),
    ("chmod", Name(0)),
    ("fchmod", Open(0)),
    ("fchmodat", At(0, 1)),
    ("fchmodat2", At(0, 1)),
    ("chown", Name(0)),
    ("lchown", Name(0)),
    ("fchown", Open(0)),
    ("fchownat", At(0, 1)),
    ("setxattr", Name(0)),
    ("lsetxattr", Name(0)),
    ("fsetxattr", Open(0)),
    ("removexattr", Name(0)),
    ("lremovexattr", Name(0)),
    ("fremovexattr", Open(0)),
    ("utimensat", At(0, 1)),
];

/// One call that was stopped.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The call's name.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) path: PathBuf,
}

impl Call {
    /// Whether it makes something durable.
    pub(crate) fn syncs(&self) -> bool {
        matches!(self.name, "fsync" | "fdatasync" | "syncfs")
    }

    /// Whether it needs room on the disk.
    pub(crate) fn takes_room(&self) -> bool {
        let frees = ["unlink", "unlinkat", "rmdir", "fchmod", "chmod", "fchmodat", "utimensat", "truncate"];
        !self.syncs() && !frees.contains(&self.name)
    }

    /// Whether it makes a link.
    pub(crate) fn links(&self) -> bool {
        matches!(self.name, "link" | "linkat")
    }
}

/// The filter that stops them all.
pub(crate) fn filter() -> Result<ScmpFilterContext, SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    filter.set_ctl_nnp(false)?;
    for (name, _) in CALLS {
        let call = ScmpSyscall::from_name(name)?;
        let flags = |argument, flags| ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(flags), flags);
        let conditions = match *name {
            "open" => vec![flags(1, CREATE), flags(1, TRUNCATE)],
            "openat" => vec![flags(2, CREATE), flags(2, TRUNCATE)],
            "ioctl" => vec![ScmpArgCompare::new(1, ScmpCompareOp::MaskedEqual(0xffff_ffff), CLONE)],
            _ => Vec::new(),
        };
        if conditions.is_empty() {
            filter.add_rule(ScmpAction::Notify, call)?;
        }
        for condition in conditions {
            filter.add_rule_conditional(ScmpAction::Notify, call, &[condition])?;
        }
    }
    Ok(filter)
}

/// The calls by their numbers.
pub(crate) struct Table(HashMap<i32, (&'static str, About)>);

impl Table {
    pub(crate) fn new() -> Self {
        let number = |name| ScmpSyscall::from_name(name).expect("this machine has it").as_raw_syscall();
        Self(CALLS.iter().map(|&(name, about)| (number(name), (name, about))).collect())
    }

    /// What the thread `tid` is about to do; nothing if that changes nothing.
    pub(crate) fn look(&self, tid: u32, number: i32, arguments: &[u64; 6]) -> Option<Call> {
        let &(name, about) = self.0.get(&number)?;
        if name == "openat2" {
            let mut flags = [0; 8];
            memory(tid, arguments[2], &mut flags);
            if u64::from_ne_bytes(flags) & (CREATE | TRUNCATE) == 0 {
                return None;
            }
        }
        let below = |dir: u64, at: usize| match text(tid, arguments[at]) {
            name if name.as_os_str().is_empty() => open_file(tid, dir),
            name => open_file(tid, dir).join(name),
        };
        let path = match about {
            Open(file) => open_file(tid, arguments[file]),
            Name(name) => below(u64::from(u32::MAX), name),
            At(dir, name) => below(arguments[dir], name),
        };
        Some(Call { name, path })
    }
}

/// What a thread's descriptor stands for; its working directory for what is none.
fn open_file(tid: u32, descriptor: u64) -> PathBuf {
    #[allow(clippy::cast_possible_truncation, reason = "as the kernel does")]
    let name = match (descriptor as u32).cast_signed() {
        descriptor if descriptor < 0 => format!("/proc/{tid}/cwd"),
        descriptor => format!("/proc/{tid}/fd/{descriptor}"),
    };
    std::fs::read_link(name).unwrap_or_default()
}

/// The text at an address of a thread's memory.
fn text(tid: u32, address: u64) -> PathBuf {
    let mut bytes = vec![0; 4096];
    let read = memory(tid, address, &mut bytes);
    let end = bytes[..read].iter().position(|byte| *byte == 0).unwrap_or(0);
    Path::new(std::ffi::OsStr::from_bytes(&bytes[..end])).to_owned()
}

/// Reads a thread's memory, as far as there is any; how much that was.
pub(crate) fn memory(tid: u32, address: u64, buffer: &mut [u8]) -> usize {
    if address == 0 {
        return 0;
    }
    let Ok(file) = File::open(format!("/proc/{tid}/mem")) else { return 0 };
    let mut done = 0;
    while done < buffer.len() {
        let at = address + done as u64;
        // What is asked for beyond a page that isn't there must not lose the page before.
        let page = usize::try_from(4096 - at % 4096).expect("a page is small").min(buffer.len() - done);
        match file.read_at(&mut buffer[done..done + page], at) {
            Ok(read) if read > 0 => done += read,
            _ => break,
        }
    }
    done
}
