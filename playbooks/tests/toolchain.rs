//! Installing ansible-core for real: needs a package index that pip can reach.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use rootbuild_cache::Store;
use rootbuild_playbooks::toolchain::{self, ToolchainError};
use rootbuild_roots::{Cancel, StepEvent};

/// Requirements whose hash fits nothing.
const WRONG_HASH: &str = "packaging==26.3 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
     ansible-core==2.16.19 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n";

/// Whether no toolchain is there.
fn is_empty(store: &Store) -> bool {
    fs::read_dir(store.dir().join("toolchains")).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn an_installed_toolchain_is_found_at_once_and_says_its_version() {
    for &version in support::EVERY_VERSION {
        let installed = support::toolchain(version);
        let began = Instant::now();
        assert_eq!(support::toolchain(version), installed);
        assert!(began.elapsed().as_millis() < 500);
        // Its scripts work where it is, not only where it was made.
        let said = Command::new(installed.program("ansible-playbook")).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&said.stdout).contains(&format!("[core {version}]")), "{said:?}");
    }
}

#[test]
fn packages_that_do_not_fit_their_hashes_are_not_installed() {
    let dir = tempfile::tempdir_in(support::shared()).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let requirements = dir.path().join("requirements.txt");
    fs::write(&requirements, WRONG_HASH).unwrap();
    let lines = Mutex::new(Vec::new());
    let sink = |event: StepEvent| lines.lock().unwrap().push(event);
    let error = toolchain::ensure(&store, "2.16.19", Some(&requirements), &Cancel::new(), &sink).unwrap_err();
    assert!(matches!(error, ToolchainError::Install { .. }), "{error}");
    let told = format!("{:?}", lines.into_inner().unwrap());
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("pip") || cause.contains("HASHES"), "{cause}");
    assert!(told.contains("installing ansible-core 2.16.19"), "{told}");
    assert!(!error.is_definition_error() && error.hint().is_some());
    let left: Vec<_> =
        fs::read_dir(store.dir().join("staging")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.is_dir()), "{left:?}");
    assert!(is_empty(&store));
}

#[test]
fn cancelling_an_installation_leaves_nothing() {
    let dir = tempfile::tempdir_in(support::shared()).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let cancel = Cancel::new();
    let other = cancel.clone();
    let error = toolchain::ensure(&store, "2.16.19", None, &cancel, &move |_| other.cancel()).unwrap_err();
    assert!(matches!(error, ToolchainError::Cancelled(_)), "{error}");
    assert!(is_empty(&store));
}
