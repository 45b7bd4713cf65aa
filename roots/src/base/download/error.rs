//! What can go wrong with a download.

use super::super::Place;

/// A repository, and where it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoAt {
    /// Its id.
    pub id: String,
    /// The start of its section.
    pub place: Place,
}

impl std::fmt::Display for RepoAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({})", self.id, self.place)
    }
}

/// A file couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A file couldn't be downloaded.
    #[error("can't download {what} of the repository {repo}{}", told(tried))]
    Failed {
        /// Which file.
        what: String,
        /// The repository.
        repo: Box<RepoAt>,
        /// Each URL that was tried, and what was wrong with it.
        tried: Vec<(String, String)>,
    },
    /// A downloaded file isn't what the repository's metadata (or the lock) says.
    #[error(
        "{what} of the repository {repo} is not what it should be: expected {expected}, found {found} ({url})"
    )]
    Mismatch {
        /// Which file.
        what: String,
        /// The repository.
        repo: Box<RepoAt>,
        /// From where.
        url: String,
        /// Size or sha256 that it should have.
        expected: String,
        /// Size or sha256 that it has.
        found: String,
    },
}

impl DownloadError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Failed { .. } => "check the network, and try again: what came through is kept",
            Self::Mismatch { .. } => {
                "the repository may be changing just now: try again later. Where it has another package by now, \
                 `rootbuild lock --update` takes that"
            }
        }
        .to_owned()
    }
}

/// What was tried, after the words that say what for.
fn told(tried: &[(String, String)]) -> String {
    match tried {
        [] => ": it has no URL that could be used".to_owned(),
        [(url, why)] => format!(" from {url}: {why}"),
        several => several.iter().fold(":".to_owned(), |text, (url, why)| format!("{text}\n{url}: {why}")),
    }
}
