//! Which generations stand, for who collects: what they need, and those that may go.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;

use rootbuild_cache::gc::{Class, Item, ItemError, Need, Standing};
use rootbuild_cache::usage::{Counted, Usage};
use rootbuild_cache::{Error, Staging, Store};

use super::index::Index;
use super::place::{Locked, Place, lock, mounted_below};
use super::users::Watch;
use super::{PublishError, check_name, failed, index};

/// What standing generations need, and generations that may go, as items: all but the current one of each root and those
/// before it, `keep` in all. One that somebody uses stays, and is told as needed. Looks, and does nothing.
pub fn holdings<'a>(store: &Store, keep: usize) -> Result<(Vec<Need>, Vec<Item<'a>>), PublishError> {
    let (mut needs, mut items) = (Vec::new(), Vec::new());
    let watch = Arc::new(Watch::default());
    for name in names(store)? {
        let place = Place::new(store, &name)?;
        let (current, running) = (place.linked()?, place.running());
        let mut numbers = place.numbers()?;
        // The current one comes first, whatever numbers there are.
        numbers.sort_unstable_by_key(|number| (Some(*number) != current, std::cmp::Reverse(*number)));
        for (at, number) in numbers.into_iter().enumerate() {
            let generation = if is_away(&place, number)? {
                place.description(number)?
            } else {
                place.generation(number)?
            };
            if at < keep.max(1) || Some(number) == current || Some(number) == running {
                if generation.is_none() && place.json(number).exists() && place.checkout(number).is_dir() {
                    let what = "nobody can tell the tree of a generation that stands".to_owned();
                    return Err(Error::Damaged { what, path: place.json(number) }.into());
                }
                let why = format!("generation {number} of root `{name}`");
                needs.extend(generation.map(|it| Need { tree: it.tree, why }));
                continue;
            }
            items.push(item(store, &name, number, &watch)?);
        }
    }
    Ok((needs, items))
}

/// The names of all roots that were ever published.
fn names(store: &Store) -> Result<BTreeSet<String>, PublishError> {
    let mut names = BTreeSet::new();
    for dir in ["checkouts", "published"].map(|dir| store.dir().join(dir)) {
        let listed = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed("read", &dir))?,
        };
        for entry in listed {
            let name = entry.map_err(failed("read", &dir))?.file_name();
            names.extend(name.into_string().ok().filter(|name| check_name(name).is_ok()));
        }
    }
    Ok(names)
}

/// Whether the checkout of a generation became a spare one, or is just becoming another.
fn is_away(place: &Place, number: u64) -> Result<bool, PublishError> {
    let busy = || lock(&place.lock(number), FlockOperation::NonBlockingLockExclusive);
    Ok(place.spare(number).is_dir() || matches!(busy()?, Locked::Busy))
}

fn item<'a>(store: &Store, name: &str, number: u64, watch: &Arc<Watch>) -> Result<Item<'a>, PublishError> {
    let place = Place::new(store, name)?;
    let generation = place.generation(number)?;
    let checkout = place.checkout(number);
    let used = use_of(store, &place, number, watch)?;
    let mut usage = Usage::default();
    for dir in [&checkout, &place.spare(number)] {
        usage += Usage::of(dir, &Counted::default()).map_err(failed("look at", dir))?;
    }
    let told = place.json(number).metadata().and_then(|it| it.modified());
    let (store, name, watch) = (store.clone(), name.to_owned(), watch.clone());
    Ok(Item {
        class: Class::Checkouts,
        name: format!("generation {number} of root `{name}`"),
        trees: generation.iter().map(|it| it.tree).collect(),
        objects: Vec::new(),
        usage,
        last_used: told.unwrap_or(std::time::SystemTime::UNIX_EPOCH),
        seconds: 0.0,
        standing: match used {
            Some(why) => Standing::Needed(why),
            None => Standing::Useless("there are newer generations".to_owned()),
        },
        remove: Box::new(move |trash| {
            // Nobody waits until what lay elsewhere is deleted.
            let mut elsewhere = None;
            remove(&store, &name, number, &watch, trash, &mut elsewhere)
        }),
    })
}

/// Who uses a generation, in words; `None` where nobody does.
fn use_of(store: &Store, place: &Place, number: u64, watch: &Watch) -> Result<Option<String>, PublishError> {
    let checkout = place.checkout(number);
    if let Locked::Busy = lock(&place.lock(number), FlockOperation::NonBlockingLockExclusive)? {
        return Ok(Some("somebody works in it".to_owned()));
    }
    if mounted_below(&checkout) {
        return Ok(Some("something is mounted there".to_owned()));
    }
    if checkout.symlink_metadata().is_err() {
        return Ok(None);
    }
    let inodes = match Index::read(&place.index(number)) {
        Some(index) => index.inodes(),
        None => {
            let Some(generation) = place.generation(number)? else { return Ok(None) };
            let Ok(tree) = store.tree(&generation.tree) else {
                return Ok(Some("its tree can't be read, so who uses it can't be told".to_owned()));
            };
            let stats = index::stats(&checkout, &tree).map_err(failed("look at", &checkout))?;
            stats.iter().flatten().map(|it| it.id.1).collect()
        }
    };
    Ok(watch.uses(&checkout, &inodes).then(|| "processes use it".to_owned()))
}

/// Moves a generation away, unless somebody uses or publishes it; whether it did. Where `checkouts/` is another mount
/// than `trash`, its directory goes to `elsewhere`, and is deleted when that is dropped.
fn remove(
    store: &Store,
    name: &str,
    number: u64,
    watch: &Watch,
    trash: &Path,
    elsewhere: &mut Option<Staging>,
) -> Result<bool, ItemError> {
    let place = Place::new(store, name)?;
    let Some(_publishing) = store.try_lock(&format!("publish-{name}"), "removing old generations")? else {
        return Ok(false);
    };
    let stays = place.linked()? == Some(number) || place.running() == Some(number);
    if stays || use_of(store, &place, number, watch)?.is_some() {
        return Ok(false);
    }
    let lock_file = place.lock(number);
    let _held = match lock(&lock_file, FlockOperation::NonBlockingLockExclusive)? {
        Locked::Busy => return Ok(false),
        Locked::Held(file) => Some(file),
        Locked::Missing => None,
    };
    // The directories first: while the others are there, they will be found again.
    for from in
        [place.checkout(number), place.spare(number), place.json(number), place.index(number), lock_file]
    {
        let to = trash.join(from.file_name().unwrap_or_default());
        let moved = match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let trash = match &*elsewhere {
                    Some(trash) => trash,
                    None => elsewhere.insert(store.checkout_trash("old-generations")?),
                };
                fs::rename(&from, trash.path().join(from.file_name().unwrap_or_default()))
            }
            done => done,
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(true)
}
