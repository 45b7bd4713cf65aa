//! Which host was meant.

use std::process::Stdio;

use super::scratch::Scratch;
use super::{PlaybookRun, RunError, controller};

/// How alike two names must be for one to be suggested for the other (0 to 1).
const ALIKE: f64 = 0.6;

/// What Ansible says when the limit leaves no host.
const NOBODY: &[&str] = &["leaves us with no hosts to target", "does not match any hosts"];

/// Whether Ansible's complaint is that it doesn't know the host.
pub(super) fn is_unknown(complaint: &str) -> bool {
    let text = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    NOBODY.iter().any(|words| text.contains(words))
}

/// The error that names the nearest host the inventory has.
pub(super) fn unknown(run: &PlaybookRun, scratch: &Scratch) -> RunError {
    let known = matching(run, scratch, "all");
    let nearest = nearest(&run.host, &known);
    RunError::UnknownHost { host: run.host.clone(), nearest, known }
}

/// The error that says so when what was taken for a host is a group.
pub(super) fn group(run: &PlaybookRun, scratch: &Scratch) -> Option<RunError> {
    let hosts = matching(run, scratch, &run.host);
    let is_group = !hosts.is_empty() && !hosts.contains(&run.host);
    is_group.then(|| RunError::HostIsGroup { group: run.host.clone(), hosts })
}

/// The inventory's hosts that a pattern means.
fn matching(run: &PlaybookRun, scratch: &Scratch, pattern: &str) -> Vec<String> {
    let output = controller::hosts(run, scratch, pattern).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    listed(&text)
}

/// "  hosts (2):\n    web0\n    web1\n"
fn listed(text: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("hosts (")).skip(1);
    lines.map(|line| line.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn nearest(host: &str, known: &[String]) -> Option<String> {
    let alike = |name: &String| strsim::jaro_winkler(host, name);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_host_is_suggested() {
        let known = listed("  hosts (3):\n    hgweb0\n    hgweb1\n    db0\n");
        assert_eq!(known, ["hgweb0", "hgweb1", "db0"]);
        assert_eq!(nearest("hgwep0", &known).as_deref(), Some("hgweb0"));
        assert_eq!(nearest("zzz", &known), None);
    }
}
