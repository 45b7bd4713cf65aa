//! Single promises of a playbook run, each in a real sandbox.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rootbuild_playbooks::event::{RunEvent, TaskStatus};
use rootbuild_playbooks::run::{RunError, Services};
use support::{Bench, VERSIONS, privileged};

/// Runs `test` with both ansible-cores, or says that it was skipped.
fn with_each(test: &str, body: impl Fn(Bench)) {
    if privileged(test) {
        VERSIONS.iter().for_each(|version| body(Bench::new(version)));
    }
}

/// Runs `test` with the newest ansible-core only: what it is about doesn't depend on the version.
fn with_newest(test: &str, body: impl FnOnce(Bench)) {
    if privileged(test) {
        body(Bench::new(VERSIONS[1]));
    }
}

#[test]
fn a_failing_task_is_named_with_its_place_and_output() {
    with_each("a_failing_task_is_named_with_its_place_and_output", |bench| {
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - name: fall over\n      \
             ansible.builtin.shell: echo out; echo err >&2; exit 7\n",
        );
        let error = bench.go().unwrap_err();
        let RunError::TaskFailed { task, source_line, detail } = &error else { panic!("{error}") };
        assert_eq!((task.as_str(), source_line.as_str()), ("fall over", "site.yml:4"));
        for part in ["exit code: 7", "stdout:\n  out", "stderr:\n  err"] {
            assert!(detail.contains(part), "{detail}");
        }
    });
}

#[test]
fn what_no_log_hides_is_in_no_error_and_no_log() {
    with_each("what_no_log_hides_is_in_no_error_and_no_log", |bench| {
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - name: hush\n      no_log: true\n      \
             ansible.builtin.command: sh -c 'echo hunter2; exit {{ item }}'\n      loop: [0, 1]\n",
        );
        let error = bench.go().unwrap_err().to_string();
        assert!(error.contains("hidden by no_log"), "{error}");
        assert!(!(error + &bench.log() + &format!("{:?}", bench.events())).contains("hunter2"));
    });
}

#[test]
fn a_playbook_that_is_no_yaml_is_refused_with_file_and_line() {
    with_each("a_playbook_that_is_no_yaml_is_refused_with_file_and_line", |bench| {
        bench.playbook("- hosts: web0\n  tasks:\n    - name: x\n     command: y\n");
        let error = bench.go().unwrap_err();
        let RunError::Ansible { message } = &error else { panic!("{error}") };
        assert!(message.contains("site.yml"), "{message}");
        assert!(message.contains("line 4") || message.contains("site.yml:4"), "{message}");
    });
}

#[test]
fn an_undefined_module_is_refused_with_file_and_line() {
    with_each("an_undefined_module_is_refused_with_file_and_line", |bench| {
        bench.playbook("- hosts: web0\n  gather_facts: false\n  tasks:\n    - no_such_module: {}\n");
        let message = bench.go().unwrap_err().to_string();
        assert!(message.contains("no_such_module") && message.contains("site.yml"), "{message}");
    });
}

#[test]
fn a_playbook_without_a_play_for_the_host_fails() {
    with_each("a_playbook_without_a_play_for_the_host_fails", |bench| {
        bench.write("ansible.cfg", "[defaults]\ninventory = hosts\n").write("hosts", "web0\ndb0\n");
        bench.playbook("- hosts: db0\n  tasks:\n    - ansible.builtin.ping:\n");
        let error = bench.go().unwrap_err();
        assert!(matches!(&error, RunError::NoPlayMatched { plays, .. } if plays == &["db0"]), "{error}");
        assert!(error.hint().unwrap().contains("`db0`"));
    });
}

#[test]
fn an_unknown_host_is_answered_with_the_nearest_one() {
    with_each("an_unknown_host_is_answered_with_the_nearest_one", |mut bench| {
        bench.write("hosts", "[web]\nweb0\nweb1\n[db]\ndb0\n").playbook("- hosts: all\n  tasks: []\n");
        bench.run.project.inventory = Some(bench.run.project.dir.join("hosts"));
        bench.run.host = "wep0".to_owned();
        let error = bench.go().unwrap_err();
        let RunError::UnknownHost { nearest, known, .. } = &error else { panic!("{error}") };
        assert_eq!(nearest.as_deref(), Some("web0"));
        assert_eq!(known.len(), 3);
    });
}

