//! Why a layer is built, what is asked for by force, and whether replays can be trusted.

use std::process::Command;

use rootbuild_tests::{Project, Ran, privileged, rootbuild_binary};
use serde_json::Value;

use crate::support::{EL7, el7_project, statuses, tasks_run};

const SITE: &str = "- hosts: all\n  gather_facts: false\n  roles: [one, two]\n";

/// A project with two roles of which the second has a template and uses a variable.
fn project(root: &str) -> Project {
    let project = el7_project("[root.x]\nbase = \"el7\"\n", SITE);
    define(&project, root, "a");
    project.write("roles/one/tasks/main.yml", "- copy: {content: one, dest: /etc/one}\n");
    project.write("roles/two/tasks/main.yml", "- template: {src: two.j2, dest: /etc/two}\n");
    project.write("roles/two/templates/two.j2", "first line\nmark {{ mark }}\n");
    project
}

fn define(project: &Project, root: &str, mark: &str) {
    let text = format!(
        "{EL7}\n[root.{root}]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nvars = {{ mark = \"{mark}\" }}\n"
    );
    project.write("rootbuild.toml", &text);
}

/// The layer of the playbook in what `plan --json` or `explain --json` printed.
fn planned(ran: &Ran) -> Value {
    let plan = ran.json();
    let layers = if plan["roots"].is_array() { &plan["roots"][0]["layers"] } else { &plan["layers"] };
    layers[1].clone()
}

fn reason<'a>(layer: &'a Value, kind: &str) -> &'a Value {
    let reasons = layer["reasons"].as_array().expect("reasons");
    reasons.iter().find(|reason| reason["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {layer}"))
}

#[test]
fn plan_names_the_file_with_its_diff_the_role_and_the_variable_with_both_values() {
    if !privileged("plan_names_the_file_with_its_diff_the_role_and_the_variable_with_both_values") {
        return;
    }
    let project = project("whys");
    let fresh = planned(&project.rootbuild(&["plan", "--json"]).expect(0));
    assert!(fresh["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{fresh}");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);

    project.write("roles/two/templates/two.j2", "first line\nmark {{ mark }}!\n");
    let layer = planned(&project.rootbuild(&["plan", "--json"]).expect(0));
    let file = reason(&layer, "file");
    assert_eq!(file["subject"], "roles/two/templates/two.j2");
    assert_eq!(file["diff"], "@@ -1,2 +1,2 @@\n first line\n-mark {{ mark }}\n+mark {{ mark }}!\n");
    assert_eq!(layer["reasons"].as_array().map(Vec::len), Some(1), "{layer}");
    assert_eq!(layer["from"]["role"], "two");
    assert!(layer["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{layer}");
    let text = project.rootbuild(&["plan"]).expect(0).stdout;
    for words in ["from role `two` on", "about", "+mark {{ mark }}!"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }

    define(&project, "whys", "b");
    let layer = planned(&project.rootbuild(&["plan", "--json"]).expect(0));
    let variable = reason(&layer, "variable");
    assert_eq!((&variable["subject"], &variable["old"]), (&"mark".into(), &"\"a\"".into()), "{layer}");
    assert_eq!(variable["new"], "\"b\"");
    assert_eq!(reason(&layer, "file")["subject"], "roles/two/templates/two.j2");

    // What was done for these reasons is remembered with them.
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&ran)[1], "built");
    let layer = planned(&project.rootbuild(&["explain", "whys", "--json"]).expect(0));
    assert_eq!(layer["status"], "cached");
    let told = layer["last"]["made"]["reasons"].as_array().expect("reasons").clone();
    let kinds: Vec<&str> = told.iter().filter_map(|told| told["kind"].as_str()).collect();
    assert_eq!(kinds, ["variable", "file"], "{layer}");
    let text = project.rootbuild(&["explain", "whys"]).expect(0).stdout;
    assert!(text.contains("the variable `mark`: \"a\" → \"b\""), "{text}");
}

#[test]
fn a_file_that_appears_where_it_was_looked_for_is_a_reason() {
    if !privileged("a_file_that_appears_where_it_was_looked_for_is_a_reason") {
        return;
    }
    let project = project("appears");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    project.write("roles/three/tasks/main.yml", "- ping:\n");
    let layer = planned(&project.rootbuild(&["plan", "--json"]).expect(0));
    assert_eq!(layer["status"], "cached", "a role that nothing uses: {layer}");
    project.write("host_vars/appears.yml", "mark: c\n");
    let layer = planned(&project.rootbuild(&["plan", "--json"]).expect(0));
    let subject = reason(&layer, "appeared")["subject"].as_str().expect("a subject").to_owned();
    assert!(subject.starts_with("host_vars"), "{layer}");
}

