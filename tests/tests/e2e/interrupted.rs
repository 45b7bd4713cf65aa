//! Ctrl-C, SIGKILL, and two at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, Ran, privileged};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{el7_project, groups_of, leftovers, statuses};

const SLOW: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: quick\n      copy: {content: x, dest: /etc/x}\n\
     \x20   - name: slow\n      shell: sleep 300\n";

/// Starts a provision and returns once its task `slow` runs.
fn start_slow(project: &Project) -> Child {
    let events = project.dir().join("events");
    let made = Command::new("mkfifo").arg(&events).status().expect("mkfifo runs");
    assert!(made.success());
    let child = project
        .command(&["provision", "--json", "--events"])
        .arg(&events)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rootbuild runs");
    let mut lines = BufReader::new(std::fs::File::open(&events).expect("the pipe opens")).lines();
    let slow =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"task\"") && line.contains("slow")));
    assert!(slow.is_some(), "the slow task never started");
    // Somebody goes on reading, so that the writer isn't held up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn ctrl_c_stops_the_sandbox_and_leaves_the_store_clean() {
    if !privileged("ctrl_c_stops_the_sandbox_and_leaves_the_store_clean") {
        return;
    }
    let project = el7_project("[root.stopped]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", SLOW);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let child = start_slow(&project);
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let started = Instant::now();
        let ran = Ran::new(&child.wait_with_output().expect("it ends")).expect(code);
        assert!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert_eq!(leftovers(&project, "stopped"), Vec::<String>::new());
        assert!(!project.root("stopped").exists());
        std::fs::remove_file(project.dir().join("events")).expect("it is there");
    }
}

#[test]
fn a_killed_provision_is_swept_and_the_next_one_succeeds() {
    if !privileged("a_killed_provision_is_swept_and_the_next_one_succeeds") {
        return;
    }
    let project = el7_project("[root.killed]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", SLOW);
    let mut child = start_slow(&project);
    let killed = child.id();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let patience = Instant::now();
    while !leftovers(&project, "killed").is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(30), "{:?}", leftovers(&project, "killed"));
        std::thread::sleep(Duration::from_millis(50));
    }
    project.write("site.yml", &SLOW.replace("sleep 300", "/bin/true"));
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&ran), ["cached", "built"]);
    assert_eq!(project.inside("killed", "cat /etc/x"), "x");
    assert_eq!(groups_of(killed), Vec::<String>::new());
}

#[test]
fn two_at_once_build_each_layer_once() {
    if !privileged("two_at_once_build_each_layer_once") {
        return;
    }
    let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: sleep 3; echo x > /etc/x\n";
    let project = el7_project("[root.twice]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", playbook);
    let start = || {
        project
            .command(&["provision", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rootbuild runs")
    };
    let (one, two) = (start(), start());
    let pids = [one.id(), two.id()];
    let runs = [one, two].map(|child| Ran::new(&child.wait_with_output().expect("it ends")).expect(0));
    let built: Vec<bool> = runs.iter().map(|ran| statuses(ran)[1] == "built").collect();
    assert_eq!(built.iter().filter(|built| **built).count(), 1, "{built:?}");
    let (builder, waiter) = if built[0] { (pids[0], &runs[1]) } else { (pids[1], &runs[0]) };
    assert!(waiter.stderr.contains(&format!("pid {builder}")), "{}", waiter.stderr);
    assert_eq!(runs[0].json()["roots"][0]["tree"], runs[1].json()["roots"][0]["tree"]);
}

#[test]
fn one_that_does_not_want_to_wait_says_who_holds_the_lock() {
    if !privileged("one_that_does_not_want_to_wait_says_who_holds_the_lock") {
        return;
    }
    let project = el7_project("[root.held]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", SLOW);
    let child = start_slow(&project);
    let ran = project.rootbuild(&["provision", "--lock-timeout", "1"]).expect(3);
    let _ = ran.says(&[&format!("pid {}", child.id())]);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let _ = Ran::new(&child.wait_with_output().expect("it ends")).expect(130);
}
