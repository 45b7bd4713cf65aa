//! A store doesn't fill its file system; where it is filled all the same, nothing is half done.

use std::process::Command;

use rootbuild_tests::{Project, privileged};

use crate::mounts;
use crate::project::{Small, definition};
use crate::whole;

#[test]
fn below_the_floor_nothing_is_begun() {
    if !privileged("below_the_floor_nothing_is_begun") {
        return;
    }
    let small = Small::new();
    let store = small.store();
    let ran = small.project.rootbuild(&["provision", "--min-free", "100%"]).expect(1);
    let _ = ran.says(&[
        &store.to_string_lossy(),
        "are free",
        "100 %",
        "have to stay free",
        "cache gc` would free",
        "--min-free",
    ]);
    assert_eq!(whole::left_over(&store), Vec::<String>::new());
    let _ = small.provision();
    // What needs no room is done, or makes some.
    let _ = small.project.rootbuild(&["cache", "gc", "--min-free", "100%", "--max-age", "0s"]).expect(0);
    let _ = small.project.rootbuild(&["provision", "--min-free", "100%"]).expect(0);
    let _ = small.project.rootbuild(&["provision", "--min-free", "a bit"]).expect(2).says(&["3%"]);
}

const FILLED: &str = "floor::a_file_system_that_gets_full_is_left_in_time_and_left_whole";

#[test]
fn a_file_system_that_gets_full_is_left_in_time_and_left_whole() {
    if !privileged(FILLED) || !mounts::are_private(FILLED) {
        return;
    }
    let dir = tempfile::tempdir().expect("there is room");
    let tmpfs = ["-t", "tmpfs", "-o", "size=96m", "tmpfs"].map(AsRef::as_ref);
    mounts::run("mount", &[&tmpfs[..], &[dir.path().as_ref()]].concat());
    let small = Small::on(Project::on_store(dir.path().join("store")));
    let expected = small.provision();
    for (name, megabytes, floor, says) in [
        // More than half stays free until the archive is unpacked.
        ("big", 30, "70%", ["have to stay free", "70 %"]),
        ("bigger", 120, "0", ["no space left on device", "cache gc"]),
    ] {
        let script = "mkdir t; head -c $2M /dev/urandom > t/big; tar -C t -cf $1.tar .; rm -r t";
        let mut sh = Command::new("sh");
        sh.args(["-euc", script, "sh", name, &megabytes.to_string()]).current_dir(small.project.dir());
        assert!(sh.status().expect("sh runs").success());
        small.project.write("rootbuild.toml", &definition(name, "r"));
        let ran = small.project.rootbuild(&["provision", "--min-free", floor]).expect(1);
        let _ = ran.says(&[&says[..], &[&*small.store().to_string_lossy()]].concat());
        assert_eq!(whole::left_over(&small.store()), Vec::<String>::new());
        assert_eq!(whole::faults(&small.store()), Vec::<String>::new());
        small.define("a");
        assert_eq!(small.provision(), expected);
    }
}
