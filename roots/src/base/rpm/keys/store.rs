//! Keys that came by URL are kept in the store, so that a base can be made again without the network.
//!
//! `packages/xx/<sha256>` is the key, `packages/keys/<sha256 of its URL>` tells that digest. What is taken from
//! here is checked like what comes from the network: fingerprints, expiry, and the lock's word.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::super::{BaseContext, BaseError};
use super::super::download;

fn sha256(bytes: &[u8]) -> String {
    download::hex(Sha256::new_with_prefix(bytes))
}

fn pointer(context: BaseContext<'_>, url: &str) -> PathBuf {
    context.store.dir().join("packages/keys").join(sha256(url.as_bytes()))
}

/// The key that came from this URL the last time, if it is there whole.
pub(super) fn kept(context: BaseContext<'_>, url: &str) -> Result<Option<Vec<u8>>, BaseError> {
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BaseError::io("read", path)(error)),
    };
    let Some(digest) = read(&pointer(context, url))? else { return Ok(None) };
    let digest = String::from_utf8_lossy(&digest).trim().to_owned();
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let bytes = read(&download::kept(context.store.dir(), &digest))?;
    Ok(bytes.filter(|bytes| sha256(bytes) == digest))
}

/// Keeps a key that was found good.
pub(super) fn keep(context: BaseContext<'_>, url: &str, bytes: &[u8]) -> Result<(), BaseError> {
    if kept(context, url)?.as_deref() == Some(bytes) {
        return Ok(());
    }
    let digest = sha256(bytes);
    put(&download::kept(context.store.dir(), &digest), bytes)?;
    put(&pointer(context, url), format!("{digest}\n").as_bytes())
}

/// Writes a file, all of it or nothing, parents included.
fn put(path: &Path, bytes: &[u8]) -> Result<(), BaseError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new().prefix(".key-").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(BaseError::io("write", path))
}