#[test]
fn without_an_inventory_the_root_is_the_only_host() {
    with_each("without_an_inventory_the_root_is_the_only_host", |bench| {
        bench.playbook(
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {content: \
             \"{{ groups.all | join(' ') }}\", dest: /made}\n",
        );
        assert_eq!(bench.go().unwrap().changed, 1);
        assert_eq!(fs::read_to_string(bench.made("made")).unwrap(), "web0");
    });
}

#[test]
fn a_root_can_stand_for_localhost() {
    with_each("a_root_can_stand_for_localhost", |mut bench| {
        // Neither an inventory that knows nothing of localhost, nor `connection: local`, nor
        // delegation may lead a task onto this machine.
        bench.write("hosts", "web0\n");
        bench.run.project.inventory = Some(bench.run.project.dir.join("hosts"));
        bench.run.host = "localhost".to_owned();
        bench.playbook(
            "- hosts: localhost\n  connection: local\n  tasks:\n    - ansible.builtin.copy: {content: \
             \"{{ ansible_facts.python.executable }} {{ groups.all }}\", dest: /made}\n    - local_action: \
             {module: ansible.builtin.file, path: /made-too, state: touch}\n    - ansible.builtin.file: \
             {path: /made-three, state: touch}\n      delegate_to: 127.0.0.1\n",
        );
        bench.go().unwrap();
        let made = fs::read_to_string(bench.made("made")).unwrap();
        assert!(made.starts_with("/usr/bin/python3"), "{made}");
        assert!(bench.made("made-too").exists() && bench.made("made-three").exists());
        assert!(!std::path::Path::new("/made").exists() && !std::path::Path::new("/made-too").exists());
    });
}

#[test]
fn no_variable_leads_a_task_out_of_the_sandbox() {
    with_each("no_variable_leads_a_task_out_of_the_sandbox", |bench| {
        let dir = bench.dir.path().join("outside");
        fs::create_dir(&dir).unwrap();
        let touch = |name: &str, more: &str| {
            format!("    - ansible.builtin.shell: mkdir -p {0} && touch {0}/{name}\n{more}", dir.display())
        };
        bench.write("ansible.cfg", "[defaults]\ninventory = hosts\ntransport = local\n");
        bench.write("hosts", "web0 ansible_connection=local ansible_host=127.0.0.1\n");
        bench.write("group_vars/all.yml", "ansible_connection: local\n");
        bench.write("host_vars/web0.yml", "ansible_connection: local\n");
        bench.write("vars.yml", "ansible_connection: local\n");
        bench.write("roles/r/vars/main.yml", "ansible_connection: local\n");
        bench.write("roles/r/tasks/main.yml", &touch("role", "").replace("    -", "-"));
        bench.playbook(
            &(["- hosts: web0\n  gather_facts: false\n  connection: local\n  vars_files: [vars.yml]\n  vars: \
                {ansible_connection: local}\n  tasks:\n"
                .to_owned()]
            .into_iter()
            .chain([
                touch("play", ""),
                touch("task", "      connection: local\n      vars: {ansible_connection: local}\n"),
                "    - ansible.builtin.set_fact: {ansible_connection: local}\n".to_owned(),
                touch("fact", ""),
                "    - ansible.builtin.include_vars: vars.yml\n".to_owned(),
                touch("included", ""),
                "    - ansible.builtin.include_role: {name: r}\n      vars: {ansible_connection: local}\n".to_owned(),
                "    - ansible.builtin.add_host: {name: web0, ansible_connection: local}\n".to_owned(),
                touch("added", ""),
            ])
            .collect::<String>()),
        );
        bench.go().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a task ran on this machine");
        let inside = bench.made(dir.strip_prefix("/").unwrap().to_str().unwrap());
        assert_eq!(fs::read_dir(inside).unwrap().count(), 6);
    });
}

#[test]
fn a_delegated_synchronize_does_not_reach_the_real_machine() {
    with_each("a_delegated_synchronize_does_not_reach_the_real_machine", |bench| {
        let collection = "collections/ansible_collections/ansible/posix/plugins";
        let plugin = "from ansible.plugins.action import ActionBase\nclass ActionModule(ActionBase):\n    def run(self, \
                      tmp=None, task_vars=None):\n        return {'failed': True, 'msg': 'it ran'}\n";
        bench.write(&format!("{collection}/action/synchronize.py"), plugin);
        bench.write(&format!("{collection}/modules/synchronize.py"), "");
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - name: push\n      ansible.posix.synchronize: \
             {src: /etc, dest: /x}\n      delegate_to: localhost\n",
        );
        let error = bench.go().unwrap_err();
        let RunError::TaskFailed { task, source_line, detail } = &error else { panic!("{error}") };
        assert_eq!((task.as_str(), source_line.as_str()), ("push", "site.yml:4"));
        assert!(detail.contains("reaches the real machine"), "{detail}");
    });
}

