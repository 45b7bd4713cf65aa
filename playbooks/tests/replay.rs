//! Journals: what they answer, and that it is what a root would have answered.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use rootbuild_playbooks::event::{RunEvent, TaskStatus};
use rootbuild_playbooks::run::Outcome;
use support::{Bench, with_each_fresh as with_each};

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

const EVERYTHING: &str = r#"- hosts: web0
  vars: {users: [ann, bob], secret: hunter2-in-clear}
  handlers:
    - name: reload it
      ansible.builtin.copy: {content: 'reloaded', dest: /etc/handled}
  tasks:
    - ansible.builtin.command: {cmd: 'echo {{ item }}'}
      loop: '{{ users }}'
      register: looped
      changed_when: false
    - ansible.builtin.copy: {content: "{{ looped.results | map(attribute='stdout') | join(' ') }}", dest: /etc/looped}
      notify: reload it
    - block:
        - name: fail
          ansible.builtin.command: {cmd: 'false'}
      rescue:
        - ansible.builtin.copy: {content: '{{ ansible_failed_result.rc }}', dest: /etc/rescued}
      always:
        - ansible.builtin.file: {path: /etc/always, state: directory}
    - ansible.builtin.command: {cmd: 'exit 3'}
      ignore_errors: true
    - ansible.builtin.meta: flush_handlers
    - ansible.builtin.include_tasks: more.yml
      loop: [1, 2]
    - ansible.builtin.import_tasks: fixed.yml
      tags: [fixed]
    - ansible.builtin.copy: {content: '{{ secret }}', dest: /etc/secret}
      no_log: true
    - ansible.builtin.command: {cmd: 'echo {{ secret }} said'}
      no_log: true
      register: said
    - ansible.builtin.copy: {content: '{{ said.stdout }}', dest: /etc/said}
      no_log: true
    - ansible.builtin.user: {name: ann}
    - ansible.builtin.shell: {cmd: 'id -un > /home/ann/who'}
      become: true
      become_user: ann
    - ansible.builtin.command: {cmd: sleep 1}
      async: 30
      poll: 1
    - ansible.builtin.shell: {cmd: 'sleep 1; echo done > /etc/job'}
      async: 30
      poll: 0
      register: job
    - ansible.builtin.async_status: {jid: '{{ job.ansible_job_id }}'}
      register: job_result
      until: job_result.finished
      retries: 30
      delay: 1
    - ansible.builtin.script: {cmd: hello.sh one}
      register: script
    - ansible.builtin.copy: {content: '{{ script.stdout }}', dest: /etc/script}
    - ansible.builtin.raw: echo raw > /etc/raw
    - ansible.builtin.fetch: {src: /etc/looped, dest: '{{ fetched }}/', flat: true}
    - ansible.builtin.copy: {src: big, dest: /etc/big}
    - ansible.builtin.copy: {content: x, dest: /etc/never}
      check_mode: true
      diff: true
    - ansible.builtin.command: {cmd: hostname}
      delegate_to: localhost
      run_once: true
      register: here
      changed_when: false
    - ansible.builtin.stat: {path: /etc/big}
      register: big
    - ansible.builtin.copy: {content: '{{ big.stat.checksum }} {{ here.rc }}', dest: /etc/last}
"#;

/// Whether some file of the journals holds these bytes.
fn journals_hold(bench: &Bench, bytes: &[u8]) -> bool {
    let mut seen = 0;
    let home = support::store().dir().join("replays");
    let _ = bench;
    for dir in std::fs::read_dir(home).unwrap().flatten().filter(|dir| dir.path().is_dir()) {
        for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
            seen += 1;
            if std::fs::read(file.path()).unwrap().windows(bytes.len()).any(|it| it == bytes) {
                return true;
            }
        }
    }
    assert!(seen > 0);
    false
}

