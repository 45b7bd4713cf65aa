//! A mirror in place of the hosts that well-known repositories are on.
//!
//! Where bytes come from, not which: packages are what their digests and signatures say, whoever serves them. So
//! neither keys nor lock files know of a mirror.

use std::borrow::Cow;
use std::fmt;

/// Hosts, each with the first directory that a mirror has too; `None`: the directory of a release (`7.9.2009`).
const DEFAULT_HOSTS: [(&str, Option<&str>); 2] =
    [("vault.centos.org", None), ("repo.almalinux.org", Some("almalinux"))];

/// The URL of a mirror: it has `7.9.2009/os/…` of CentOS's vault, `almalinux/9/BaseOS/…` of AlmaLinux below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror(String);

/// It is no URL of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no URL of a mirror: expected http://, https:// or file://, a host and a directory")]
pub struct NoMirror(String);

impl std::str::FromStr for Mirror {
    type Err = NoMirror;

    fn from_str(url: &str) -> Result<Self, NoMirror> {
        let strange = |c: char| c.is_whitespace() || c.is_control() || "?#\"'\\$,".contains(c);
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let complete = match scheme {
            "http" | "https" => !rest.starts_with('/') && !rest.is_empty(),
            "file" => rest.starts_with('/'),
            _ => false,
        };
        if !complete || url.contains(strange) {
            return Err(NoMirror(url.to_owned()));
        }
        Ok(Self(url.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mirror {
    /// Where the mirror has what is at `url`; that itself where it isn't on one of the hosts that mirrors stand for.
    #[must_use]
    pub fn of<'a>(&self, url: &'a str) -> Cow<'a, str> {
        below_default(url).map_or(Cow::Borrowed(url), |rest| Cow::Owned(format!("{}/{rest}", self.0)))
    }
}

/// What of a URL is below the place that a mirror stands for.
fn below_default(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let (host, mut path) = rest.split_once('/')?;
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let (_, top) = DEFAULT_HOSTS.iter().find(|(name, _)| *name == host)?;
    loop {
        path = path.trim_start_matches('/');
        let first = path.split('/').next().filter(|first| !first.is_empty())?;
        let found = match top {
            Some(top) => first == *top,
            None => first.starts_with(|c: char| c.is_ascii_digit()),
        };
        if found {
            return Some(path);
        }
        path = &path[first.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_default_host_is_had_from_the_mirror() {
        let mirror: Mirror = "http://mirror.lan:8080/pub/".parse().unwrap();
        for (url, expected) in [
            ("https://vault.centos.org/7.9.2009/os/x86_64", "http://mirror.lan:8080/pub/7.9.2009/os/x86_64"),
            ("http://vault.centos.org:80//centos/7.9.2009/os", "http://mirror.lan:8080/pub/7.9.2009/os"),
            ("http://VAULT.centos.org/7.9.2009", "http://mirror.lan:8080/pub/7.9.2009"),
            (
                "https://repo.almalinux.org/almalinux/9/BaseOS/x86_64/os",
                "http://mirror.lan:8080/pub/almalinux/9/BaseOS/x86_64/os",
            ),
        ] {
            assert_eq!(mirror.of(url), expected);
            assert_eq!(mirror.of(expected), expected, "once is enough");
        }
        for url in [
            "https://vault.centos.org.evil/7.9.2009/os",
            "https://vault.centos.org/",
            "https://vault.centos.org/RPM-GPG-KEY",
            "https://download.example/7.9.2009/os",
            "file:///7.9.2009/os",
            "ftp://vault.centos.org/7.9.2009/os",
        ] {
            assert_eq!(mirror.of(url), url);
        }
    }

    #[test]
    fn what_is_no_url_is_no_mirror() {
        for good in ["https://m", "http://m:80/x", "file:///srv/mirror"] {
            assert!(good.parse::<Mirror>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "m.example",
            "/srv/mirror",
            "ftp://m",
            "http://",
            "http:///x",
            "file://x",
            "http://m?x",
            "http://m/a b",
            "http://m\n",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }
}
