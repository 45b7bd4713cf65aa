//! Whether there is room for what a command writes, all the while that it writes.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rootbuild_cache::space::size;
use rootbuild_cache::{Error, Store};
use rootbuild_roots::Cancel;

use crate::engine::{Cause, RootFailure};
use crate::render::Report;
use crate::upkeep;

/// How often it is looked at: a disk that writes 1 GB a second gets 250 MB further.
const OFTEN: Duration = Duration::from_millis(250);

/// Stops what a command does once less is free than has to stay free.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    found: Arc<OnceLock<Error>>,
}

impl Watch {
    /// Looks from now on, as soon as anything is written, until it is dropped.
    #[must_use]
    pub fn start(store: &Store, cancel: &Cancel) -> Self {
        let (stop, stopped) = channel::<()>();
        let found = Arc::new(OnceLock::new());
        let (store, cancel, tell) = (store.clone(), cancel.clone(), Arc::clone(&found));
        let thread = std::thread::Builder::new().name("room".to_owned()).spawn(move || {
            while stopped.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
                if let Some(Err(error @ Error::NoRoom { .. })) = store.writes().then(|| store.check_room()) {
                    let _ = tell.set(error);
                    cancel.cancel();
                    return;
                }
            }
        });
        Self { stop: Some(stop), thread: thread.ok(), found }
    }

    /// Why the command was stopped, if it was.
    #[must_use]
    pub fn ended(&self) -> Option<Error> {
        self.found.get().and_then(no_room)
    }
}

impl Drop for Watch {
    /// Waits for the thread: it holds the store, which cleans up after itself when the last one lets go.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why any of these roots wasn't begun, if there was no room for it.
#[must_use]
pub fn lacking(failed: &[&RootFailure]) -> Option<Error> {
    failed.iter().find_map(|failure| match failure.error.cause() {
        Cause::Store(error) => no_room(error),
        _ => None,
    })
}

/// The error, with what could be done about it.
#[must_use]
pub fn report(store: &Store, error: Error) -> Report {
    let report = Report::from(error);
    match upkeep::collectable(store) {
        Ok(bytes) => report.note("`rootbuild cache gc` would free", size(bytes)),
        Err(_) => report,
    }
}

/// The same error once more, if it is one of too little room.
fn no_room(error: &Error) -> Option<Error> {
    match error {
        Error::NoRoom { path, free, least, floor } => {
            Some(Error::NoRoom { path: path.clone(), free: *free, least: *least, floor: *floor })
        }
        _ => None,
    }
}
