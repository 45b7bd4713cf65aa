//! `lookup('env', …)`: what it gives, whatever way it is asked.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use support::{Bench, EVERY_VERSION, privileged};

/// Cargo sets `CARGO_PKG_NAME` for us; the sandbox has a value of its own for the rest.
const PLAYBOOK: &str = "- hosts: web0
  gather_facts: false
  vars:
    late: \"{{ lookup('env', 'CARGO_PKG_NAME') }}\"
  tasks:
    - ansible.builtin.assert:
        that:
          - late == 'rootbuild-playbooks'
          - lookup('ansible.builtin.env', 'CARGO_PKG_NAME') == 'rootbuild-playbooks'
          - query('env', 'CARGO_PKG_NAME', 'NO_SUCH_VARIABLE') == ['rootbuild-playbooks', '']
          - lookup('env', 'NO_SUCH_VARIABLE', default='none') == 'none'
          - lookup('env', 'HOME') == home
          - lookup('env', 'ANSIBLE_HOME') == ''
          - lookup('env', 'PYTHONHASHSEED') == ''
          - lookup('pipe', 'echo $CARGO_PKG_NAME-$HOME') is match('-.+/home')
    - ansible.builtin.debug: {msg: \"{{ item }}\"}
      with_env: [CARGO_PKG_NAME]
      register: looped
    - ansible.builtin.assert: {that: \"looped.results[0].msg == 'rootbuild-playbooks'\"}
    - ansible.builtin.debug: {msg: \"{{ lookup('env', 'NO_SUCH_VARIABLE', default=undef()) }}\"}
      ignore_errors: true
      register: undefined
    - ansible.builtin.assert: {that: undefined is failed}
";

#[test]
fn lookups_give_the_callers_environment_and_nothing_else_sees_it() {
    let test = "lookups_give_the_callers_environment_and_nothing_else_sees_it";
    for version in EVERY_VERSION.iter().filter(|_| privileged(test)) {
        let mut bench = Bench::new(version);
        bench.run.vars = serde_json::json!({"home": std::env::var("HOME").unwrap()});
        bench.playbook(PLAYBOOK).go().unwrap_or_else(|error| panic!("{version}: {error}"));
    }
}

#[test]
fn a_projects_own_lookup_of_that_name_is_used() {
    for version in EVERY_VERSION.iter().filter(|_| privileged("a_projects_own_lookup_of_that_name_is_used")) {
        let bench = Bench::new(version);
        let own = "from ansible.plugins.lookup import LookupBase\nclass LookupModule(LookupBase):\n    def run(self, terms, \
                   variables=None, **kwargs):\n        return ['own ' + term for term in terms]\n";
        bench.write("lookup_plugins/env.py", own);
        bench.playbook(
            "- hosts: web0\n  gather_facts: false\n  tasks:\n    - ansible.builtin.assert: {that: \"lookup('env', 'X') == \
             'own X'\"}\n",
        );
        bench.go().unwrap_or_else(|error| panic!("{version}: {error}"));
    }
}
