//! Has a say in every call that changes a file system.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::calls::{Call, Table, memory};

/// What is to become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// It is made.
    GoOn,
    /// It fails.
    Fail(Errno),
    /// Of what it would write, only half is written.
    Half,
}

/// What was done: the calls, the last of them about to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// All calls of the process itself below the directory that is looked at.
    pub(crate) calls: Vec<Call>,
    /// What was said other than to go on, with the number of the call.
    pub(crate) faults: Vec<(usize, Say)>,
}

impl Done {
    /// The call that is about to be made.
    pub(crate) fn last(&self) -> &Call {
        self.calls.last().expect("there is one")
    }
}

/// Watches one process.
pub(crate) struct Supervisor {
    process: u32,
    within: PathBuf,
    say: Box<dyn FnMut(&Done) -> Say + Send>,
    table: Table,
    done: Done,
}

impl Supervisor {
    pub(crate) fn new(process: u32, within: PathBuf, say: Box<dyn FnMut(&Done) -> Say + Send>) -> Self {
        Self { process, within, say, table: Table::new(), done: Done::default() }
    }

    /// Answers until nobody is left, or `stop` hangs up.
    pub(crate) fn run(mut self, listener: &OwnedFd, stop: &UnixStream) -> Done {
        while wait(listener, stop) {
            // Who called may have died meanwhile.
            if let Ok(request) = ScmpNotifReq::receive(listener.as_raw_fd()) {
                let answer = self.answer(&request);
                let _ = answer.respond(listener.as_raw_fd());
            }
        }
        self.done
    }

    fn answer(&mut self, request: &ScmpNotifReq) -> ScmpNotifResp {
        let (number, arguments) = (request.data.syscall.as_raw_syscall(), &request.data.args);
        let flags = ScmpNotifRespFlags::empty();
        let go_on = ScmpNotifResp::new_continue(request.id, flags);
        if process_of(request.pid) != Some(self.process) {
            return go_on;
        }
        let Some(call) = self.table.look(request.pid, number, arguments) else { return go_on };
        if !call.path.starts_with(&self.within) {
            return go_on;
        }
        let name = call.name;
        self.done.calls.push(call);
        let said = (self.say)(&self.done);
        let at = self.done.calls.len() - 1;
        let answer = match said {
            Say::GoOn => return go_on,
            Say::Fail(errno) => ScmpNotifResp::new_error(request.id, -errno.raw_os_error(), flags),
            Say::Half => match self.half(name, request.pid, arguments) {
                Some(written) => ScmpNotifResp::new_val(request.id, written, flags),
                None => return go_on,
            },
        };
        self.done.faults.push((at, said));
        answer
    }

    /// Writes half of what a call would have written, and how much that was; nothing if that can't be.
    fn half(&self, name: &str, tid: u32, arguments: &[u64; 6]) -> Option<i64> {
        let length = usize::try_from(match name {
            "write" | "pwrite64" => arguments[2],
            "copy_file_range" => arguments[4],
            _ => return None,
        })
        .ok()?;
        if length < 2 {
            return None;
        }
        let (half, process) = (length / 2, i32::try_from(self.process).ok()?);
        let process = rustix::process::pidfd_open(Pid::from_raw(process)?, PidfdFlags::empty()).ok()?;
        let open = |argument: usize| {
            let descriptor = i32::try_from(arguments[argument]).ok()?;
            rustix::process::pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()
        };
        let written = match name {
            "copy_file_range" if arguments[1] == 0 && arguments[3] == 0 => {
                rustix::fs::copy_file_range(open(0)?, None, open(2)?, None, half).ok()?
            }
            "copy_file_range" => return None,
            _ => {
                let mut bytes = vec![0; half];
                if memory(tid, arguments[1], &mut bytes) < half {
                    return None;
                }
                match name {
                    "write" => rustix::io::write(open(0)?, &bytes).ok()?,
                    _ => rustix::io::pwrite(open(0)?, &bytes, arguments[3]).ok()?,
                }
            }
        };
        i64::try_from(written).ok()
    }
}

/// The process that a thread belongs to.
fn process_of(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Waits until there is a call; `false` if there never will be.
fn wait(listener: &OwnedFd, stop: &UnixStream) -> bool {
    loop {
        let mut both =
            [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        let [listener, stop] = both.map(|one| one.revents());
        if listener.contains(PollFlags::IN) {
            return true;
        }
        if !listener.is_empty() || !stop.is_empty() {
            return false;
        }
    }
}
