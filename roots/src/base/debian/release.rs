//! The `Release` file of a suite: whether the suite is there, and when it was made.

use super::super::fetch::{self, FetchError};
use super::DebianError;

/// When the suite was made, in seconds since 1970: the time that a build pretends it is, so that the
/// same archive gives the same root. Tells at once when the archive or the suite isn't there. What is
/// in the file isn't trusted with anything else: apt checks signatures later.
pub(super) fn date(uri: &str, suite: &str) -> Result<Option<u64>, DebianError> {
    let base = uri.trim_end_matches('/');
    let mut reason = String::new();
    for name in ["InRelease", "Release"] {
        match fetch::small(&format!("{base}/dists/{suite}/{name}"), true) {
            Ok(bytes) => return Ok(parsed(&String::from_utf8_lossy(&bytes))),
            Err(FetchError::Lasting(_)) => {}
            Err(FetchError::Passing(message)) => reason = message,
        }
    }
    let mirror = uri.to_owned();
    Err(match reason.as_str() {
        "" => DebianError::UnknownSuite { suite: suite.to_owned(), mirror },
        _ => DebianError::Unreachable { mirror, message: reason },
    })
}

/// The `Date:` field: `Sat, 11 Jan 2025 10:07:03 UTC`.
fn parsed(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("Date:"))?.trim();
    let value = value.strip_suffix("UTC").map_or_else(|| value.to_owned(), |rest| format!("{rest}+0000"));
    let time = jiff::fmt::rfc2822::parse(&value).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_read() {
        assert_eq!(parsed("Origin: Debian\nDate: Sat, 11 Jan 2025 10:07:03 UTC\n"), Some(1_736_590_023));
        assert_eq!(parsed("Date: yesterday\n"), None);
    }
}
