//! Installing what a lock says, and nothing else: from an archive made of just these packages, without a network.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::super::{BaseContext, BaseError, DownloadError, download};
use super::command::{self, LOCKED, Layout};
use super::lock::{Lock, Package};
use super::output::Watcher;
use super::{DebianBase, DebianError, Gone, facts, snapshot, sources};
use crate::process;
use crate::progress::StepEvent;

/// Installs into the layout's root.
pub(super) fn install(
    context: BaseContext<'_>,
    base: &DebianBase,
    layout: &Layout<'_>,
    lock: &Lock,
) -> Result<(), BaseError> {
    download(context, base, layout, lock)?;
    let mirror = archive(context, lock)?;
    let watcher = Watcher::new(context.sink);
    base.watched(context, &watcher, command::from_lock(&lock.packages, &mirror, layout))?;
    facts::write_apt_state(layout.root, &sources_list(lock), &extended_states(lock))
        .map_err(BaseError::io("write apt's files in", layout.root))?;
    check(layout.root, lock)
}

/// Gets every package into the store.
fn download(
    context: BaseContext<'_>,
    base: &DebianBase,
    layout: &Layout<'_>,
    lock: &Lock,
) -> Result<(), BaseError> {
    let path = base.lock.as_deref().unwrap_or(Path::new(""));
    let files: Vec<download::File> = lock.packages.iter().map(Package::file).collect();
    let host = sources::from_host(layout.etc, &base.suite, &base.components(), false).unwrap_or_default();
    let origins = |id: &str| {
        let repo = lock.repos.iter().find(|repo| repo.id == id);
        let mut urls: Vec<String> = base.mirror.clone();
        urls.extend(repo.map(|repo| repo.url.clone()));
        if base.mirror.is_empty() {
            // What this host uses may be nearer, or there, where the host's that wrote the lock isn't.
            urls.extend(host.iter().filter_map(|line| of_suite(line, &repo?.suite)));
        }
        let mut known = BTreeSet::new();
        let mut urls: Vec<String> = urls.iter().map(|url| plain_url(&context.mirrored(url))).collect();
        urls.retain(|url| known.insert(url.clone()));
        download::Origins { place: base.written.source_place(path), urls, sslverify: true, list: None }
    };
    download::files(context, &files, &origins).map_err(|error| match error {
        BaseError::Download(DownloadError::Failed { what, repo, tried }) => {
            let gone = |why: &String| why == "the server says 404" || why == "no such file";
            let locked = lock.repos.iter().find(|known| known.id == repo.id);
            if tried.iter().all(|(_, why)| gone(why))
                && let Some(locked) = locked
            {
                let (place, snapshot) = (repo.place, snapshot::url(&locked.url, &locked.date));
                let urls = tried.into_iter().map(|(url, _)| url).collect();
                let gone = Gone { package: what, repo: repo.id, place, urls, snapshot };
                return DebianError::Gone(Box::new(gone)).into();
            }
            BaseError::Download(DownloadError::Failed { what, repo, tried })
        }
        other => other,
    })
}

/// The URL in a line of `sources.list`, if it is of this suite.
fn of_suite(line: &str, suite: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip(1);
    let url = words.next()?;
    (words.next()? == suite).then(|| url.to_owned())
}

/// A URL as downloads know them: `file://` for what apt reads from files, no slash at the end.
pub(super) fn plain_url(url: &str) -> String {
    let path = url.strip_prefix("file:").or_else(|| url.strip_prefix("copy:"));
    let plain = path.map(|path| format!("file:///{}", path.trim_start_matches('/')));
    plain.unwrap_or_else(|| url.to_owned()).trim_end_matches('/').to_owned()
}

/// Makes an archive of the packages, for apt: links to them, and a list.
fn archive(context: BaseContext<'_>, lock: &Lock) -> Result<PathBuf, BaseError> {
    let dir = context.scratch.join("mirror");
    fs::create_dir(&dir).map_err(BaseError::io("make", &dir))?;
    let paragraphs: Result<Vec<String>, BaseError> = lock
        .packages
        .par_iter()
        .map(|package| {
            // Nothing in it that means something in a URL.
            let name = format!("{}.deb", package.sha256);
            let kept = download::kept(context.store.dir(), &package.sha256);
            symlink(&kept, dir.join(&name)).map_err(BaseError::io("link", &kept))?;
            let fields = fields(context, package, &kept)?;
            Ok(format!("{fields}Filename: ./{name}\nSize: {}\nSHA256: {}\n\n", package.size, package.sha256))
        })
        .collect();
    let list = paragraphs?.concat();
    let mut release = format!(
        "Suite: {LOCKED}\nCodename: {LOCKED}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nArchitectures: all {}\nSHA256:\n",
        lock.request.arch
    );
    // Writing to a string can't fail.
    let sha256 = download::hex(Sha256::new_with_prefix(&list));
    let _ = writeln!(release, " {sha256} {} Packages", list.len());
    for (name, text) in [("Packages", list), ("Release", release)] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(BaseError::io("write", &path))?;
    }
    Ok(dir)
}

/// What a package says of itself, as a paragraph without what says where it is.
fn fields(context: BaseContext<'_>, package: &Package, file: &Path) -> Result<String, BaseError> {
    let mut command = process::tool("dpkg-deb");
    command.arg("--field").arg(file);
    let line = |line: &str| (context.sink)(StepEvent::Line(line.to_owned()));
    let output = process::capture(command, b"", context.cancel, &line)?;
    let odd = |problem: String| DebianError::Strange { package: package.shown(), problem };
    if !output.status.success() {
        return Err(odd(output.tail).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut fields = String::with_capacity(text.len());
    let mut skipping = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            skipping = ["filename", "size", "sha256", "sha1", "md5sum"].contains(&name.as_str());
            let locked = match name.as_str() {
                "package" => Some(&package.name),
                "version" => Some(&package.version),
                "architecture" => Some(&package.arch),
                _ => None,
            };
            let value = line.split_once(':').map_or("", |(_, value)| value.trim());
            if let Some(locked) = locked.filter(|locked| *locked != value) {
                return Err(
                    odd(format!("its {name} is `{}`, locked is `{locked}`", value.escape_debug())).into()
                );
            }
        }
        if !skipping {
            fields.push_str(line);
            fields.push('\n');
        }
    }
    Ok(fields)
}

/// What the root's own apt asks: the archives that the packages came from.
fn sources_list(lock: &Lock) -> String {
    lock.repos.iter().map(super::lock::Repo::line).collect()
}

/// What apt knows about who asked for packages.
fn extended_states(lock: &Lock) -> String {
    let auto = lock.packages.iter().filter(|package| package.auto);
    auto.fold(String::new(), |mut text, package| {
        let _ = write!(
            text,
            "Package: {}\nArchitecture: {}\nAuto-Installed: 1\n\n",
            package.name, lock.request.arch
        );
        text
    })
}

/// An error unless exactly what is locked is installed.
fn check(root: &Path, lock: &Lock) -> Result<(), BaseError> {
    let found = facts::packages(root).map_err(BaseError::io("read the package database of", root))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found: BTreeSet<String> = found
        .iter()
        .map(|p| format!("{}_{}_{}", text(&p["name"]), text(&p["version"]), text(&p["arch"])))
        .collect();
    let locked: BTreeSet<String> = lock.packages.iter().map(Package::shown).collect();
    if found == locked {
        return Ok(());
    }
    let difference = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect();
    Err(DebianError::NotAsLocked {
        missing: difference(&locked, &found),
        strange: difference(&found, &locked),
    }
    .into())
}
