//! Names: of roots that belong to somebody else, of hosts that are groups, of roots that fail together.

use std::io::Read as _;
use std::process::{Command, Stdio};

use rootbuild_tests::{Project, Ran, privileged};

use crate::support::{EL7, el7_project};

/// A project on `store` whose roots `names` are made of a small archive alone.
fn of_archive(store: &Project, names: &[&str], content: &str) -> Project {
    let project = Project::on_store(store.store().to_owned());
    project.write("tree/etc/content", content);
    let tar =
        Command::new("tar").args(["-C", "tree", "-cf", "a.tar", "."]).current_dir(project.dir()).status();
    assert!(tar.expect("tar runs").success());
    let roots: Vec<String> = names.iter().map(|name| format!("[root.{name}]\nbase = \"a\"\n")).collect();
    let base = "[base.a]\nsource = \"archive\"\nfile = \"a.tar\"\nunverified = true\n";
    project.write("rootbuild.toml", &format!("{base}{}", roots.concat()));
    project
}

#[test]
fn a_root_of_another_definition_is_nobody_elses() {
    if !privileged("a_root_of_another_definition_is_nobody_elses") {
        return;
    }
    let store = Project::with_own_store();
    let first = of_archive(&store, &["taken"], "first");
    let second = of_archive(&store, &["taken", "free"], "second");
    let _ = first.rootbuild(&["provision", "-q"]).expect(0);
    let owner = first.dir().join("rootbuild.toml").to_string_lossy().into_owned();
    let refused = |arguments: &[&str]| {
        let ran = second.rootbuild(arguments).expect(2);
        ran.says(&["the root `taken`", "belongs to another definition", &owner, "--store"])
    };
    // Nothing is built that couldn't be handed over.
    let _ = refused(&["provision"]);
    assert!(!second.root("free").exists());
    for arguments in [
        &["show", "taken"][..],
        &["log", "taken"],
        &["shell", "taken", "--", "true"],
        &["shell", "--failed", "taken", "--", "true"],
    ] {
        let ran = refused(arguments);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
    // Layers are everybody's: what a provision would build can be asked from any copy of a definition.
    let _ = second.rootbuild(&["plan"]).expect(0);
    let _ = second.rootbuild(&["explain", "taken"]).expect(0);
    let _ = second.rootbuild(&["provision", "free", "-q"]).expect(0);
    // The others are listed all the same.
    let listed = refused(&["list", "--json"]).json();
    assert_eq!(listed["roots"][0]["owner"], owner.as_str());
    assert!(listed["roots"][0]["tree"].is_null() && listed["roots"][1]["tree"].is_string(), "{listed}");
    assert_eq!(std::fs::read_to_string(first.root("taken").join("etc/content")).expect("it stands"), "first");
    // A definition that is gone owns nothing.
    std::fs::remove_file(owner).expect("it is there");
    let _ = second.rootbuild(&["provision", "-q"]).expect(0);
    let _ = second.rootbuild(&["list"]).expect(0);
    assert_eq!(
        std::fs::read_to_string(second.root("taken").join("etc/content")).expect("it stands"),
        "second"
    );
}

#[test]
fn one_at_a_time_looks_around_in_a_failed_root() {
    if !privileged("one_at_a_time_looks_around_in_a_failed_root") {
        return;
    }
    let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: /bin/false\n";
    let project = el7_project("[root.busy]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", playbook);
    let _ = project.rootbuild(&["provision", "-q"]).expect(1);
    let mut inside = project
        .command(&["shell", "--failed", "busy", "--", "sh", "-c", "echo here; read _; echo > /etc/kept"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rootbuild runs");
    let mut said = [0; 5];
    inside.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it says so");
    let second = project.rootbuild(&["shell", "--failed", "busy", "--", "true"]).expect(1);
    let _ = second.says(&["busy", &inside.id().to_string()]);
    drop(inside.stdin.take());
    assert!(inside.wait().expect("it ends").success());
    // What the first one changed is kept.
    let _ = project.rootbuild(&["shell", "--failed", "busy", "--", "test", "-e", "/etc/kept"]).expect(0);
}

#[test]
fn roots_that_share_a_layer_that_fails_share_its_log_and_what_is_left() {
    if !privileged("roots_that_share_a_layer_that_fails_share_its_log_and_what_is_left") {
        return;
    }
    let root =
        |name: &str| format!("[root.{name}]\nbase = \"el7\"\nhost = \"twin\"\nplaybooks = [\"site.yml\"]\n");
    let playbook =
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: echo the reason >&2; exit 3\n";
    let project = el7_project(&format!("{}{}", root("twina"), root("twinb")), playbook);
    let failed = project.rootbuild(&["provision", "--json"]).expect(1);
    let result = failed.json();
    let logs: Vec<&str> =
        result["failed"].as_array().expect("failed").iter().filter_map(|it| it["log"].as_str()).collect();
    assert!(logs.len() == 2 && logs[0] == logs[1], "{result}");
    // Whichever came first.
    let (owner, follower) = if logs[0].contains("/twina/") { ("twina", "twinb") } else { ("twinb", "twina") };
    let _ = failed.says(&[&format!("shell --failed {owner}")]);
    for name in [owner, follower] {
        let log = project.rootbuild(&["log", name]).expect(0);
        assert!(log.stdout.contains("the reason"), "{name}: {}", log.stdout);
    }
    let _ = project.rootbuild(&["shell", "--failed", owner, "--", "true"]).expect(0);
    let nothing = project.rootbuild(&["shell", "--failed", follower, "--", "true"]).expect(1);
    let _ = nothing.says(&[&format!("shell --failed {owner}")]);
}

#[test]
fn a_group_is_no_host() {
    if !privileged("a_group_is_no_host") {
        return;
    }
    let project = el7_project("[root.x]\nbase = \"el7\"\n", "");
    let ansible =
        "inventory = \"hosts\"\n[root.grouped]\nbase = \"el7\"\nhost = \"web\"\nplaybooks = [\"site.yml\"]\n";
    project.write("rootbuild.toml", &format!("{EL7}{ansible}")).write("hosts", "[web]\nweb0\nweb1\n");
    for task in ["command: /bin/true", "debug: {msg: x}"] {
        project.write("site.yml", &format!("- hosts: web\n  gather_facts: false\n  tasks:\n    - {task}\n"));
        let ran: Ran = project.rootbuild(&["provision"]).expect(2);
        let _ = ran.says(&["`web` is a group", "`web0`, `web1`", "rootbuild.toml", "host = \"web0\""]);
        assert!(!project.root("grouped").exists());
    }
}
