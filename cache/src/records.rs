//! Records in the store: `layers/xx/<62 hex of the key>/<n>.json`, the highest `n` newest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Error, Result};
use crate::gc::digests as gc_digests;
use crate::layer::{LayerKey, Record};
use crate::lease::Gate;
use crate::objects::by_digest;
use crate::store::{Store, make_directory};

/// The version of the record format that this crate reads and writes.
pub const RECORD_VERSION: u32 = 1;

/// Records kept under one key; the oldest go first.
pub const MAX_RECORDS: usize = 32;

/// How often a record's file is stamped at most.
const STAMPED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A record's file. Fields that are unknown here are ignored: those that change what the others
/// mean come with a new schema version.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    key: LayerKey,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Read {
    key: LayerKey,
    record: Record,
}

/// What tells which of the two above to expect.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

/// Why a record's file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("its schema is {0}, known is {RECORD_VERSION}")]
    Schema(u32),
    #[error("it is the record of another key")]
    Key,
}

impl Store {
    /// The records under a layer's key, newest first. A record that can't be read is passed over.
    pub fn records(&self, key: &LayerKey) -> Result<Vec<Record>> {
        Ok(self.numbered_records(key)?.into_iter().map(|(_, record)| record).collect())
    }

    /// Adds a record (durable when this returns); it replaces an older one with equal inputs. No more
    /// than [`MAX_RECORDS`] are kept under one key.
    pub fn add_record(&self, key: &LayerKey, record: &Record) -> Result<()> {
        self.writable()?;
        let dir = self.records_dir(key);
        let fan = durable::parent(&dir);
        if make_directory(fan, 0o755)? {
            durable::fsync_dir(durable::parent(fan))?;
        }
        let file = Written { schema: RECORD_VERSION, key: *key, record };
        let mut bytes =
            serde_json::to_vec_pretty(&file).map_err(|error| Error::io("write", &dir)(error.into()))?;
        bytes.push(b'\n');
        // Nobody takes the directory away, nor what the facts name.
        let _gate = Gate::shared(self)?;
        for digest in gc_digests(&record.facts) {
            // Not each is that of an object.
            let _ = self.secure([&digest]);
        }
        let older = self.numbered_records(key)?;
        let mut number = numbers(&dir)?.first().map_or(1, |newest| newest.saturating_add(1));
        loop {
            match self.publish(&bytes, &record_path(&dir, number), false) {
                // Somebody else adds one at the same time; both stay.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => number += 1,
                other => break other?,
            }
        }
        // Only now that the new one is there: a crash leaves one too many, never none.
        let equal = older.iter().filter(|(_, old)| old.inputs == record.inputs).map(|(n, _)| *n);
        let surplus = older.iter().filter(|(_, old)| old.inputs != record.inputs).skip(MAX_RECORDS - 1);
        for number in equal.chain(surplus.map(|(n, _)| *n)) {
            let path = record_path(&dir, number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that a record was of use, so that it isn't the first to be collected: its file's time says so,
    /// and changes at most once a day. That it can't be noted is no error.
    pub fn record_was_used(&self, key: &LayerKey, record: &Record) {
        if self.writable().is_err() {
            return;
        }
        let dir = self.records_dir(key);
        for number in numbers(&dir).unwrap_or_default() {
            let path = record_path(&dir, number);
            let Ok(file) = fs::File::open(&path) else { continue };
            let age = file.metadata().and_then(|it| it.modified()).ok().and_then(|it| it.elapsed().ok());
            if age.is_some_and(|age| age < STAMPED_EVERY) {
                continue;
            }
            if read(&path, key).is_ok_and(|it| it == *record) {
                let _ = file.set_modified(std::time::SystemTime::now());
                return;
            }
        }
    }

    fn records_dir(&self, key: &LayerKey) -> PathBuf {
        by_digest(&self.dir().join("layers"), &key.0)
    }

    /// The usable records of a key with their numbers, newest first.
    fn numbered_records(&self, key: &LayerKey) -> Result<Vec<(u64, Record)>> {
        let dir = self.records_dir(key);
        let mut records = Vec::new();
        for number in numbers(&dir)? {
            let path = record_path(&dir, number);
            match read(&path, key) {
                Ok(record) => records.push((number, record)),
                // Replaced between the listing and now.
                Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "passed over a record"),
            }
        }
        Ok(records)
    }
}

fn record_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.json"))
}

pub(crate) fn read(path: &Path, key: &LayerKey) -> Result<Record, Unusable> {
    let bytes = fs::read(path)?;
    let Schema { schema } = serde_json::from_slice(&bytes)?;
    if schema != RECORD_VERSION {
        return Err(Unusable::Schema(schema));
    }
    let read: Read = serde_json::from_slice(&bytes)?;
    if read.key != *key {
        return Err(Unusable::Key);
    }
    Ok(read.record)
}

/// Reads what may be a record; what is one stays the same when it is written and read again.
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(Schema { schema: RECORD_VERSION }) = serde_json::from_slice(data) else { return };
    let Ok(Read { key, record }) = serde_json::from_slice(data) else { return };
    let written = serde_json::to_vec(&Written { schema: RECORD_VERSION, key, record: &record });
    let again: Option<Read> = written.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let again = again.map(|it| (it.key, it.record));
    // Numbers with a fraction may come back as their neighbours.
    let same = |(again_key, again): &(LayerKey, Record)| {
        (*again_key, again.tree, &again.inputs, &again.created)
            == (key, record.tree, &record.inputs, &record.created)
    };
    assert!(again.as_ref().is_some_and(same));
}

/// The numbers of the records in `dir`, highest first; none where there is no such directory.
pub(crate) fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("read", dir))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

#[cfg(test)]
pub(crate) mod tests;
