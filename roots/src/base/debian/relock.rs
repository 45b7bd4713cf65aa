//! Writing a lock anew: packages stay what they are as far as the definition and the archive permit it, unless they
//! were asked to move.

use super::super::relock::{LockState, Relocked, Update, names, unnamed};
use super::super::{BaseContext, BaseError};
use super::lock::Lock;
use super::resolve::{self, Pins};
use super::{DebianBase, Keys, stale, tools};

impl DebianBase {
    /// How the lock stands to the definition. Needs neither network nor tools nor privileges.
    ///
    /// # Errors
    /// A file that is named is wrong.
    pub fn lock_state(&self) -> Result<LockState, BaseError> {
        self.inputs_check()?;
        let Some(path) = &self.lock else { return Ok(LockState::Unnamed) };
        let Some((lock, _)) = Lock::read(path)? else { return Ok(LockState::Missing) };
        let found = stale::stale(&lock, path, self);
        Ok(if found.is_empty() { LockState::Current } else { LockState::Stale(found) })
    }

    /// The names of the packages that are locked, sorted; none where there is no lock.
    ///
    /// # Errors
    /// The lock can't be read.
    pub fn locked_names(&self) -> Result<Vec<String>, BaseError> {
        let lock = self.lock.as_deref().map(Lock::read).transpose()?.flatten();
        Ok(names(lock.iter().flat_map(|(lock, _)| lock.listed())))
    }

    /// Writes the lock where there is none, where it doesn't answer the definition, or where packages are to
    /// move. Nothing is installed. The file is replaced as a whole or left as it is.
    ///
    /// # Errors
    /// No lock is named; the definition or a file of it is wrong; tools are missing; the archive can't be
    /// read, or has no such packages.
    pub fn relock(&self, context: BaseContext<'_>, update: &Update) -> Result<Relocked, BaseError> {
        let Some(path) = &self.lock else {
            return Err(unnamed(&self.name, self.written.lock_place(&self.written.file)));
        };
        self.inputs_check()?;
        tools()?;
        let before = update.before(Lock::read(path))?.map(|(lock, _)| lock);
        let notes = before.as_ref().map(|lock| stale::stale(lock, path, self)).unwrap_or_default();
        if let (Some(lock), Update::Nothing, true) = (&before, update, notes.is_empty()) {
            return Ok(Relocked::unchanged(path, lock.packages.len()));
        }
        self.needs_network(context)?;
        let pins = update.pins(before.as_ref()).map(|(lock, update)| Pins { lock, update });
        let keys = Keys::new(context.scratch)?;
        let layout = keys.layout(context.scratch, context.scratch);
        let resolve::Resolution { lock, held } = resolve::resolve(context, self, &layout, pins)?;
        let before = before.as_ref().map(|before| (before.is_as(&lock), before.listed().collect()));
        Relocked::write(path, &lock, &lock.listed().collect::<Vec<_>>(), before, held, notes)
    }

    /// What is wrong with the definition, or a file that it names.
    fn inputs_check(&self) -> Result<(), BaseError> {
        self.check_names()?;
        self.keyring_digests().map(|_| ())
    }
}
