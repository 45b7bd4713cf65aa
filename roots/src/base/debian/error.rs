//! What can go wrong with a base from a Debian archive.

/// A base couldn't be made from a Debian archive.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// The archive doesn't have the suite.
    #[error("the archive {mirror} has no suite `{suite}`")]
    UnknownSuite {
        /// The suite.
        suite: String,
        /// The archive's URL.
        mirror: String,
    },
    /// The archive can't be reached.
    #[error("can't reach the Debian archive {mirror}: {message}")]
    Unreachable {
        /// The archive's URL.
        mirror: String,
        /// Why.
        message: String,
    },
    /// The archive isn't signed by a key that is trusted.
    #[error("the archive's signature can't be trusted: {0}")]
    Untrusted(String),
    /// The suite has no such packages.
    #[error("the suite `{suite}` has no package {}", packages.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", "))]
    UnknownPackage {
        /// The suite.
        suite: String,
        /// The packages.
        packages: Vec<String>,
    },
    /// A name that can't be one of a package, suite or component.
    #[error("`{0}` can't be the name of a package, suite or component")]
    BadName(String),
    /// mmdebstrap failed for another reason.
    #[error("mmdebstrap failed\n{0}")]
    Failed(String),
}

impl DebianError {
    /// What to do next, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::UnknownSuite { .. } => {
                    "suites are named like \"bookworm\"; old ones move to archive.debian.org: name it as `mirror`"
                }
                Self::Unreachable { .. } => "check the network, or name another archive as `mirror`",
                Self::Untrusted(_) => {
                    "name the keyring that signs the suite as `keyring`, or install debian-archive-keyring"
                }
                Self::UnknownPackage { .. } => "a package may be in another component: see `components`",
                Self::BadName(_) | Self::Failed(_) => return None,
            }
            .to_owned(),
        )
    }

    /// What mmdebstrap's last lines mean.
    pub(super) fn of(tail: &str, suite: &str, mirror: &str) -> Self {
        let line_with =
            |words: &[&str]| tail.lines().find(|line| words.iter().any(|word| line.contains(word)));
        let mut packages: Vec<String> = tail.lines().filter_map(missing_package).collect();
        packages.dedup();
        if !packages.is_empty() {
            return Self::UnknownPackage { suite: suite.to_owned(), packages };
        }
        if let Some(line) = line_with(&["NO_PUBKEY", "BADSIG", "EXPKEYSIG", "REVKEYSIG", "is not signed"]) {
            return Self::Untrusted(stripped(line));
        }
        if line_with(&["does not have a Release file", "404  Not Found"]).is_some() {
            return Self::UnknownSuite { suite: suite.to_owned(), mirror: mirror.to_owned() };
        }
        let unreachable =
            ["Could not resolve", "Could not connect", "Temporary failure", "Connection failed"];
        if let Some(line) = line_with(&unreachable) {
            return Self::Unreachable { mirror: mirror.to_owned(), message: stripped(line) };
        }
        let errors: Vec<&str> =
            tail.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
        Self::Failed(if errors.is_empty() { tail.to_owned() } else { errors.join("\n") })
    }
}

/// The package that apt says it doesn't have.
fn missing_package(line: &str) -> Option<String> {
    let line = stripped(line);
    if let Some(name) = line.strip_prefix("Unable to locate package ") {
        return Some(name.trim().to_owned());
    }
    let name = line.strip_prefix("Package '")?.strip_suffix("' has no installation candidate")?;
    Some(name.to_owned())
}

/// A message of apt's without its `E: `.
fn stripped(line: &str) -> String {
    let line = line.trim();
    ["E: ", "W: ", "Err:"].iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_says_becomes_an_error_of_its_own() {
        for (tail, expected) in [
            (
                "I: x\nE: Unable to locate package nope\nE: apt-get failed",
                "the suite `sid` has no package `nope`",
            ),
            ("E: Package 'awk' has no installation candidate", "the suite `sid` has no package `awk`"),
            ("W: GPG error: http://m sid InRelease: NO_PUBKEY 1", "the archive's signature can't be trusted"),
            (
                "E: The repository 'http://m sid Release' does not have a Release file.",
                "the archive http://m has no suite",
            ),
            (
                "Err:1 http://m sid\n  Could not resolve 'm'",
                "can't reach the Debian archive http://m: Could not",
            ),
            ("I: a\nE: setup failed: x", "mmdebstrap failed\nE: setup failed: x"),
        ] {
            let error = DebianError::of(tail, "sid", "http://m").to_string();
            assert!(error.starts_with(expected), "{tail:?} gave {error}");
        }
    }
}
