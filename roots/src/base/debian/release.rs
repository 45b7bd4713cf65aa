//! What a release file says of its repository: when it was published, and who signed it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::{BaseContext, BaseError, download};
use super::{DebianError, snapshot};
use crate::process;

/// What a release file says.
pub(super) struct Release {
    pub(super) date: String,
    pub(super) sha256: String,
    pub(super) fingerprints: Vec<String>,
}

/// Reads the release file that apt has checked and put beside its lists under the names that begin with `prefix`.
/// `keyrings` are those of which one had to sign it.
pub(super) fn read(
    context: BaseContext<'_>,
    prefix: &str,
    keyrings: &[PathBuf],
) -> Result<Release, BaseError> {
    let signed = PathBuf::from(format!("{prefix}InRelease"));
    let plain = PathBuf::from(format!("{prefix}Release"));
    let (path, files) = if signed.exists() {
        (&signed, vec![signed.clone()])
    } else {
        (&plain, vec![PathBuf::from(format!("{prefix}Release.gpg")), plain.clone()])
    };
    let bytes = fs::read(path).map_err(BaseError::io("read", path))?;
    let text = String::from_utf8_lossy(&bytes);
    let date = text.lines().find_map(|line| line.strip_prefix("Date:")).and_then(snapshot::date);
    let Some(date) = date else {
        return Err(DebianError::Failed(format!("`{}` has no date in it", path.display())).into());
    };
    let mut command = process::tool("gpgv");
    command.args(["--status-fd", "1"]).env("HOME", context.scratch);
    for (number, keyring) in keyrings.iter().enumerate() {
        command.arg("--keyring").arg(plain_keyring(context, keyring, number)?);
    }
    command.arg("--").args(&files);
    let line = |line: &str| (context.sink)(crate::StepEvent::Line(line.to_owned()));
    let output = process::capture(command, b"", context.cancel, &line)?;
    // Keys that aren't in these keyrings are an error for gpgv; for apt, which has judged already, they aren't.
    let fingerprints = fingerprints(&String::from_utf8_lossy(&output.stdout));
    Ok(Release { date, sha256: download::hex(Sha256::new_with_prefix(&bytes)), fingerprints })
}

/// The fingerprints of the (primary) keys whose signatures are good.
fn fingerprints(status: &str) -> Vec<String> {
    let good = status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG "));
    let keys: BTreeSet<&str> = good.filter_map(|line| line.split_whitespace().nth(9)).collect();
    keys.into_iter().map(str::to_owned).collect()
}

/// The files of a keyring that may be a directory, as apt reads them.
pub(super) fn files(keyring: &Path) -> Vec<PathBuf> {
    if !keyring.is_dir() {
        return keyring.exists().then(|| keyring.to_owned()).into_iter().collect();
    }
    let entries = fs::read_dir(keyring).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gpg" || extension == "asc"));
    files.sort();
    files
}

/// A keyring as gpgv reads them: without armour.
fn plain_keyring(context: BaseContext<'_>, keyring: &Path, number: usize) -> Result<PathBuf, BaseError> {
    let bytes = fs::read(keyring).map_err(BaseError::io("read", keyring))?;
    let Some(bytes) = without_armour(&bytes) else { return Ok(keyring.to_owned()) };
    let path = context.scratch.join(format!("keyring-{number}.gpg"));
    fs::write(&path, bytes).map_err(BaseError::io("write", &path))?;
    Ok(path)
}

/// What is inside an armour (`-----BEGIN PGP …`), all blocks in a row; `None` where there is none.
fn without_armour(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut plain = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    lines.find(|line| line.starts_with("-----BEGIN PGP"))?;
    loop {
        let (mut bits, mut count) = (0_u32, 0);
        let _headers = lines.by_ref().take_while(|line| !line.is_empty()).count();
        for line in lines.by_ref().take_while(|line| !line.starts_with("-----END")) {
            // The checksum stands behind a `=` of its own.
            if line.starts_with('=') {
                continue;
            }
            for byte in line.bytes() {
                let value = match byte {
                    b'A'..=b'Z' => byte - b'A',
                    b'a'..=b'z' => byte - b'a' + 26,
                    b'0'..=b'9' => byte - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => continue,
                };
                (bits, count) = ((bits << 6 | u32::from(value)) & 0xff_ffff, count + 6);
                if count >= 8 {
                    count -= 8;
                    plain.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
                }
            }
        }
        if lines.by_ref().all(|line| !line.starts_with("-----BEGIN PGP")) {
            return Some(plain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armour_is_taken_off() {
        let armoured = "a comment\n-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: x\n\naGVs\nbG8=\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(without_armour(armoured.as_bytes()).as_deref(), Some(b"hello".as_slice()));
        let twice = without_armour(format!("{armoured}{armoured}").as_bytes());
        assert_eq!(twice.as_deref(), Some(b"hellohello".as_slice()));
        assert_eq!(without_armour(b"\x99\x01\xff"), None);
    }

    #[test]
    fn who_signed_is_named_by_the_primary_key() {
        let status = "[GNUPG:] ERRSIG AA 1 8 00 1 9 BB\n[GNUPG:] VALIDSIG SUB 2026-07-11 1783765000 0 4 0 1 8 01 PRIMARY\n";
        assert_eq!(fingerprints(status), ["PRIMARY"]);
    }
}
