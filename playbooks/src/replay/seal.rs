//! The store's secret: requests are known by keyed digests, answers are kept sealed, so that neither
//! shows what `no_log` hides to who has the journals but not the secret.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chacha20poly1305::aead::rand_core::RngCore;
use chacha20poly1305::aead::{Aead, OsRng};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use rootbuild_cache::{Digest, durable};

/// Bytes of a nonce, which stands before what was sealed.
const NONCE: usize = 24;

/// The secret of one store.
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The secret kept in `path`, made at its first use.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        loop {
            match fs::File::open(path) {
                Ok(file) => {
                    let mut bytes = Vec::new();
                    file.take(64).read_to_end(&mut bytes)?;
                    let bytes = <[u8; 32]>::try_from(bytes)
                        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it isn't 32 bytes long"))?;
                    return Ok(Self(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let mut bytes = [0; 32];
            OsRng.fill_bytes(&mut bytes);
            let new = path.with_extension(format!("new-{:016x}", OsRng.next_u64()));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            match durable::rename_new(&new, path) {
                Ok(()) => {}
                // Another process was faster: its secret is everybody's.
                Err(_) if path.exists() => drop(fs::remove_file(&new)),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// A hasher for requests.
    pub(super) fn requests(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&blake3::derive_key("rootbuild replay 2026 requests", &self.0))
    }

    /// The key for the answer to a request in a state.
    pub(super) fn sealing(&self, state: &Digest, request: &[u8; 32]) -> [u8; 32] {
        let key = blake3::derive_key("rootbuild replay 2026 answers", &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(state.as_bytes()).update(request);
        *hasher.finalize().as_bytes()
    }

    /// What tells that a journal is whole, and was written with this secret.
    pub(super) fn checksum(&self, bytes: &[u8]) -> [u8; 32] {
        let key = blake3::derive_key("rootbuild replay 2026 journals", &self.0);
        *blake3::keyed_hash(&key, bytes).as_bytes()
    }
}

/// Seals `plain`; nothing where that can't be done.
pub(super) fn seal(key: &[u8; 32], plain: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = vec![0; NONCE];
    OsRng.fill_bytes(&mut sealed);
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    let text = cipher.encrypt(XNonce::from_slice(&sealed), plain).ok()?;
    sealed.extend_from_slice(&text);
    Some(sealed)
}

/// What was sealed; nothing with another key or if a byte is different.
pub(super) fn open(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE)?;
    XChaCha20Poly1305::new(Key::from_slice(key)).decrypt(XNonce::from_slice(nonce), text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Secret::of(&dir.path().join("secret")).unwrap();
        let again = Secret::of(&dir.path().join("secret")).unwrap();
        let (state, request) = (Digest::of(b"s"), [1; 32]);
        let key = secret.sealing(&state, &request);
        assert_eq!(key, again.sealing(&state, &request));
        let sealed = seal(&key, b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|it| it == b"hunter2"));
        assert_eq!(open(&key, &sealed).unwrap(), b"hunter2");
        assert_eq!(open(&secret.sealing(&Digest::of(b"t"), &request), &sealed), None);
        assert_ne!(seal(&key, b"hunter2").unwrap(), sealed);
        assert_eq!(open(&key, &sealed[..20]), None);
    }
}
