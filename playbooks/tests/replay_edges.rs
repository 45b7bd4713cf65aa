//! Journals at their limits: what is too long for them, what dies with a sandbox, who asks at the same time.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use rootbuild_playbooks::run::Expected;
use support::with_each_fresh as with_each;

#[test]
fn an_answer_that_is_too_long_arrives_whole_and_ends_the_journal() {
    with_each("an_answer_that_is_too_long_arrives_whole_and_ends_the_journal", |bench| {
        let fetched = bench.dir.path().join("fetched");
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {{content: first, dest: \
                 /etc/first}}\n    - ansible.builtin.shell: {{cmd: 'head -c 9437184 /dev/zero > /etc/big'}}\n    \
                 - ansible.builtin.fetch: {{src: /etc/big, dest: {}, flat: true}}\n    - ansible.builtin.copy: \
                 {{content: '{last}', dest: /etc/last}}\n",
                fetched.display()
            )
        };
        bench.playbook(&playbook("one"));
        let cold = bench.go().unwrap();
        assert_eq!(fs::metadata(&fetched).unwrap().len(), 9 << 20);
        assert!(cold.replay.journal_ended.as_ref().unwrap().contains("too long"), "{:?}", cold.replay);

        fs::remove_file(&fetched).unwrap();
        bench.playbook(&playbook("two"));
        let edited = bench.go().unwrap();
        assert_eq!(fs::metadata(&fetched).unwrap().len(), 9 << 20);
        assert_eq!(fs::read_to_string(bench.made("etc/last")).unwrap(), "two");
        assert!(edited.tasks_replayed >= 1, "{:?}", edited.replay);
        bench.run.replay = false;
        assert_eq!(bench.go().unwrap().tree, edited.tree);
    });
}

#[test]
fn a_checkpoint_brings_back_what_dies_with_a_sandbox() {
    with_each("a_checkpoint_brings_back_what_dies_with_a_sandbox", |bench| {
        // The pause makes the work worth a checkpoint.
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.shell: {{cmd: 'mkdir -p /run/app \
                 && echo kept > /run/app/state && chmod 600 /run/app/state && date +%N > /etc/once && sleep 2.1'}}\n    \
                 - ansible.builtin.shell: {{cmd: 'cat /run/app/state > /etc/{last} && stat -c %a /run/app/state >> \
                 /etc/{last}'}}\n"
            )
        };
        bench.playbook(&playbook("one"));
        let cold = bench.go().unwrap();
        assert!(cold.replay.checkpoints > 0, "{:?}", cold.replay);
        let once = fs::read(bench.made("etc/once")).unwrap();

        bench.playbook(&playbook("two"));
        let edited = bench.go().unwrap();
        assert_eq!(fs::read_to_string(bench.made("etc/two")).unwrap(), "kept\n600\n");
        // What came before wasn't done a second time: the root was made at the checkpoint.
        assert_eq!(
            (edited.replay.resent, fs::read(bench.made("etc/once")).unwrap()),
            (0, once),
            "{:?}",
            edited.replay
        );
        assert_eq!(edited.tasks_replayed, 1);
    });
}

#[test]
fn jobs_that_run_beside_other_requests_come_to_the_same() {
    with_each("jobs_that_run_beside_other_requests_come_to_the_same", |bench| {
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.shell: {{cmd: 'sleep 0.5; echo job > \
                 /etc/job'}}\n      async: 60\n      poll: 0\n      register: job\n    - ansible.builtin.copy: {{content: \
                 beside, dest: /etc/beside}}\n    - ansible.builtin.async_status: {{jid: '{{{{ job.ansible_job_id }}}}'}}\n      \
                 register: ended\n      until: ended.finished\n      retries: 50\n      delay: 0.1\n    - \
                 ansible.builtin.copy: {{content: '{last}', dest: /etc/last}}\n"
            )
        };
        bench.playbook(&playbook("one"));
        bench.go().unwrap();
        bench.playbook(&playbook("two"));
        let edited = bench.go().unwrap();
        let made = |name: &str| fs::read_to_string(bench.made(name)).unwrap();
        assert_eq!([made("etc/job"), made("etc/beside"), made("etc/last")], ["job\n", "beside", "two"]);
        assert!(edited.tasks_replayed >= 1, "{:?}", edited.replay);
        bench.run.replay = false;
        assert_eq!(bench.go().unwrap().tree, edited.tree);
    });
}

#[test]
fn a_root_that_was_made_ahead_changes_nothing_but_the_time() {
    with_each("a_root_that_was_made_ahead_changes_nothing_but_the_time", |bench| {
        let playbook = |last: &str| {
            format!(
                "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {{content: first, dest: \
                 /etc/first}}\n    - ansible.builtin.debug: {{msg: nothing}}\n    - ansible.builtin.copy: {{content: \
                 '{last}', dest: /etc/last}}\n"
            )
        };
        bench.playbook(&playbook("one"));
        let cold = bench.go().unwrap();
        let wrong = [Expected::Task(1), Expected::Task(3), Expected::Role("none".to_owned())];
        for expected in wrong {
            bench.run.expected = Some(expected);
            let same = bench.go().unwrap();
            assert!(same.replay.is_whole(), "{:?}", same.replay);
            assert_eq!((same.tree, same.tasks_run, same.tasks_replayed), (cold.tree, 0, 3));
        }
        bench.run.expected = Some(Expected::Task(3));
        bench.playbook(&playbook("two"));
        let edited = bench.go().unwrap();
        assert_eq!((edited.tasks_run, edited.tasks_replayed), (1, 2), "{:?}", edited.replay);
        bench.run.replay = false;
        assert_eq!(bench.go().unwrap().tree, edited.tree);
    });
}
