//! How often a provision waits for the disk: a number of times that doesn't depend on how much there is to write.

use std::collections::BTreeMap;
use std::process::Command;

use rootbuild_tests::{Project, privileged};

use crate::launch;
use crate::project::{PROVISION, definition};
use crate::supervise::{Done, Say};

/// The most that a first provision of one root needs, and a later one; docs/store.md says what each is for.
const FIRST: usize = 32;
const LATER: usize = 30;

fn archive(project: &Project, name: &str, files: usize) {
    let script = "rm -rf t; mkdir -p t; cd t; i=0
        while [ $i -lt $2 ]; do d=$((i % 20)); mkdir -p $d; echo $1 $i > $d/$i; i=$((i + 1)); done; tar -cf ../$1.tar .";
    let mut sh = Command::new("sh");
    sh.args(["-euc", script, "sh", name, &files.to_string()]).current_dir(project.dir());
    assert!(sh.status().expect("sh runs").success());
}

/// How often each call that makes something durable was made.
fn syncs(done: &Done) -> (usize, BTreeMap<String, usize>) {
    let mut counts = BTreeMap::new();
    for call in done.calls.iter().filter(|call| call.syncs()) {
        *counts.entry(call.name.to_owned()).or_default() += 1;
    }
    (counts.values().sum(), counts)
}

#[test]
fn a_provision_syncs_a_bounded_number_of_times_whatever_its_size() {
    if !privileged("a_provision_syncs_a_bounded_number_of_times_whatever_its_size") {
        return;
    }
    let mut counted = Vec::new();
    for files in [20, 600] {
        let project = Project::with_own_store();
        let mut of_this = Vec::new();
        for which in ["a", "b"] {
            archive(&project, which, files);
            project.write("rootbuild.toml", &definition(which, "r"));
            let command = project.command(PROVISION);
            let (ran, done) = launch::run(&command, project.store(), Box::new(|_| Say::GoOn));
            let _ = ran.expect(0);
            of_this.push(syncs(&done));
        }
        // Nothing is to be done.
        let command = project.command(PROVISION);
        let (ran, done) = launch::run(&command, project.store(), Box::new(|_| Say::GoOn));
        let _ = ran.expect(0);
        of_this.push(syncs(&done));
        println!("{files} files: {of_this:?}");
        counted.push(of_this);
    }
    let totals = |of: &[(usize, _)]| of.iter().map(|(total, _)| *total).collect::<Vec<_>>();
    assert_eq!(totals(&counted[0]), totals(&counted[1]), "it depends on the number of files");
    assert!(counted[0][0].0 <= FIRST && counted[0][1].0 <= LATER, "{counted:?}");
}
