//! Downloads, for who collects.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rootbuild_cache::gc::{Class, Item, Standing};
use rootbuild_cache::usage::Usage;
use rootbuild_cache::{Error, Store};

/// Bytes that are downloaded in a second.
const DOWNLOADED: f64 = 5e6;

/// Downloads as items. `busy`: whether commands run that may count on what they have found: then none goes.
pub fn holdings<'a>(store: &Store, busy: bool) -> Result<Vec<Item<'a>>, Error> {
    let mut items = Vec::new();
    let mut dirs = vec![store.dir().join("packages")];
    while let Some(dir) = dirs.pop() {
        let listed = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("read", &dir))?,
        };
        for entry in listed {
            let entry = entry.map_err(Error::io("read", &dir))?;
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) if found.is_file() => items.push(item(entry.path(), &found, busy)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &entry.path())(error)),
            }
        }
    }
    Ok(items)
}

fn item<'a>(path: PathBuf, found: &fs::Metadata, busy: bool) -> Item<'a> {
    let usage = Usage::of_file(found);
    #[expect(clippy::cast_precision_loss, reason = "nobody's disk is that large")]
    let seconds = 0.1 + usage.apparent as f64 / DOWNLOADED;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Item {
        class: Class::Packages,
        name: format!("download {}", name.get(..12).unwrap_or(&name)),
        trees: Vec::new(),
        objects: Vec::new(),
        usage,
        last_used: last_read(found),
        seconds,
        standing: if busy {
            Standing::Needed("commands run that may use it".to_owned())
        } else {
            Standing::Cached
        },
        remove: Box::new(move |trash| Ok(moved(&path, trash)?)),
    }
}

/// When a file was read or written last, as far as the file system tells: where it doesn't note reads, when it was
/// written.
fn last_read(found: &fs::Metadata) -> SystemTime {
    let seconds = u64::try_from(found.atime().max(found.mtime())).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn moved(from: &Path, trash: &Path) -> io::Result<bool> {
    match fs::rename(from, trash.join("download")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true),
    }
}
