//! Where something is in a definition, and what is wrong there.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a definition, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant; at least 1, and not beyond the end of the line.
    pub width: usize,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, or the directory in which it was looked for.
    pub path: PathBuf,
    /// The line, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// The column in characters, from 1; `None` when the line as a whole is meant.
    pub column: Option<usize>,
    /// How many characters the caret spans, at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// The line as it is written, without its end. It may hold anything, control characters too.
    pub source_line: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Something is wrong with a file as a whole.
    #[must_use]
    pub fn file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            column: None,
            width: 1,
            message: message.into(),
            source_line: None,
            hint: None,
        }
    }

    /// Something is wrong with a line of a file that the definition names. The line is read for
    /// showing it, where that can be done.
    #[must_use]
    pub fn line_of(path: &Path, line: usize, message: impl Into<String>) -> Self {
        let wanted = line.checked_sub(1);
        let source_line = fs::File::open(path).ok().and_then(|file| {
            // A definition's files are small; a line beyond this is nothing to be shown.
            let lines = BufReader::new(file.take(1 << 20)).split(b'\n');
            let line = lines.map_while(Result::ok).nth(wanted?)?;
            Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
        });
        Self { line: wanted.map(|_| line), source_line, ..Self::file(path, message) }
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        for number in self.line.into_iter().chain(self.column) {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A definition's text and its file's name: turns byte ranges into places.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: Arc<Path>,
    pub(super) text: Arc<str>,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The place of a byte range; it is cut at the end of its first line.
    pub(super) fn at(&self, range: &Range<usize>) -> At {
        let start = self.boundary(range.start);
        let end = self.boundary(range.end.max(start));
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let marked = self.text[start..end].lines().next().unwrap_or("");
        At {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            width: marked.chars().count().max(1),
        }
    }

    /// What is wrong at a place.
    pub(super) fn diagnostic(&self, at: At, message: impl Into<String>) -> Diagnostic {
        let line = self.text.split('\n').nth(at.line - 1).unwrap_or("");
        Diagnostic {
            line: Some(at.line),
            column: Some(at.column),
            width: at.width,
            source_line: Some(line.strip_suffix('\r').unwrap_or(line).to_owned()),
            ..Diagnostic::file(&self.path, message)
        }
    }

    /// The nearest character boundary at or before a byte offset.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// Everything that is wrong with one definition, collected while it is read.
pub(super) struct Problems {
    source: Source,
    found: RefCell<Vec<Diagnostic>>,
}

impl Problems {
    pub(super) fn new(source: Source) -> Self {
        Self { source, found: RefCell::default() }
    }

    pub(super) fn at(&self, range: &Range<usize>) -> At {
        self.source.at(range)
    }

    /// Notes that something is wrong, with what to do about it where that can be said.
    pub(super) fn add(&self, at: At, message: impl Into<String>, hint: Option<String>) {
        let mut diagnostic = self.source.diagnostic(at, message);
        diagnostic.hint = hint;
        self.found.borrow_mut().push(diagnostic);
    }

    /// What was found, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        found
    }
}
