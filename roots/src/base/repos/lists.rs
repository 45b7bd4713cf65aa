//! Mirrors that lists name: what is there may be fetched too.
//!
//! A declared list says by itself where the repository is, so nobody has to repeat that in the definition. It is believed
//! if nobody else can have written it: if it comes by https, or stands in the lock.

use std::sync::{MutexGuard, PoisonError};

use super::super::download::read_list;
use super::Shared;
use super::url::Url;

/// How many mirrors are kept in mind.
const MOST: usize = 1000;

impl Shared {
    /// Whether a declared URL is that of a list: all others are directories.
    pub(super) fn is_list(&self, url: &str) -> bool {
        !url.ends_with('/') && self.declared.urls.iter().any(|declared| declared == url)
    }

    /// Takes in what a list names.
    pub(super) fn learn(&self, list: &str, text: &str) {
        if !list.starts_with("https://") {
            return;
        }
        let mut mirrors = self.mirrors();
        for url in read_list(text, false).iter().filter_map(|url| Url::directory(url)) {
            if mirrors.len() < MOST && !mirrors.contains(&url) {
                mirrors.push(url);
            }
        }
    }

    /// Where a URL is to be had, if it is on a mirror.
    pub(super) fn on_mirror(&self, url: &Url) -> Option<Url> {
        self.mirrors().iter().find_map(|mirror| url.below(mirror))
    }

    fn mirrors(&self) -> MutexGuard<'_, Vec<Url>> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
