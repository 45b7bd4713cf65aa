//! Payloads that runs share: never what one project has changed.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{Bench, VERSIONS, privileged};

/// What a project puts in the place of `basic.py`: the same, and a mark in the root.
fn marked(bench: &Bench) -> String {
    let lib = bench.run.toolchain.dir.join("lib");
    let python: PathBuf = fs::read_dir(lib).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let basic = python.join("site-packages/ansible/module_utils/basic.py");
    fs::read_to_string(basic).unwrap() + "\nopen('/marked', 'a').close()\n"
}

#[test]
fn module_utils_of_one_project_reach_no_other() {
    let test = "module_utils_of_one_project_reach_no_other";
    for version in VERSIONS.iter().filter(|_| privileged(test)) {
        let playbook = "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n";
        let mut first = Bench::new(version);
        first.run.cache = first.dir.path().join("cache");
        first.write("ansible.cfg", "[defaults]\nmodule_utils = lib/mu\n");
        first.write("lib/mu/basic.py", &marked(&first)).playbook(playbook);
        first.go().unwrap();
        assert!(first.made("marked").exists());
        let mut second = Bench::new(version);
        second.run.cache = first.run.cache.clone();
        second.playbook(playbook).go().unwrap();
        assert!(!second.made("marked").exists());
        // Nor does the first project get what the second has left.
        fs::remove_file(first.made("marked")).unwrap();
        first.go().unwrap();
        assert!(first.made("marked").exists());
    }
}
