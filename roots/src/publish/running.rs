//! Which generation of a root runs as units of this host: `<store>/running/<name>`, a link like that of the root.
//!
//! It is a link of its own, since what is handed over and what runs are two things: a provision changes the one and
//! touches no service, and who goes back to an older generation changes the other. What it leads to isn't
//! removed, and is what comes up at the host's next boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rootbuild_cache::{Store, durable};

use super::{Generation, Place, PublishError, Published, Wanted, failed, make_dir, now, parent, write};
use crate::wait::Wait;

impl Place {
    /// The link to what runs.
    fn running_link(&self) -> PathBuf {
        let store = parent(parent(&self.link));
        store.join("running").join(&self.name)
    }

    /// The number of the generation that runs, or is about to.
    pub(super) fn running(&self) -> Option<u64> {
        self.number_of(&fs::read_link(self.running_link()).ok()?)
    }
}

impl Published {
    /// The number of the checkout among those of its root.
    #[must_use]
    pub fn number(&self) -> u64 {
        let name = self.checkout.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse().ok()).unwrap_or(0)
    }

    /// The same generation, found by the link to what runs: units follow that one.
    #[must_use]
    pub fn to_run(mut self, store: &Store) -> Self {
        self.path = store.dir().join("running").join(&self.name);
        self
    }
}

/// The generation of the root `name` that runs, or would at the next boot; `None` where none was ever started.
///
/// # Errors
/// Its description can't be read.
pub fn running(store: &Store, name: &str) -> Result<Option<Published>, PublishError> {
    let place = Place::new(store, name)?;
    let Some(number) = place.running() else { return Ok(None) };
    Ok(place.generation(number)?.map(|generation| place.published(number, generation).to_run(store)))
}

/// The definition that the root `name` of the store belongs to, whether it still has it or not.
///
/// # Errors
/// Its description can't be read.
pub fn owner(store: &Store, name: &str) -> Result<Option<PathBuf>, PublishError> {
    Ok(Place::new(store, name)?.current()?.and_then(|(_, generation)| generation.definition))
}

/// The generation of the root `name` with this number, if it stands.
///
/// # Errors
/// Its description can't be read.
pub fn generation(store: &Store, name: &str, number: u64) -> Result<Option<Published>, PublishError> {
    let place = Place::new(store, name)?;
    Ok(place.generation(number)?.map(|generation| place.published(number, generation)))
}

/// Says that this generation is the one that runs from now on. Who starts it next gets it.
///
/// # Errors
/// The link can't be written.
pub fn run(store: &Store, published: &Published) -> Result<(), PublishError> {
    let place = Place::new(store, &published.name)?;
    let link = place.running_link();
    make_dir(parent(&link), 0o755)?;
    durable::sweep_beside(&link);
    let target = Path::new("..").join("checkouts").join(&place.name).join(published.number().to_string());
    Ok(durable::replace_symlink(&link, &target)?)
}

/// Says that nothing of the root `name` runs.
///
/// # Errors
/// The link can't be removed.
pub fn run_nothing(store: &Store, name: &str) -> Result<(), PublishError> {
    let link = Place::new(store, name)?.running_link();
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &link)(error)),
        _ => {
            // Goes with the last one.
            let _ = fs::remove_dir(parent(&link));
            Ok(())
        }
    }
}

/// A generation of the root `name` with this tree: one that stands, else one that is made now, beside the current
/// one, which stays as it is. It is kept only once it [runs](run).
///
/// # Errors
/// The tree isn't in the store any more, or can't be checked out.
pub fn stand<'a>(
    store: &Store,
    name: &str,
    wanted: &Wanted<'_>,
    wait: impl Into<Wait<'a>>,
) -> Result<Published, PublishError> {
    let (place, wait) = (Place::new(store, name)?, wait.into());
    let lock: Result<_, PublishError> =
        wait.lock(store, &format!("publish-{name}"), &format!("publishing {name}"));
    let _lock = lock?;
    let numbers = place.numbers()?;
    for number in numbers.iter().rev() {
        if let Some(generation) = place.generation(*number)?
            && generation.tree == *wanted.tree
            && generation.private() == wanted.private.cloned()
        {
            return Ok(place.published(*number, generation));
        }
    }
    let current = place.linked()?;
    let number = numbers.last().copied().max(current).unwrap_or(0) + 1;
    let areas =
        wanted.private.map(|it| it.paths().map(|it| String::from_utf8_lossy(it).into_owned()).collect());
    let definition = PathBuf::from(wanted.definition.to_string_lossy().into_owned());
    let generation = Generation {
        tree: *wanted.tree,
        created: now(),
        previous: None,
        definition: Some(definition),
        private: areas,
    };
    write(store, &place, number, &generation, (None, false), wait.cancel)?;
    Ok(place.published(number, generation))
}
