//! Writing a lock anew: packages stay what they are as far as the definition permits it, unless they
//! were asked to move.

use super::super::relock::{LockState, Relocked, Update, names, unnamed};
use super::super::{BaseContext, BaseError};
use super::lock::Lock;
use super::{RpmBase, TOOLS, keys, resolve, stale, warnings};
use crate::process;
use crate::progress::StepEvent;

impl RpmBase {
    /// How the lock stands to the definition. Without a `context` that needs neither network nor tools nor
    /// privileges; with one, keys that lie on this host are looked at too.
    ///
    /// # Errors
    /// A file that is named is wrong; with `context` also: gpg is missing or fails.
    pub fn lock_state(&self, context: Option<BaseContext<'_>>) -> Result<LockState, BaseError> {
        let Some(path) = &self.lock else { return Ok(LockState::Unnamed) };
        let (repos, _) = self.repos()?;
        let Some((lock, _)) = Lock::read(path)? else { return Ok(LockState::Missing) };
        let mut found = stale::stale(&lock, path, self, &repos);
        if let Some(context) = context {
            tools(&["gpg", "setpriv"])?;
            found.extend(stale::stale_key_files(context, &lock, &repos)?);
        }
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
    /// No lock is named; the definition or a file of it is wrong; tools are missing; repositories can't be
    /// read, or have no such packages.
    pub fn relock(&self, context: BaseContext<'_>, update: &Update) -> Result<Relocked, BaseError> {
        let Some(path) = &self.lock else {
            return Err(unnamed(&self.written.name, self.written.lock_place(&self.written.file)));
        };
        let (repos, _) = self.repos()?;
        for warning in warnings(&repos) {
            (context.sink)(StepEvent::Warning(warning));
        }
        tools(&["gpg", "python3", "setpriv"])?;
        let before = update.before(Lock::read(path))?.map(|(lock, _)| lock);
        if let (Some(lock), Update::Nothing) = (&before, update)
            && stale::stale(lock, path, self, &repos).is_empty()
            && stale::stale_key_files(context, lock, &repos)?.is_empty()
        {
            return Ok(Relocked::unchanged(path, lock.packages.len()));
        }
        let mut notes = Vec::new();
        if let Some(lock) = &before {
            notes.extend(stale::stale(lock, path, self, &repos));
        }
        let trusted = keys::fetch_all(context, repos, &[])?;
        if let Some(lock) = &before {
            notes.extend(stale::stale_keys(lock, &trusted));
        }
        (context.sink)(StepEvent::Phase("resolving packages".to_owned()));
        let (resolution, held) = resolve::resolve(context, self, &trusted, update.pins(before.as_ref()))?;
        let lock = Lock::new(self, &trusted, &resolution);
        let before = before.as_ref().map(|before| (before.is_as(&lock), before.listed().collect()));
        Relocked::write(path, &lock, &lock.listed().collect::<Vec<_>>(), before, held, notes)
    }
}

/// An error unless the host has these tools.
fn tools(needed: &[&str]) -> Result<(), BaseError> {
    for (program, package) in TOOLS {
        if needed.contains(&program) && !process::is_installed(program) {
            return Err(BaseError::Tool { program, package });
        }
    }
    Ok(())
}
