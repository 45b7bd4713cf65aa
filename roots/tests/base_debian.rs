//! Bases from a Debian archive: the host's own mirror, where it has one. They need root privileges and
//! mmdebstrap; one needs the network.

#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use rootbuild_cache::Store;
use rootbuild_roots::base::{BaseContext, BaseError, BaseSource, DebianBase, DebianError};
use rootbuild_roots::{Cancel, StepEvent};

/// Whether mmdebstrap can run here; says so if not.
fn privileged() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/usr/bin/mmdebstrap").exists();
    if !can {
        println!("skipped: needs root privileges and mmdebstrap");
    }
    can
}

fn base(packages: &[&str]) -> DebianBase {
    DebianBase {
        suite: "bookworm".to_owned(),
        packages: packages.iter().map(|&name| name.to_owned()).collect(),
        mirror: None,
        components: vec![],
        variant: None,
        keyring: None,
    }
}

/// Builds into `dir/root`.
fn build(base: &DebianBase, dir: &Path) -> (Result<serde_json::Value, BaseError>, Vec<StepEvent>) {
    let store = Store::open(&dir.join("store")).unwrap();
    for name in ["root", "scratch"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let events = Mutex::new(Vec::new());
    let sink = |event| events.lock().unwrap().push(event);
    let (cancel, scratch) = (Cancel::new(), dir.join("scratch"));
    let context = BaseContext { store: &store, cancel: &cancel, sink: &sink, scratch: &scratch };
    let result = base.build(context, &dir.join("root"));
    (result, events.into_inner().unwrap())
}

fn error(base: &DebianBase) -> (String, DebianError) {
    let dir = tempfile::tempdir().unwrap();
    match build(base, dir.path()).0 {
        Err(BaseError::Debian(error)) => (error.to_string(), error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_minimal_root_is_bootstrapped() {
    if !privileged() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (result, events) = build(&base(&["bc"]), dir.path());
    let facts = match result {
        Err(BaseError::Debian(DebianError::Unreachable { .. })) => {
            println!("skipped: the Debian archive can't be reached");
            return;
        }
        other => other.unwrap(),
    };
    let packages = facts["packages"].as_array().unwrap();
    assert!(packages.iter().any(|p| p["name"] == "bc") && packages.len() > 50, "{facts}");
    assert!(dir.path().join("root/usr/bin/bc").exists());
    assert!(!dir.path().join("root/etc/hostname").exists());
    assert!(
        events.iter().any(|event| matches!(event, StepEvent::Phase(p) if p.contains("packages"))),
        "{events:?}"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()));
    let (text, error) = error(&base(&["no-such-package-at-all"]));
    assert!(matches!(error, DebianError::UnknownPackage { .. }), "{text}");
    assert!(text.contains("`no-such-package-at-all`"), "{text}");
}

#[test]
fn a_suite_that_is_not_there_is_named() {
    if !privileged() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dists")).unwrap();
    let mirror = Some(format!("file://{}", dir.path().display()));
    let (text, error) = error(&DebianBase { suite: "bookwurm".to_owned(), mirror, ..base(&[]) });
    assert!(matches!(error, DebianError::UnknownSuite { .. }), "{text}");
    assert!(text.contains("`bookwurm`"), "{text}");
}

#[test]
fn an_archive_that_is_not_reached_is_named() {
    if !privileged() {
        return;
    }
    let mirror = Some("http://127.0.0.1:9/debian".to_owned());
    let (text, error) = error(&DebianBase { mirror, ..base(&[]) });
    assert!(matches!(error, DebianError::Unreachable { .. }), "{text}");
    assert!(text.contains("http://127.0.0.1:9/debian") && error.hint().is_some(), "{text}");
}

#[test]
fn an_unsigned_archive_is_refused() {
    if !privileged() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dists = dir.path().join("dists/bookworm/main/binary-amd64");
    fs::create_dir_all(&dists).unwrap();
    fs::write(dists.join("Packages"), "").unwrap();
    let release = "Suite: bookworm\nCodename: bookworm\nDate: Sat, 11 Jan 2025 10:07:03 UTC\nComponents: main\nArchitectures: amd64\n";
    fs::write(dir.path().join("dists/bookworm/Release"), release).unwrap();
    let mirror = Some(format!("file://{}", dir.path().display()));
    let (text, error) = error(&DebianBase { mirror, ..base(&[]) });
    assert!(matches!(error, DebianError::Untrusted(_)), "{text}");
}

#[test]
fn names_that_are_options_or_lists_are_refused() {
    for name in ["--variant=x", "a,b", "a b", ""] {
        assert!(matches!(base(&[name]).key(), Err(BaseError::Debian(DebianError::BadName(_)))), "{name}");
    }
}

#[test]
fn the_key_follows_the_settings_and_the_keyring() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.gpg"), "one").unwrap();
    let with = |change: &dyn Fn(&mut DebianBase)| {
        let mut base = base(&["bc"]);
        change(&mut base);
        base.key().unwrap().0
    };
    let keyring = |base: &mut DebianBase| base.keyring = Some(dir.path().to_owned());
    let mut keys = vec![
        with(&|_| ()),
        with(&|base| base.suite = "trixie".to_owned()),
        with(&|base| base.packages.clear()),
        with(&|base| base.mirror = Some("http://m".to_owned())),
        with(&|base| base.components = vec!["main".to_owned(), "contrib".to_owned()]),
        with(&|base| base.variant = Some("apt".to_owned())),
        with(&keyring),
    ];
    fs::write(dir.path().join("a.gpg"), "two").unwrap();
    keys.push(with(&keyring));
    assert_eq!(with(&|base| base.components = vec!["main".to_owned()]), keys[0]);
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}
