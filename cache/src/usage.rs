//! How much room things take.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::{Add, AddAssign};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::Serialize;

/// How much room something takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Names of it that aren't directories.
    pub files: u64,
    /// The lengths of its files, in bytes.
    pub apparent: u64,
    /// What it takes of the file system, in bytes.
    pub disk: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            apparent: self.apparent + other.apparent,
            disk: self.disk + other.disk,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Inodes with several names that were counted: each counts once, where it is seen first.
#[derive(Debug, Default)]
pub struct Counted(Mutex<HashSet<(u64, u64)>>);

impl Counted {
    /// Whether it is counted here.
    fn is_new(&self, found: &fs::Metadata) -> bool {
        found.nlink() < 2
            || found.is_dir()
            || self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((found.dev(), found.ino()))
    }
}

impl Usage {
    /// What one name takes.
    #[must_use]
    pub fn of_file(found: &fs::Metadata) -> Self {
        let files = u64::from(!found.is_dir());
        Self { files, apparent: if found.is_dir() { 0 } else { found.len() }, disk: found.blocks() * 512 }
    }

    /// What a directory takes with all that is in it, or a file. Nothing where there is nothing; links aren't
    /// followed, and what vanishes meanwhile doesn't count.
    pub fn of(path: &Path, counted: &Counted) -> io::Result<Self> {
        let found = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let own = if counted.is_new(&found) { Self::of_file(&found) } else { Self::default() };
        if !found.is_dir() {
            return Ok(own);
        }
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(own),
            other => other?,
        };
        let mut total = own;
        let mut below = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below.push(entry.path());
            } else if let Ok(found) = entry.metadata()
                && counted.is_new(&found)
            {
                total += Self::of_file(&found);
            }
        }
        let inner: io::Result<Vec<Self>> = below.par_iter().map(|path| Self::of(path, counted)).collect();
        Ok(total + inner?.into_iter().sum())
    }
}
