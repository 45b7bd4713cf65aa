//! Which process asks: Ansible itself, another program, or one whose reading is nobody's business.

use std::fs;

/// The processes of one run.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// The command line of the program that the run is about.
    own: Vec<u8>,
    /// Processes that handle secrets, with the time they started at; their children do so as well.
    silent: Vec<(u32, u64)>,
}

/// How far up parents are followed.
const DEPTH: usize = 64;

impl Processes {
    pub(super) fn new(own: Vec<u8>) -> Self {
        Self { own, silent: Vec::new() }
    }

    /// Whether a process is the program itself, or a fork of it that still is.
    pub(super) fn is_own(&self, pid: u32) -> bool {
        !self.own.is_empty() && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == self.own)
    }

    /// From now on nothing is noted that this process or its children do.
    pub(super) fn silence(&mut self, pid: u32) {
        if let Some((_, started)) = stat(pid) {
            self.silent.push((pid, started));
        }
    }

    /// Whether it is such a process.
    pub(super) fn is_silent(&mut self, mut pid: u32) -> bool {
        self.silent.retain(|&(pid, started)| stat(pid).is_some_and(|(_, now)| now == started));
        for _ in 0..DEPTH {
            if self.silent.is_empty() {
                return false;
            }
            if self.silent.iter().any(|&(silent, _)| silent == pid) {
                return true;
            }
            match stat(pid) {
                Some((parent, _)) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    }
}

/// A process's parent, and when it started (in ticks since boot).
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_of_a_silent_process_are_silent() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut processes = Processes::new(Vec::new());
        assert!(!processes.is_silent(child.id()));
        processes.silence(std::process::id());
        assert!(processes.is_silent(child.id()));
        assert!(!processes.is_silent(1));
        drop(child.stdin.take());
        child.wait().unwrap();
        let mut processes = Processes::default();
        processes.silence(child.id());
        assert!(!processes.is_silent(std::process::id()));
    }
}
