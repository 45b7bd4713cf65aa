//! Keeping the store: what of it is needed and what may go, asked of each crate that knows, and how large it is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rootbuild_cache::fsck::{self, Check, Finding, Findings, Kind, Remedy, Repair};
use rootbuild_cache::gc::{
    self, Class, Collection, Item, Layers, Need, Policy, Standing, Telling, record_items,
};
use rootbuild_cache::usage::{Counted, Usage};
use rootbuild_cache::{Digest, Error, Result, Store, pins};
use rootbuild_playbooks::replay::{check as journals_check, holdings as journals};
use rootbuild_playbooks::toolchain::holdings as toolchains;
use rootbuild_roots::base::{check as downloads_check, holdings as downloads};
use rootbuild_roots::checkout::check as shared_files;
use rootbuild_roots::{publish, working};

use crate::generation;
use crate::render::Report;

/// How many generations of a root can be gone back to, the current one among them, unless a flag says otherwise.
pub const KEPT_GENERATIONS: usize = 2;

/// What is needed, and what may go.
pub struct Holdings<'a> {
    /// What keeps trees, whatever is asked for.
    pub needs: Vec<Need>,
    /// What may go.
    pub items: Vec<Item<'a>>,
}

/// Asks everybody. `keep`: how many generations of each root can be gone back to; `others`: how many other commands run.
/// `force`: what files elsewhere refer to is let go, and these are removed.
pub fn holdings<'a>(
    store: &Store,
    keep: usize,
    others: usize,
    force: bool,
) -> std::result::Result<Holdings<'a>, Report> {
    let (mut needs, mut items) = publish::old::holdings(store, keep)?;
    for (more_needs, more_items) in [pins::needs(store, force)?, working::holdings::holdings(store)?] {
        needs.extend(more_needs);
        items.extend(more_items);
    }
    let mut layers = Layers::new();
    for (why, root) in generation::window(store, keep) {
        for layer in &root.layers {
            layers.entry((layer.key, layer.tree)).or_insert_with(|| why.clone());
        }
        needs.push(Need { tree: root.tree, why });
    }
    let current: HashSet<Digest> = layers.keys().map(|(_, tree)| *tree).collect();
    items.extend(record_items(store, &layers)?);
    items.extend(fsck::quarantined(store)?);
    let dir = store.dir();
    items.extend(journals::holdings(store, &current).map_err(Error::io("read", &dir.join("replays")))?);
    items.extend(downloads::holdings(store, others > 0)?);
    items
        .extend(toolchains::holdings(store, others > 0).map_err(Error::io("read", &dir.join("toolchains")))?);
    items.extend(logs(dir)?);
    Ok(Holdings { needs, items })
}

/// All logs as items. The newest one of each root is needed: `rootbuild log` shows it.
fn logs<'a>(store: &Path) -> Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for root in entries(&store.join("logs"))? {
        let mut logs = entries(&root)?;
        logs.retain(|path| path.extension().is_some_and(|it| it == "log"));
        logs.sort();
        let newest = logs.last().cloned();
        for path in logs {
            let Ok(found) = path.symlink_metadata() else { continue };
            let is_newest = newest.as_ref() == Some(&path);
            let shown = path.strip_prefix(store).unwrap_or(&path).display().to_string();
            items.push(Item {
                class: Class::Logs,
                name: shown,
                trees: Vec::new(),
                objects: Vec::new(),
                usage: Usage::of_file(&found),
                last_used: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                seconds: 0.0,
                standing: if is_newest {
                    Standing::Needed("it is the newest of its root".to_owned())
                } else {
                    Standing::Cached
                },
                remove: Box::new(move |trash| Ok(fs::rename(&path, trash.join("log")).map(|()| true)?)),
            });
        }
    }
    Ok(items)
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    match fs::read_dir(dir) {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(Error::io("read", dir)(error)),
        Ok(listed) => listed.map(|entry| Ok(entry.map_err(Error::io("read", dir))?.path())).collect(),
    }
}

/// Names in the store's directory that crates above the cache know.
const KNOWN: &[&str] = &["published", "replays", "latest", "generations", "ansible-inputs", "state", "bazel"];

/// Checks all of the store.
pub fn check(store: &Store, quick: bool, telling: &dyn Telling) -> Result<Findings> {
    let check = Check::new(store, quick, telling);
    fsck::check(&check, KNOWN)?;
    check.phase("checking shared files");
    shared_files::check(&check);
    check.phase("checking roots");
    publish::check::check(&check);
    working::check::check(&check);
    downloads_check::check(&check);
    let replays = store.dir().join("replays");
    journals_check::check(&check).map_err(Error::io("read", &replays))?;
    for project in check.names(&store.dir().join("generations")) {
        for path in check.names(&project) {
            let _: Option<generation::Generation> = check.json(&path);
        }
    }
    for project in check.names(&store.dir().join("latest")) {
        for root in check.names(&project) {
            for path in check.names(&root) {
                let _: Option<serde_json::Value> = check.json(&path);
            }
        }
    }
    let inputs = store.dir().join("ansible-inputs");
    if let Some(bytes) = check.read(&inputs)
        && bytes.split_last_chunk::<32>().is_none_or(|(rest, digest)| Digest::of(rest).as_bytes() != digest)
    {
        check.damaged(Kind::Content, &inputs, "it isn't whole: files that playbooks read are hashed again");
    }
    Ok(check.finish())
}

