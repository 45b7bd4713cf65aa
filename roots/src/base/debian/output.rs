//! What mmdebstrap and the tools below it say: how far they are, and why they failed.

use std::sync::{Mutex, PoisonError};

use super::DebianError;
use crate::progress::{StepEvent, StepSink};

/// Follows the output of a run.
pub(super) struct Watcher<'a> {
    sink: StepSink<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many packages apt said it would install.
    packages: u64,
    /// What counts as one done, and how many are.
    counting: Option<&'static str>,
    done: u64,
    /// Lines that tell what went wrong.
    said: Vec<String>,
}

/// Stages of mmdebstrap by how it announces them, and what begins the line of one thing done in it.
const STAGES: [(&str, &str, Option<&str>); 7] = [
    ("running apt-get update", "reading the suite's package lists", None),
    ("downloading packages", "downloading packages", Some("Get:")),
    ("extracting archives", "extracting packages", None),
    ("installing essential packages", "installing the essential packages", Some("Setting up ")),
    ("installing remaining packages", "installing the other packages", Some("Setting up ")),
    ("running --extract-hook", "checking the packages' names", None),
    ("cleaning package lists", "cleaning up", None),
];

impl<'a> Watcher<'a> {
    pub(super) fn new(sink: StepSink<'a>) -> Self {
        Self { sink, state: Mutex::default() }
    }

    /// Sees a line. `true` where it means that all further work is in vain.
    pub(super) fn see(&self, line: &str) -> bool {
        (self.sink)(StepEvent::Line(line.to_owned()));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = line.strip_prefix("I: ")
            && let Some((_, phase, counting)) = STAGES.iter().find(|(begin, ..)| stage.starts_with(begin))
        {
            (state.counting, state.done) = (*counting, 0);
            drop(state);
            (self.sink)(StepEvent::Phase((*phase).to_owned()));
            return false;
        }
        if let Some(count) = newly_installed(line) {
            (state.packages, state.done) = (count, 0);
        } else if state.counting.is_some_and(|begin| line.starts_with(begin)) && state.packages > 0 {
            state.done = (state.done + 1).min(state.packages);
            let (done, total) = (state.done, state.packages);
            drop(state);
            (self.sink)(StepEvent::Progress { done, total, bytes: false });
            return false;
        }
        let tells = ["E: ", "W: ", "Err:", "dpkg: error", " * "].iter().any(|begin| line.starts_with(begin));
        if tells || missing_component(line).is_some() || unmet(line) {
            state.said.push(line.to_owned());
        }
        missing_component(line).is_some()
    }

    /// What the output says about a failure.
    pub(super) fn explain(&self, suite: &str, tail: &str, keyring: Option<String>) -> DebianError {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        explain(&state.said, suite, tail, keyring)
    }

    /// A component that was asked for and isn't there.
    pub(super) fn missing_component(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.said.iter().find_map(|line| missing_component(line))
    }
}

fn explain(said: &[String], suite: &str, tail: &str, keyring: Option<String>) -> DebianError {
    let find = |parts: &[&str]| said.iter().find(|line| parts.iter().any(|part| line.contains(part)));
    let suite = suite.to_owned();
    if find(&["No space left on device", "You don't have enough free space"]).is_some() {
        return DebianError::Full;
    }
    if let Some(component) = said.iter().find_map(|line| missing_component(line)) {
        return DebianError::Component { suite, component };
    }
    let mut packages: Vec<String> = said.iter().filter_map(|line| missing_package(line)).collect();
    packages.dedup();
    if !packages.is_empty() {
        return DebianError::Packages { suite, packages };
    }
    let unreachable =
        ["Could not resolve", "Could not connect", "Unable to connect", "Cannot initiate", "timed out"];
    let network = ["Connection failed", "Network is unreachable", "Certificate verification", "handshake"];
    let gateway = ["  50", "Bad Gateway", "Service Unavailable", "  407", "Proxy Authentication"];
    if let Some(line) = find(&unreachable).or_else(|| find(&network)).or_else(|| find(&gateway)) {
        return DebianError::Unreachable { message: plain(line) };
    }
    if let Some(line) = find(&["is expired", "Release file for"]).filter(|line| line.contains("expired")) {
        return DebianError::Expired(plain(line));
    }
    let signatures =
        ["NO_PUBKEY", "EXPKEYSIG", "BADSIG", "REVKEYSIG", "signatures", "is not signed", "no longer signed"];
    if let Some(line) = find(&signatures) {
        return DebianError::Untrusted { message: plain(line), keyring };
    }
    if let Some(line) = find(&["does not have a Release file"]) {
        let mirror = line.split('\'').nth(1).and_then(|quoted| quoted.split(' ').next());
        return DebianError::Suite { suite, mirror: mirror.unwrap_or("its mirror").to_owned() };
    }
    if said.iter().any(|line| unmet(line) || line.contains("held broken packages")) {
        return DebianError::Conflict(tail.to_owned());
    }
    if find(&["dpkg: error", "Sub-process", "dpkg returned"]).is_some() {
        return DebianError::Install(tail.to_owned());
    }
    DebianError::Failed(tail.to_owned())
}

