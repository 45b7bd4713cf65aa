//! Hash-pinned requirements: what exactly a toolchain consists of.

use std::path::{Path, PathBuf};

use rootbuild_cache::Digest;

use super::{PINNED, ToolchainError};

/// What is pinned in this crate; one for each of [`PINNED`].
const TEXTS: &[&str] = &[
    include_str!("../../requirements/ansible-core-2.16.19.txt"),
    include_str!("../../requirements/ansible-core-2.17.14.txt"),
    include_str!("../../requirements/ansible-core-2.18.19.txt"),
    include_str!("../../requirements/ansible-core-2.19.14.txt"),
];

/// Requirements of one ansible-core version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirements {
    version: String,
    text: String,
}

impl Requirements {
    /// The project's own if it names any, else the pinned ones.
    pub(super) fn of(version: &str, path: Option<&Path>) -> Result<Self, ToolchainError> {
        let text = match path {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(ToolchainError::io("read", path))?;
                if let Some(problem) = problem(version, &text) {
                    let path: PathBuf = path.to_owned();
                    return Err(ToolchainError::Requirements { path, version: version.to_owned(), problem });
                }
                text
            }
            None => {
                let pinned = PINNED.iter().zip(TEXTS).find(|(pinned, _)| **pinned == version);
                let unknown = || ToolchainError::Unknown { version: version.to_owned() };
                (*pinned.ok_or_else(unknown)?.1).to_owned()
            }
        };
        Ok(Self { version: version.to_owned(), text })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Comments and empty lines don't count: they install nothing.
    fn digest(&self) -> Digest {
        let lines =
            self.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Digest::of(lines.collect::<Vec<_>>().join("\n").as_bytes())
    }

    pub(super) fn identity(&self) -> String {
        format!("ansible-core {} {}", self.version, self.digest())
    }

    pub(super) fn directory_name(&self) -> String {
        format!("ansible-core-{}-{}", self.version, self.digest().short())
    }
}

/// Why the text can't pin this version; pip checks the rest.
fn problem(version: &str, text: &str) -> Option<String> {
    let wanted = format!("ansible-core=={version}");
    let mut found = None;
    // A requirement and its hashes are one logical line.
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix("ansible-core") else { continue };
        if !rest.starts_with(['=', ' ', '<', '>', '~', '!']) {
            continue;
        }
        let exactly = line.split([' ', ';']).next() == Some(wanted.as_str());
        if !exactly {
            return Some(format!("it asks for `{}`", line.split(" --").next().unwrap_or(line).trim()));
        }
        found = Some(line.contains("--hash="));
    }
    match found {
        Some(true) => None,
        Some(false) => Some("it has no hashes".to_owned()),
        None => Some(format!("it doesn't ask for `{wanted}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_version_has_hashed_requirements() {
        assert_eq!(PINNED.len(), TEXTS.len());
        for (version, text) in PINNED.iter().zip(TEXTS) {
            assert_eq!(problem(version, text), None);
            let joined = text.replace("\\\n", " ");
            let requirements = joined.lines().filter(|line| line.contains("=="));
            assert!(
                requirements
                    .filter(|line| !line.starts_with('#'))
                    .all(|line| line.contains("--hash=sha256:"))
            );
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_the_known_ones() {
        let error = Requirements::of("2.9.27", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ansible-core `2.9.27` isn't known; pinned versions are 2.16.19, 2.17.14, 2.18.19, 2.19.14"
        );
        assert!(error.is_definition_error() && error.hint().unwrap().contains("ansible-core==2.9.27"));
    }

    #[test]
    fn own_requirements_must_pin_that_version_with_hashes() {
        assert_eq!(problem("2.17.1", "ansible-core==2.17.1 \\\n    --hash=sha256:00\n"), None);
        assert_eq!(problem("2.17.1", "ansible-core==2.17.1\n").as_deref(), Some("it has no hashes"));
        let other = problem("2.17.1", "ansible-core==2.17.10 --hash=sha256:00\n");
        assert_eq!(other.as_deref(), Some("it asks for `ansible-core==2.17.10`"));
        assert!(problem("2.17.1", "ansible-compat==1 --hash=sha256:00").is_some());
    }

    #[test]
    fn comments_are_not_part_of_the_identity() {
        let with = |text: &str| Requirements { version: "1".into(), text: text.to_owned() }.identity();
        assert_eq!(with("# made today\na==1\n"), with("\na==1"));
        assert_ne!(with("a==1"), with("a==2"));
    }
}
