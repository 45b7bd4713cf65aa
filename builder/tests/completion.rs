//! `rootbuild completion`: the script, and what a shell gets when it asks.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rootbuild");

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rootfs.tar"), "").unwrap();
    fs::write(
        dir.path().join("rootbuild.toml"),
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar\"\nunverified = true\n\
         [root.hgweb]\nbase = \"b\"\n[root.hgssh]\nbase = \"b\"\n[root.queue]\nbase = \"b\"\n",
    )
    .unwrap();
    dir
}

/// What bash offers for the last of `words`.
fn offered(dir: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new(PROGRAM)
        .env("ROOTBUILD_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_IFS", "\n")
        .arg("--")
        .args(words)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_shell_gets_a_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(PROGRAM).args(["completion", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("ROOTBUILD_COMPLETE"), "{shell}");
    }
    assert_eq!(Command::new(PROGRAM).args(["completion", "cmd"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn bash_accepts_its_script() {
    let script = Command::new(PROGRAM).args(["completion", "bash"]).output().unwrap().stdout;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("script"), script).unwrap();
    let output = Command::new("bash").args(["-n", "script"]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn commands_and_roots_of_the_definition_at_hand_are_offered() {
    let dir = project();
    assert_eq!(offered(dir.path(), &["rootbuild", "prov"]), ["provision"]);
    assert_eq!(offered(dir.path(), &["rootbuild", "log", "hg"]), ["hgweb", "hgssh"]);
    assert_eq!(offered(dir.path(), &["rootbuild", "provision", "hgweb", "q"]), ["queue"]);
    assert_eq!(offered(dir.path(), &["rootbuild", "provision", "--rebuild", "b"]), ["base:b"]);
}

#[test]
fn roots_come_from_the_definition_that_the_command_line_names() {
    let dir = project();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = dir.path().to_str().unwrap();
    assert_eq!(offered(elsewhere.path(), &["rootbuild", "-f", file, "show", "q"]), ["queue"]);
    let option = format!("--file={file}");
    assert_eq!(offered(elsewhere.path(), &["rootbuild", &option, "show", "q"]), ["queue"]);
}

#[test]
fn without_a_sound_definition_nothing_is_said_in_the_middle_of_a_command_line() {
    let dir = tempfile::tempdir().unwrap();
    assert!(offered(dir.path(), &["rootbuild", "show", "x"]).is_empty());
    fs::write(dir.path().join("rootbuild.toml"), "[root").unwrap();
    assert!(offered(dir.path(), &["rootbuild", "show", "x"]).is_empty());
}

#[test]
fn bases_that_name_a_lock_are_offered_where_one_is_locked() {
    let dir = project();
    let mut text = fs::read_to_string(dir.path().join("rootbuild.toml")).unwrap();
    for (name, lock) in [("centos7", "lock = \"a.lock\"\n"), ("centos8", "")] {
        text.push_str(&format!(
            "[base.{name}]\nsource = \"rpm\"\nrepos = [\"a.repo\"]\npackages = [\"@core\"]\n{lock}"
        ));
    }
    fs::write(dir.path().join("rootbuild.toml"), text).unwrap();
    fs::write(dir.path().join("a.repo"), "").unwrap();
    assert_eq!(offered(dir.path(), &["rootbuild", "lock", "c"]), ["centos7"]);
}
