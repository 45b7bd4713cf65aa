//! Opening URLs: http, https and file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How often something is tried.
pub(super) const TRIES: u32 = 3;

/// The largest key or list that is downloaded whole, in bytes.
const SMALL: u64 = 4 << 20;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a server to be connected to.
    pub(super) connect: Duration,
    /// For its answer, and for each further bit of it.
    pub(super) answer: Duration,
    /// The first pause between two tries; each further one is three times as long.
    pub(super) pause: Duration,
    /// How often a body is looked at: in this time at least [`SLOWEST`](Self::SLOWEST) bytes a second must have come.
    pub(super) window: Duration,
}

impl Patience {
    /// The slowest a body may come, in bytes per second.
    pub(super) const SLOWEST: u64 = 1_000;
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            window: Duration::from_secs(30),
        }
    }
}

/// Why a URL can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// It isn't there, or not for us: no use to try again.
    #[error("{0}")]
    Lasting(String),
    /// It may go better the next time.
    #[error("{0}")]
    Passing(String),
    /// The server itself can't be reached, or isn't well: others are asked first from now on.
    #[error("{0}")]
    Unreachable(String),
}

/// An open URL.
pub(super) struct Body {
    /// What comes.
    pub(super) reader: Box<dyn Read>,
    /// Where in the file it starts: where it was asked for, or 0 where the server knows no ranges.
    pub(super) start: u64,
    /// How long the whole file is, as far as the server says so.
    pub(super) length: Option<u64>,
}

/// A client; `sslverify`: whether the certificates of https servers are checked.
pub(super) fn agent(sslverify: bool, patience: Patience) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .disable_verification(!sslverify)
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(patience.connect))
        .timeout_resolve(Some(patience.connect))
        .timeout_recv_response(Some(patience.answer))
        .timeout_per_read(Some(patience.answer))
        .user_agent(concat!("rootbuild/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Whether reading this URL needs no network.
pub(super) fn is_local(url: &str) -> bool {
    url.starts_with("file://")
}

/// The server of a URL: all of it up to the path.
pub(super) fn server(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// Opens a URL for reading from the byte `from` on, where the server can do that.
pub(super) fn open(url: &str, agent: &ureq::Agent, from: u64) -> Result<Body, FetchError> {
    open_with(url, agent, from, false)
}

/// `checked`: whoever is sent on from a server whose certificate was checked must come to one like it.
fn open_with(url: &str, agent: &ureq::Agent, from: u64, checked: bool) -> Result<Body, FetchError> {
    if let Some(path) = url.strip_prefix("file://") {
        return open_file(path, from).map_err(|error| FetchError::Lasting(words(&error)));
    }
    // An encoded body would have other ranges.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if checked && url.starts_with("https:") {
        request = request.config().https_only(true).build();
    }
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().map_err(|error| failure(url, error))?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let (start, length) = if response.status().as_u16() == 206 {
        let told = header("Content-Range").and_then(content_range);
        told.ok_or_else(|| FetchError::Passing("the server sends a part without saying which".to_owned()))?
    } else {
        (0, header("Content-Length").and_then(|length| length.trim().parse().ok()))
    };
    if start != 0 && start != from {
        return Err(FetchError::Passing(format!(
            "the server sends what begins at byte {start}, asked for was {from}"
        )));
    }
    Ok(Body { reader: Box::new(response.into_body().into_reader()), start, length })
}

/// A server's answer as it is: an error or a redirection is one too.
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
    pub(super) reader: Box<dyn Read + Send>,
}

impl Raw {
    /// A header that is plain text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Asks a server for a URL, once, and follows it nowhere else. `headers` go along.
pub(super) fn ask(url: &str, agent: &ureq::Agent, headers: &[(&str, &str)]) -> Result<Raw, FetchError> {
    // An encoded body would be other bytes.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let asis = request.config().max_redirects(0).max_redirects_will_error(false).http_status_as_error(false);
    let (parts, body) = asis.build().call().map_err(|error| failure(url, error))?.into_parts();
    Ok(Raw { status: parts.status.as_u16(), headers: parts.headers, reader: Box::new(body.into_reader()) })
}

fn open_file(path: &str, from: u64) -> io::Result<Body> {
    let mut file = File::open(path).or_else(|error| File::open(decoded(path)).map_err(|_| error))?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let start = file.seek(SeekFrom::Start(from.min(data.len())))?;
    Ok(Body { reader: Box::new(file), start, length: Some(data.len()) })
}

/// Reads `bytes 100-199/200`, or `…/*`: the start and the whole length.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let length = if length == "*" { None } else { Some(length.parse().ok()?) };
    Some((start.parse().ok()?, length))
}

fn host(url: &str) -> &str {
    server(url).rsplit("://").next().unwrap_or_default()
}

/// What went wrong, in words.
fn failure(url: &str, error: ureq::Error) -> FetchError {
    use ureq::{Error, Timeout};
    match error {
        Error::StatusCode(code @ (408 | 425 | 429 | 500..)) => {
            FetchError::Unreachable(format!("the server says {code}"))
        }
        Error::StatusCode(416) => FetchError::Lasting("what the server has is too short".to_owned()),
        Error::StatusCode(code) => FetchError::Lasting(format!("the server says {code}")),
        Error::HostNotFound => FetchError::Unreachable(format!("no such host `{}`", host(url))),
        Error::Io(error) if error.to_string().starts_with("failed to lookup address") => {
            let text = error.to_string();
            let why = text.rsplit(": ").next().unwrap_or_default().to_ascii_lowercase();
            FetchError::Unreachable(match why.as_str() {
                "name or service not known" => format!("no such host `{}`", host(url)),
                _ => format!("can't find the address of `{}`: {why}", host(url)),
            })
        }
        Error::Io(error) => FetchError::Unreachable(words(&error)),
        Error::Timeout(Timeout::Resolve) => {
            FetchError::Unreachable("timed out asking for its address".to_owned())
        }
        Error::Timeout(Timeout::Connect) => FetchError::Unreachable("timed out while connecting".to_owned()),
        Error::Timeout(_) => FetchError::Unreachable("timed out waiting for an answer".to_owned()),
        Error::RequireHttpsOnly(to) => {
            FetchError::Lasting(format!("the server sends on to `{to}`, which isn't https"))
        }
        Error::BadUri(_) | Error::Http(_) => FetchError::Lasting(format!("`{url}` is no URL")),
        other => FetchError::Unreachable(other.to_string()),
    }
}

/// An I/O error as people say it.
pub(super) fn words(error: &io::Error) -> String {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        return match inner {
            ureq::Error::Timeout(_) => "timed out, nothing came any more".to_owned(),
            other => other.to_string(),
        };
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection ended early".to_owned(),
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => {
            // "Network is unreachable (os error 101)"
            let text = error.to_string();
            let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
            let mut letters = text.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
        }
    }
}