#[test]
fn everything_that_ansible_offers_is_replayed() {
    with_each("everything_that_ansible_offers_is_replayed", |bench| {
        bench.playbook(EVERYTHING);
        bench.write(
            "more.yml",
            "- ansible.builtin.copy: {content: '{{ item }}', dest: '/etc/more{{ item }}'}\n",
        );
        bench.write("fixed.yml", "- ansible.builtin.copy: {content: fixed, dest: /etc/fixed}\n");
        bench.write("files/hello.sh", "#!/bin/sh\necho hello $1\n");
        let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(bench.run.project.dir.join("files/big"), big).unwrap();
        bench.run.vars = serde_json::json!({"fetched": bench.dir.path().join("fetched")});
        let cold = bench.go().unwrap();
        assert_eq!(cold.replay.journal_ended, None);
        let replayed = again(bench);
        assert!(replayed.replay.is_whole(), "{:?}", replayed.replay);
        assert_eq!(replayed.tree, cold.tree);
        assert!(!journals_hold(bench, b"hunter2"));
        // An edit near the end, and one near the beginning.
        let late = EVERYTHING.replace("echo raw >", "echo rare >");
        bench.playbook(&late);
        let edited = again(bench).replay;
        assert!(edited.answered > edited.live && edited.live > 0, "{edited:?}");
        let flush = "    - ansible.builtin.meta: flush_handlers\n";
        let more = "    - ansible.builtin.copy: {content: early, dest: /etc/early}\n";
        bench.playbook(&late.replace(flush, &[more, flush].concat()));
        let edited = again(bench).replay;
        assert!(edited.live > edited.answered && edited.answered > 0, "{edited:?}");
        bench.playbook(EVERYTHING);
        let reverted = again(bench).replay;
        // What jobs write in the background meets another request each time, so a little may be new.
        assert!(reverted.answered > reverted.live, "{reverted:?}");
    });
}

#[test]
fn a_repaired_playbook_goes_on_where_it_failed() {
    with_each("a_repaired_playbook_goes_on_where_it_failed", |bench| {
        let tasks = |third: &str| {
            let shell = |text: &str| format!("    - ansible.builtin.shell: {{cmd: '{text}'}}\n");
            "- hosts: web0\n  gather_facts: false\n  tasks:\n".to_owned()
                + &shell("echo 1 > /etc/one")
                + &shell("echo 2 > /etc/two")
                + &shell(third)
                + &shell("cat /etc/one /etc/two > /etc/four")
        };
        bench.playbook(&tasks("echo 3 > /etc/three; exit 1"));
        bench.go().unwrap_err();
        // The failed root is there, as the failure left it.
        assert_eq!(std::fs::read_to_string(bench.made("etc/three")).unwrap(), "3\n");
        // A failure isn't remembered: the task runs again, in a root in which all before has run again.
        bench.go().unwrap_err();
        let ended = |event: RunEvent| match event {
            RunEvent::Result { replayed, .. } => Some(replayed),
            _ => None,
        };
        let ended: Vec<bool> = bench.events().into_iter().filter_map(ended).collect();
        assert_eq!(ended, [false, false, false, true, true, false]);
        bench.playbook(&tasks("echo three > /etc/three"));
        let repaired = again(bench);
        assert_eq!((repaired.tasks_replayed, repaired.tasks_run), (2, 2), "{:?}", repaired.replay);
    });
}

/// Three roles, each with a task of its own and one that takes a while.
fn with_roles(bench: &Bench) {
    for name in ["a", "b", "c"] {
        bench.write(
            &format!("roles/{name}/tasks/main.yml"),
            &format!(
                "- ansible.builtin.copy: {{content: '{name}', dest: /etc/{name}}}\n- ansible.builtin.shell: {{cmd: \
                 'sleep 0.3; cat /etc/{name} > /etc/{name}.copy'}}\n"
            ),
        );
    }
    bench.playbook("- hosts: web0\n  gather_facts: false\n  roles: [a, b, c]\n");
}

#[test]
fn a_change_that_changes_nothing_is_all_that_runs() {
    with_each("a_change_that_changes_nothing_is_all_that_runs", |bench| {
        with_roles(bench);
        let cold = bench.go().unwrap();
        assert!(cold.replay.checkpoints >= 2, "{:?}", cold.replay);
        bench.write(
            "roles/a/tasks/main.yml",
            "- ansible.builtin.copy: {content: 'a', dest: /etc/a}\n- ansible.builtin.shell: {cmd: 'cat /etc/a > \
             /etc/a.copy'}\n",
        );
        let edited = again(bench);
        assert_eq!((edited.tasks_replayed, edited.tasks_run), (5, 1), "{:?}", edited.replay);
        assert_eq!(edited.tree, cold.tree);
    });
}

#[test]
fn runs_that_came_to_the_same_on_two_ways_know_each_others_answers() {
    with_each("runs_that_came_to_the_same_on_two_ways_know_each_others_answers", |bench| {
        with_roles(bench);
        let role = |command: &str| {
            format!(
                "- ansible.builtin.copy: {{content: 'a', dest: /etc/a}}\n- ansible.builtin.shell: {{cmd: \
                 '{command}'}}\n"
            )
        };
        bench.write("roles/a/tasks/main.yml", &role("cat /etc/a > /etc/a.copy"));
        let cold = bench.go().unwrap();
        // Another way to the same.
        bench.write("roles/a/tasks/main.yml", &role("cp /etc/a /etc/a.copy"));
        assert_eq!(again(bench).tree, cold.tree);
        // Something new at the end of that way.
        bench.write("roles/c/tasks/main.yml", "- ansible.builtin.copy: {content: 'other', dest: /etc/c}\n");
        let edited = again(bench);
        assert_eq!((edited.tasks_replayed, edited.tasks_run), (4, 1), "{:?}", edited.replay);
        // On the first way it is known too.
        bench.write("roles/a/tasks/main.yml", &role("cat /etc/a > /etc/a.copy"));
        let known = again(bench);
        assert!(known.replay.is_whole(), "{:?}", known.replay);
        assert_eq!(known.tree, edited.tree);
    });
}

