//! The traced side: install the filter, hand over its listening end, become the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::calls;

/// What is said with the listening end.
pub(super) const HERE: u8 = b'+';

/// What is said before the reason why there is none.
pub(super) const NOT_HERE: u8 = b'-';

/// Becomes the command, traced by whoever has the other end of the socket that is our standard input; if
/// tracing is impossible that end is told why and the command runs all the same. Only to be called
/// by a program with one thread. Returns why the command can't be started.
#[must_use]
pub fn enter(command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "there is no command");
    };
    let ready = File::open("/dev/null").and_then(|null| {
        // From here on names are stopped until somebody looks: nothing with a name between.
        match install() {
            Ok(listener) => hand_over(&listener)?,
            Err(why) => tell(why.as_bytes())?,
        }
        Ok(rustix::stdio::dup2_stdin(null)?)
    });
    match ready {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn install() -> Result<OwnedFd, String> {
    let filter = calls::filter().map_err(|error| format!("no filter: {error}"))?;
    let loaded = filter.load().and_then(|()| filter.get_notify_fd());
    // An own descriptor: libseccomp's closes with nothing.
    let listener = loaded.map_err(|error| format!("seccomp refuses the filter: {error}"))?;
    own(listener).map_err(|error| format!("the filter can't be listened to: {error}"))
}

fn own(descriptor: i32) -> io::Result<OwnedFd> {
    let us = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_getfd(us, descriptor, PidfdGetfdFlags::empty())?)
}

fn hand_over(listener: &OwnedFd) -> io::Result<()> {
    let descriptors = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    let socket = rustix::stdio::stdin();
    rustix::net::sendmsg(socket, &[IoSlice::new(&[HERE])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn tell(why: &[u8]) -> io::Result<()> {
    let text = [&[NOT_HERE], why].concat();
    let socket = rustix::stdio::stdin();
    rustix::net::send(socket, &text, SendFlags::NOSIGNAL)?;
    Ok(())
}
