//! Lower directories and failed roots, for who collects.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use rootbuild_cache::gc::{Class, Item, Need, Standing};
use rootbuild_cache::usage::{Counted, Usage};
use rootbuild_cache::{Digest, Store};

use super::lowers::{self, lower};
use super::{WorkingError, failed};

/// Bytes of a lower directory that are checked out in a second.
const CHECKED_OUT: f64 = 200e6;

/// What a failed root is worth: the time that it takes to fail again.
const FAILED_SECONDS: f64 = 60.0;

/// What failed roots need, and lower directories and failed roots as items. Looks, and does nothing.
pub fn holdings<'a>(store: &Store) -> Result<(Vec<Need>, Vec<Item<'a>>), WorkingError> {
    let mut needed: HashMap<String, String> = HashMap::new();
    let mut items = Vec::new();
    for path in list(&store.dir().join("failed"))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let parent = failed::read(&path).ok().flatten().and_then(|it| it.parent);
        let free = failed::lock(store, &name, "looking for what can go").is_ok();
        let standing = if free {
            Standing::Cached
        } else {
            let why = format!("failed root of `{name}`");
            let mut tree = parent;
            // What is missing is checked out again.
            while let Some(digest) = tree
                && needed.insert(digest.hex(), why.clone()).is_none()
            {
                tree = lower(&lowers::place(store, &digest)).map(|it| it.parent);
            }
            Standing::Needed("somebody looks around in it".to_owned())
        };
        let store = store.clone();
        items.push(Item {
            class: Class::Failed,
            name: format!("failed root of `{name}`"),
            trees: parent.into_iter().collect(),
            objects: Vec::new(),
            usage: Usage::of(&path, &Counted::default()).map_err(failed("look at", &path))?,
            last_used: modified(&path.join("failed.json")),
            seconds: FAILED_SECONDS,
            standing,
            remove: Box::new(move |trash| {
                let Ok(_lock) = failed::lock(&store, &name, "removing a failed root") else {
                    return Ok(false);
                };
                Ok(moved(&path, &trash.join("failed"))?)
            }),
        });
    }
    for path in list(&store.dir().join("lowers"))? {
        items.push(lower_item(store, path, &needed)?);
    }
    Ok((Vec::new(), items))
}

fn lower_item<'a>(
    store: &Store,
    path: PathBuf,
    needed: &HashMap<String, String>,
) -> Result<Item<'a>, WorkingError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let usage = Usage::of(&path, &Counted::default()).map_err(failed("look at", &path))?;
    let standing = match needed.get(&name) {
        Some(why) => Standing::Needed(why.clone()),
        None if lowers::lock(&path, FlockOperation::NonBlockingLockExclusive)?.is_none() => {
            Standing::Needed("a step stands on it".to_owned())
        }
        None => Standing::Cached,
    };
    let store = store.clone();
    #[expect(clippy::cast_precision_loss, reason = "nobody's disk is that large")]
    let seconds = usage.disk as f64 / CHECKED_OUT;
    Ok(Item {
        class: Class::Lowers,
        name: format!("lower directories of {}", name.get(..12).unwrap_or(&name)),
        trees: Vec::<Digest>::new(),
        objects: Vec::new(),
        usage,
        last_used: modified(&path),
        seconds,
        standing,
        remove: Box::new(move |trash| {
            // No failed root may be put away meanwhile, which would lose what it stands on.
            let Some(_putting) = store.try_lock(failed::LOCK, "removing unused lower directories")? else {
                return Ok(false);
            };
            let Some(_held) = lowers::lock(&path, FlockOperation::NonBlockingLockExclusive)? else {
                return Ok(false);
            };
            Ok(moved(&path, &trash.join("lower"))?)
        }),
    })
}

/// Renames; whether there was anything.
fn moved(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true),
    }
}

fn modified(path: &Path) -> SystemTime {
    let found = path.symlink_metadata().and_then(|it| it.modified());
    found.unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, WorkingError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", dir))?,
    };
    listed.map(|entry| Ok(entry.map_err(failed("read", dir))?.path())).collect()
}
