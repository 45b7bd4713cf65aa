//! What repairs moved away, for who collects: it stays for a while, and then it goes.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::gc::{Class, Item, Standing, names};
use crate::store::Store;
use crate::usage::{Counted, Usage};

/// How long people have to look into what a repair moved away.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Each repair's directory as an item: needed for [`KEPT`], whatever the policy, and of no use afterwards.
pub fn items<'a>(store: &Store) -> Result<Vec<Item<'a>>> {
    let home = store.dir().join("quarantine");
    let now = SystemTime::now();
    let mut items = Vec::new();
    for name in names(&home)? {
        let path = home.join(&name);
        let moved = match path.symlink_metadata().and_then(|found| found.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::io("look at", &path))?,
        };
        let age = now.duration_since(moved).unwrap_or_default();
        let days = |time: Duration| time.as_secs() / (24 * 3600);
        items.push(Item {
            class: Class::Quarantine,
            name: format!("`quarantine/{name}`"),
            trees: Vec::new(),
            objects: Vec::new(),
            usage: Usage::of(&path, &Counted::default()).map_err(Error::io("look at", &path))?,
            last_used: moved,
            seconds: 0.0,
            standing: if age > KEPT {
                Standing::Useless(format!("a repair moved it there more than {} days ago", days(KEPT)))
            } else {
                Standing::Needed(format!(
                    "a repair moved it there: it goes in {} days, or when you remove it",
                    days(KEPT - age) + 1
                ))
            },
            remove: Box::new(move |trash| match fs::rename(&path, trash.join("quarantine")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                done => Ok(done.map(|()| true)?),
            }),
        });
    }
    Ok(items)
}
