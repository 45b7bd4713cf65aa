//! The system calls that take names, and what each does with them.

use std::collections::HashMap;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

/// What a call does with one of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Opens it; the flags are this argument.
    Open(usize),
    /// Opens it; the flags are in the `open_how` that this argument points to.
    OpenHow(usize),
    /// Creates or empties it, for writing.
    Creat,
    /// Asks what it is, following links.
    Stat,
    /// Asks what it is, following links unless this argument has `AT_SYMLINK_NOFOLLOW`.
    StatAt(usize),
    /// Asks what the name itself is.
    Lstat,
    /// Runs it.
    Exec,
    /// Makes it, if it isn't there.
    Make,
    /// Changes something of what is there.
    Change,
    /// Takes the name away.
    Remove,
    /// Puts something else in its place.
    Replace,
    /// Gives what is there another name.
    Move,
    /// Connects to the address in the next two arguments.
    Connect,
    /// After it, names may mean something else than they do for us.
    Escape,
}

/// One name that a call takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    /// The argument with the directory that a relative name starts at, else it is the working directory.
    pub(super) dir: Option<usize>,
    /// The argument with the name.
    pub(super) name: usize,
    /// What is done with it.
    pub(super) act: Act,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    /// For calls that are younger than some libseccomp: all architectures number these alike.
    number: Option<i32>,
    pub(super) operands: &'static [Operand],
}

const fn on(name: usize, act: Act) -> Operand {
    Operand { dir: None, name, act }
}

const fn at(dir: usize, name: usize, act: Act) -> Operand {
    Operand { dir: Some(dir), name, act }
}

macro_rules! calls {
    (@number) => { None };
    (@number $number:literal) => { Some($number) };
    ($($name:ident $(= $number:literal)?: $($operand:expr),+;)*) => {
        &[$(Call {
            name: stringify!($name),
            number: calls!(@number $($number)?),
            operands: &[$($operand),+],
        }),*]
    };
}

use Act::{
    Change, Connect, Creat, Escape, Exec, Lstat, Make, Move, Open, OpenHow, Remove, Replace, Stat, StatAt,
};

/// All of them. Those that an architecture doesn't have are passed over there.
const CALLS: &[Call] = calls! {
    open: on(0, Open(1));
    openat: at(0, 1, Open(2));
    openat2: at(0, 1, OpenHow(2));
    creat: on(0, Creat);

    stat: on(0, Stat);
    lstat: on(0, Lstat);
    newfstatat: at(0, 1, StatAt(3));
    statx: at(0, 1, StatAt(2));
    access: on(0, Stat);
    faccessat: at(0, 1, Stat);
    faccessat2: at(0, 1, StatAt(3));
    readlink: on(0, Lstat);
    readlinkat: at(0, 1, Lstat);
    chdir: on(0, Stat);
    statfs: on(0, Stat);
    getxattr: on(0, Stat);
    lgetxattr: on(0, Lstat);
    getxattrat = 464: at(0, 1, StatAt(2));
    listxattr: on(0, Stat);
    llistxattr: on(0, Lstat);
    listxattrat = 465: at(0, 1, StatAt(2));
    name_to_handle_at: at(0, 1, Stat);
    file_getattr = 468: at(0, 1, StatAt(4));

    execve: on(0, Exec);
    execveat: at(0, 1, Exec);

    mkdir: on(0, Make);
    mkdirat: at(0, 1, Make);
    mknod: on(0, Make);
    mknodat: at(0, 1, Make);
    symlink: on(1, Make);
    symlinkat: at(1, 2, Make);
    link: on(0, Move), on(1, Make);
    linkat: at(0, 1, Move), at(2, 3, Make);
    unlink: on(0, Remove);
    unlinkat: at(0, 1, Remove);
    rmdir: on(0, Remove);
    rename: on(0, Move), on(1, Replace);
    renameat: at(0, 1, Move), at(2, 3, Replace);
    renameat2: at(0, 1, Move), at(2, 3, Replace);
    truncate: on(0, Change);
    chmod: on(0, Change);
    fchmodat: at(0, 1, Change);
    fchmodat2 = 452: at(0, 1, Change);
    chown: on(0, Change);
    lchown: on(0, Change);
    fchownat: at(0, 1, Change);
    utime: on(0, Change);
    utimes: on(0, Change);
    futimesat: at(0, 1, Change);
    utimensat: at(0, 1, Change);
    setxattr: on(0, Change);
    lsetxattr: on(0, Change);
    setxattrat = 463: at(0, 1, Change);
    removexattr: on(0, Change);
    lremovexattr: on(0, Change);
    removexattrat = 466: at(0, 1, Change);
    file_setattr = 469: at(0, 1, Change);

    connect: on(1, Connect);

    chroot: on(0, Escape);
    pivot_root: on(0, Escape);
    mount: on(1, Escape);
    umount2: on(0, Escape);
    move_mount: on(3, Escape);
    open_tree: on(1, Escape);
    open_tree_attr = 467: on(1, Escape);
    fsopen: on(0, Escape);
    setns: on(0, Escape);
    open_by_handle_at: on(0, Escape);
};

