//! The keys that sign packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{BaseContext, BaseError, fetch};
use super::RpmError;
use super::repo_file::{KeyFile, Repo};
use crate::process;

/// A key file of this host, and the fingerprints of the keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) file: PathBuf,
    pub(super) fingerprints: Vec<String>,
}

/// Gets the keys of a repository, and checks them against its pinned fingerprints.
pub(super) fn fetch(context: BaseContext<'_>, repo: &Repo) -> Result<Vec<Key>, BaseError> {
    let mut keys = Vec::new();
    for (number, (key, place)) in repo.keys.iter().enumerate() {
        let file = context.scratch.join(format!("key-{}-{number}", repo.id.replace([':', '/'], "_")));
        let bytes = match key {
            KeyFile::File(path) => fs::read(path).map_err(BaseError::io("read", path))?,
            KeyFile::Url(url) => fetch::small(url, repo.sslverify).map_err(|error| RpmError::Download {
                what: "a key".to_owned(),
                repo: repo.id.clone(),
                url: url.clone(),
                message: error.to_string(),
            })?,
        };
        fs::write(&file, bytes).map_err(BaseError::io("write", &file))?;
        let fingerprints = fingerprints(context, &file)?;
        if fingerprints.is_empty() {
            return Err(RpmError::NoKey { place: place.clone(), key: key.shown() }.into());
        }
        let strange = fingerprints.iter().find(|found| !repo.fingerprints.contains(found));
        if let (Some(found), false) = (strange, repo.fingerprints.is_empty()) {
            let (place, found) = (repo.place.clone(), found.clone());
            return Err(RpmError::Fingerprint { place, key: key.shown(), found }.into());
        }
        keys.push(Key { file, fingerprints });
    }
    Ok(keys)
}

/// All fingerprints of `keys`, sorted, each once.
pub(super) fn all_fingerprints(keys: &[Key]) -> Vec<String> {
    let all: BTreeSet<&String> = keys.iter().flat_map(|key| &key.fingerprints).collect();
    all.into_iter().cloned().collect()
}

/// The fingerprints of the primary keys in a file, by gpg.
fn fingerprints(context: BaseContext<'_>, file: &Path) -> Result<Vec<String>, BaseError> {
    let home = context.scratch.join("gnupg");
    private_dir(&home)?;
    let mut command = process::tool("gpg");
    command.arg("--homedir").arg(&home).args(["--batch", "--no-options", "--with-colons"]);
    command.args(["--import-options", "show-only", "--import"]).arg(file);
    let output = process::capture(command, b"", context.cancel, &|_| ())?;
    let (mut fingerprints, mut primary) = (Vec::new(), false);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split(':');
        match fields.next() {
            Some("pub") => primary = true,
            Some("sub") => primary = false,
            Some("fpr") if primary => {
                fingerprints.extend(fields.nth(8).map(str::to_owned));
                primary = false;
            }
            _ => {}
        }
    }
    Ok(fingerprints)
}

/// Makes a directory that only we can enter, unless it is there.
pub(super) fn private_dir(dir: &Path) -> Result<(), BaseError> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(BaseError::io("make", dir)(error))
        }
        _ => Ok(()),
    }
}
