//! Cancellation: asked for once, seen everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    callbacks: BTreeMap<u64, Callback>,
}

/// A flag shared by everything that belongs to one command. Cloning shares it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

/// The work was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Cancel {
    /// A flag that nobody has raised yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and runs what was registered, in the caller's thread. Later calls do nothing.
    pub fn cancel(&self) {
        let callbacks = {
            let mut state = self.state();
            state.cancelled = true;
            std::mem::take(&mut state.callbacks)
        };
        for callback in callbacks.into_values() {
            callback();
        }
    }

    /// Whether the flag is raised.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// An error once the flag is raised.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Runs `callback` when the flag is raised (at once if it is already), unless the guard is
    /// dropped before.
    #[must_use]
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> OnCancel {
        let mut state = self.state();
        if state.cancelled {
            drop(state);
            callback();
            return OnCancel { cancel: self.clone(), id: u64::MAX };
        }
        let id = state.next;
        state.next += 1;
        state.callbacks.insert(id, Box::new(callback));
        OnCancel { cancel: self.clone(), id }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// Keeps a callback registered; see [`Cancel::on_cancel`].
#[derive(Debug)]
pub struct OnCancel {
    cancel: Cancel,
    id: u64,
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        self.cancel.state().callbacks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn callbacks_run_once_and_not_after_their_guard_is_gone() {
        let (cancel, count) = (Cancel::new(), Arc::new(AtomicU32::new(0)));
        let add = |n: u32| {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(n, Ordering::SeqCst);
            }
        };
        drop(cancel.on_cancel(add(1)));
        let _kept = cancel.on_cancel(add(10));
        cancel.cancel();
        cancel.cancel();
        let _late = cancel.on_cancel(add(100));
        assert_eq!(count.load(Ordering::SeqCst), 110);
        assert_eq!(cancel.check(), Err(Cancelled));
    }
}
