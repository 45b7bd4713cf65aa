//! What the fuzz target of definitions runs (`fuzz/`). Not for anything else.

use std::fs;
use std::sync::OnceLock;

use crate::definition::Definition;
use crate::render::Report;

/// A directory with what a definition may name.
fn project() -> Option<&'static tempfile::TempDir> {
    static PROJECT: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().ok()?;
        for name in ["a.yml", "a.repo", "a.lock", "a.tar", "hosts"] {
            fs::write(dir.path().join(name), "").ok()?;
        }
        fs::create_dir(dir.path().join("ansible")).ok()?;
        Some(dir)
    };
    PROJECT.get_or_init(make).as_ref()
}

/// Loads a definition; what is wrong with it has a place in it, and can be told.
///
/// # Panics
/// A place isn't in the text.
pub fn definition(data: &[u8]) {
    let Some(project) = project() else { return };
    let path = project.path().join("rootbuild.toml");
    if fs::write(&path, data).is_err() {
        return;
    }
    match Definition::load(Some(&path), project.path()) {
        Ok(definition) => {
            assert!(definition.select(&[]).is_ok_and(|roots| roots.len() == definition.roots.len()));
        }
        Err(error) => {
            assert!(!error.diagnostics.is_empty());
            let lines = data.split(|byte| *byte == b'\n').count();
            for diagnostic in &error.diagnostics {
                assert!(diagnostic.line.is_none_or(|line| (1..=lines).contains(&line)), "{diagnostic}");
            }
            let report = Report::from(error);
            assert!(!report.render(Some(project.path())).is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn definitions_made_at_random_harm_nobody() {
        rootbuild_cache::fuzz::smoke("definition", 5000, Duration::from_secs(1), definition);
    }
}
