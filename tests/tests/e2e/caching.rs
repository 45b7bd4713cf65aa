//! What is built again, and what isn't.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, Ran, privileged};

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
    assert_eq!(plan["roots"][0]["layers"][1]["status"], "cached", "one.yml doesn't read it");
    let reasons = plan["roots"][0]["layers"][2]["reasons"].as_array().expect("reasons").clone();
    assert!(reasons.iter().any(|r| r["kind"] == "file" && r["subject"] == "files/two"), "{reasons:?}");
    let edited = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&edited), ["cached", "cached", "built"]);
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
    // Another key, and the same requests: a journal answers them.
    assert_eq!(statuses(&ran), ["cached", "replayed", "cached", "cached"]);
    assert_eq!(tasks_run(&ran), 0);
}

#[test]
fn a_change_while_a_playbook_runs_is_not_recorded() {
    if !privileged("a_change_while_a_playbook_runs_is_not_recorded") {
        return;
    }
    let project = el7_project(
        "[root.moving]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {src: two, dest: /etc/two}\n    \
         - shell: 'touch started; while [ ! -e go ]; do sleep 0.1; done'\n      delegate_to: localhost\n      \
           args: {chdir: '{{ playbook_dir }}'}\n",
    );
    project.write("files/two", "2\n");
    let mut command = project.command(&["provision", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rootbuild runs");
    let started = Instant::now();
    while !project.dir().join("started").exists() {
        assert!(started.elapsed() < Duration::from_secs(600), "the task never starts");
        std::thread::sleep(Duration::from_millis(50));
    }
    project.write("files/two", "22\n").write("go", "");
    let ran = Ran::new(&child.wait_with_output().expect("it ends")).expect(0);
    let ran = ran.says(&["is not kept", "`files/two`", "changed while it ran"]);
    assert_eq!(statuses(&ran)[1], "built");
    let again: Ran = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_ne!(statuses(&again)[1], "cached");
    assert_eq!(project.inside("moving", "cat /etc/two"), "22\n");
}

#[test]
fn a_playbook_that_reads_what_it_wrote_the_last_time_runs_each_time() {
    if !privileged("a_playbook_that_reads_what_it_wrote_the_last_time_runs_each_time") {
        return;
    }
    let project = el7_project(
        "[root.counting]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: 'touch count; cat count; echo x >> count'\n      \
           delegate_to: localhost\n      args: {chdir: '{{ playbook_dir }}'}\n",
    );
    for _ in 0..3 {
        let ran: Ran = project.rootbuild(&["provision", "--json"]).expect(0);
        assert!(!ran.stderr.contains("changed while"), "{}", ran.stderr);
        assert_ne!(statuses(&ran)[1], "cached");
    }
}

#[test]
fn plan_needs_no_privileges() {
    if !privileged("plan_needs_no_privileges") {
        return;
    }
    let project = el7_project("[root.plain]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", ONE);
    if !crate::support::others_can_reach("plan_needs_no_privileges", project.dir()) {
        return;
    }
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

#[test]
fn another_inventory_is_another_layer() {
    if !privileged("another_inventory_is_another_layer") {
        return;
    }
    let define = |inventory: &str| {
        format!(
            "{}inventory = \"{inventory}\"\n[root.flavoured]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
            crate::support::EL7
        )
    };
    let project = el7_project("[root.x]\nbase = \"el7\"\n", "");
    project.write("hosts-a", "flavoured flavour=a\n").write("hosts-b", "flavoured flavour=b\n");
    project.write("site.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: '{{ flavour }}', dest: /etc/flavour}\n");
    for flavour in ["a", "b"] {
        project.write("rootbuild.toml", &define(&format!("hosts-{flavour}")));
        let _ = project.rootbuild(&["provision"]).expect(0);
        assert_eq!(project.inside("flavoured", "cat /etc/flavour"), flavour);
    }
}

#[test]
fn output_into_the_project_is_no_input() {
    if !privileged("output_into_the_project_is_no_input") {
        return;
    }
    let project = el7_project("[root.told]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", ONE);
    let log = || std::fs::OpenOptions::new().create(true).append(true).open(project.dir().join("out.log"));
    for built in [true, false] {
        let mut command = project.command(&["provision", "-v", "--events", "events"]);
        let status = command.stdout(log().expect("writable")).stderr(log().expect("writable")).status();
        assert!(status.expect("rootbuild runs").success());
        let said = std::fs::read_to_string(project.dir().join("out.log")).expect("it was written");
        assert!(!said.contains("changed while"), "{said}");
        assert_eq!(said.matches("site.yml: built").count(), 1, "built now: {built}\n{said}");
    }
}

#[test]
fn a_base_that_changes_while_it_is_awaited_is_not_recorded_under_its_old_key() {
    if !privileged("a_base_that_changes_while_it_is_awaited_is_not_recorded_under_its_old_key") {
        return;
    }
    let project = Project::with_own_store();
    let pack = |which: &str| {
        project.write(&format!("{which}/etc/which"), which);
        let tar = std::process::Command::new("tar")
            .args(["-C", which, "-cf", &format!("{which}.tar"), "."])
            .current_dir(project.dir())
            .status();
        assert!(tar.expect("tar runs").success());
    };
    pack("one");
    pack("two");
    let put = |which: &str| {
        std::fs::copy(project.dir().join(format!("{which}.tar")), project.dir().join("now.tar"))
            .expect("writable");
    };
    put("one");
    project.write(
        "rootbuild.toml",
        "[base.a]\nsource = \"archive\"\nfile = \"now.tar\"\nunverified = true\n[root.swapped]\nbase = \"a\"\n",
    );
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let shown = project.rootbuild(&["show", "swapped", "--json"]).expect(0).json();
    let key = shown["layers"][0]["key"].as_str().expect("a key").trim_start_matches("b3:").to_owned();
    // Its record forgotten, and somebody holding its lock until the archive has been replaced.
    std::fs::remove_dir_all(project.store().join("layers")).expect("it is there");
    let lock = project.store().join("locks").join(format!("layer-{key}"));
    let mut holder = std::process::Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo held; read _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock runs");
    let mut held = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("piped"), &mut held).expect("it says so");
    let mut waiting = project.command(&["provision", "-v"]);
    let child = waiting.stderr(Stdio::piped()).spawn().expect("rootbuild runs");
    std::thread::sleep(Duration::from_secs(2));
    put("two");
    drop(holder.stdin.take());
    holder.wait().expect("it ends");
    let _ = Ran::new(&child.wait_with_output().expect("it ends"));
    put("one");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let which = std::fs::read_to_string(project.root("swapped").join("etc/which")).expect("it is there");
    assert_eq!(which, "one");
}
