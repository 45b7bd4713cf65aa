//! Staging: the files of a recipe, and no others, as a project of their own.
//!
//! Links are followed, permissions are the recipe's, and what isn't named isn't there, so that a playbook can't read what
//! Bazel doesn't know of. The directory is kept, in Bazel's output base (`bazel clean --expunge` removes it), and only what
//! differs is written the next time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Digest, durable};

use super::{BazelError, Recipe, View};
use crate::definition::FILE_NAME;

/// No directory of sources is deeper than this: it leads in a circle.
const DEEPEST: usize = 64;

/// Where the target's project is staged: the same place for actions and for `bazel run`, whichever configuration.
///
/// # Errors
/// `cwd` is in no execution root.
pub fn place(cwd: &Path, recipe: &Recipe) -> Result<PathBuf, BazelError> {
    let cwd = cwd.canonicalize().map_err(BazelError::io("look at", cwd))?;
    let root = cwd.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "execroot"));
    let Some(output_base) = root.and_then(Path::parent) else {
        return Err(BazelError::NotInBazel { dir: cwd });
    };
    let id = &Digest::of(recipe.label.as_bytes()).hex()[..16];
    Ok(output_base.join("rootbuild").join(format!("{}-{id}", recipe.name)))
}

/// Makes `dir` hold the recipe's files, and the definition's text, and nothing else; gives the definition's path.
///
/// # Errors
/// A file can't be read or written.
pub fn stage(dir: &Path, recipe: &Recipe, view: View, definition: &str) -> Result<PathBuf, BazelError> {
    let mut wanted = BTreeMap::new();
    for source in &recipe.sources {
        collect(&source.name, source.place.path(view), source.executable, 0, &mut wanted)?;
    }
    let path = dir.join(FILE_NAME);
    wanted.remove(Path::new(FILE_NAME));
    fs::create_dir_all(dir).map_err(BazelError::io("create", dir))?;
    // What playbooks read may be secret.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(BazelError::io("protect", dir))?;
    prune(dir, dir, &wanted)?;
    for (name, (source, executable)) in &wanted {
        put(&dir.join(name), source, if *executable { 0o755 } else { 0o644 })?;
    }
    if fs::read_to_string(&path).ok().as_deref() != Some(definition) {
        durable::write_atomic(&path, definition.as_bytes(), 0o644)
            .map_err(|error| BazelError::io("write", &path)(io::Error::other(error)))?;
    }
    Ok(path)
}

/// The files below a source, which may be a directory that an action made.
fn collect(
    name: &Path,
    source: &Path,
    executable: bool,
    depth: usize,
    wanted: &mut BTreeMap<PathBuf, (PathBuf, bool)>,
) -> Result<(), BazelError> {
    let found = fs::metadata(source).map_err(BazelError::io("read", source))?;
    if !found.is_dir() {
        wanted.insert(name.to_owned(), (source.to_owned(), executable));
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(BazelError::malformed(source, "is a directory that leads in a circle"));
    }
    for entry in fs::read_dir(source).map_err(BazelError::io("read", source))? {
        let entry = entry.map_err(BazelError::io("read", source))?;
        collect(&name.join(entry.file_name()), &entry.path(), executable, depth + 1, wanted)?;
    }
    Ok(())
}

