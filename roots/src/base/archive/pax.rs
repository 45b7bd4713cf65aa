//! Extended headers: records of a key and a value, for one member or for all that follow.

use rootbuild_cache::Mtime;

use super::error::Refusal;
use super::header;

/// The records of extended headers; of several with one key the last counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Reads the data of an extended header. (The `tar` crate's reader isn't used: it takes every
    /// newline for the end of a record, and binary attributes have them anywhere.)
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, Refusal> {
        const BAD: Refusal = Refusal::Extended("a record isn't as long as it says");
        let mut records = Vec::new();
        while !data.is_empty() {
            let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or(BAD)?;
            let length =
                decimal(&data[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(BAD)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.ok_or(Refusal::Extended("a record has no value"))?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            data = &data[length..];
        }
        Ok(Self(records))
    }

    /// The value of `key`; an empty one takes back what was said before, and is none.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(found, _)| found == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Whether a key begins so.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with(prefix.as_bytes()))
    }

    /// Takes on what a later header says.
    pub(super) fn add(&mut self, later: Self) {
        for (key, value) in later.0 {
            self.0.retain(|(known, _)| *known != key);
            self.0.push((key, value));
        }
    }

    /// These records with those of one member, which count more.
    pub(super) fn with(&self, own: Self) -> Self {
        let mut all = self.0.clone();
        all.extend(own.0);
        Self(all)
    }

    pub(super) fn number(&self, key: &str, what: &'static str) -> Result<Option<u64>, Refusal> {
        self.get(key).map(|value| decimal(value).ok_or(Refusal::Number(what))).transpose()
    }

    /// A user or group id.
    pub(super) fn id(&self, key: &str, what: &'static str) -> Result<Option<u32>, Refusal> {
        let Some(number) = self.number(key, what)? else { return Ok(None) };
        header::id(i64::try_from(number).ok()).map(Some).ok_or(Refusal::Number(what))
    }

    pub(super) fn mtime(&self) -> Result<Option<Mtime>, Refusal> {
        self.get("mtime").map(|value| time(value).ok_or(Refusal::Number("time"))).transpose()
    }
}

/// A number in decimal digits, nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds with a fraction, maybe before the epoch; what is finer than a nanosecond is dropped.
fn time(text: &[u8]) -> Option<Mtime> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let mut nanoseconds = 0;
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + char::from(digit).to_digit(10)?;
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Mtime { seconds, nanoseconds },
        (true, 0) => Mtime { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Mtime { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_binary_and_the_last_of_a_key_counts() {
        let records = Records::parse(b"7 a=1\n\n8 a=2\n3\n10 b=\0\xff\n=\n5 c=\n").expect("well-formed");
        assert_eq!(records.get("a"), Some(&b"2\n3"[..]));
        assert_eq!(records.get("b"), Some(&b"\0\xff\n="[..]));
        assert_eq!(records.get("c"), None);
    }

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        for bad in [
            &b"6 a=1\n"[..],
            b"7 a=1\n",
            b"99 a=1\n",
            b"0 a=1\n",
            b"a=1\n",
            b"6 ab1\n",
            b" 6 a=1\n",
            b"18446744073709551617 a=1\n",
        ] {
            let refused = Records::parse(bad);
            let right = bad == b"6 a=1\n";
            assert_eq!(refused.is_ok(), right, "{bad:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let of = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(of("1350244992.023960108"), Some((1_350_244_992, 23_960_108)));
        assert_eq!(of("5"), Some((5, 0)));
        assert_eq!(of("5.1234567899"), Some((5, 123_456_789)));
        assert_eq!(of("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(of("-0.25"), Some((-1, 750_000_000)));
        assert_eq!(of("1.5x"), None);
        assert_eq!(of("."), None);
    }
}
