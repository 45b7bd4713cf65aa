//! Running the host's tools: cancellable, with their output seen line by line.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cancel::{Cancel, Cancelled};

/// How many of the last output lines are kept for an error.
const TAIL_LINES: usize = 40;

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

/// Runs `command` in a process group of its own with empty stdin, hands every line of its stdout
/// and stderr to `line`, and fails unless it ends with 0. Cancelling kills the whole group.
pub fn run(mut command: Command, cancel: &Cancel, line: &(dyn Fn(&str) + Sync)) -> Result<(), ProcessError> {
    cancel.check()?;
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child =
        command.spawn().map_err(|source| ProcessError::Start { program: program.clone(), source })?;
    let group = Pid::from_child(&child);
    let guard = cancel.on_cancel(move || {
        let _ = kill_process_group(group, Signal::KILL);
    });
    let tail = Mutex::new(std::collections::VecDeque::with_capacity(TAIL_LINES));
    let see = |text: &str| {
        line(text);
        let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text.to_owned());
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(|| err.map(|pipe| each_line(pipe, &see)));
        if let Some(pipe) = out {
            each_line(pipe, &see);
        }
    });
    let status = child.wait().map_err(|source| ProcessError::Lost { program: program.clone(), source })?;
    drop(guard);
    cancel.check()?;
    if status.success() {
        return Ok(());
    }
    let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Err(ProcessError::Failed { program, status, tail: Vec::from(tail).join("\n") })
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
    fn cancelling_kills_the_tool_and_its_children() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let mut command = Command::new("sh");
        command.args(["-c", "echo up; sleep 1000 & wait"]);
        let result = run(command, &cancel, &|_| other.cancel());
        assert!(matches!(result, Err(ProcessError::Cancelled(_))), "{result:?}");
    }
}
