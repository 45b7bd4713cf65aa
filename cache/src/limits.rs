//! How much a root may hold before it is refused: so that no root, archive or program in a sandbox can fill
//! the disk, the memory or the rest of the day.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Names in a tree, directories and further names of files included.
    Entries,
    /// Directories within each other.
    Depth,
    /// Bytes of one path in a root.
    PathLength,
    /// Bytes of all paths, link targets and attributes of one tree together: what a tree is in memory.
    TreeSize,
    /// Bytes of all attributes of one file together.
    XattrSize,
    /// Bytes of one file, holes included.
    FileSize,
    /// Bytes of all files of a tree together, holes included.
    TotalSize,
    /// Members of an archive, extended headers included.
    ArchiveMembers,
    /// Bytes of all files in an archive together, holes included.
    ArchiveSize,
    /// How many times as large an archive may become when it is decompressed.
    ArchiveRatio,
}

/// A limit, its name, what it is by default, the most that it can be, and whether it counts bytes.
type About = (Limit, &'static str, u64, u64, bool);

/// What a tree's format can hold bounds the first four (`cache/FORMAT.md`).
const ALL: [About; 10] = [
    (Limit::Entries, "entries", 4_000_000, 1 << 24, false),
    (Limit::Depth, "depth", 4096, 4096, false),
    (Limit::PathLength, "path_length", 1 << 16, 1 << 16, true),
    (Limit::TreeSize, "tree_size", 1 << 30, 1 << 30, true),
    (Limit::XattrSize, "xattr_size", 256 << 10, 1 << 30, true),
    (Limit::FileSize, "file_size", 64 << 30, MOST, true),
    (Limit::TotalSize, "total_size", 256 << 30, MOST, true),
    (Limit::ArchiveMembers, "archive_members", 5_000_000, MOST, false),
    (Limit::ArchiveSize, "archive_size", 256 << 30, MOST, true),
    (Limit::ArchiveRatio, "archive_ratio", 1000, MOST, false),
];

/// The largest number that TOML and JSON can both write.
const MOST: u64 = 1 << 62;

impl Limit {
    /// All limits, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(|(limit, ..)| *limit)
    }

    /// The limit that a definition calls so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known, ..)| *known == name).map(|(limit, ..)| *limit)
    }

    fn about(self) -> &'static About {
        &ALL[self as usize]
    }

    /// Its name in a definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.about().1
    }

    /// What it is where nobody says anything.
    #[must_use]
    pub fn default_value(self) -> u64 {
        self.about().2
    }

    /// The most that it can be.
    #[must_use]
    pub fn most(self) -> u64 {
        self.about().3
    }

    /// Whether it counts bytes.
    #[must_use]
    pub fn is_bytes(self) -> bool {
        self.about().4
    }

    /// A value as people write it: a whole number, for bytes with `K`, `M`, `G` or `T` (1024, and so on).
    ///
    /// # Errors
    /// It isn't one, or more than this limit can be; what it should be instead.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let (digits, unit) = match text.char_indices().next_back() {
            Some((at, 'K' | 'k')) if self.is_bytes() => (&text[..at], 1 << 10),
            Some((at, 'M')) if self.is_bytes() => (&text[..at], 1 << 20),
            Some((at, 'G')) if self.is_bytes() => (&text[..at], 1 << 30),
            Some((at, 'T')) if self.is_bytes() => (&text[..at], 1 << 40),
            _ => (text, 1),
        };
        let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let value = number.and_then(|number| number.checked_mul(unit));
        value.filter(|value| (1..=self.most()).contains(value)).ok_or_else(|| self.expected())
    }

    /// What a value must be.
    #[must_use]
    pub fn expected(self) -> String {
        let most = self.shown(self.most());
        let unit = if self.is_bytes() { ", or one with `K`, `M`, `G` or `T`" } else { "" };
        format!("a whole number from 1 to {most}{unit}")
    }

    /// A value for people: `64G` where that is exact.
    #[must_use]
    pub fn shown(self, value: u64) -> String {
        let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
        let unit =
            units.iter().find(|(_, bits)| self.is_bytes() && value > 0 && value.is_multiple_of(1 << bits));
        match unit {
            Some((unit, bits)) => format!("{}{unit}", value >> bits),
            None => value.to_string(),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Entries => "names in the root",
            Self::Depth => "directories within each other",
            Self::PathLength => "bytes in the path",
            Self::TreeSize => "bytes of names, links and attributes in the root",
            Self::XattrSize => "bytes of attributes",
            Self::FileSize => "bytes in the file",
            Self::TotalSize => "bytes in all files of the root",
            Self::ArchiveMembers => "members in the archive",
            Self::ArchiveSize => "bytes in all files of the archive",
            Self::ArchiveRatio => "times the archive's size after decompression",
        }
    }
}