/// A line without the letter that says how bad it is.
fn plain(line: &str) -> String {
    line.trim_start_matches("E: ").trim_start_matches("W: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn newly_installed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" upgraded, ")?;
    rest.split_once(" newly installed")?.0.parse().ok()
}

fn missing_package(line: &str) -> Option<String> {
    let line = line.strip_prefix("E: ")?;
    if let Some(name) = line.strip_prefix("Unable to locate package ") {
        return Some(name.to_owned());
    }
    if let Some(rest) = line.strip_prefix("Couldn't find any package by ") {
        return quoted(rest);
    }
    let known = ["has no installation candidate", "was not found", "for virtual package"];
    known.iter().any(|part| line.contains(part)).then(|| quoted(line)).flatten()
}

fn missing_component(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("doesn't have the component ")?;
    quoted(rest)
}

/// The last thing between quotes: apt names the version before the package.
fn quoted(text: &str) -> Option<String> {
    text.split('\'').skip(1).step_by(2).last().map(str::to_owned)
}

fn unmet(line: &str) -> bool {
    line.contains("unmet dependencies") || line.contains("Unmet dependencies")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(output: &str) -> DebianError {
        let watcher = Watcher::new(&|_| ());
        for line in output.lines() {
            watcher.see(line);
        }
        watcher.explain("bookworm", "(tail)", Some("/k.gpg".to_owned()))
    }

    #[test]
    fn each_failure_is_told_in_words() {
        let said = [
            "Err:2 http://m.example/debian nosuch Release\n  404  Not Found [IP: 203.0.113.80 80]\nReading package lists...\n\
             E: The repository 'http://m.example/debian nosuch Release' does not have a Release file.\n\
             E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed",
            "E: Failed to fetch http://127.0.0.1:9/debian/dists/bookworm/InRelease  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)\n\
             E: Some index files failed to download. They have been ignored, or old ones used instead.",
            "E: Failed to fetch http://nosuchhost.invalid/debian/dists/bookworm/InRelease  Could not resolve 'nosuchhost.invalid'",
            "E: Unable to locate package nosuch\nE: Unable to locate package bad\nE: setup failed: E: apt-get … failed",
            "E: Version '9' for 'bash' was not found",
            "E: Package 'ghost' has no installation candidate",
            "W: Skipping acquire of configured file 'nosuch/binary-amd64/Packages' as repository 'http://m.example/debian bookworm InRelease' doesn't have the component 'nosuch' (component misspelt in sources.list?)",
            "W: GPG error: http://m.example/debian bookworm InRelease: The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 6ED0E7B82643E131\n\
             E: The repository 'http://m.example/debian bookworm InRelease' is not signed.",
            "E: The repository 'http://m.example/debian bookworm Release' is not signed.",
            "E: Release file for http://m.example/debian/dists/bookworm/InRelease is expired (invalid since 3d 2h). Updates for this repository will not be applied.",
            "The following packages have unmet dependencies:\n a : Depends: b but it is not installable\nE: Unable to correct problems, you have held broken packages.",
            "dpkg: error processing package a (--configure):\nE: Sub-process env returned an error code (1)",
            "dpkg: error processing archive /x.deb (--unpack):\nE: cannot copy: No space left on device",
            "E: unknown",
        ];
        let told: Vec<String> = said
            .iter()
            .map(|output| {
                let error = of(output);
                format!("{error}\nhint: {}\n", error.hint().unwrap_or_else(|| "none".to_owned()))
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn progress_follows_the_stages_and_counts_packages() {
        let told = Mutex::new(Vec::new());
        let sink = |event| told.lock().expect("kept").push(event);
        let watcher = Watcher::new(&sink);
        for line in [
            "I: downloading packages with apt...",
            "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 http://m.example/debian bookworm/main amd64 a amd64 1 [1 kB]",
            "I: installing essential packages...",
            "Setting up a (1) ...",
            "Setting up b (1) ...",
            "Setting up b (1) ...",
        ] {
            assert!(!watcher.see(line));
        }
        let shown: Vec<String> = told
            .lock()
            .expect("kept")
            .iter()
            .filter_map(|event| match event {
                StepEvent::Phase(phase) => Some(phase.clone()),
                StepEvent::Progress { done, total, .. } => Some(format!("{done}/{total}")),
                _ => None,
            })
            .collect();
        assert_eq!(
            shown,
            ["downloading packages", "1/2", "installing the essential packages", "1/2", "2/2", "2/2"]
        );
        assert!(watcher.see("W: … doesn't have the component 'x' (component misspelt in sources.list?)"));
    }
}
