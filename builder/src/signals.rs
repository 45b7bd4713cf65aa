//! Ctrl-C and SIGTERM: the first asks everything to stop and clean up, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rootbuild_roots::Cancel;
use tokio::signal::unix::{SignalKind, signal};

use crate::event::{Event, EventSink};

/// Which signal asked us to stop.
#[derive(Debug, Clone)]
pub struct Received(Arc<AtomicI32>);

impl Received {
    /// The signal's number, if one came.
    #[must_use]
    pub fn received(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&number| number != 0)
    }
}

/// Watches for SIGINT, SIGTERM and SIGHUP and raises `cancel` at the first. A second one ends the
/// process at once: sandboxes end with it, and the next command sweeps what is left.
pub fn watch(cancel: &Cancel, sink: &Arc<dyn EventSink>) -> Received {
    let received = Received(Arc::default());
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let Ok(mut stream) = signal(kind) else { continue };
        let (cancel, received, sink) = (cancel.clone(), received.clone(), Arc::clone(sink));
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let number = kind.as_raw_value();
                if received.0.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                    std::process::exit(128 + number);
                }
                sink.event(&Event::Stopping { signal: number });
                let cancel = cancel.clone();
                tokio::task::spawn_blocking(move || cancel.cancel());
            }
        });
    }
    received
}