/// How much a root may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([u64; ALL.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(ALL.map(|(_, _, value, ..)| value))
    }
}

impl Limits {
    /// What a limit is.
    #[must_use]
    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// The same with another value for a limit; more than it can be is the most that it can be.
    #[must_use]
    pub fn with(mut self, limit: Limit, value: u64) -> Self {
        self.0[limit as usize] = value.min(limit.most());
        self
    }

    /// Fails if there is more than a limit allows. `place` is where, for people.
    ///
    /// # Errors
    /// There is.
    pub fn check(&self, limit: Limit, found: u64, place: impl FnOnce() -> String) -> Result<(), Exceeded> {
        let value = self.get(limit);
        if found <= value { Ok(()) } else { Err(Exceeded { limit, value, found, place: place() }) }
    }
}

/// There is more than a limit allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit.
    pub limit: Limit,
    /// What it is.
    pub value: u64,
    /// What was met; for sums, what they were when it was met.
    pub found: u64,
    /// Where, for people.
    pub place: String,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, found, place } = self;
        let (name, what) = (limit.name(), limit.what());
        let (value, found) = (limit.shown(*value), limit.shown(*found));
        write!(f, "`{place}`: {found} {what} are more than the limit `{name}` of {value}")
    }
}

impl std::error::Error for Exceeded {}

impl Exceeded {
    /// How to raise it.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self { limit, found, .. } = self;
        let name = limit.name();
        if *found > limit.most() {
            return format!("`{name}` can't be more than {}", limit.shown(limit.most()));
        }
        let (quote, value) = (if limit.is_bytes() { "\"" } else { "" }, limit.shown(*found));
        format!(
            "if that is right, say more in the definition, `[limits]` `{name} = {quote}{value}{quote}`, \
             or in the environment, ROOTBUILD_LIMITS={name}={value}"
        )
    }
}

/// Counts what is limited as a sum over a whole tree, from many threads.
#[derive(Debug, Default)]
pub struct Sums {
    entries: AtomicU64,
    tree: AtomicU64,
    total: AtomicU64,
}

impl Sums {
    /// Counts one name: the bytes of its path, link target and attributes, and of its content.
    ///
    /// # Errors
    /// It is more than a limit allows, by itself or with what was counted before.
    pub fn add(
        &self,
        limits: &Limits,
        (path, attributes, target): (u64, u64, u64),
        content: u64,
        place: impl Fn() -> String,
    ) -> Result<(), Exceeded> {
        let sum = |of: &AtomicU64, more: u64| of.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        limits.check(Limit::PathLength, path, &place)?;
        limits.check(Limit::XattrSize, attributes, &place)?;
        limits.check(Limit::FileSize, content, &place)?;
        limits.check(Limit::Entries, sum(&self.entries, 1), &place)?;
        limits.check(Limit::TreeSize, sum(&self.tree, path + attributes + target), &place)?;
        limits.check(Limit::TotalSize, sum(&self.total, content), &place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_stands_in_its_place_and_says_what_it_is() {
        for limit in Limit::all() {
            assert_eq!(limit.about().0, limit);
            assert_eq!(Limit::named(limit.name()), Some(limit));
            assert!(limit.default_value() <= limit.most());
            assert_eq!(limit.parse(&limit.shown(limit.default_value())), Ok(limit.default_value()));
        }
    }

    #[test]
    fn values_are_written_as_people_do() {
        assert_eq!(Limit::FileSize.parse("70G"), Ok(70 << 30));
        assert_eq!(Limit::Entries.parse("1000"), Ok(1000));
        for (limit, bad) in [
            (Limit::Entries, "1K"),
            (Limit::Entries, "16777217"),
            (Limit::FileSize, "-1"),
            (Limit::FileSize, "+1"),
            (Limit::FileSize, "G"),
            (Limit::FileSize, "99999999T"),
            (Limit::FileSize, "0"),
            (Limit::FileSize, ""),
        ] {
            assert!(limit.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_too_much_is_told_with_the_limit_and_how_to_raise_it() {
        let limits = Limits::default().with(Limit::FileSize, 1 << 20);
        let error = limits.check(Limit::FileSize, 3 << 20, || "/x".to_owned()).unwrap_err();
        insta::assert_snapshot!(
            format!("{error}\n{}", error.hint()),
            @r#"
        `/x`: 3M bytes in the file are more than the limit `file_size` of 1M
        if that is right, say more in the definition, `[limits]` `file_size = "3M"`, or in the environment, ROOTBUILD_LIMITS=file_size=3M
        "#
        );
        let sums = Sums::default();
        assert!(sums.add(&limits, (1, 1, 1), 1 << 20, String::new).is_ok());
        let most = limits.with(Limit::TotalSize, 1 << 20);
        assert_eq!(sums.add(&most, (1, 1, 1), 1, String::new).unwrap_err().limit, Limit::TotalSize);
    }
}
