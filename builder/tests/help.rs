//! `--help` of every command, as people see it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::process::Command;

fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootbuild"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOTBUILD_") {
            command.env_remove(name);
        }
    }
    let output = command.args(arguments).arg("--help").env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_is_complete_and_terse() {
    insta::assert_snapshot!("rootbuild", help(&[]));
    for command in [
        "init",
        "provision",
        "plan",
        "explain",
        "list",
        "show",
        "log",
        "shell",
        "sbom",
        "units",
        "up",
        "down",
        "status",
        "restart",
        "rollback",
        "logs",
        "exec",
        "lock",
        "pin",
        "unpin",
        "cache",
        "cache gc",
        "cache fsck",
        "cache size",
        "doctor",
        "completion",
    ] {
        // The options of every command are shown once.
        let text = help(&command.split(' ').collect::<Vec<_>>());
        let own = text.split("\nGlobal options:").next().unwrap();
        insta::assert_snapshot!(command.replace(' ', "-"), own);
    }
}
