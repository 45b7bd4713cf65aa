//! Choosing the host's Python for a toolchain.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ToolchainError;

/// Which Pythons an ansible-core runs on: first and last minor version of Python 3.
const SUPPORTED: &[(&str, (u32, u32))] = &[
    ("2.16.", (10, 12)),
    ("2.17.", (10, 12)),
    ("2.18.", (11, 13)),
    ("2.19.", (11, 13)),
    ("2.20.", (12, 14)),
];

/// Of a version that isn't listed, the oldest that any of them could run on.
const ANY: (u32, u32) = (10, u32::MAX);

/// Where interpreters are looked for.
const DIRECTORIES: &[&str] = &["/usr/bin", "/usr/local/bin"];

/// Prints where it really is, its version, and whether it can make virtual environments.
const ASK: &str = "import os, sys, importlib.util as u; \
    print(os.path.realpath(sys.executable), sys.version_info[0], sys.version_info[1], \
    int(u.find_spec('venv') is not None and u.find_spec('ensurepip') is not None))";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Python {
    path: PathBuf,
    minor: u32,
    venv: bool,
}

/// The interpreter to make the environment with: `/usr/bin/python3` if it fits, else the newest that does.
pub(super) fn choose(version: &str) -> Result<PathBuf, ToolchainError> {
    let (first, last) =
        SUPPORTED.iter().find(|(prefix, _)| version.starts_with(prefix)).map_or(ANY, |(_, range)| *range);
    let mut seen = BTreeSet::new();
    let mut without_venv = None;
    for path in candidates() {
        let Some(python) = ask(&path) else { continue };
        if !(first..=last).contains(&python.minor) {
            seen.insert(format!("`{}` is 3.{}", path.display(), python.minor));
        } else if python.venv {
            return Ok(python.path);
        } else if without_venv.is_none() {
            without_venv = Some(python);
        }
    }
    if let Some(python) = without_venv {
        let package = format!("python3.{}-venv", python.minor);
        return Err(ToolchainError::NoVenv { python: python.path, package });
    }
    let found = seen.into_iter().collect::<Vec<_>>().join(", ");
    Err(ToolchainError::NoPython {
        version: version.to_owned(),
        needed: if last == u32::MAX {
            format!("3.{first} or later")
        } else {
            format!("3.{first} to 3.{last}")
        },
        found: if found.is_empty() { "there is none".to_owned() } else { found },
    })
}

/// Interpreters in the order in which they are tried.
fn candidates() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/usr/bin/python3")];
    for minor in (10..=20).rev() {
        paths.extend(DIRECTORIES.iter().map(|dir| Path::new(dir).join(format!("python3.{minor}"))));
    }
    paths.push("/usr/local/bin/python3".into());
    paths.retain(|path| path.exists());
    paths
}

fn ask(path: &Path) -> Option<Python> {
    let output = Command::new(path).args(["-I", "-c", ASK]).env_clear().output().ok()?;
    parse(std::str::from_utf8(&output.stdout).ok()?)
}

fn parse(text: &str) -> Option<Python> {
    let mut words = text.trim().rsplitn(4, ' ');
    let venv = words.next()? == "1";
    let minor = words.next()?.parse().ok()?;
    let major = words.next()?;
    let path = PathBuf::from(words.next()?);
    (major == "3").then_some(Python { path, minor, venv })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interpreter_says_of_itself_is_understood() {
        let python = parse("/usr/bin/my python3.11 3 11 1\n").unwrap();
        assert_eq!(python, Python { path: "/usr/bin/my python3.11".into(), minor: 11, venv: true });
        assert_eq!(parse("/usr/bin/python2.7 2 7 0"), None);
        assert_eq!(parse(""), None);
    }
}
