//! What `no_log` hides stays hidden, however verbose the run is.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use support::{Bench, VERSIONS, privileged};

#[test]
fn the_environment_of_a_no_log_task_is_in_no_log() {
    for version in VERSIONS.iter().filter(|_| privileged("the_environment_of_a_no_log_task_is_in_no_log")) {
        let mut bench = Bench::new(version);
        bench.run.verbosity = 4;
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: echo shown-words\n    - \
             ansible.builtin.raw: echo $WORD; test hunter2\n      no_log: true\n      environment: {WORD: \
             hunter2}\n    - ansible.builtin.command: \"true\"\n      no_log: true\n      environment: {WORD: \
             hunter2}\n",
        );
        bench.go().unwrap();
        let log = bench.log();
        assert!(log.contains("EXEC") && log.contains("shown-words") && !log.contains("hunter2"), "{log}");
    }
}
