//! Installed toolchains, for who collects.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use rootbuild_cache::Store;
use rootbuild_cache::gc::{Class, Item, Standing};
use rootbuild_cache::usage::{Counted, Usage};

/// How long it takes to install one, in seconds.
const INSTALL: f64 = 60.0;

/// Installed toolchains as items. `busy`: whether commands run that may use one: then none goes.
pub fn holdings<'a>(store: &Store, busy: bool) -> io::Result<Vec<Item<'a>>> {
    let home = store.dir().join("toolchains");
    let listed = match fs::read_dir(&home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut items = Vec::new();
    for entry in listed {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("ansible-core-") {
            continue;
        }
        let path = entry.path();
        // The interpreter reads it each time that it starts.
        let stamps = ["pyvenv.cfg", "."].map(|file| fs::metadata(path.join(file)));
        let used = stamps.iter().flatten().map(|it| it.atime().max(it.mtime())).max().unwrap_or_default();
        items.push(Item {
            class: Class::Toolchains,
            name: name.clone(),
            trees: Vec::new(),
            objects: Vec::new(),
            usage: Usage::of(&path, &Counted::default())?,
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(used).unwrap_or_default()),
            seconds: INSTALL,
            standing: if busy {
                Standing::Needed("commands run that may use it".to_owned())
            } else {
                Standing::Cached
            },
            remove: Box::new(move |trash| match fs::rename(&path, trash.join("toolchain")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                done => Ok(done.map(|()| true)?),
            }),
        });
    }
    Ok(items)
}
