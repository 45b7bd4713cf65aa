//! What units said last.

use std::process::{Command, Stdio};

/// The last lines that the journal has of a unit, oldest first: of its start `invocation`, where that is known.
/// None where there is no journal.
#[must_use]
pub fn last_lines(unit: &str, invocation: &str, lines: usize) -> Vec<String> {
    // What was said just now may not be written yet.
    let _ = Command::new("journalctl")
        .arg("--sync")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output=cat", "--lines"]).arg(lines.to_string());
    if invocation.is_empty() {
        command.arg(format!("UNIT={unit}")).arg("+").arg(format!("_SYSTEMD_UNIT={unit}"));
    } else {
        command.arg(format!("_SYSTEMD_INVOCATION_ID={invocation}"));
        command.arg("+").arg(format!("INVOCATION_ID={invocation}"));
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}
