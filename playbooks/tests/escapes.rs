//! Ways out of the sandbox, each tried for real: every task ends in the root or fails.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{Bench, EVERY_VERSION, privileged};
use tempfile::TempDir;

/// Variables that a play, or a result that somebody in the root has forged, may set.
const FORGED: &str = "{rootbuild_target: localhost, inventory_hostname: localhost, \
                      inventory_hostname_short: localhost, ansible_connection: local, \
                      ansible_delegated_vars: {web0: {ansible_connection: local}}, ansible_host: 127.0.0.1, \
                      ansible_transport: local, delegate_to: localhost, omit: localhost}";

/// A module in whose result everything is forged.
const TROJAN: &str = "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\nmodule = \
                      AnsibleModule(argument_spec={'at': {}})\nopen(module.params['at'] + '/trojan', \
                      'a').close()\nnames = dict.fromkeys(['rootbuild_target', 'inventory_hostname', \
                      'delegate_to'], 'localhost')\nnames.update(ansible_connection='local', \
                      ansible_transport='local', ansible_host='127.0.0.1')\nmodule.exit_json(ansible_facts=names, \
                      _ansible_delegated_vars=names, add_host={'host_name': 'web0', 'host_vars': names, 'groups': \
                      []}, **{k: v for k, v in names.items() if k != 'delegate_to'})\n";

struct Out {
    bench: Bench,
    /// Where tasks put their marks: on this machine if they get out. Not below /tmp, which a root has for itself.
    dir: PathBuf,
    _outside: TempDir,
    tasks: String,
}

impl Out {
    fn new(version: &str) -> Self {
        let bench = Bench::new(version);
        let outside = tempfile::Builder::new().prefix("rootbuild-outside-").tempdir_in("/var/lib").unwrap();
        let dir = outside.path().to_owned();
        fs::create_dir_all(bench.made(dir.strip_prefix("/").unwrap().to_str().unwrap())).unwrap();
        bench.write("library/trojan.py", TROJAN);
        bench.write("forged.yml", FORGED);
        Self { bench, dir, _outside: outside, tasks: String::new() }
    }

    /// A task as it stands.
    fn task(&mut self, text: &str) {
        self.tasks += &format!("    - {text}\n      ignore_errors: true\n      ignore_unreachable: true\n");
    }

    /// A task that leaves a mark.
    fn mark(&mut self, name: &str, more: &str) {
        let dir = self.dir.display().to_string();
        self.task(&format!("ansible.builtin.raw: touch {dir}/{name}{more}"));
    }

    /// Runs all tasks. The names that were left here, and those in the root.
    fn run(&self) -> (Vec<String>, Vec<String>) {
        let head = "- hosts: web0\n  gather_facts: false\n  tasks:\n";
        self.bench.playbook(&(head.to_owned() + &self.tasks));
        // Some of these end the run: that is an answer too.
        let _ended = self.bench.go();
        let names = |dir: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        (
            names(self.dir.clone()),
            names(self.bench.made(self.dir.strip_prefix("/").unwrap().to_str().unwrap())),
        )
    }
}

fn each(test: &str, fill: impl Fn(&mut Out), inside: &[&str], here: &[&str]) {
    if privileged(test) {
        for &version in EVERY_VERSION {
            let mut out = Out::new(version);
            fill(&mut out);
            let (made_here, made_inside) = out.run();
            assert_eq!(made_here, here, "on this machine, with ansible-core {version}: {}", out.bench.log());
            assert_eq!(made_inside, inside, "in the root, with ansible-core {version}: {}", out.bench.log());
        }
    }
}

#[test]
fn facts_lead_no_task_out_whoever_sets_them() {
    each(
        "facts_lead_no_task_out_whoever_sets_them",
        |out| {
            let dir = out.dir.display().to_string();
            out.task(&format!("ansible.builtin.set_fact: {FORGED}"));
            out.mark("a-set", "");
            out.task(&format!("trojan: {{at: {dir}}}\n      loop: [1, 2]"));
            out.mark("b-forged", "");
            out.mark("c-looped", "\n      loop: [1, 2]");
            out.task(&format!("ansible.builtin.copy: {{content: x, dest: {dir}/d-copied}}"));
            out.task("ansible.builtin.include_vars: forged.yml");
            out.mark("e-included", "");
            out.task("ansible.builtin.add_host: {name: web0, ansible_connection: local, rootbuild_target: localhost}");
            out.task("ansible.builtin.group_by: {key: local}");
            out.mark("f-added", "");
        },
        &["a-set", "b-forged", "c-looped", "d-copied", "e-included", "f-added", "trojan"],
        &[],
    );
}

