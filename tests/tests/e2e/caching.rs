//! What is built again, and what isn't.

use rootbuild_tests::{Ran, privileged};

use crate::support::{el7_project, statuses, tasks_run};

const ROOTS: &str = "[root.cached]\nbase = \"el7\"\nplaybooks = [\"one.yml\", \"site.yml\"]\n";
const ONE: &str =
    "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: one, dest: /etc/one}\n";
const SITE: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {src: two, dest: /etc/two}\n";

#[test]
fn an_edit_is_built_and_explained_and_taking_it_back_is_cached() {
    if !privileged("an_edit_is_built_and_explained_and_taking_it_back_is_cached") {
        return;
    }
    let project = el7_project(ROOTS, SITE);
    project.write("one.yml", ONE).write("files/two", "2\n");
    let before = project.rootbuild(&["plan", "--json"]).expect(0).json();
    assert_eq!(before["roots"][0]["layers"][2]["status"], "build");
    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(tasks_run(&first), 2);
    let _ = project.rootbuild(&["plan", "--detailed-exitcode"]).expect(0);

    project.write("files/two", "22\n");
    let plan = project.rootbuild(&["plan", "--json", "--detailed-exitcode"]).expect(5).json();
    let reasons = plan["roots"][0]["layers"][1]["reasons"].as_array().expect("reasons").clone();
    assert!(reasons.iter().any(|r| r["kind"] == "file" && r["subject"] == "files/two"), "{reasons:?}");
    let edited = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(edited.json()["roots"][0]["changed"], true);
    assert_eq!(project.inside("cached", "cat /etc/one /etc/two"), "one22\n");

    project.write("files/two", "2\n");
    let back = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&back), ["cached", "cached", "cached"]);
    assert_eq!(back.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);
    assert_eq!(back.json()["roots"][0]["changed"], true, "the checkout goes back too");
    assert_eq!(project.inside("cached", "cat /etc/two"), "2\n");
}

#[test]
fn a_step_that_gives_the_same_tree_cuts_off_what_comes_after() {
    if !privileged("a_step_that_gives_the_same_tree_cuts_off_what_comes_after") {
        return;
    }
    // Each playbook is a project of its own in effect: only the definition's vars change the first.
    let roots = |mark: &str| {
        format!(
            "{}\n[root.cutoff]\nbase = \"el7\"\nplaybooks = [\"one.yml\"]\nvars = {{ mark = \"{mark}\" }}\n\
             [base.on]\nsource = \"root\"\nroot = \"cutoff\"\n[root.after]\nbase = \"on\"\nplaybooks = [\"site.yml\"]\n",
            crate::support::EL7
        )
    };
    let project = el7_project("[root.x]\nbase = \"el7\"\n", SITE);
    project.write("one.yml", ONE).write("files/two", "2\n").write("rootbuild.toml", &roots("a"));
    let _ = project.rootbuild(&["provision"]).expect(0);
    project.write("rootbuild.toml", &roots("b"));
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&ran), ["cached", "built", "cached", "cached"]);
    assert_eq!(tasks_run(&ran), 1);
}

#[test]
fn a_change_while_a_playbook_runs_is_not_recorded() {
    if !privileged("a_change_while_a_playbook_runs_is_not_recorded") {
        return;
    }
    let project = el7_project(
        "[root.moving]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: echo x >> {{ playbook_dir }}/late\n      delegate_to: localhost\n",
    );
    let ran = project.rootbuild(&["provision", "--json"]).expect(0).says(&["changed while"]);
    assert_eq!(statuses(&ran)[1], "built");
    let again: Ran = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&again)[1], "built");
}

#[test]
fn plan_needs_no_privileges() {
    if !privileged("plan_needs_no_privileges") {
        return;
    }
    let project = el7_project("[root.plain]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", ONE);
    let _ = project.rootbuild(&["provision"]).expect(0);
    // Somebody else's project in a place that everybody may read, on the same store.
    let open = tempfile::Builder::new().prefix("rootbuild-plan-").tempdir_in("/var/tmp").expect("/var/tmp");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(project.dir().join(".")).arg(open.path()).status();
    assert!(copied.expect("cp runs").success());
    let binary = open.path().join("rootbuild");
    std::fs::copy(rootbuild_tests::rootbuild_binary(), &binary).expect("the binary is readable");
    let chmod = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(open.path()).status();
    assert!(chmod.expect("chmod runs").success());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["plan", "--json", "--store"])
        .arg(project.store())
        .current_dir(open.path())
        .output()
        .expect("setpriv runs");
    let plan = Ran::new(&output).expect(0).json();
    assert_eq!(plan["roots"][0]["layers"][0]["status"], "cached");
}
