//! What every command that builds does around the engine: who is told, what a signal does, what failed.

use std::sync::Arc;

use rootbuild_cache::Store;
use rootbuild_roots::Cancel;

use super::{Global, events};
use crate::definition::Definition;
use crate::engine::{Engine, Options, RootFailure, StepError};
use crate::logs::{LogSink, Logs};
use crate::render::Report;
use crate::{exit, room, signals};

/// What came of it.
pub(super) struct Ran<T> {
    pub outcome: T,
    /// The signal that stopped it, if one did.
    pub signal: Option<i32>,
    /// Whether there was room, all the while.
    pub room: room::Watch,
}

impl<T> Ran<T> {
    /// An error if it was stopped: by a signal, or since there was no room.
    pub(super) fn stopped(&self, store: &Store, failed: &[&RootFailure]) -> Result<(), Report> {
        if let Some(signal) = self.signal {
            return Err(Report::interrupted(signal));
        }
        if !failed.is_empty()
            && let Some(error) = self.room.ended().or_else(|| room::lacking(failed))
        {
            return Err(room::report(store, error));
        }
        Ok(())
    }
}

/// Has an engine do something for the roots `names`.
pub(super) fn run<T, F: Future<Output = T>>(
    global: &Global,
    definition: &Arc<Definition>,
    store: &Store,
    names: &[String],
    options: Options,
    work: impl FnOnce(Arc<Engine>) -> F,
) -> Result<Ran<T>, Report> {
    let logs = Arc::new(Logs::new(store.dir()));
    let shown: Vec<&str> = names.iter().map(String::as_str).collect();
    let sink = events::sinks(global, &shown, vec![Box::new(LogSink(Arc::clone(&logs)))])?;
    let cancel = Cancel::new();
    let room = room::Watch::start(store, &cancel);
    let engine =
        Engine::new(Arc::clone(definition), store.clone(), options, Arc::clone(&sink), logs, cancel.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::failed("can't start the runtime").caused_by(&error))?;
    // Should anything panic, what runs is stopped before the runtime waits for it.
    let _stop = StopOnPanic(cancel.clone());
    let (outcome, signal) = runtime.block_on(async {
        let signals = signals::watch(&cancel, &sink);
        let outcome = work(engine).await;
        (outcome, signals.received())
    });
    runtime.shutdown_background();
    Ok(Ran { outcome, signal, room })
}

/// Stops what is running when a panic goes by.
struct StopOnPanic(Cancel);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// The error to end with, if anything failed. A layer that failed for several roots is told once.
pub(super) fn report(failed: &[&RootFailure], definition: &Definition) -> Result<u8, Report> {
    if failed.is_empty() {
        return Ok(exit::OK);
    }
    let mut reports: Vec<Report> = Vec::new();
    let mut told: Vec<*const StepError> = Vec::new();
    for failure in failed {
        let pointer = Arc::as_ptr(&failure.error);
        if told.contains(&pointer) {
            continue;
        }
        told.push(pointer);
        let sharers: Vec<&str> = failed
            .iter()
            .filter(|other| Arc::as_ptr(&other.error) == pointer)
            .map(|other| other.root.as_str())
            .collect();
        reports.push(Report::from_failure(failure, &sharers, definition));
    }
    Err(Report::several(reports))
}