/// `AT_EMPTY_PATH`: the call may be about the descriptor itself.
const EMPTY_PATH: u64 = 0x1000;

/// `AT_FDCWD`, as 32 bits.
const WORKING_DIRECTORY: u64 = 0xffff_ff9c;

/// Calls by their number on this machine.
pub(super) fn by_number() -> HashMap<i32, &'static Call> {
    CALLS.iter().filter_map(|call| Some((syscall(call)?.as_raw_syscall(), call))).collect()
}

fn syscall(call: &Call) -> Option<ScmpSyscall> {
    let known = ScmpSyscall::from_name(call.name).ok().filter(|known| known.as_raw_syscall() >= 0);
    known.or_else(|| call.number.map(ScmpSyscall::from_raw_syscall))
}

/// The filter that stops every one of them until somebody has looked. What would get past it isn't let
/// through: programs of another architecture are stopped at every call, `io_uring` isn't there.
pub(super) fn filter() -> Result<ScmpFilterContext, SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    // Privileged as we are it isn't needed, and `sudo` on the controller goes on working.
    filter.set_ctl_nnp(false)?;
    filter.set_act_badarch(ScmpAction::Notify)?;
    for call in CALLS {
        let Some(number) = syscall(call) else { continue };
        match call.operands {
            [Operand { dir: Some(dir), act: StatAt(flags), .. }]
                if matches!(call.name, "newfstatat" | "statx") =>
            {
                // A quarter of all calls are `fstat`, which C libraries spell as a `stat` of no name below a
                // descriptor. Those tell nothing that opening the descriptor didn't.
                let (dir, flags) = (number_of(*dir), number_of(*flags));
                let named = ScmpArgCompare::new(flags, ScmpCompareOp::MaskedEqual(EMPTY_PATH), 0);
                filter.add_rule_conditional(ScmpAction::Notify, number, &[named])?;
                let here = ScmpCompareOp::MaskedEqual(0xffff_ffff);
                let here = ScmpArgCompare::new(dir, here, WORKING_DIRECTORY);
                filter.add_rule_conditional(ScmpAction::Notify, number, &[here])?;
            }
            _ => {
                filter.add_rule(ScmpAction::Notify, number)?;
            }
        }
    }
    filter.add_rule(ScmpAction::Errno(NO_SUCH_CALL), ScmpSyscall::from_name("io_uring_setup")?)?;
    // Dozens of calls: found by bisection.
    filter.set_ctl_optimize(2)?;
    Ok(filter)
}

/// `ENOSYS`.
const NO_SUCH_CALL: i32 = rustix::io::Errno::NOSYS.raw_os_error();

fn number_of(argument: usize) -> u32 {
    u32::try_from(argument).expect("calls have six arguments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_this_machine_is_known_once() {
        let known = by_number();
        assert!(known.len() > 50, "{}", known.len());
        for name in ["openat", "statx", "execve", "connect", "fchmodat2"] {
            assert_eq!(known.values().filter(|call| call.name == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_filter_is_a_filter() {
        assert!(filter().is_ok());
    }
}