#[test]
fn variables_and_keywords_of_a_task_lead_nowhere() {
    each(
        "variables_and_keywords_of_a_task_lead_nowhere",
        |out| {
            out.mark("a-vars", &format!("\n      vars: {FORGED}"));
            out.mark("b-keyword", "\n      connection: local");
            out.mark("c-self", "\n      delegate_to: web0\n      vars: {ansible_connection: local}");
            out.mark(
                "d-template",
                "\n      delegate_to: \"{{ inventory_hostname }}\"\n      connection: local",
            );
            out.mark("e-omitted", "\n      delegate_to: \"{{ omit }}\"\n      connection: local");
            out.mark("f-register", "\n      register: ansible_connection\n      loop: [1, 2]");
            out.mark("g-after", "");
        },
        &["a-vars", "b-keyword", "c-self", "d-template", "e-omitted", "f-register", "g-after"],
        &[],
    );
}

#[test]
fn what_is_stronger_than_extra_variables_is_no_stronger_than_we() {
    each(
        "what_is_stronger_than_extra_variables_is_no_stronger_than_we",
        |out| {
            let dir = out.dir.display().to_string();
            out.mark("a", "\n      loop: [local]\n      loop_control: {loop_var: ansible_connection}");
            out.mark(
                "b",
                "\n      loop: [ansible.builtin.local]\n      loop_control: {loop_var: ansible_connection}",
            );
            let looped = "loop: [local]\n      loop_control: {loop_var: ansible_connection}";
            out.task(&format!("ansible.builtin.copy: {{content: x, dest: {dir}/c}}\n      {looped}"));
            out.task(&format!("ansible.builtin.file: {{path: {dir}/d, state: touch}}\n      {looped}"));
            let names = "[ssh, ansible.builtin.paramiko_ssh, winrm, no.such.connection]";
            out.mark(
                "e",
                &format!("\n      loop: {names}\n      loop_control: {{loop_var: ansible_connection}}"),
            );
            out.mark("last", "");
        },
        &["a", "b", "c", "d", "e", "last"],
        &[],
    );
}

#[test]
fn other_hosts_are_no_way_out() {
    each(
        "other_hosts_are_no_way_out",
        |out| {
            out.task(
                "ansible.builtin.add_host: {name: other, ansible_connection: local, ansible_host: 127.0.0.1, \
                      rootbuild_target: localhost}",
            );
            out.mark("a", "\n      delegate_to: other");
            out.mark("b", "\n      delegate_to: other\n      connection: local\n      vars: {ansible_connection: local}");
            out.mark("c", "\n      delegate_to: unheard-of\n      vars: {ansible_connection: local}");
            out.mark("d", "\n      delegate_to: \"{{ item }}\"\n      loop: [web0, other]");
            // The root's own host by its address, and somebody else's.
            out.bench.write("host_vars/web0.yml", "ansible_host: 192.0.2.10\n");
            out.mark("e", "\n      delegate_to: 192.0.2.10");
            out.mark("f", "\n      delegate_to: 192.0.2.11");
        },
        &["d", "e"],
        &[],
    );
}

#[test]
fn what_is_meant_for_this_machine_runs_here() {
    each(
        "what_is_meant_for_this_machine_runs_here",
        |out| {
            let dir = out.dir.display().to_string();
            out.mark("a", "\n      delegate_to: localhost");
            out.mark("b", "\n      delegate_to: \"{{ x }}\"\n      vars: {x: 127.0.0.1}");
            out.task(&format!("local_action: {{module: ansible.builtin.file, path: {dir}/c, state: touch}}"));
            out.mark(
                "d-{{ item }}",
                "\n      delegate_to: \"{{ item }}\"\n      loop: [web0, localhost, web0]",
            );
        },
        &["d-web0"],
        &["a", "b", "c", "d-localhost"],
    );
}