#[test]
fn the_variables_that_keep_tasks_inside_cannot_be_given() {
    with_newest("the_variables_that_keep_tasks_inside_cannot_be_given", |mut bench| {
        bench.run.vars = serde_json::json!({"ansible_connection": "local"});
        let error = bench.playbook("[]").go().unwrap_err();
        assert!(
            matches!(&error, RunError::ReservedVariable { name } if name == "ansible_connection"),
            "{error}"
        );
    });
}

#[test]
fn services_to_start_are_a_failure_where_the_definition_says_so() {
    with_newest("services_to_start_are_a_failure_where_the_definition_says_so", |mut bench| {
        bench.run.services = Services::Fail;
        bench.playbook(
            "- hosts: web0\n  tasks:\n    - ansible.builtin.copy: {content: \"[Service]\\nExecStart=/bin/true\\n\", \
             dest: /etc/systemd/system/one.service}\n    - ansible.builtin.service: {name: one, state: started}\n",
        );
        let error = bench.go().unwrap_err();
        assert!(error.to_string().contains("`one` (started)"), "{error}");
        assert!(error.hint().unwrap().contains("boot = true"));
    });
}

#[test]
fn cancelling_ends_ansible_and_the_sandbox() {
    with_each("cancelling_ends_ansible_and_the_sandbox", |bench| {
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: sleep 1000\n    - \
             ansible.builtin.command: sleep 1000\n      delegate_to: localhost\n",
        );
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !bench.events().iter().any(|event| matches!(event, RunEvent::Task { .. })) {
                    thread::sleep(Duration::from_millis(20));
                }
                bench.cancel.cancel();
            });
            let error = bench.go().unwrap_err();
            assert!(matches!(error, RunError::Cancelled(_)), "{error}");
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}

#[test]
fn a_killed_agent_is_an_error_of_the_sandbox() {
    with_newest("a_killed_agent_is_an_error_of_the_sandbox", |bench| {
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: |\n        \
             for p in /proc/[0-9]*; do grep -q agent[.]py $p/cmdline && kill -9 ${p#/proc/}; done\n    - \
             ansible.builtin.raw: echo never\n",
        );
        let error = bench.go().unwrap_err();
        let RunError::SandboxEnded { code, tail, .. } = &error else { panic!("{error}") };
        assert!(*code == 1 && tail.contains("the agent has died"), "{error}");
    });
}

#[test]
fn a_killed_fork_server_is_replaced() {
    with_newest("a_killed_fork_server_is_replaced", |bench| {
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n    - \
             ansible.builtin.raw: |\n        for p in /proc/[0-9]*; do grep -q zygote[.]py $p/cmdline && kill -9 \
             ${p#/proc/}; done; true\n    - ansible.builtin.ping:\n    - ansible.builtin.ping:\n",
        );
        assert_eq!(bench.go().unwrap().tasks, 4);
    });
}

