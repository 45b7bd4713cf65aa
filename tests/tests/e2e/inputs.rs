//! Exact inputs: an edit is built if the run read what was edited, and only then.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rootbuild_playbooks::trace::{Scope, Tracing};
use rootbuild_tests::{Project, Ran, privileged, rootbuild_binary};

use crate::support::{el7_project, statuses, tasks_run};

const SITE: &str = "- hosts: all
  gather_facts: false
  roles: [used]
  tasks:
    - copy: {src: \"{{ playbook_dir }}/../outside\", dest: /etc/outside}
    - copy: {content: \"{{ flavour | default('plain') }}\", dest: /etc/flavour}
    - copy: {content: \"{{ lookup('env', 'E2E_WORD') }}\", dest: /etc/word}
";

fn project(root: &str) -> Project {
    let project = el7_project("", "");
    let roots = format!(
        "{}project = \"ansible\"\n[root.{root}]\nbase = \"el7\"\nplaybooks = [\"ansible/site.yml\"]\n",
        crate::support::EL7
    );
    project.write("rootbuild.toml", &roots).write("ansible/site.yml", SITE).write("outside", "1\n");
    project.write("ansible/roles/used/tasks/main.yml", "- template: {src: t.j2, dest: /etc/t}\n");
    project.write("ansible/roles/used/templates/t.j2", "one\n");
    project.write("ansible/roles/unused/tasks/main.yml", "- command: /bin/false\n");
    project
}

fn provision(project: &Project) -> Ran {
    project.rootbuild(&["provision", "--json"]).expect(0)
}

/// Kinds and subjects of the reasons for the playbook's layer.
fn reasons(project: &Project) -> Vec<(String, String)> {
    let plan = project.rootbuild(&["plan", "--json"]).expect(0).json();
    let reasons = plan["roots"][0]["layers"][1]["reasons"].as_array().expect("reasons").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    reasons.iter().map(|reason| (text(&reason["kind"]), text(&reason["subject"]))).collect()
}

#[test]
fn what_the_run_did_not_read_may_change() {
    if !privileged("what_the_run_did_not_read_may_change") {
        return;
    }
    let project = project("exact");
    assert_eq!(tasks_run(&provision(&project)), 4);
    assert_eq!(statuses(&provision(&project)), ["cached", "cached"]);

    project.write("ansible/roles/unused/tasks/main.yml", "- command: /bin/true\n");
    project.write("ansible/roles/unused/files/new", "").write("ansible/README", "");
    project.write("ansible/host_vars/another.yml", "flavour: sweet\n");
    std::fs::remove_dir_all(project.dir().join("ansible/host_vars")).expect("it was made");
    let mut touch = Command::new("find");
    touch.arg(project.dir().join("ansible")).args(["-exec", "touch", "{}", "+"]);
    assert!(touch.status().expect("find runs").success());
    assert_eq!(statuses(&provision(&project)), ["cached", "cached"]);
}

#[test]
fn what_the_run_read_may_not() {
    if !privileged("what_the_run_read_may_not") {
        return;
    }
    let project = project("read");
    let first = provision(&project);
    let file = |name: &str| [("file".to_owned(), name.to_owned())];
    project.write("ansible/roles/used/templates/t.j2", "two\n");
    assert_eq!(reasons(&project), file("roles/used/templates/t.j2"));
    let _ = provision(&project);
    assert_eq!(project.inside("read", "cat /etc/t"), "two\n");

    project.write("ansible/roles/used/templates/t.j2", "one\n");
    let back = provision(&project);
    assert_eq!(statuses(&back), ["cached", "cached"]);
    assert_eq!(back.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);

    project.write("outside", "2\n");
    assert_eq!(reasons(&project), file(project.dir().join("outside").to_str().expect("text")));
    let _ = provision(&project);
    assert_eq!(project.inside("read", "cat /etc/outside"), "2\n");

    project.write("ansible/host_vars/read.yml", "flavour: sweet\n");
    assert_eq!(reasons(&project)[0].0, "appeared");
    let _ = provision(&project);
    assert_eq!(project.inside("read", "cat /etc/flavour"), "sweet");

    let mut command = project.command(&["provision", "--json"]);
    let ran = Ran::new(&command.env("E2E_WORD", "word").output().expect("rootbuild runs")).expect(0);
    assert_ne!(statuses(&ran)[1], "cached");
    assert_eq!(project.inside("read", "cat /etc/word"), "word");
    assert_eq!(statuses(&provision(&project)), ["cached", "cached"], "without it, it is as before");
}

#[test]
fn where_nothing_can_be_traced_every_change_counts_and_that_is_said() {
    if !privileged("where_nothing_can_be_traced_every_change_counts_and_that_is_said") {
        return;
    }
    let project = project("coarse");
    // The kernel has one listener for a process: what is traced itself can trace nothing.
    let provision = || {
        let mut tracing = Tracing::new(Scope::default(), Arc::default()).expect("a thread");
        let mut command = Command::new(rootbuild_binary());
        command.arg("__trace").arg(rootbuild_binary()).args(["provision", "--json", "--store"]);
        command.arg(project.store()).current_dir(project.dir());
        tracing.attach(&mut command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rootbuild runs");
        let ran = Ran::new(&child.wait_with_output().expect("it ends")).expect(0);
        tracing.finish().expect("it was traced");
        ran
    };
    let first = provision().says(&["can't be traced"]);
    assert_ne!(statuses(&first)[1], "cached");
    assert_eq!(reasons(&project), []);
    assert_eq!(statuses(&provision()), ["cached", "cached"]);
    project.write("ansible/roles/unused/files/new", "");
    assert_eq!(reasons(&project).len(), 1);
    assert_ne!(statuses(&provision())[1], "cached");
    std::fs::remove_dir_all(project.dir().join("ansible/roles/unused/files")).expect("it was made");
    assert_eq!(statuses(&provision()), ["cached", "cached"]);
}
