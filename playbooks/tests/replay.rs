//! Journals: what they answer, and that it is what a root would have answered.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use rootbuild_playbooks::event::{RunEvent, TaskStatus};
use rootbuild_playbooks::run::Outcome;
use support::{Bench, VERSIONS, changed, privileged};

/// A bench whose root nobody else has, so that it has no journals.
fn fresh(version: &str) -> Bench {
    let mut bench = Bench::new(version);
    let own = bench.dir.path().join("own");
    std::fs::create_dir_all(own.join("etc")).unwrap();
    std::fs::write(own.join("etc/own"), own.to_str().unwrap()).unwrap();
    bench.run.parent = changed(&bench.run.parent, &own);
    bench.run.replay = true;
    bench
}

fn with_each(test: &str, body: impl Fn(&mut Bench)) {
    if privileged(test) {
        VERSIONS.iter().for_each(|version| body(&mut fresh(version)));
    }
}

/// Runs it with what journals know, and whole; both must come to the same.
fn again(bench: &mut Bench) -> Outcome {
    bench.forget();
    let replayed = bench.go().unwrap();
    let told = results(bench);
    bench.run.replay = false;
    bench.forget();
    let whole = bench.go().unwrap();
    bench.run.replay = true;
    assert_eq!(told, results(bench));
    assert_eq!(replayed.tree, whole.tree, "{:?}", replayed.replay);
    assert_eq!((whole.replay.answered, whole.tasks_replayed), (0, 0));
    replayed
}

fn results(bench: &Bench) -> Vec<(String, TaskStatus)> {
    let events = bench.events().into_iter();
    events
        .filter_map(|event| match event {
            RunEvent::Result { name, status, .. } => Some((name, status)),
            _ => None,
        })
        .collect()
}

const SIMPLE: &str = "- hosts: web0
  tasks:
    - ansible.builtin.copy: {content: 'hello ', dest: /etc/one}
    - ansible.builtin.template: {src: x.j2, dest: /etc/two}
      register: two
    - ansible.builtin.command: {cmd: cat /etc/one /etc/two}
      register: both
      changed_when: false
    - ansible.builtin.copy: {content: '{{ both.stdout }} {{ two.changed }}', dest: /etc/three}
";

#[test]
fn an_unchanged_playbook_needs_no_root() {
    with_each("an_unchanged_playbook_needs_no_root", |bench| {
        bench.write("x.j2", "{{ ansible_facts.os_family }}\n").playbook(SIMPLE);
        let cold = bench.go().unwrap();
        assert_eq!((cold.replay.answered, cold.tasks_run), (0, 5));
        let replayed = again(bench);
        assert!(replayed.replay.is_whole(), "{:?}", replayed.replay);
        assert_eq!((replayed.tasks_run, replayed.tasks_replayed, replayed.tree), (0, 5, cold.tree));
    });
}

#[test]
fn a_changed_template_runs_from_there_on() {
    with_each("a_changed_template_runs_from_there_on", |bench| {
        bench.write("x.j2", "one\n").playbook(SIMPLE);
        bench.go().unwrap();
        bench.write("x.j2", "two\n");
        let edited = again(bench);
        assert_eq!((edited.tasks_run, edited.tasks_replayed), (3, 2), "{:?}", edited.replay);
        assert_eq!(edited.replay.diverged.as_ref().unwrap().source, "site.yml:4");
        assert_eq!(std::fs::read_to_string(bench.made("etc/three")).unwrap(), "hello two True");
        bench.write("x.j2", "one\n");
        assert!(again(bench).replay.is_whole());
    });
}
