//! Starts the binary with a filter that stops each call that changes a file system until we have had a say.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rootbuild_tests::Ran;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use crate::calls;
use crate::supervise::{Done, Say, Supervisor};

/// What is to be run, arguments separated by a byte that none has.
const COMMAND: &str = "FAULTS_COMMAND";
const SEPARATOR: char = '\u{1f}';
/// Where its standard output goes.
const OUTPUT: &str = "FAULTS_OUTPUT";

/// Not a test of its own: installs the filter, hands its listening end over, becomes the command.
#[test]
#[ignore = "run by other tests"]
fn enter() {
    let (Ok(command), Ok(output)) = (std::env::var(COMMAND), std::env::var(OUTPUT)) else { return };
    let output = File::create(output).expect("the output can be written");
    let filter = calls::filter().expect("there is a filter");
    // For this thread alone, and for what it becomes.
    filter.load().expect("the filter is taken");
    let listener = filter.get_notify_fd().expect("the filter can be listened to");
    let us =
        rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).expect("we are there");
    let listener = rustix::process::pidfd_getfd(us, listener, PidfdGetfdFlags::empty()).expect("it is open");
    let descriptors = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    let socket = rustix::stdio::stdin();
    rustix::net::sendmsg(socket, &[IoSlice::new(b"+")], &mut message, SendFlags::NOSIGNAL)
        .expect("it is taken");
    let mut words = command.split(SEPARATOR);
    let error = Command::new(words.next().expect("a program"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(output)
        .env_remove(COMMAND)
        .env_remove(OUTPUT)
        .exec();
    panic!("{error}");
}

/// Runs a command whose calls below `within` the supervisor is asked about; how it ended, and what it did.
pub(crate) fn run(command: &Command, within: &Path, say: Box<dyn FnMut(&Done) -> Say + Send>) -> (Ran, Done) {
    let output = tempfile::NamedTempFile::new().expect("there is room");
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let (stop, stopped) = UnixStream::pair().expect("sockets");
    let words: Vec<&str> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().expect("tests' arguments are text"))
        .collect();
    let mut launcher = Command::new(std::env::current_exe().expect("this test has a path"));
    launcher
        .args(["--exact", "launch::enter", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher.env(COMMAND, words.join(&SEPARATOR.to_string())).env(OUTPUT, output.path());
    if let Some(dir) = command.get_current_dir() {
        launcher.current_dir(dir);
    }
    let child = launcher.spawn().expect("the launcher runs");
    drop(launcher);
    let listener = listener(&ours);
    let within = PathBuf::from(within);
    let supervisor = Supervisor::new(child.id(), within, say);
    let supervisor = std::thread::spawn(move || supervisor.run(&listener, &stopped));
    let mut ended = Ran::new(&child.wait_with_output().expect("it ends"));
    drop(stop);
    let done = supervisor.join().expect("the supervisor doesn't panic");
    let mut text = String::new();
    output.reopen().expect("it is there").read_to_string(&mut text).expect("JSON is text");
    ended.stdout = text;
    (ended, done)
}

fn listener(socket: &UnixStream) -> OwnedFd {
    let mut text = [0; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut text)];
    rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("the launcher speaks");
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.expect("the launcher has a filter")
}