#[test]
fn without_privileges_reasons_are_named_and_contents_and_values_are_not() {
    if !privileged("without_privileges_reasons_are_named_and_contents_and_values_are_not") {
        return;
    }
    let project = project("unseen");
    let test = "without_privileges_reasons_are_named_and_contents_and_values_are_not";
    if !crate::support::others_can_reach(test, project.dir()) {
        return;
    }
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    project.write("roles/two/templates/two.j2", "another secret\n");
    define(&project, "unseen", "b");
    // The project, binary and working directory must be within reach of the other user.
    let open = tempfile::Builder::new().prefix("rootbuild-unseen-").tempdir_in("/var/tmp").expect("/var/tmp");
    let binary = open.path().join("rootbuild");
    std::fs::copy(rootbuild_binary(), &binary).expect("the binary is readable");
    let place = open.path().join("project");
    let moved = Command::new("cp").arg("-a").arg(project.dir()).arg(&place).status();
    assert!(moved.expect("cp runs").success());
    let chmod = Command::new("chmod").args(["-R", "a+rX"]).arg(open.path()).status();
    assert!(chmod.expect("chmod runs").success());
    // At its own path, since what is remembered belongs to the definition.
    let script = "mount --bind \"$1\" \"$2\"; cd \"$2\"; shift 2; exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, "sh"])
        .args([&place, project.dir(), &binary])
        .args(["plan", "--json", "-f", ".", "--store"])
        .arg(project.store())
        .output()
        .expect("unshare runs");
    let layer = planned(&Ran::new(&output).expect(0));
    let (variable, file) = (reason(&layer, "variable"), reason(&layer, "file"));
    assert_eq!((&variable["subject"], &variable["old"]), (&"mark".into(), &Value::Null));
    assert!(file["diff"].is_null() && !layer.to_string().contains("first line"), "{layer}");
}

#[test]
fn a_step_that_is_to_be_rebuilt_runs_whole_and_an_unknown_one_gets_the_nearest_name() {
    if !privileged("a_step_that_is_to_be_rebuilt_runs_whole_and_an_unknown_one_gets_the_nearest_name") {
        return;
    }
    let project = project("anew");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let wrong = project.rootbuild(&["provision", "--rebuild", "siet.yml"]).expect(2);
    let _ = wrong.says(&["siet.yml", "did you mean `site.yml`"]);
    let wrong = project.rootbuild(&["plan", "--rebuild", "anwe:site.yml"]).expect(2);
    let _ = wrong.says(&["did you mean `anew:site.yml`"]);

    let layer = planned(&project.rootbuild(&["plan", "--rebuild", "site.yml", "--json"]).expect(0));
    assert_eq!(reason(&layer, "forced")["subject"], "site.yml");
    for step in ["site.yml", "anew:site.yml"] {
        let ran = project.rootbuild(&["provision", "--json", "--rebuild", step]).expect(0);
        assert_eq!(statuses(&ran), ["cached", "built"], "{step}");
        assert_eq!(tasks_run(&ran), 2, "{step}: a journal was asked");
    }
    let mut command = project.command(&["provision", "--json"]);
    let output = command.env("ROOTBUILD_REBUILD", "site.yml").output().expect("rootbuild runs");
    assert_eq!(tasks_run(&Ran::new(&output).expect(0)), 2);
    assert_eq!(statuses(&project.rootbuild(&["provision", "--json"]).expect(0)), ["cached", "cached"]);
}

#[test]
fn without_replay_a_changed_playbook_runs_whole() {
    if !privileged("without_replay_a_changed_playbook_runs_whole") {
        return;
    }
    let project = project("whole");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    project.write("site.yml", &format!("# a comment\n{SITE}"));
    let ran = project.rootbuild(&["provision", "--json", "--no-replay"]).expect(0);
    assert_eq!((statuses(&ran)[1].as_str(), tasks_run(&ran)), ("built", 2));
    project.write("site.yml", &format!("# another comment\n{SITE}"));
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    let layer = &ran.json()["roots"][0]["layers"][1];
    assert_eq!(layer["status"], "replayed", "{layer}");
    assert_eq!((&layer["tasks_run"], &layer["tasks_replayed"]), (&0.into(), &2.into()));
}

#[test]
fn verifying_passes_what_comes_out_the_same_and_names_what_does_not() {
    if !privileged("verifying_passes_what_comes_out_the_same_and_names_what_does_not") {
        return;
    }
    let project = project("verified");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    // Cached, then replayed in part.
    let _ = project.rootbuild(&["provision", "--verify-replay", "-q"]).expect(0);
    project.write("roles/two/templates/two.j2", "another {{ mark }}\n");
    let ran = project.rootbuild(&["provision", "--verify-replay", "--json"]).expect(0);
    let layer = &ran.json()["roots"][0]["layers"][1];
    assert_eq!((&layer["tasks_run"], &layer["tasks_replayed"]), (&1.into(), &1.into()), "{layer}");

    project.write("roles/one/tasks/main.yml", "- shell: cat /proc/sys/kernel/random/uuid > /etc/one\n");
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let before = std::fs::canonicalize(project.root("verified")).expect("the root stands");
    let ran = project.rootbuild(&["provision", "--verify-replay"]).expect(1);
    let ran = ran.says(&["site.yml", "1 path differs", "/etc/one", "content", "--rebuild site.yml"]);
    assert!(!ran.stderr.contains("/etc/two"), "{}", ran.stderr);
    assert_eq!(std::fs::canonicalize(project.root("verified")).expect("the root stands"), before);
}
