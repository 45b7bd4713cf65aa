//! sqlite databases of package managers: times are made equal, then the file is written anew.
//!
//! The database comes from a root and may be hostile: it is opened as a copy, its schema isn't trusted, and
//! the work has a limit.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::header;

/// Steps of sqlite's virtual machine after which a database is left as it is; a hundred times what the
/// largest ones take.
const MOST_STEPS: u32 = 2_000_000_000;

/// How many of them pass between two looks at their number.
const STEPS: i32 = 1_000_000;

/// Fields of the file's header that count writes: the change counter, the schema cookie, and what the change
/// counter was when the size was written (<https://www.sqlite.org/fileformat.html#the_database_header>).
const COUNTERS: [usize; 3] = [24, 40, 92];

/// rpm's database: packages installed when they were built, in one transaction.
pub(super) fn rpm(content: &[u8], wal: Option<&[u8]>) -> Option<Vec<u8>> {
    rewritten(content, wal, |database| {
        let mut rows: Vec<(i64, Vec<u8>)> = Vec::new();
        {
            let mut select = database.prepare("SELECT hnum, blob FROM Packages")?;
            let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            for row in found {
                rows.push(row?);
            }
        }
        let mut update = database.prepare("UPDATE Packages SET blob = ?2 WHERE hnum = ?1")?;
        for (number, mut blob) in rows {
            for (at, new) in header::changes(&blob) {
                blob[at..at + 4].copy_from_slice(&new);
            }
            update.execute((number, blob))?;
        }
        database.execute("UPDATE Installtid SET key = ?1", [header::TRANSACTION])?;
        Ok(())
    })
}

/// dnf's history: the n-th transaction was n seconds after the epoch.
pub(super) fn dnf(content: &[u8], wal: Option<&[u8]>) -> Option<Vec<u8>> {
    rewritten(content, wal, |database| {
        database.execute("UPDATE trans SET dt_begin = id, dt_end = id", []).map(drop)
    })
}

/// The database after `change`, as one file.
fn rewritten(
    content: &[u8],
    wal: Option<&[u8]>,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Option<Vec<u8>> {
    if !content.starts_with(b"SQLite format 3\0") {
        return None;
    }
    let dir = tempfile::Builder::new().prefix("rootbuild-").tempdir().ok()?;
    let path = dir.path().join("db");
    fs::write(&path, content).ok()?;
    if let Some(wal) = wal {
        fs::write(dir.path().join("db-wal"), wal).ok()?;
    }
    let done = rewrite(&path, change);
    if let Err(error) = done {
        tracing::debug!(%error, "a root's database is left as it is");
        return None;
    }
    let mut made = fs::read(&path).ok()?;
    for at in COUNTERS {
        made.get_mut(at..at + 4)?.copy_from_slice(&1u32.to_be_bytes());
    }
    Some(made)
}

fn rewrite(path: &Path, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let mut steps = 0u32;
    database.progress_handler(
        STEPS,
        Some(move || {
            steps = steps.saturating_add(STEPS.unsigned_abs());
            steps > MOST_STEPS
        }),
    );
    database.pragma_update(None, "synchronous", "OFF")?;
    database.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    database.execute_batch("BEGIN")?;
    change(&database)?;
    database.execute_batch("COMMIT; VACUUM")?;
    database.close().map_err(|(_, error)| error)
}
