//! Running the host's tools: cancellable, with their output seen line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cancel::{Cancel, Cancelled, OnCancel};
use crate::sandbox::Tail;

/// A tool couldn't be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It couldn't be started.
    #[error("can't start `{program}`")]
    Start {
        /// The program's name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It couldn't be waited for, or its output not be read.
    #[error("lost `{program}`")]
    Lost {
        /// The program's name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{program}` failed ({status})\n{tail}")]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        tail: String,
    },
    /// The work was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// How a tool ended, and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: Vec<u8>,
    /// The last lines of its stderr.
    pub tail: String,
}

/// Where the host's tools are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What tools that use the network need to know of our environment.
const NETWORK_ENVIRONMENT: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// Sees that we still live: from here on the kernel watches that, but we may have died just before.
const GUARD: &str = "[ \"$PPID\" = \"$1\" ] || exit 125; shift; exec \"$@\"";

/// How many words stand before a tool's own name.
const GUARDED: usize = 8;

/// A command for one of the host's tools: it dies with us (with the thread that starts it, to be
/// exact, so start it from one that waits for it), and sees nothing of our environment but proxies.
#[must_use]
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(found("setpriv"));
    let us = std::process::id().to_string();
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", GUARD, "guard", &us, program]);
    command.env_clear().current_dir("/");
    command.env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    for name in NETWORK_ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Whether the host has this program, and may run it, where [`tool`] finds it.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program of the host is; its bare name if it is nowhere, for the error that comes of it. A command that is
/// looked for in a PATH of its own is forked, with all our page tables, where one with a path is spawned.
#[must_use]
pub fn found(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| program.into())
}

fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    PATH.split(':').map(|dir| Path::new(dir).join(program)).find(runs)
}

/// Runs `command` in a process group of its own with empty stdin, hands every line of its stdout
/// and stderr to `line`, and fails unless it ends with 0. Cancelling kills the whole group.
pub fn run(command: Command, cancel: &Cancel, line: &(dyn Fn(&str) + Sync)) -> Result<(), ProcessError> {
    let program = name(&command);
    let started = Started::new(command, Stdio::null(), cancel)?;
    let tail = Tail::default();
    let see = |text: &str| {
        line(text);
        tail.push(text);
    };
    let status = started.finish(cancel, |_, out, err| {
        thread::scope(|scope| {
            scope.spawn(|| each_line(err, &see));
            each_line(out, &see);
        });
    })?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed { program, status, tail: tail.to_string() })
}

/// Runs `command` like [`run`], but gives it `input`, keeps its stdout as a whole, and lets the caller
/// judge how it ended. `line` sees its stderr.
pub fn capture(
    command: Command,
    input: &[u8],
    cancel: &Cancel,
    line: &(dyn Fn(&str) + Sync),
) -> Result<Output, ProcessError> {
    let program = name(&command);
    let started = Started::new(command, Stdio::piped(), cancel)?;
    let (tail, mut stdout, mut read) = (Tail::default(), Vec::new(), Ok(0));
    let see = |text: &str| {
        line(text);
        tail.push(text);
    };
    let status = started.finish(cancel, |stdin, mut out, err| {
        thread::scope(|scope| {
            scope.spawn(|| each_line(err, &see));
            // A tool that doesn't want its input says why in its status.
            scope.spawn(|| drop(stdin.map(|mut pipe| pipe.write_all(input))));
            read = out.read_to_end(&mut stdout);
        });
    })?;
    read.map_err(|source| ProcessError::Lost { program, source })?;
    Ok(Output { status, stdout, tail: tail.to_string() })
}

/// What is really run, where that is started through `setpriv … --`.
fn name(command: &Command) -> String {
    let wrapped = (Path::new(command.get_program()).file_name() == Some("setpriv".as_ref()))
        .then(|| command.get_args().nth(GUARDED))
        .flatten();
    wrapped.unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

/// A child that leads a process group, and the guard that kills the group on cancellation.
struct Started {
    child: Child,
    program: String,
    guard: OnCancel,
}

impl Started {
    fn new(mut command: Command, stdin: Stdio, cancel: &Cancel) -> Result<Self, ProcessError> {
        cancel.check()?;
        let program = name(&command);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child =
            command.spawn().map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        let group = Pid::from_child(&child);
        let guard = cancel.on_cancel(move || {
            let _ = kill_process_group(group, Signal::KILL);
        });
        Ok(Self { child, program, guard })
    }

    /// Lets `talk` deal with the pipes, then waits.
    fn finish(
        self,
        cancel: &Cancel,
        talk: impl FnOnce(Option<ChildStdin>, ChildStdout, ChildStderr),
    ) -> Result<ExitStatus, ProcessError> {
        let Self { mut child, program, guard } = self;
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            talk(child.stdin.take(), out, err);
        }
        let status = child.wait().map_err(|source| ProcessError::Lost { program, source })?;
        drop(guard);
        cancel.check()?;
        Ok(status)
    }
}

/// Hands each line of `pipe` to `line`, lossily decoded, until the pipe ends.
pub fn each_line(pipe: impl Read, line: &dyn Fn(&str)) {
    let mut reader = BufReader::new(pipe);
    let mut buffer = Vec::new();
    while matches!(reader.read_until(b'\n', &mut buffer), Ok(1..)) {
        line(String::from_utf8_lossy(&buffer).trim_end_matches(['\n', '\r']));
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_an_error_with_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let text = run(command, &Cancel::new(), &|_| ()).unwrap_err().to_string();
        assert!(text.contains("exit status: 3") && text.contains("one") && text.contains("two"), "{text}");
    }

    #[test]
    fn input_and_output_may_be_larger_than_a_pipe() {
        let input = vec![b'x'; 1 << 20];
        let output = capture(tool("cat"), &input, &Cancel::new(), &|_| ()).unwrap();
        assert!(output.status.success() && output.stdout == input);
        let output = capture(tool("false"), &input, &Cancel::new(), &|_| ()).unwrap();
        assert_eq!(output.status.code(), Some(1));
    }

    #[test]
    fn a_tool_is_named_in_its_error() {
        let error = run(tool("false"), &Cancel::new(), &|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("`false` failed"), "{error}");
    }

    #[test]
    fn cancelling_kills_the_tool_and_its_children() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let mut command = Command::new("sh");
        command.args(["-c", "echo up; sleep 1000 & wait"]);
        let result = run(command, &cancel, &|_| other.cancel());
        assert!(matches!(result, Err(ProcessError::Cancelled(_))), "{result:?}");
    }
}