#[test]
fn a_root_without_python_is_told_so() {
    with_newest("a_root_without_python_is_told_so", |bench| {
        let base = bench.dir.path().join("bare");
        for dir in ["usr/bin", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root"] {
            fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", base.join("bin")).unwrap();
        // A dynamic shell needs its loader and its C library.
        let debian = support::debian();
        for file in ["usr/bin/dash", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"] {
            fs::create_dir_all(base.join(file).parent().unwrap()).unwrap();
            fs::copy(debian.join(file).canonicalize().unwrap(), base.join(file)).unwrap();
        }
        std::os::unix::fs::symlink("dash", base.join("usr/bin/sh")).unwrap();
        let bare = Bench::over(VERSIONS[1], &base);
        bare.playbook("- hosts: web0\n  tasks: []\n");
        let error = bare.go().unwrap_err();
        assert!(matches!(error, RunError::NoPython { .. }), "{error}");
    });
}

#[test]
fn a_wrong_vault_password_is_said() {
    with_newest("a_wrong_vault_password_is_said", |mut bench| {
        let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project");
        let vault = fs::read_to_string(project.join("group_vars/all/vault.yml")).unwrap();
        bench.write("group_vars/all.yml", &vault).write("password", "wrong\n");
        bench.playbook("- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n");
        bench.run.project.vault_password_file = Some(bench.run.project.dir.join("password"));
        let error = bench.go().unwrap_err().to_string().to_lowercase();
        assert!(error.contains("decrypt"), "{error}");
    });
}

#[test]
fn a_second_run_finds_the_payloads_of_the_first() {
    with_each("a_second_run_finds_the_payloads_of_the_first", |mut bench| {
        let name = format!("payloads-{}", bench.run.toolchain.dir.file_name().unwrap().to_str().unwrap());
        bench.run.cache = bench.dir.path().join("cache");
        bench.write(
            "roles/r/library/ping.py",
            "#!/usr/bin/python\nfrom ansible.module_utils.basic import *\n",
        );
        bench.playbook("- hosts: web0\n  tasks: []\n");
        bench.go().unwrap();
        let kept = bench.run.cache.join(name);
        let names: Vec<_> = fs::read_dir(&kept).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(names[0].to_str().unwrap().starts_with("ansible.modules.setup-"));
        bench.go().unwrap();
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 1);
    });
}

#[test]
fn tasks_that_change_the_roots_python_see_the_new_one() {
    with_each("tasks_that_change_the_roots_python_see_the_new_one", |bench| {
        // A module that is installed by one task must be there for the next, warm or not.
        bench.write(
            "library/probe.py",
            "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\nmodule = \
             AnsibleModule(argument_spec={})\ntry:\n    import fresh\n    found = fresh.WORD\nexcept ImportError:\n    \
             found = None\nmodule.exit_json(found=found)\n",
        );
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - probe:\n      register: before\n      failed_when: \
             before.found != None\n    - ansible.builtin.copy: {content: \"WORD = 'yes'\\n\", dest: \
             /usr/lib/python3/dist-packages/fresh.py}\n    - probe:\n      register: after\n      failed_when: \
             after.found != 'yes'\n    - probe:\n      register: again\n      failed_when: again.found != 'yes'\n",
        );
        bench.go().unwrap();
        let skipped = |event: &RunEvent| matches!(event, RunEvent::Result { status: TaskStatus::Failed, .. });
        assert!(!bench.events().iter().any(skipped));
    });
}

#[test]
fn in_a_booted_root_services_really_start() {
    with_each("in_a_booted_root_services_really_start", |mut bench| {
        bench.run.boot = true;
        bench.run.services = Services::Fail;
        bench.playbook(
            "- hosts: web0\n  tasks:\n    - ansible.builtin.copy: {content: \"[Service]\\nExecStart=/bin/sleep \
             1000\\n\", dest: /etc/systemd/system/one.service}\n    - ansible.builtin.service: {name: one, state: \
             started}\n    - ansible.builtin.command: systemctl is-active one\n    - ansible.builtin.assert: {that: \
             ansible_facts.env.SYSTEMD_OFFLINE is not defined}\n",
        );
        let outcome = bench.go().unwrap();
        assert_eq!((outcome.tasks, outcome.deferred), (5, vec![]));
    });
}
