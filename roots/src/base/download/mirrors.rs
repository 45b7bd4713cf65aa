//! Which server is asked first: the ones that did well, in the order in which they are named.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::super::fetch;
use super::Origins;

/// How a server has done so far in this run; the lower, the sooner it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing is known against it.
    Good,
    /// It gave something wrong, or less than it should.
    Odd,
    /// It can't be reached, or isn't well.
    Dead,
}

/// What all downloads of a run know of servers, and of lists of them.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    standing: Mutex<HashMap<String, Standing>>,
    /// By repository: what its list of mirrors names, once that was asked for.
    lists: Mutex<HashMap<String, std::sync::Arc<OnceLock<Vec<String>>>>>,
}

impl Mirrors {
    /// The numbers of `urls` in the order in which they are to be tried.
    pub(super) fn order(&self, urls: &[String]) -> Vec<usize> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            |number: &usize| standing.get(fetch::server(&urls[*number])).copied().unwrap_or(Standing::Good);
        let mut numbers: Vec<usize> = (0..urls.len()).collect();
        numbers.sort_by_key(of);
        numbers
    }

    /// Notes how the server of `url` did; tells whether that is news, and worse than before.
    pub(super) fn note(&self, url: &str, now: Standing) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let server = fetch::server(url).to_owned();
        let before = standing.get(&server).copied().unwrap_or(Standing::Good);
        // One that is there again is as good as before; one that gave something wrong stays odd.
        let after = match (before, now) {
            (Standing::Odd, Standing::Good) => Standing::Odd,
            (_, now) => now,
        };
        standing.insert(server, after);
        after > before
    }

    /// What the repository's list of mirrors names by now; asked for once, and only by who got nowhere with what
    /// was known already.
    pub(super) fn listed(&self, repo: &str, origins: &Origins) -> Vec<String> {
        let Some(list) = &origins.list else { return Vec::new() };
        let known = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            std::sync::Arc::clone(lists.entry(repo.to_owned()).or_default())
        };
        let ask = || {
            let text = fetch::small(list, origins.sslverify).unwrap_or_default();
            read_list(&String::from_utf8_lossy(&text), fetch::is_local(list))
        };
        known.get_or_init(ask).clone()
    }
}

/// The URLs in a list of mirrors, a line each, or in a Metalink file. Only a list that is a file itself may
/// name files.
pub(in super::super) fn read_list(text: &str, local: bool) -> Vec<String> {
    let is_usable = |url: &&str| {
        url.starts_with("http://") || url.starts_with("https://") || (local && url.starts_with("file://"))
    };
    let urls: Vec<&str> = if text.contains("<metalink") {
        // `<url protocol="https" …>https://host/path/repodata/repomd.xml</url>`
        let rest = text.split("<url").skip(1).filter_map(|rest| rest.split_once('>'));
        rest.filter_map(|(_, rest)| rest.split_once('<')).map(|(url, _)| url.trim()).collect()
    } else {
        text.lines().map(str::trim).collect()
    };
    let mut found: Vec<String> = Vec::new();
    for url in urls.into_iter().filter(is_usable) {
        let url = url.trim_end_matches("repodata/repomd.xml").trim_end_matches('/').replace("&amp;", "&");
        if !found.contains(&url) {
            found.push(url);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_in_their_order_but_for_those_that_did_badly() {
        let mirrors = Mirrors::default();
        let urls = ["http://a/x", "http://b/x", "http://c/x"].map(str::to_owned);
        assert_eq!(mirrors.order(&urls), [0, 1, 2]);
        assert!(mirrors.note("http://a/other", Standing::Dead));
        assert!(!mirrors.note("http://a/third", Standing::Dead), "no news");
        assert!(mirrors.note("http://b/x", Standing::Odd));
        assert_eq!(mirrors.order(&urls), [2, 1, 0]);
        assert!(!mirrors.note("http://a/x", Standing::Good));
        assert!(!mirrors.note("http://b/x", Standing::Good), "stays odd");
        assert_eq!(mirrors.order(&urls), [0, 2, 1]);
    }

    #[test]
    fn both_kinds_of_lists_are_read() {
        let text = "# mirrors\n\nhttp://a/7/os/\nhttps://b/os\nhttp://a/7/os\nftp://c\nfile:///d\n";
        assert_eq!(read_list(text, false), ["http://a/7/os", "https://b/os"]);
        assert_eq!(read_list(text, true), ["http://a/7/os", "https://b/os", "file:///d"]);
        let text = "<?xml version=\"1.0\"?><metalink version=\"3.0\"><files><file name=\"repomd.xml\"><resources>\n\
                    <url protocol=\"https\" preference=\"100\">https://a/os/repodata/repomd.xml</url>\n\
                    <url protocol=\"rsync\">rsync://a/os/repodata/repomd.xml</url>\n\
                    <url protocol=\"http\" >http://b/os/?x=1&amp;y=/repodata/repomd.xml</url></resources>";
        assert_eq!(read_list(text, false), ["https://a/os", "http://b/os/?x=1&y="]);
    }
}
