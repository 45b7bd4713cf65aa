//! Stopping roots, and taking their units away.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rootbuild_cache::Store;
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::running;
use rootbuild_roots::units::{self, Directories};
use tokio::sync::Notify;

use crate::error::HandoffError;
use crate::follow::{Failure, Follower, Told, Watched};
use crate::manager::Manager;
use crate::pending;
use crate::status::Active;
use crate::up::glob;

/// How long a unit may take to stop before that is told; systemd kills it long before.
const PATIENCE: Duration = Duration::from_secs(300);

/// The names of a root's units as they are installed, wherever that is.
///
/// # Errors
/// What is installed can't be read.
pub fn installed(root: &str) -> Result<BTreeSet<String>, HandoffError> {
    let mut names = BTreeSet::new();
    for directories in [Directories::until_boot(), Directories::for_good()] {
        if let Some(snapshot) = units::snapshot(&directories, root)? {
            names.extend(snapshot.units().map(str::to_owned));
        }
    }
    Ok(names)
}

/// Stops all that runs of these roots, those first that others don't need. Gives what didn't stop, by root.
///
/// # Errors
/// systemd can't be reached, or refuses.
pub async fn down(
    manager: &Manager,
    roots: &[String],
    cancel: &Cancel,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<Vec<(String, Vec<Failure>)>, HandoffError> {
    let stop = Arc::new(Notify::new());
    let notify = Arc::clone(&stop);
    let _guard = cancel.on_cancel(move || notify.notify_one());
    let mut signals = manager.subscribe().await?;
    let mut watched = Vec::new();
    let mut names: Vec<Vec<String>> = Vec::new();
    for root in roots {
        let patterns: Vec<String> = installed(root)?.iter().map(|name| glob(name)).collect();
        // Without a pattern it would be all of them.
        let loaded = if patterns.is_empty() { Vec::new() } else { manager.loaded(&patterns).await? };
        names.push(loaded.clone());
        let (wanted, others) = (BTreeSet::new(), loaded.into_iter().collect());
        watched.push(Watched { root: root.clone(), wanted, others, ready: PATIENCE });
    }
    let mut follower = Follower::new(manager, &mut signals, watched, &stop, told).await?;
    let mut jobs = Vec::new();
    // What isn't active may be about to be: that ends too.
    for unit in names.iter().flatten() {
        jobs.push(manager.stop(unit).await?);
    }
    follower.settle(jobs).await?;
    let mut left = Vec::new();
    for (root, names) in roots.iter().zip(&names) {
        let mut failures = Vec::new();
        for unit in names {
            let status = manager.unit(unit).await?;
            if matches!(status.active, Active::Active | Active::Activating | Active::Deactivating) {
                let (unit, invocation) = (unit.clone(), status.invocation);
                let reason = format!("still {}", status.active.name());
                failures.push(Failure { unit, reason, invocation, log: Vec::new() });
            } else {
                manager.reset_failed(unit).await;
            }
        }
        left.push((root.clone(), failures));
    }
    Ok(left)
}

/// Takes the units of roots that are stopped away: those until the next boot, and with `for_good` those that boots
/// find too, and all else that is known of them here.
///
/// # Errors
/// A file can't be removed, or systemd refuses.
pub async fn uninstall(
    store: &Store,
    manager: &Manager,
    roots: &[String],
    for_good: bool,
) -> Result<(), HandoffError> {
    let mut reload = false;
    for root in roots {
        let (passing, lasting) = (Directories::until_boot(), Directories::for_good());
        let is_in = |directories: &Directories| directories.state.join(format!("{root}.json")).exists();
        if is_in(&lasting) && for_good {
            manager.enable(&format!("rootbuild-{root}.target"), false).await?;
            reload |= units::uninstall(&lasting, root)?.any();
        }
        if is_in(&passing) {
            reload |= units::uninstall(&passing, root)?.any();
        }
        if !is_in(&lasting) {
            running::run_nothing(store, root)?;
        }
        pending::clear(root);
        // The directory that it was mounted on, and the one above.
        for dir in Path::new(&units::fixed(root)).ancestors().take(2) {
            let _ = std::fs::remove_dir(dir);
        }
    }
    // What all roots of the host have together goes with the last.
    let run = Path::new("/run/rootbuild");
    if !run.join("roots").exists() && !run.join("installed").exists() {
        let _ = std::fs::remove_file(run.join("network.lock"));
        let _ = std::fs::remove_dir(run.join("files"));
        let _ = std::fs::remove_dir(run);
    }
    if reload {
        manager.reload().await?;
    }
    Ok(())
}
