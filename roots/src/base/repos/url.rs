//! URLs in one form, so that they can be compared.

use std::fmt;

/// An http or https URL: host in lower case, no default port, one way of percent-encoding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Url {
    https: bool,
    host: String,
    path: String,
    query: Option<String>,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", if self.https { "https://" } else { "http://" }, self.host, self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl Url {
    /// Reads a URL. None for one that isn't http or https, names a user, goes up (`..`, also encoded), or
    /// has anything in it that two programs could understand differently.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>`{|}".contains(&byte)) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(end);
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(&host);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty() || host.starts_with(':') || !host.chars().all(plain) {
            return None;
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        Some(Self { https, host: host.to_owned(), path: canonical(path)?, query })
    }

    /// The same, of a directory: with a slash at the end.
    pub(super) fn directory(text: &str) -> Option<Self> {
        let mut url = Self::parse(text).filter(|url| url.query.is_none())?;
        if !url.path.ends_with('/') {
            url.path.push('/');
        }
        Some(url)
    }

    /// Where this is to be had, if `declared` (a directory and all below it, or just itself) says so. What
    /// is declared by https may be asked for by http: it is fetched by https all the same.
    pub(super) fn below(&self, declared: &Self) -> Option<Self> {
        let found = if declared.path.ends_with('/') && declared.query.is_none() {
            self.path.starts_with(&declared.path)
        } else {
            self.path == declared.path && self.query == declared.query
        };
        let allowed = found && self.host == declared.host && (declared.https || !self.https);
        allowed.then(|| Self { https: declared.https, ..self.clone() })
    }

    /// The host's name or address, without brackets and port.
    pub(super) fn name(&self) -> &str {
        match self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.host.split(':').next().unwrap_or_default(),
        }
    }

    /// The directory that it lies in.
    pub(super) fn parent(&self) -> Self {
        let end = self.path.rfind('/').map_or(0, |at| at + 1);
        Self { path: self.path[..end].to_owned(), query: None, ..self.clone() }
    }

    /// Where a server that was asked for this sends on to.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let (scheme, host) = (if self.https { "https" } else { "http" }, &self.host);
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{scheme}://{host}{location}"));
        }
        Self::parse(&format!("{}{location}", self.parent()))
    }
}

/// A path with one way of percent-encoding; none for one that could be understood in two ways.
fn canonical(path: &str) -> Option<String> {
    use fmt::Write as _;
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let (hex, after) = after.split_at_checked(2)?;
            // `+7` is a number for Rust.
            if !hex.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let byte = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
            if byte.is_ascii_control() || byte == b'/' || byte == b'\\' {
                return None;
            }
            bytes.push(byte);
            rest = after;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    if bytes.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..") {
        return None;
    }
    let mut text = String::with_capacity(bytes.len().max(1));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/:@!$&'()*,;=~-._".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    Some(if text.is_empty() { "/".to_owned() } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn one_thing_has_one_url() {
        for (text, expected) in [
            ("HTTP://Vault.Example:80/os/a%2bb%7e.rpm", "http://vault.example/os/a%2Bb~.rpm"),
            ("https://h:443", "https://h/"),
            ("http://h:8080/a+b", "http://h:8080/a%2Bb"),
            ("http://[::1]:80/x?y=/../z", "http://[::1]/x?y=/../z"),
        ] {
            assert_eq!(url(text).to_string(), expected);
            assert_eq!(url(expected).to_string(), expected);
        }
    }

    #[test]
    fn what_could_mean_two_things_is_no_url() {
        for text in [
            "",
            "/os/x",
            "ftp://h/x",
            "http:///x",
            "http://user@h/x",
            "http://:80/x",
            "http://h/os/../secret",
            "http://h/os/%2e%2E/secret",
            "http://h/os/./x",
            "http://h/os/..%2fsecret",
            "http://h/os/..\\secret",
            "http://h/os/%5c..",
            "http://h/x%00",
            "http://h/x%+1",
            "http://h/x%4",
            "http://h/x#y",
            "http://h/x y",
            "http://h/\u{e4}",
            "http://h evil/x",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_lies_below_is_below() {
        let below = |text: &str, declared: &str| url(text).below(&url(declared)).map(|url| url.to_string());
        assert_eq!(below("http://h/os/x", "http://h/os/").as_deref(), Some("http://h/os/x"));
        assert_eq!(below("http://h/os/x", "https://h/os/").as_deref(), Some("https://h/os/x"));
        assert_eq!(below("http://h/list?r=7", "http://h/list?r=7").as_deref(), Some("http://h/list?r=7"));
        for (text, declared) in [
            ("http://h/os", "http://h/os/"),
            ("http://h/os-2/x", "http://h/os/"),
            ("http://h2/os/x", "http://h/os/"),
            ("http://h:81/os/x", "http://h/os/"),
            ("https://h/os/x", "http://h/os/"),
            ("http://h/list?r=8", "http://h/list?r=7"),
            ("http://h/list/x", "http://h/list"),
        ] {
            assert_eq!(below(text, declared), None, "{text} {declared}");
        }
    }

    #[test]
    fn a_redirection_is_read_as_the_server_means_it() {
        let from = url("http://h/a/b");
        for (location, expected) in [
            ("https://other/x", "https://other/x"),
            ("//other/x", "http://other/x"),
            ("/x", "http://h/x"),
            ("x", "http://h/a/x"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), expected);
        }
        assert_eq!(from.join("../x"), None);
    }
}
