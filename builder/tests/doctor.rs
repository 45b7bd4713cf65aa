//! `rootbuild doctor`, run on this machine and on this machine with something taken away.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rootbuild");

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test}: needs root privileges");
    }
    root
}

/// `doctor --json` in a directory.
fn doctor(dir: &Path) -> (Value, Option<i32>) {
    let mut command = Command::new(PROGRAM);
    told(&command.args(["doctor", "--json", "--store", "store"]).current_dir(dir).output().unwrap())
}

/// `doctor --json` in an empty directory, after a shell script in a mount namespace of its own.
fn doctor_after(script: &str, dir: &Path) -> (Value, Option<i32>) {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(format!("{script}\nexec \"$@\""))
        .args(["sh", PROGRAM, "doctor", "--json", "--store"])
        .arg(dir.join("store"))
        .current_dir(dir)
        .output()
        .unwrap();
    told(&output)
}

/// The same on a file system of its own; `None` where this test can't mount one.
fn doctor_on_tmpfs(test: &str, options: &str) -> Option<(Value, Option<i32>)> {
    let dir = is_root(test).then(|| tempfile::tempdir().unwrap())?;
    Some(doctor_after(&format!("mount -t tmpfs -o {options} tmpfs . && cd \"$PWD\""), dir.path()))
}

fn told(output: &Output) -> (Value, Option<i32>) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {stdout}{}", String::from_utf8_lossy(&output.stderr)));
    (json, output.status.code())
}

fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    told["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn every_check_is_told_as_json_and_missing_things_give_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let (told, code) = doctor(dir.path());
    let checks = told["checks"].as_array().unwrap();
    assert!(checks.len() > 15);
    for check in checks {
        assert!(check["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{check}");
        assert_eq!(
            check["status"] == "ok",
            check["hint"].is_null(),
            "a hint where there is something to do: {check}"
        );
    }
    let missing = checks.iter().any(|check| check["status"] == "missing");
    assert_eq!(told["ok"], !missing);
    assert_eq!(code, Some(i32::from(missing)));
    assert!(told["store"].as_str().unwrap().starts_with('/'));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn without_a_terminal_a_line_begins_with_a_plain_word() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        Command::new(PROGRAM).args(["doctor", "--store", "x"]).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok      kernel")), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('✓'), "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_store_on_a_small_file_system_is_told_before_it_is_full() {
    let test = "a_store_on_a_small_file_system_is_told_before_it_is_full";
    let Some((told, code)) = doctor_on_tmpfs(test, "size=64m") else { return };
    let space = check(&told, "free space");
    assert_eq!(space["status"], "missing");
    assert!(space["hint"].as_str().unwrap().contains("--store"));
    assert!(check(&told, "store")["detail"].as_str().unwrap().ends_with("on tmpfs"));
    assert_eq!(code, Some(1));
}

#[test]
fn a_store_that_can_not_be_written_is_missing() {
    let test = "a_store_that_can_not_be_written_is_missing";
    let Some((told, code)) = doctor_on_tmpfs(test, "ro") else { return };
    let store = check(&told, "store");
    assert_eq!(store["status"], "missing");
    assert!(store["detail"].as_str().unwrap().contains("read-only file system"), "{store}");
    assert_eq!(code, Some(1));
}

#[test]
fn devices_that_can_not_be_made_are_told() {
    if !is_root("devices_that_can_not_be_made_are_told") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-mknod", PROGRAM, "doctor", "--json", "--store", "store"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let (told, _) = told(&output);
    let files = check(&told, "files");
    assert_eq!(files["status"], "missing");
    assert!(files["detail"].as_str().unwrap().contains("devices (operation not permitted)"), "{files}");
}

#[test]
fn rpm_and_dnf_are_missing_only_where_nothing_takes_their_place() {
    if !is_root("rpm_and_dnf_are_missing_only_where_nothing_takes_their_place") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let hide = "test ! -e /usr/bin/rpm || mount --bind /dev/null /usr/bin/rpm; \
                for dnf in /usr/lib/python3*/*-packages/dnf; do test ! -d $dnf || mount -t tmpfs none $dnf; done";
    std::fs::write(dir.path().join("x.repo"), "[x]\nbaseurl=http://x/\ngpgcheck=0\n").unwrap();
    let status = |lock: bool, bootstrap: &str| {
        let definition = format!(
            "[base.b]\nsource = \"rpm\"\nrepos = [\"x.repo\"]\npackages = [\"x\"]\nlock = \"x.lock\"\nbootstrap = \"{bootstrap}\"\n\
             [root.a]\nbase = \"b\"\n"
        );
        std::fs::write(dir.path().join("rootbuild.toml"), definition).unwrap();
        let _ = std::fs::remove_file(dir.path().join("x.lock"));
        if lock {
            std::fs::write(dir.path().join("x.lock"), "").unwrap();
        }
        let (told, _) = doctor_after(hide, dir.path());
        ["rpm", "python3-dnf"].map(|name| check(&told, name)["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status(true, "auto"), ["warning", "warning"]);
    assert_eq!(status(true, "root"), ["warning", "warning"]);
    assert_eq!(status(false, "host"), ["missing", "missing"]);
}

#[test]
fn a_tool_is_missing_only_where_the_definition_needs_it() {
    if !is_root("a_tool_is_missing_only_where_the_definition_needs_it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let hide = "test ! -e /usr/bin/mmdebstrap || mount --bind /dev/null /usr/bin/mmdebstrap";
    let (told, _) = doctor_after(hide, dir.path());
    assert_eq!(check(&told, "mmdebstrap")["status"], "warning");
    let definition = "[base.b]\nsource = \"debian\"\nsuite = \"bookworm\"\n[root.a]\nbase = \"b\"\n";
    std::fs::write(dir.path().join("rootbuild.toml"), definition).unwrap();
    let (told, code) = doctor_after(hide, dir.path());
    let tool = check(&told, "mmdebstrap");
    assert_eq!(tool["status"], "missing");
    assert!(tool["hint"].as_str().unwrap().contains("mmdebstrap"));
    assert_eq!(code, Some(1));
}

#[test]
fn a_broken_definition_is_told_and_the_machine_looked_at_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rootbuild.toml"), "[root.a]\n").unwrap();
    let (told, code) = doctor(dir.path());
    assert_eq!(check(&told, "definition")["status"], "missing");
    assert_eq!(check(&told, "kernel")["status"], "ok");
    assert_eq!(code, Some(1));
}
