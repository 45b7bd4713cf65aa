//! BLAKE3 digests, and keys hashed from typed, length-prefixed fields.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3 digest, written `b3:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest from its 32 raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hex digits, without the `b3:` prefix: the form used in file names.
    #[must_use]
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first 12 hex digits: enough for a person, never for a machine.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.short())
    }
}

/// Text that is no digest: neither `b3:<64 hex digits>` nor the bare digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected `b3:` and 64 hex digits")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("b3:").unwrap_or(text);
        blake3::Hash::from_hex(hex)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| ParseDigestError(text.to_owned()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a key from named fields. Every name and value is length-prefixed (u64, little-endian), so
/// no two different sequences of fields hash the same bytes.
#[derive(Debug, Clone)]
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// Starts a key of the given kind; `version` is the step's semantic version, bumped when the
    /// step's effect changes.
    #[must_use]
    pub fn new(kind: &str, version: u32) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.bytes("kind", kind.as_bytes());
        hasher.number("version", u64::from(version));
        hasher
    }

    /// Adds a field of raw bytes.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a text field.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.bytes(name, value.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.bytes(name, &value.to_le_bytes())
    }

    /// Adds a digest.
    pub fn digest(&mut self, name: &str, value: &Digest) -> &mut Self {
        self.bytes(name, value.as_bytes())
    }

    /// Adds a list; its length is part of the key, its order too.
    pub fn list<T: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) -> &mut Self {
        let values: Vec<T> = values.into_iter().collect();
        self.number(name, values.len() as u64);
        for value in &values {
            self.bytes("", value.as_ref());
        }
        self
    }

    /// The key.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys lie in every store there is. If one of these changes, everybody's cache is lost.
    #[test]
    fn known_keys_never_change() {
        let mut key = KeyHasher::new("step", 3);
        assert_eq!(
            key.finish().to_string(),
            "b3:259ca38e77478b06c5da371ecc81543f0aa35451c3b0d4a8f10e08905f9d472e"
        );
        key.text("playbook", "site.yml").number("forks", 5).digest("parent", &Digest::of(b"parent"));
        key.bytes("raw", &[0, 255]).list("tags", ["a", "bc"]);
        assert_eq!(
            key.finish().to_string(),
            "b3:9989f3fb20b8927dd22c6fd8c9f6bf3a85659645a0de98ed8f2373d4c7bc64bc"
        );
        assert_eq!(
            Digest::of(b"").to_string(),
            "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn fields_cannot_be_confused_with_one_another() {
        let key = |add: &dyn Fn(&mut KeyHasher)| {
            let mut key = KeyHasher::new("step", 1);
            add(&mut key);
            key.finish()
        };
        let keys = [
            key(&|_| ()),
            key(&|key| _ = key.text("a", "")),
            key(&|key| _ = key.text("", "a")),
            key(&|key| _ = key.text("a", "b").text("c", "d")),
            key(&|key| _ = key.text("a", "bc").text("", "d")),
            key(&|key| _ = key.list("a", ["b", "c"])),
            key(&|key| _ = key.list("a", ["bc"])),
            key(&|key| _ = key.list("a", ["c", "b"])),
            key(&|key| _ = key.list("a", Vec::<&str>::new())),
            KeyHasher::new("step", 2).finish(),
            KeyHasher::new("steps", 1).finish(),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "key {at}");
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.hex().parse(), Ok(digest));
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        for wrong in
            ["", "b3:", "b3:12", &format!("b3:{}", "g".repeat(64)), &format!("b3:b3:{}", "0".repeat(64))]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
