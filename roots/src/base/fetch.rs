//! Opening URLs: http, https and file.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How often something is tried.
pub(super) const TRIES: u32 = 3;

/// How long the first pause between two tries is; each further one is three times as long.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// How long a server may take to be connected to and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The slowest a body may come, in bytes per second, beyond [`PATIENCE`].
const SLOWEST: u64 = 20_000;

/// The largest key or list that is downloaded whole, in bytes.
const SMALL: u64 = 4 << 20;

/// Why a URL can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// It isn't there, or not for us: no use to try again.
    #[error("{0}")]
    Lasting(String),
    /// It may go better the next time.
    #[error("{0}")]
    Passing(String),
}

/// A client; `sslverify`: whether the certificates of https servers are checked.
pub(super) fn agent(sslverify: bool) -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .disable_verification(!sslverify)
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .user_agent(concat!("rootbuild/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Opens a URL for reading a body of about `size` bytes.
pub(super) fn open(url: &str, agent: &ureq::Agent, size: u64) -> Result<Box<dyn Read>, FetchError> {
    if let Some(path) = url.strip_prefix("file://") {
        let open = File::open(path).or_else(|error| File::open(decoded(path)).map_err(|_| error));
        return match open {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(FetchError::Lasting(error.to_string())),
        };
    }
    let limit = PATIENCE + Duration::from_secs(size / SLOWEST);
    let request = agent.get(url).config().timeout_recv_body(Some(limit)).build();
    match request.call() {
        Ok(response) => Ok(Box::new(response.into_body().into_reader())),
        Err(ureq::Error::StatusCode(code @ (401 | 403 | 404 | 410))) => {
            Err(FetchError::Lasting(format!("the server says {code}")))
        }
        Err(error) => Err(FetchError::Passing(error.to_string())),
    }
}

/// Reads something small as a whole: a key, a list.
pub(super) fn small(url: &str, sslverify: bool) -> Result<Vec<u8>, FetchError> {
    let agent = agent(sslverify);
    let (mut pause, mut round) = (PAUSE, 1);
    loop {
        let mut bytes = Vec::new();
        let read = open(url, &agent, SMALL).and_then(|body| {
            let read = body.take(SMALL + 1).read_to_end(&mut bytes);
            read.map_err(|error| FetchError::Passing(error.to_string()))
        });
        match read {
            Ok(_) if bytes.len() as u64 > SMALL => {
                return Err(FetchError::Lasting(format!("it is larger than {SMALL} bytes")));
            }
            Ok(_) => return Ok(bytes),
            Err(FetchError::Passing(_)) if round < TRIES => {}
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
}
