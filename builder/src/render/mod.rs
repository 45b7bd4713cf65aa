//! How errors are told: [`Report`] holds what is to be said, this file says it, to people or as JSON.
//!
//! Everything goes to stderr; stdout is for data.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::definition::Diagnostic;
use crate::exit;

mod convert;
mod text;

pub use text::{clean, count, unicode};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const LABEL: Style = Style::new().bold();
const GUTTER: Style = AnsiColor::Blue.on_default().bold();

/// The longest piece of a source line that is shown, in characters.
const SOURCE_WIDTH: usize = 120;

/// An error as it is told: what went wrong, why, and what to do next.
#[derive(Debug, Clone)]
pub struct Report(Box<Told>);

/// What a report says; boxed, since every `Result` of the command line has room for one.
#[derive(Debug, Clone, Default)]
struct Told {
    message: String,
    causes: Vec<String>,
    output: Option<String>,
    notes: Vec<(&'static str, String)>,
    hints: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    parts: Vec<Report>,
    exit_code: u8,
}

impl Report {
    /// An error with an exit code of [`crate::exit`]. The message is lower case, has no full stop
    /// and puts its subject in backticks.
    #[must_use]
    pub fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self(Box::new(Told { message: message.into(), exit_code, ..Told::default() }))
    }

    /// Something was tried and failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// The command line or the definition is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// A signal ended the command.
    #[must_use]
    pub fn interrupted(signal: i32) -> Self {
        let name = match signal {
            1 => "SIGHUP".to_owned(),
            2 => "SIGINT".to_owned(),
            15 => "SIGTERM".to_owned(),
            other => format!("signal {other}"),
        };
        let code = u8::try_from(signal).ok().and_then(|signal| signal.checked_add(128));
        Self::new(code.unwrap_or(exit::INTERRUPTED), format!("stopped by {name}"))
    }

    /// Several errors of one command. One is told as itself.
    #[must_use]
    pub fn several(mut reports: Vec<Self>) -> Self {
        if reports.len() == 1 {
            return reports.remove(0);
        }
        // What was cancelled because of the others says nothing new.
        if reports.iter().any(|report| report.0.exit_code != exit::INTERRUPTED) {
            reports.retain(|report| report.0.exit_code != exit::INTERRUPTED);
        }
        if reports.len() == 1 {
            return reports.remove(0);
        }
        // The worst decides: a damaged store matters more than a playbook that failed beside it.
        let worst = [exit::BUG, exit::STORE_DAMAGED, exit::FAILED, exit::LOCK_TIMEOUT, exit::USAGE];
        let exit_code = worst
            .into_iter()
            .find(|code| reports.iter().any(|report| report.0.exit_code == *code))
            .or_else(|| reports.first().map(|report| report.0.exit_code))
            .unwrap_or(exit::FAILED);
        let mut all = Self::new(exit_code, format!("{} errors", reports.len()));
        all.0.parts = reports;
        all
    }

    /// Says what to do next. Several hints are told in their order.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds an error and all that it was caused by. A link that repeats what was said before it is left out.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = plain(error);
            let before = self.0.causes.last().unwrap_or(&self.0.message);
            if !text.is_empty() && !before.contains(&text) {
                self.0.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }

    /// Adds what a program said, to be shown as it is.
    #[must_use]
    pub fn output(mut self, output: impl Into<String>) -> Self {
        let output = output.into();
        self.0.output = Some(output.trim_end().to_owned()).filter(|output| !output.is_empty());
        self
    }