/// So many times is repaired what the repair before has brought to light: objects, then trees, then what names them.
const ROUNDS: usize = 4;

/// Repairs what can be; what is left, and all that was done.
pub fn repair(
    store: &Store,
    mut findings: Findings,
    telling: &dyn Telling,
) -> Result<(Findings, Vec<Repair>)> {
    let mut repairs = Vec::new();
    for _ in 0..ROUNDS {
        telling.phase("repairing");
        let mut places = publish::check::places(store);
        places.extend(working::check::places(store));
        let mut done = fsck::repair(store, &findings, &places)?;
        done.extend(publish::mend::repair(store, &findings));
        // A damaged object may be a file of a lower directory as well. Those are a cache.
        if done.iter().any(|repair| repair.finding.kind == Kind::Content)
            && let Err(error) = working::prune_lowers(store, &[])
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "lower directories stay that may be damaged");
        }
        if done.is_empty() {
            break;
        }
        // Contents that were bad are gone: what is left needn't be read again. But for what could not be written anew.
        let is_left = |it: &Finding| {
            it.remedy == Remedy::Rewrite && !done.iter().any(|repair| repair.finding.path == it.path)
        };
        let left: Vec<Finding> = findings.all.into_iter().filter(is_left).collect();
        findings = check(store, true, telling)?;
        for finding in left {
            if !findings.all.iter().any(|it| it.path == finding.path) {
                findings.all.insert(0, finding);
            }
        }
        repairs.extend(done);
    }
    Ok((findings, repairs))
}

/// How much room the store takes, by class. An inode with several names counts once, in the first class that has it;
/// checkouts come before what they share.
pub fn sizes(store: &Store) -> Result<BTreeMap<Class, Usage>> {
    let mut sizes: BTreeMap<Class, Usage> = Class::ALL.into_iter().map(|it| (it, Usage::default())).collect();
    let counted = Counted::default();
    let mut dirs = entries(store.dir())?;
    let class = |path: &std::path::PathBuf| {
        Class::of_directory(&path.file_name().unwrap_or_default().to_string_lossy())
    };
    dirs.sort_by_key(|path| (class(path), path.clone()));
    for path in dirs {
        let usage = Usage::of(&path, &counted).map_err(Error::io("look at", &path))?;
        *sizes.entry(class(&path)).or_default() += usage;
    }
    Ok(sizes)
}

/// How many bytes a collection with nothing said would free.
pub fn collectable(store: &Store) -> std::result::Result<u64, Report> {
    let collection = Collection::look(store);
    let holdings = holdings(store, KEPT_GENERATIONS, collection.others()?, false)?;
    let policy = Policy::new(None, None);
    let outcome = gc::collect(&collection, &holdings.needs, holdings.items, policy, 0, &())?;
    Ok(outcome.freed().disk + store.unused_links(false)?.bytes)
}

/// Reads a size: a number of bytes, or one with `K`, `M`, `G` or `T` (of 1,024).
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let odd = || format!("`{text}` is no size: a number with K, M, G or T, like 20G");
    let text_only = text.trim().trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (number, unit) = match text_only.find(|c: char| !c.is_ascii_digit() && c != '.') {
        Some(at) => text_only.split_at(at),
        None => (text_only, ""),
    };
    let factor: u64 = match unit.trim().to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return Err(odd()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(odd);
    }
    let number: f64 = number.parse().map_err(|_| odd())?;
    #[expect(clippy::cast_precision_loss, reason = "at most 2^40")]
    let bytes = number * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    (bytes.is_finite() && (0.0..1e18).contains(&bytes)).then_some(bytes as u64).ok_or_else(odd)
}

/// Reads how long something is: a number with `s`, `m`, `h`, `d` or `w`; days, if it has none.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let odd = || format!("`{text}` is no duration: a number with s, m, h, d or w, like 14d");
    let text_only = text.trim();
    let (number, unit) = match text_only.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text_only.split_at(at),
        None => (text_only, "d"),
    };
    let factor = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(odd()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(odd)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("4K", 4096), ("1.5g", 3 << 29), ("20GiB", 20 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1X", "G", "99999999999999999999T", "1e9G"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, seconds) in
            [("0", 0), ("90s", 90), ("2h", 7200), ("14", 14 * 86400), ("14d", 14 * 86400), ("1w", 7 * 86400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "-1d", "1y", "1.5d", "99999999999999999999w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
