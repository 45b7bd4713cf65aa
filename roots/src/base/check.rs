//! Downloads, for who checks the store.

use std::fs::File;
use std::io;
use std::path::Path;

use rootbuild_cache::fsck::{Check, Kind};
use sha2::{Digest as _, Sha256};

/// Looks at each download: whether its content is what its name says.
pub fn check(check: &Check<'_>) {
    check.phase("checking downloads");
    for fan in check.names(&check.store().dir().join("packages")) {
        match fan.file_name().and_then(|name| name.to_str()) {
            // Text that a URL answered with, under the digest of the URL.
            Some("keys") => {}
            Some("urls") => {
                for inner in check.names(&fan) {
                    for path in check.names(&inner) {
                        let _: Option<serde_json::Value> = check.json(&path);
                    }
                }
            }
            Some(name) if name.len() == 2 => {
                for path in check.names(&fan) {
                    download(check, &path);
                }
            }
            _ => check.unknown(&fan),
        }
    }
}

fn download(check: &Check<'_>, path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".part") {
        return;
    }
    if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return check.unknown(path);
    }
    check.looked();
    if check.is_quick() {
        return;
    }
    match hash(path) {
        Ok(read) if read == name => {}
        Ok(_) => check.damaged(Kind::Content, path, "its content isn't what its name says"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => check.damaged(Kind::Unreadable, path, error.to_string()),
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