    /// Adds a labelled line ("log", a path).
    #[must_use]
    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.0.notes.push((label, text.into()));
        self
    }

    /// Adds places in a definition. Each is told with its own message; the report's own isn't then.
    #[must_use]
    pub fn diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.0.diagnostics = diagnostics;
        self
    }

    /// Ends the command with another exit code.
    #[must_use]
    pub fn with_exit_code(mut self, exit_code: u8) -> Self {
        self.0.exit_code = exit_code;
        self
    }

    /// The exit code that the command ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.0.exit_code
    }

    /// What went wrong, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next, the first of it.
    #[must_use]
    pub fn first_hint(&self) -> Option<&str> {
        let diagnostic = || self.0.diagnostics.first()?.hint.as_deref();
        self.0.hints.first().map(String::as_str).or_else(diagnostic)
    }

    /// Tells it on stderr, for people or as one line of JSON. That stderr is gone is no reason to fail.
    pub fn print(&self, json: bool) {
        let mut stderr = anstream::stderr().lock();
        let text = if json {
            format!("{}\n", self.to_json())
        } else {
            let cwd = std::env::current_dir().ok();
            let text = self.render(cwd.as_deref());
            if unicode() { text } else { text.replace('→', "->") }
        };
        let _ = stderr.write_all(text.as_bytes());
        let _ = stderr.flush();
    }

    /// The text for people, with colours; `cwd` shortens paths below it.
    #[must_use]
    pub fn render(&self, cwd: Option<&Path>) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text, cwd);
        text
    }

    fn write(&self, out: &mut String, cwd: Option<&Path>) -> fmt::Result {
        if !self.0.parts.is_empty() {
            for (index, part) in self.0.parts.iter().enumerate() {
                if index > 0 {
                    writeln!(out)?;
                }
                part.write(out, cwd)?;
            }
            return Ok(());
        }
        if self.0.diagnostics.is_empty() {
            labelled(out, ERROR, "error", &self.0.message)?;
        }
        for (index, diagnostic) in self.0.diagnostics.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write_diagnostic(out, diagnostic, cwd)?;
        }
        for cause in &self.0.causes {
            labelled(out, LABEL, "caused by", cause)?;
        }
        if let Some(output) = &self.0.output {
            for line in clean(output).lines() {
                writeln!(out, "  {line}")?;
            }
        }
        for (label, note) in &self.0.notes {
            labelled(out, LABEL, label, note)?;
        }
        for hint in &self.0.hints {
            labelled(out, HINT, "hint", hint)?;
        }
        Ok(())
    }

    /// `{"error": {…}}`. `path`, `line` and `column` are those of the first diagnostic.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": self.object() })
    }

    fn object(&self) -> Value {
        let first = self.0.diagnostics.first();
        let notes: serde_json::Map<String, Value> =
            self.0.notes.iter().map(|(label, text)| ((*label).to_owned(), text.as_str().into())).collect();
        let mut object = json!({
            "message": self.0.message,
            "causes": self.0.causes,
            "hint": self.first_hint(),
            "path": first.map(|diagnostic| diagnostic.path.to_string_lossy()),
            "line": first.and_then(|diagnostic| diagnostic.line),
            "column": first.and_then(|diagnostic| diagnostic.column),
            "exit_code": self.0.exit_code,
        });
        if let Some(output) = &self.0.output {
            object["output"] = output.as_str().into();
        }
        if !notes.is_empty() {
            object["notes"] = notes.into();
        }
        if !self.0.diagnostics.is_empty() {
            object["diagnostics"] = self.0.diagnostics.iter().map(diagnostic_json).collect();
        }
        if !self.0.parts.is_empty() {
            object["errors"] = self.0.parts.iter().map(Self::object).collect();
        }
        object
    }
}

/// An error's own words; those of the operating system as we word messages.
fn plain(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<std::io::Error>().map_or_else(|| error.to_string(), crate::definition::plain)
}

fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    json!({
        "message": diagnostic.message,
        "path": diagnostic.path.to_string_lossy(),
        "line": diagnostic.line,
        "column": diagnostic.column,
        "source_line": diagnostic.source_line,
        "hint": diagnostic.hint,
    })
}

/// `label: text`; further lines of the text are indented.
fn labelled(out: &mut String, style: Style, label: &str, text: &str) -> fmt::Result {
    let text = clean(text);
    let mut lines = text.lines();
    writeln!(out, "{style}{label}{style:#}: {}", lines.next().unwrap_or(""))?;
    lines.try_for_each(|line| writeln!(out, "  {line}"))
}

fn write_diagnostic(out: &mut String, diagnostic: &Diagnostic, cwd: Option<&Path>) -> fmt::Result {
    labelled(out, ERROR, "error", &diagnostic.message)?;
    if let Some(line) = diagnostic.line {
        let number = line.to_string();
        let indent = " ".repeat(number.len());
        let column = diagnostic.column.map(|column| format!(":{column}")).unwrap_or_default();
        let place = format!("{}:{line}{column}", short(&diagnostic.path, cwd).display());
        writeln!(out, "{indent}{GUTTER}-->{GUTTER:#} {}", clean(&place))?;
        if let Some(source) = &diagnostic.source_line {
            let shown = text::excerpt(source, diagnostic.column.unwrap_or(1), diagnostic.width, SOURCE_WIDTH);
            writeln!(out, "{indent} {GUTTER}|{GUTTER:#}")?;
            writeln!(out, "{GUTTER}{number} |{GUTTER:#} {}", shown.text)?;
            let carets = diagnostic.column.map(|_| (" ".repeat(shown.start), "^".repeat(shown.width)));
            if let Some((before, carets)) = carets {
                writeln!(out, "{indent} {GUTTER}|{GUTTER:#} {before}{ERROR}{carets}{ERROR:#}")?;
            }
        }
    }
    match &diagnostic.hint {
        Some(hint) => labelled(out, HINT, "hint", hint),
        None => Ok(()),
    }
}

/// A path as seen from the working directory, where that is shorter.
fn short(path: &Path, cwd: Option<&Path>) -> PathBuf {
    let below = cwd.and_then(|cwd| path.strip_prefix(cwd).ok()).filter(|below| !below.as_os_str().is_empty());
    below.unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests;
