//! A failed result, as people see it.

use std::fmt::{self, Write as _};

use serde::Deserialize;

/// What the callback plugin tells of a failure.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Failure {
    message: String,
    label: Option<String>,
    code: Option<i64>,
    command: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    #[serde(default)]
    items: Vec<Failure>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.trim_end())?;
        if let Some(command) = &self.command {
            write!(f, "\ncommand: {command}")?;
        }
        if let Some(code) = self.code {
            write!(f, "\nexit code: {code}")?;
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if let Some(text) = text {
                write!(f, "\n{name}:\n{}", indented(text))?;
            }
        }
        for item in &self.items {
            let label = item.label.as_deref().unwrap_or("?");
            write!(f, "\nitem {label}:\n{}", indented(&item.to_string()))?;
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    let mut indented = String::new();
    for line in text.trim_end().lines() {
        let _ = writeln!(indented, "  {line}");
    }
    indented.truncate(indented.trim_end().len());
    indented
}

/// What Ansible itself complained about: from its last error line on, else the end of what it said.
pub(super) fn complaint(stderr: &str) -> String {
    let starts = ["ERROR! ", "[ERROR]: "];
    let lines: Vec<&str> = stderr.lines().collect();
    let from = lines
        .iter()
        .rposition(|line| starts.iter().any(|start| line.starts_with(start)))
        .unwrap_or_else(|| lines.len().saturating_sub(20));
    let mut text = lines[from..].join("\n");
    for start in starts {
        if let Some(rest) = text.strip_prefix(start) {
            text = rest.to_owned();
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_message_command_and_output() {
        let failure: Failure = serde_json::from_str(
            r#"{"message":"non-zero return code","code":2,"command":"make all","stdout":"one\ntwo\n","stderr":"bad",
                "items":[{"label":"x","message":"no"}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(failure.to_string(), @r"
        non-zero return code
        command: make all
        exit code: 2
        stdout:
          one
          two
        stderr:
          bad
        item x:
          no
        ");
    }

    #[test]
    fn the_complaint_is_what_follows_the_last_error_line() {
        let old =
            "[WARNING]: x\nERROR! Syntax Error while loading YAML.\n\nThe error is in '/p/a.yml': line 3\n";
        assert_eq!(complaint(old), "Syntax Error while loading YAML.\n\nThe error is in '/p/a.yml': line 3");
        let new = "[ERROR]: YAML parsing failed: x\nOrigin: /p/a.yml:3:1\n\n1 x\n";
        assert_eq!(complaint(new), "YAML parsing failed: x\nOrigin: /p/a.yml:3:1\n\n1 x");
        assert_eq!(complaint("Traceback\nboom\n"), "Traceback\nboom");
    }
}
