//! `state: started` in a root: left to its unit, refused, or done for real where systemd is booted.

use rootbuild_tests::privileged;

use crate::support::el7_project;

const START: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: start cron\n      service: {name: crond, enabled: true, state: started}\n";

#[test]
fn services_that_are_to_be_started_can_be_refused() {
    if !privileged("services_that_are_to_be_started_can_be_refused") {
        return;
    }
    let root = "[root.refusing]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nservices = \"fail\"\n";
    let project = el7_project(root, START);
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["crond", "started", "boot"]);
    assert!(!project.root("refusing").exists());
}

#[test]
fn a_booted_root_runs_what_it_starts_and_is_captured_after_its_shutdown() {
    if !privileged("a_booted_root_runs_what_it_starts_and_is_captured_after_its_shutdown") {
        return;
    }
    let playbook = format!(
        "{START}    - command: systemctl is-active crond\n      register: cron\n\
         \x20   - copy: {{content: '{{{{ cron.stdout }}}}', dest: /etc/cron-was}}\n"
    );
    let project =
        el7_project("[root.booted]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nboot = true\n", &playbook);
    let _ = project.rootbuild(&["provision"]).expect(0);
    assert_eq!(project.inside("booted", "cat /etc/cron-was"), "active");
    let left = project.inside("booted", "stat -c %s /etc/machine-id; ls -A /run /tmp | wc -w");
    assert!(left.starts_with("0\n"), "{left}");
    let shown = project.rootbuild(&["show", "booted"]).expect(0);
    assert!(!shown.stdout.contains("left to its unit"), "{}", shown.stdout);
}
