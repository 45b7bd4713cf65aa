//! What was fetched: contents by digest, beside the packages of bases; and which content a URL had last.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::Fetched;
use super::url::Url;

/// What a URL answered last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The URL.
    pub(super) url: String,
    /// Its content; none where the server said that there is nothing.
    pub(super) content: Option<Content>,
}

/// The content of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) sha256: String,
    pub(super) size: u64,
    /// What the server calls this version.
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
    pub(super) kind: Option<String>,
}

impl Entry {
    /// As records tell it.
    pub(super) fn fetched(&self) -> Option<Fetched> {
        let content = self.content.as_ref()?;
        Some(Fetched { url: self.url.clone(), sha256: content.sha256.clone(), size: content.size })
    }
}

/// The part of a store that all this is in.
#[derive(Debug)]
pub(super) struct Kept {
    packages: PathBuf,
    urls: PathBuf,
}

impl Kept {
    pub(super) fn of(store: &Path) -> Self {
        // The same place that `super::super::download` keeps packages in.
        Self { packages: store.join("packages"), urls: store.join("packages/urls") }
    }

    fn content_path(&self, sha256: &str) -> PathBuf {
        self.packages.join(&sha256[..2]).join(sha256)
    }

    fn url_path(&self, url: &Url) -> PathBuf {
        let name = hex(Sha256::new().chain_update(url.to_string()));
        self.urls.join(&name[..2]).join(name)
    }

    /// What a URL answered last, if that is known and its content is there intact.
    pub(super) fn entry(&self, url: &Url) -> Option<Entry> {
        let entry: Entry = serde_json::from_slice(&fs::read(self.url_path(url)).ok()?).ok()?;
        let intact = entry.url == url.to_string()
            && entry.content.as_ref().is_none_or(|content| {
                is_digest(&content.sha256)
                    && self.open(content).is_ok_and(|file| is_of(file, &content.sha256))
            });
        intact.then_some(entry)
    }

    /// The content's file.
    pub(super) fn open(&self, content: &Content) -> io::Result<File> {
        let file = File::open(self.content_path(&content.sha256))?;
        let data = file.metadata()?;
        if !data.is_file() || data.len() != content.size {
            return Err(io::Error::other("it isn't what it was"));
        }
        Ok(file)
    }

    /// Keeps a content that came whole, and that the URL had it.
    pub(super) fn add(&self, url: &Url, entry: &Entry, content: Option<NamedTempFile>) -> io::Result<()> {
        if let (Some(file), Some(content)) = (content, &entry.content) {
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            persist(file, &self.content_path(&content.sha256))?;
        }
        let path = self.url_path(url);
        let dir = path.parent().unwrap_or(&self.urls);
        fs::create_dir_all(dir)?;
        let mut file = NamedTempFile::new_in(dir)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.as_file().sync_all()?;
        persist(file, &path)
    }
}

/// Gives a file its final name, durably.
fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_of(mut file: File, sha256: &str) -> bool {
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).is_ok() && hex(hasher) == sha256
}

/// A finished digest as hex.
pub(super) fn hex(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