#[test]
fn the_last_role_runs_on_the_checkpoint_before_it() {
    with_each("the_last_role_runs_on_the_checkpoint_before_it", |bench| {
        with_roles(bench);
        bench.go().unwrap();
        bench.write("roles/c/tasks/main.yml", "- ansible.builtin.copy: {content: 'other', dest: /etc/c}\n");
        let edited = again(bench);
        assert_eq!((edited.tasks_replayed, edited.tasks_run), (4, 1), "{:?}", edited.replay);
        assert!(edited.replay.resent < 3, "{:?}", edited.replay);
        // And where a role in between changes, what follows runs on what it left.
        bench.write("roles/b/tasks/main.yml", "- ansible.builtin.copy: {content: 'b2', dest: /etc/b}\n");
        let edited = again(bench);
        assert_eq!((edited.tasks_replayed, edited.tasks_run), (2, 2), "{:?}", edited.replay);
    });
}

#[test]
fn a_root_is_the_same_whatever_names_ansible_makes_up() {
    with_each("a_root_is_the_same_whatever_names_ansible_makes_up", |bench| {
        bench.write("ansible.cfg", "[defaults]\nkeep_remote_files = true\n");
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {content: x, dest: /etc/x}\n      \
             register: copied\n    - ansible.builtin.shell: {cmd: 'echo {{ copied.src }} > /etc/where'}\n",
        );
        bench.run.replay = false;
        let one = bench.go().unwrap();
        let two = bench.go().unwrap();
        assert_eq!(one.tree, two.tree);
        assert!(std::fs::read_to_string(bench.made("etc/where")).unwrap().contains("/ansible-tmp-"));
    });
}

#[test]
fn what_a_root_would_answer_otherwise_makes_all_of_it_run() {
    with_each("what_a_root_would_answer_otherwise_makes_all_of_it_run", |bench| {
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.shell: {{cmd: '{{{{ item }}}}'}}\n      \
                 loop: ['cat /proc/sys/kernel/random/uuid | tee /etc/uuid', 'printf {last} > /etc/last']\n      register: \
                 made\n    - ansible.builtin.copy: {{content: '{{{{ made.results.0.stdout }}}}', dest: /etc/told}}\n"
            )
        };
        // Within one task, so that there is no checkpoint between.
        bench.playbook(&playbook("one"));
        bench.go().unwrap();
        bench.playbook(&playbook("two"));
        bench.forget();
        let edited = bench.go().unwrap();
        let read = |name: &str| std::fs::read_to_string(bench.made(name)).unwrap();
        assert_eq!(read("etc/uuid").trim(), read("etc/told"));
        assert_eq!((edited.tasks_replayed, read("etc/last")), (0, "two".to_owned()), "{:?}", edited.replay);
        let warned =
            |event: &RunEvent| matches!(event, RunEvent::Warning { text } if text.contains("all of it runs"));
        assert!(bench.events().iter().any(warned));
    });
}

#[test]
fn who_asks_twice_gets_both_answers_again() {
    with_each("who_asks_twice_gets_both_answers_again", |bench| {
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: {{cmd: cat \
                 /proc/sys/kernel/random/uuid}}\n      loop: [1, 1, 1]\n      register: made\n      changed_when: \
                 false\n    - ansible.builtin.copy: {{content: \"{{{{ made.results | map(attribute='stdout') | unique | \
                 join(' ') }}}}\", dest: /etc/told}}\n    - ansible.builtin.copy: {{content: '{last}', dest: \
                 /etc/last}}\n"
            )
        };
        bench.playbook(&playbook("one"));
        let cold = bench.go().unwrap();
        let told = || std::fs::read_to_string(bench.made("etc/told")).unwrap();
        let first = told();
        assert_eq!(first.split(' ').count(), 3);
        let same = bench.go().unwrap();
        assert!(same.replay.is_whole() && same.tree == cold.tree, "{:?}", same.replay);
        bench.playbook(&playbook("two"));
        let edited = bench.go().unwrap();
        assert_eq!((edited.tasks_replayed, told()), (2, first), "{:?}", edited.replay);
    });
}
