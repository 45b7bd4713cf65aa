//! The last lines of a stream, kept for errors.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How many lines are kept.
const LINES: usize = 40;

/// How much of one line is kept, in bytes.
const LINE_BYTES: usize = 4096;

/// The last lines of a stream. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// Adds a line, and forgets the oldest when there are too many.
    pub fn push(&self, line: &str) {
        let mut cut = line.len().min(LINE_BYTES);
        while !line.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line[..cut].to_owned());
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (n, line) in lines.iter().enumerate() {
            write!(f, "{}{line}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines_only() {
        let tail = Tail::default();
        for n in 0..LINES + 2 {
            tail.push(&n.to_string());
        }
        let text = tail.to_string();
        assert!(text.starts_with("2\n") && text.ends_with("41"), "{text}");
        tail.push(&"é".repeat(LINE_BYTES));
        assert!(tail.to_string().len() < 2 * LINE_BYTES);
    }
}