/// Reads something small as a whole: a key, a list.
pub(super) fn small(url: &str, sslverify: bool) -> Result<Vec<u8>, FetchError> {
    let patience = Patience::default();
    let agent = agent(sslverify, patience);
    let (mut pause, mut round) = (patience.pause, 1);
    loop {
        let mut bytes = Vec::new();
        let read = open_with(url, &agent, 0, true).and_then(|body| {
            let length = body.length;
            let read = body.reader.take(SMALL + 1).read_to_end(&mut bytes);
            read.map_err(|error| FetchError::Passing(words(&error)))?;
            match length {
                Some(length) if length > bytes.len() as u64 && bytes.len() as u64 <= SMALL => {
                    Err(FetchError::Passing("the connection ended early".to_owned()))
                }
                _ => Ok(()),
            }
        });
        match read {
            Ok(()) if bytes.len() as u64 > SMALL => {
                return Err(FetchError::Lasting(format!("it is larger than {SMALL} bytes")));
            }
            Ok(()) => return Ok(bytes),
            Err(FetchError::Lasting(why)) => return Err(FetchError::Lasting(why)),
            Err(_) if round < TRIES => {}
            Err(error) => return Err(error),
        }
        thread::sleep(pause);
        pause *= 3;
        round += 1;
    }
}

/// Percent-encodes what may not stand in a URL (`^` and `~` are in package versions).
pub(super) fn encoded(location: &str) -> String {
    let mut url = String::with_capacity(location.len());
    for byte in location.bytes() {
        if byte.is_ascii_alphanumeric() || b"/:@!$&'()*+,;=~-._%?".contains(&byte) {
            url.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// Undoes percent-encoding.
fn decoded(path: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn odd_characters_survive_the_url() {
        let location = "Packages/a/a b-1^git+2~rc1.rpm";
        let url = encoded(location);
        assert_eq!(url, "Packages/a/a%20b-1%5Egit+2~rc1.rpm");
        assert_eq!(decoded(&url), Path::new(location));
        assert_eq!(decoded("100%"), Path::new("100%"));
    }

    #[test]
    fn a_missing_file_is_not_tried_again() {
        let error = small("file:///nowhere/at/all", true).unwrap_err();
        assert!(matches!(error, FetchError::Lasting(_)), "{error}");
    }

    #[test]
    fn a_range_is_read_as_the_server_writes_it() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-4/*"), Some((0, None)));
        for odd in
            ["", "bytes */200", "lines 1-2/3", "bytes 1-2", "bytes -1-2/3", "bytes 1-2/99999999999999999999"]
        {
            assert_eq!(content_range(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_server_is_all_up_to_the_path() {
        assert_eq!(server("http://user@host:80/a/b"), "http://user@host:80");
        assert_eq!(server("http://host"), "http://host");
        assert_eq!(server("file:///a/b"), "file://");
    }

    #[test]
    fn why_a_server_is_out_of_reach_is_told_in_words() {
        let agent = agent(true, Patience::default());
        let told = |url: &str| open(url, &agent, 0).err().map(|error| error.to_string());
        assert_eq!(told("http://127.0.0.1:9/x").as_deref(), Some("connection refused"));
        assert_eq!(told("http://nowhere.invalid/x").as_deref(), Some("no such host `nowhere.invalid`"));
        assert_eq!(told("file:///nowhere").as_deref(), Some("no such file"));
        assert_eq!(told("file:///etc").as_deref(), Some("it is no file"));
    }
}
