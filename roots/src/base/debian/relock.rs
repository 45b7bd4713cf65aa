//! Writing a lock anew: packages stay what they are as far as the definition and the archive permit it, unless they
//! were asked to move.

use super::super::rpm::relock::{changes, unchanged};
use super::super::rpm::{LockState, LockWritten, Relocked, Update};
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
        let mut names: Vec<String> =
            lock.into_iter().flat_map(|(lock, _)| lock.packages).map(|package| package.name).collect();
        names.dedup();
        Ok(names)
    }

    /// Writes the lock where there is none, where it doesn't answer the definition, or where packages are to
    /// move. Nothing is installed. The file is replaced as a whole or left as it is.
    ///
    /// # Errors
    /// No lock is named; the definition or a file of it is wrong; tools are missing; the archive can't be
    /// read, or has no such packages.
    pub fn relock(&self, context: BaseContext<'_>, update: &Update) -> Result<Relocked, BaseError> {
        let Some(path) = &self.lock else {
            return Err(BaseError::Definition {
                place: self.written.lock_place(&self.written.file),
                message: format!("the base `{}` names no lock file", self.name),
                hint: Some(format!("add `lock = \"{0}.lock\"` to `[base.{0}]`", self.name)),
            });
        };
        self.inputs_check()?;
        tools()?;
        let before = match (Lock::read(path), update) {
            (Ok(found), _) => found.map(|(lock, _)| lock),
            // What can't be read is replaced only by who wants all anew.
            (Err(_), Update::All) => None,
            (Err(error), _) => return Err(error),
        };
        let notes = before.as_ref().map(|lock| stale::stale(lock, path, self)).unwrap_or_default();
        if let (Some(lock), Update::Nothing, true) = (&before, update, notes.is_empty()) {
            return Ok(unchanged(path.clone(), lock.packages.len()));
        }
        self.needs_network(context)?;
        let pins = match update {
            Update::All => None,
            Update::Nothing => before.as_ref().map(|lock| Pins { lock, update: &[] }),
            Update::Names(names) => before.as_ref().map(|lock| Pins { lock, update: names }),
        };
        let keys = Keys::new(context.scratch)?;
        let layout = keys.layout(context.scratch, context.scratch);
        let resolve::Resolution { lock, held } = resolve::resolve(context, self, &layout, pins)?;
        let written = match &before {
            None => LockWritten::New,
            Some(before) if before.is_as(&lock) => {
                return Ok(Relocked { held, ..unchanged(path.clone(), lock.packages.len()) });
            }
            Some(_) => LockWritten::Changed,
        };
        lock.write(path)?;
        let as_rpm = |lock: &Lock| lock.packages.iter().map(super::lock::Package::as_rpm).collect::<Vec<_>>();
        let old = before.as_ref().map(as_rpm).unwrap_or_default();
        Ok(Relocked {
            path: path.clone(),
            written,
            packages: lock.packages.len(),
            changes: changes(&old, &as_rpm(&lock)),
            held,
            notes: notes.into_iter().map(|stale| stale.message).collect(),
        })
    }

    /// What is wrong with the definition, or a file that it names.
    fn inputs_check(&self) -> Result<(), BaseError> {
        self.check_names()?;
        self.keyring_digests().map(|_| ())
    }
}
