//! snapshot.debian.org, which has what Debian's archives had on any day.

use jiff::{SignedDuration, Timestamp};

/// How snapshot.debian.org writes moments.
const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// What is between the host's name and the moment in a URL.
const BEGIN: &str = "://snapshot.debian.org/archive/";

/// How long after it was published a state of the archive is there for sure: it is fetched some hours later, and a
/// moment in a URL stands for what was fetched last before it.
const LATER: SignedDuration = SignedDuration::from_hours(4);

/// How much later than a state of the archive a moment may be to stand for it.
const WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Whether a URL is of snapshot.debian.org.
pub(super) fn is_snapshot(url: &str) -> bool {
    url.contains(BEGIN)
}

/// The moment in a URL of snapshot.debian.org, if it is one.
pub(super) fn moment(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once(BEGIN)?;
    let moment = rest.split('/').nth(1)?;
    parse(moment).map(|_| moment)
}

/// The `Date` of a release file as snapshot.debian.org writes it; `None` where it is no date.
pub(super) fn date(text: &str) -> Option<String> {
    // The name of the zone is the old one's; both are in use.
    let text = text.trim().replace(" UTC", " GMT");
    let date = jiff::fmt::rfc2822::parse(&text).ok()?;
    Some(date.timestamp().strftime(FORMAT).to_string())
}

/// The URL that has what the archive at `url` had when it was published at `date`.
pub(super) fn url(url: &str, date: &str) -> String {
    let archive = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let archive = if archive.starts_with("debian-") { archive } else { "debian" };
    let moment = parse(date).and_then(|published| published.checked_add(LATER).ok());
    let moment = moment.map_or_else(|| date.to_owned(), |moment| moment.strftime(FORMAT).to_string());
    format!("http://snapshot.debian.org/archive/{archive}/{moment}/")
}

/// Whether `url` is of snapshot.debian.org and has what was published at `date`.
pub(super) fn has(url: &str, date: &str) -> bool {
    let (Some(there), Some(published)) = (moment(url).and_then(parse), parse(date)) else { return false };
    let later = there.duration_since(published);
    !later.is_negative() && later <= WITHIN
}

fn parse(moment: &str) -> Option<Timestamp> {
    let moment = jiff::civil::DateTime::strptime(FORMAT, moment).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_in_urls() {
        assert_eq!(date("Sat, 11 Jul 2026 10:16:37 UTC").as_deref(), Some("20260711T101637Z"));
        assert_eq!(date("Sat, 11 Jul 2026 10:16:37 +0200").as_deref(), Some("20260711T081637Z"));
        assert_eq!(date("yesterday"), None);
    }

    #[test]
    fn a_state_of_the_archive_is_had_from_snapshot() {
        let (date, main) = ("20260711T101637Z", "http://m.example/debian/");
        assert_eq!(url(main, date), "http://snapshot.debian.org/archive/debian/20260711T141637Z/");
        let security = "http://m.example/debian-security";
        assert_eq!(
            url(security, date),
            "http://snapshot.debian.org/archive/debian-security/20260711T141637Z/"
        );
        assert!(has(&url(main, date), date) && has(&url(security, date), date));
        assert!(!has("http://snapshot.debian.org/archive/debian/20260713T000000Z", date));
        assert!(!has("http://snapshot.debian.org/archive/debian/20260711T000000Z", date));
        assert!(!has(main, date));
    }

    #[test]
    fn the_moment_is_read_from_a_url() {
        let url = "https://snapshot.debian.org/archive/debian/20240102T030405Z/";
        assert_eq!(moment(url), Some("20240102T030405Z"));
        assert_eq!(moment("https://snapshot.debian.org/archive/debian/"), None);
        assert_eq!(moment("https://m.example/debian/20240102T030405Z/"), None);
    }
}
