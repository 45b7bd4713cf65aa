//! How to wait for what another process holds.

use std::fmt;
use std::time::Duration;

use rootbuild_cache::{Holder, Lock, Store};

use crate::cancel::Cancel;

/// How to wait for what another process holds. From a [`Cancel`] alone: for ever, and nobody is told.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// How long; `None`: for ever. Afterwards [`rootbuild_cache::Error::LockTimeout`] names the holder.
    pub timeout: Option<Duration>,
    /// Told once who holds it, before waiting begins.
    pub told: &'a (dyn Fn(&Holder) + Sync),
    /// Ends the waiting, and the work.
    pub cancel: &'a Cancel,
}

impl<'a> From<&'a Cancel> for Wait<'a> {
    fn from(cancel: &'a Cancel) -> Self {
        Self { timeout: None, told: &|_| (), cancel }
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Wait<'_> {
    /// The exclusive lock `name` of the store.
    pub(crate) fn lock<E>(self, store: &Store, name: &str, purpose: &str) -> Result<Lock, E>
    where
        E: From<rootbuild_cache::Error> + From<crate::Cancelled>,
    {
        let lock = store.lock_for(name, purpose, self.timeout, self.told, &|| self.cancel.is_cancelled());
        self.cancel.check()?;
        Ok(lock?)
    }
}
