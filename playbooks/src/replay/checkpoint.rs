//! Looking at the root: whether a request changed it, and what it is at a checkpoint.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use rootbuild_cache::{Digest, Store};
use rootbuild_roots::working::Snapshot;

use super::answer::Watched;
use super::broker::Broker;
use super::inner::Inner;
use super::journal::Checkpoint;
use super::live::Live;
use super::state;
use crate::run::RunError;

/// With more changed names than this, requests aren't looked after one by one, which would cost each more than a
/// millisecond: what comes after a change is then known again from the next checkpoint on.
const MOST_NAMES: usize = 400;

/// So much work in the root is worth a checkpoint to come back to, wherever it ends: making a root takes as long.
const LONG: Duration = Duration::from_millis(250);

/// Work that takes so much longer than a checkpoint is worth one.
const TIMES: u32 = 20;

/// Less work isn't.
const SHORT: Duration = Duration::from_millis(20);

/// Looks at the root; whether it is known that all is as it was before the last request.
pub(super) fn look(live: &mut Live) -> bool {
    let watched = live.agent().and_then(|mut agent| {
        let watched = agent.look()?;
        live.give_back(agent);
        Ok(watched)
    });
    let watched = watched.unwrap_or_else(|error| {
        tracing::debug!(%error, "nothing is known of the root");
        Watched::default()
    });
    // What runs in the background may write at any time, which counts for the request that it meets.
    let same = watched.volatile.is_some() && watched.volatile == live.watched.volatile;
    live.watched = watched;
    let now = live.working.fingerprint(MOST_NAMES).ok().flatten();
    let before = std::mem::replace(&mut live.fingerprint, now);
    std::mem::replace(&mut live.is_seen, true) && same && before.is_some() && before == now
}

/// Makes a checkpoint between two tasks if it is worth it: one to come back to, or only a look whether
/// what comes next is known.
pub(super) fn consider(broker: &Broker<'_>, inner: &mut Inner, role_ends: bool) {
    let diverged = inner.counts.diverged.is_some();
    let cost = inner.snapshot_cost * TIMES;
    let keep = inner.since > LONG.max(cost) || role_ends && inner.since > SHORT;
    let look = diverged && inner.unseen > SHORT.max(cost);
    if !(keep || look) || inner.counts.journal_ended.is_some() || broker.maker.run.boot {
        return;
    }
    let began = Instant::now();
    match make(broker, inner, keep, role_ends) {
        Ok(true) => {
            inner.unseen = Duration::ZERO;
            if keep {
                inner.since = Duration::ZERO;
                inner.counts.checkpoints += 1;
            }
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "a checkpoint can't be made"),
    }
    inner.snapshot_cost = began.elapsed();
}

fn make(broker: &Broker<'_>, inner: &mut Inner, keep: bool, role_ends: bool) -> Result<bool, RunError> {
    let Some(live) = inner.live.as_mut() else { return Ok(false) };
    if !live.is_seen {
        look(live);
    }
    if live.watched.strays != Some(0) || live.watched.volatile.is_none() {
        return Ok(false);
    }
    let (store, cancel) = (broker.maker.store, broker.maker.wait.cancel);
    let talk = |error: io::Error| RunError::io("talk to the agent through", &broker.maker.scratch)(error);
    let mut volatile = None;
    let mut name = None;
    if live.watched.volatile != live.pristine {
        let mut agent = live.agent().map_err(talk)?;
        let saved = agent.save().map_err(talk)?;
        live.give_back(agent);
        let (image, digest) = match saved {
            Ok(saved) => saved,
            Err(why) => {
                tracing::debug!(why, "no checkpoint here");
                return Ok(false);
            }
        };
        let object = store.put_object_bytes(&image).map_err(rootbuild_roots::working::WorkingError::from)?;
        (volatile, name) = (Some(object), Some(digest));
    }
    let Some(snapshot) = live.working.snapshot(store, cancel)? else { return Ok(false) };
    let tree = snapshot.digest();
    let canonical = state::checkpoint(&tree, name.as_deref(), &inner.sandbox);
    inner.is_found(Checkpoint { canonical, renames: role_ends, tree, volatile });
    inner.is_new = true;
    if keep {
        inner.snapshots.push(snapshot);
    }
    Ok(true)
}

/// Makes checkpoints durable, and what they name.
pub(super) fn keep(store: &Store, snapshots: &[Snapshot]) -> Result<(), RunError> {
    if snapshots.is_empty() {
        return Ok(());
    }
    store.sync().map_err(rootbuild_roots::working::WorkingError::from)?;
    for snapshot in snapshots {
        snapshot.keep(store)?;
    }
    Ok(())
}

/// What dies with a sandbox, as a checkpoint kept it.
pub(super) fn volatile(store: &Store, object: &Digest) -> io::Result<Vec<u8>> {
    let mut image = Vec::new();
    store.open_object(object).map_err(io::Error::other)?.read_to_end(&mut image)?;
    Ok(image)
}
