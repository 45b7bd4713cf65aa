//! Room on the store's file system, and how much of it has to stay free.
//!
//! A store that fills its file system takes what shares it along: databases, logs, the machine. So what would
//! write into a store asks first, and while it works, whether the rest is still above the floor.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::store::Store;

/// How much of a file system has to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// So many thousandths of its size.
    Share(u16),
    /// So many bytes.
    Bytes(u64),
}

impl Default for Floor {
    /// 3 %.
    fn default() -> Self {
        Self::Share(30)
    }
}

impl Floor {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Share(thousandths) => total / 1000 * u64::from(thousandths),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// As one number: bytes are even, shares odd.
    fn packed(self) -> u64 {
        match self {
            Self::Share(thousandths) => u64::from(thousandths) << 1 | 1,
            Self::Bytes(bytes) => bytes.min(u64::MAX >> 1) << 1,
        }
    }

    fn unpacked(packed: u64) -> Self {
        match u16::try_from(packed >> 1) {
            Ok(thousandths) if packed & 1 == 1 => Self::Share(thousandths),
            _ => Self::Bytes(packed >> 1),
        }
    }
}

/// What is no [`Floor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a share like `3%` nor a size like `2G`")]
pub struct InvalidFloor {
    /// What was given.
    pub text: String,
}

impl FromStr for Floor {
    type Err = InvalidFloor;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidFloor> {
        let invalid = || InvalidFloor { text: text.to_owned() };
        if let Some(share) = text.trim().strip_suffix('%') {
            let (whole, tenth) = share.trim().split_once('.').unwrap_or((share.trim(), "0"));
            let (whole, tenth): (u16, u16) =
                (whole.parse().map_err(|_| invalid())?, tenth.parse().map_err(|_| invalid())?);
            let thousandths = whole.checked_mul(10).and_then(|it| it.checked_add(tenth));
            return match thousandths {
                Some(thousandths) if tenth < 10 && thousandths <= 1000 => Ok(Self::Share(thousandths)),
                _ => Err(invalid()),
            };
        }
        let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match text.trim()[digits.len()..].trim() {
            "" | "B" => 1,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(factor).map(Self::Bytes).ok_or_else(invalid)
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(thousandths) if thousandths % 10 == 0 => write!(f, "{} %", thousandths / 10),
            Self::Share(thousandths) => write!(f, "{}.{} %", thousandths / 10, thousandths % 10),
            Self::Bytes(bytes) => f.write_str(&size(*bytes)),
        }
    }
}

/// A size for people, with the unit that makes it a small number.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = bytes / (unit / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// What a store does about its floor.
#[derive(Debug)]
pub(crate) struct Guard {
    floor: AtomicU64,
    writes: AtomicBool,
}

impl Default for Guard {
    fn default() -> Self {
        Self { floor: AtomicU64::new(Floor::Bytes(0).packed()), writes: AtomicBool::new(false) }
    }
}

impl Store {
    /// From now on nothing is begun in this store, through it or its clones, once less than this is free. At first
    /// that is nothing.
    pub fn keep_free(&self, floor: Floor) {
        self.guard().floor.store(floor.packed(), Ordering::Relaxed);
    }

    /// Whether anything that needs room was begun since the store was opened.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.guard().writes.load(Ordering::Relaxed)
    }

    /// An error once less is free than has to be: [`Error::NoRoom`].
    pub fn check_room(&self) -> Result<()> {
        let floor = Floor::unpacked(self.guard().floor.load(Ordering::Relaxed));
        if floor == Floor::Bytes(0) {
            return Ok(());
        }
        // Checkouts may have a file system of their own.
        for path in [self.dir().to_owned(), self.dir().join("checkouts")] {
            let stat =
                rustix::fs::statvfs(&path).map_err(|error| Error::io("look at", &path)(error.into()))?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let least = floor.of(stat.f_blocks.saturating_mul(stat.f_frsize));
            if free < least {
                return Err(Error::NoRoom { path, free, least, floor });
            }
        }
        Ok(())
    }

    /// Something that needs room is about to begin.
    pub(crate) fn begin_writing(&self) -> Result<()> {
        self.guard().writes.store(true, Ordering::Relaxed);
        self.check_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_shares_or_sizes() {
        for (text, floor) in [
            ("3%", Floor::Share(30)),
            ("2.5 %", Floor::Share(25)),
            ("100%", Floor::Share(1000)),
            ("0", Floor::Bytes(0)),
            ("2G", Floor::Bytes(2 << 30)),
            ("512 MiB", Floor::Bytes(512 << 20)),
        ] {
            assert_eq!(text.parse(), Ok(floor), "{text}");
            assert_eq!(Floor::unpacked(floor.packed()), floor);
        }
        for text in ["", "%", "-1", "101%", "1.23%", "3 percent", "99999999999T", "G", "1.5G"] {
            assert!(text.parse::<Floor>().is_err(), "{text}");
        }
    }

    #[test]
    fn below_the_floor_nothing_is_begun_and_the_error_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        assert!(!store.writes());
        store.keep_free(Floor::Bytes(u64::MAX >> 1));
        let Err(Error::NoRoom { path, free, least, .. }) = store.staging("work") else { panic!("it began") };
        assert_eq!(path, store.dir());
        assert!(free < least && store.writes());
        // What makes room, or needs none, goes on.
        store.trash("work").unwrap();
        store.keep_free(Floor::Bytes(0));
        store.staging("work").unwrap();
    }
}
