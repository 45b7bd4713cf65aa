//! File systems of a test's own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Set where mounts are private.
const AGAIN: &str = "FAULTS_AGAIN";

/// Whether this process has mounts of its own, which vanish with it. One that hasn't runs the test `name` in one that
/// has, and is done.
pub(crate) fn are_private(name: &str) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        return true;
    }
    // Once is enough.
    let _ = rootbuild_tests::rootbuild_binary();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().expect("a path"));
    let status = unshare.args(["--exact", name, "--nocapture"]).env(AGAIN, "").status();
    assert!(status.expect("unshare runs").success(), "{name}");
    false
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Mounts the image of a file system.
pub(crate) fn mount(image: &Path, at: &Path) {
    run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
}