/// Removes what isn't wanted.
fn prune(top: &Path, dir: &Path, wanted: &BTreeMap<PathBuf, (PathBuf, bool)>) -> Result<(), BazelError> {
    for entry in fs::read_dir(dir).map_err(BazelError::io("read", dir))? {
        let path = entry.map_err(BazelError::io("read", dir))?.path();
        let name = path.strip_prefix(top).unwrap_or(&path).to_owned();
        let found = path.symlink_metadata().map_err(BazelError::io("look at", &path))?;
        let below = || wanted.range(name.clone()..).next().is_some_and(|(next, _)| next.starts_with(&name));
        if found.is_dir() && !wanted.contains_key(&name) && below() {
            prune(top, &path, wanted)?;
        } else if found.is_dir() {
            fs::remove_dir_all(&path).map_err(BazelError::io("remove", &path))?;
        } else if !(found.is_file() && wanted.contains_key(&name) || name == Path::new(FILE_NAME)) {
            fs::remove_file(&path).map_err(BazelError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes `path` what `source` is. A file that is equal already stays as it is, so that it needn't be hashed again.
fn put(path: &Path, source: &Path, mode: u32) -> Result<(), BazelError> {
    if !equal(path, source).map_err(BazelError::io("read", source))? {
        let dir = durable::parent(path);
        fs::create_dir_all(dir).map_err(BazelError::io("create", dir))?;
        let beside = dir.join(format!(".{}.staged", std::process::id()));
        fs::copy(source, &beside).map_err(BazelError::io("copy", source))?;
        fs::rename(&beside, path).map_err(BazelError::io("write", path))?;
    }
    let now = path.metadata().map_err(BazelError::io("look at", path))?.permissions();
    if now.mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(BazelError::io("change", path))?;
    }
    Ok(())
}

fn equal(path: &Path, source: &Path) -> io::Result<bool> {
    let (mut one, mut two) = match File::open(path) {
        Ok(one) => (one, File::open(source)?),
        Err(_) => return Ok(false),
    };
    if one.metadata()?.len() != two.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        if two.read_exact(&mut right[..read]).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn recipe(files: &[(&str, &str)], dir: &Path) -> Recipe {
        let lines: String = files
            .iter()
            .map(|(mode, name)| format!("file\t{mode}\t{name}\t{0}/{name}\t{0}/{name}\n", dir.display()))
            .collect();
        let path = dir.join("recipe");
        let head = "rootbuild-recipe 1\nlabel\t//a:web\nname\tweb\ndefinition\t{}\n";
        fs::write(&path, format!("{head}{lines}")).unwrap();
        Recipe::read(&path).unwrap()
    }

    #[test]
    fn what_a_recipe_names_is_staged_without_links_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/tree/deep")).unwrap();
        fs::write(from.join("real"), "1").unwrap();
        symlink(from.join("real"), from.join("a/link")).unwrap();
        fs::write(from.join("a/run"), "#!/bin/sh").unwrap();
        fs::write(from.join("a/tree/deep/x"), "x").unwrap();
        let files = [("-", "a/link"), ("x", "a/run"), ("-", "a/tree")];
        let staged = stage(&to, &recipe(&files, &from), View::Action, "one").unwrap();
        assert_eq!(fs::read_to_string(&staged).unwrap(), "one");
        let mode = |name: &str| to.join(name).symlink_metadata().unwrap().permissions().mode();
        assert_eq!((mode("a/link"), mode("a/run")), (0o100_644, 0o100_755));
        assert_eq!(fs::read_to_string(to.join("a/tree/deep/x")).unwrap(), "x");
        // Left over, or in the way.
        fs::write(to.join("a/left"), "").unwrap();
        fs::create_dir(to.join("a/empty")).unwrap();
        let before = to.join("a/run").metadata().unwrap().modified().unwrap();
        let now = recipe(&[("-", "a/run"), ("-", "real"), ("-", "a/tree/deep/x")], &from);
        fs::remove_dir_all(to.join("a/tree")).unwrap();
        fs::write(to.join("a/tree"), "in the way").unwrap();
        stage(&to, &now, View::Runfiles, "two").unwrap();
        assert!(!to.join("a/left").exists() && !to.join("a/link").exists() && !to.join("a/empty").exists());
        assert_eq!(mode("a/run"), 0o100_644);
        assert_eq!(to.join("a/run").metadata().unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_to_string(to.join("a/tree/deep/x")).unwrap(), "x");
    }

    #[test]
    fn a_target_has_one_place_in_actions_and_runfiles() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("base/execroot/_main");
        let runfiles = root.join("bazel-out/bin/web.up.runfiles/_main");
        fs::create_dir_all(&runfiles).unwrap();
        let recipe = recipe(&[], dir.path());
        assert_eq!(place(&root, &recipe).unwrap(), place(&runfiles, &recipe).unwrap());
        assert!(matches!(place(dir.path(), &recipe), Err(BazelError::NotInBazel { .. })));
    }
}
