//! What a team's own project brings along: it works as it does with `ansible-playbook`.

use std::process::Command;

use rootbuild_tests::{Project, privileged, shared_store};

use crate::support::EL7;

#[test]
fn a_projects_own_configuration_plugins_and_secrets_work() {
    if !privileged("a_projects_own_configuration_plugins_and_secrets_work") {
        return;
    }
    let project = Project::new();
    project.write_standin_repo();
    let definition = format!(
        "{}project = \"ansible\"\ninventory = \"ansible/inventory\"\n\
         [root.own]\nbase = \"el7\"\nhost = \"web7\"\nplaybooks = [\"ansible/site.yml\"]\nvars = {{ extra = [1, \"zwei\"] }}\n",
        EL7.trim_end_matches('\n').to_owned() + "\n"
    );
    project.write("rootbuild.toml", &definition);
    project.write(
        "ansible/ansible.cfg",
        "[defaults]\nroles_path = shared/roles\nlibrary = mods\nfilter_plugins = filters\ncollections_path = vendor\n\
         vault_password_file = ../secret\nstdout_callback = minimal\ninventory = inventory\n",
    );
    project.write("secret", "open sesame\n");
    // A host that would be reached by ssh in production, and one that is not this root.
    project.write("ansible/inventory/hosts", "[web]\nweb7 ansible_host=192.0.2.7 ansible_user=deploy\n[db]\ndb0\n[all:vars]\nansible_connection=ssh\n");
    project.write(
        "ansible/inventory/group_vars/web/plain.yml",
        "from_group: group\nansible_become: true\nansible_connection: ssh\n",
    );
    project.write("ansible/host_vars/web7.yml", "from_host: host\n");
    project.write(
        "ansible/filters/mine.py",
        "class FilterModule:\n    def filters(self):\n        return {'twice': lambda text: text + text}\n",
    );
    project.write("ansible/mods/greet.py", "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\n\ndef main():\n    module = AnsibleModule(dict(name=dict(required=True)))\n    module.exit_json(changed=False, greeting='hello ' + module.params['name'])\n\nmain()\n");
    project.write(
        "ansible/vendor/ansible_collections/acme/tools/roles/mark/tasks/main.yml",
        "- copy: {content: collection, dest: /etc/mark}\n",
    );
    project.write("ansible/shared/roles/app/defaults/main.yml", "color: red\n");
    project.write(
        "ansible/shared/roles/app/handlers/main.yml",
        "- name: reload app\n  listen: app changed\n  copy: {content: handled, dest: /etc/handled}\n",
    );
    project.write("ansible/shared/roles/app/templates/app.conf.j2", "{{ color }} {{ from_group }} {{ from_host }} {{ password }} {{ extra | join('-') }} {{ 'a' | twice }} {{ groups['db'] | join }}\n");
    project.write(
        "ansible/shared/roles/app/tasks/main.yml",
        "- template: {src: app.conf.j2, dest: /etc/app.conf, mode: '0640'}\n  notify: app changed\n\
         - greet: {name: world}\n  register: greeting\n\
         - block:\n    - command: /bin/false\n  rescue:\n    - copy: {content: '{{ greeting.greeting }}', dest: /etc/rescued}\n\
         - shell: echo {{ item }} >> /etc/loop\n  args: {creates: '/etc/none-{{ item }}'}\n  loop: [a, b]\n  tags: [looped]\n",
    );
    project.write(
        "ansible/site.yml",
        "- hosts: db\n  tasks:\n    - fail: {msg: not for us}\n\
         - hosts: web\n  gather_facts: false\n  vars_files: [vault.yml]\n  roles: [app, acme.tools.mark]\n  tasks:\n\
         \x20   - command: id -un\n      become: true\n      become_user: nobody\n      register: who\n\
         \x20   - copy: {content: '{{ who.stdout }}', dest: /etc/who}\n\
         \x20   - command: cat /proc/sys/kernel/hostname\n      delegate_to: localhost\n      register: controller\n\
         \x20   - copy: {content: '{{ controller.stdout }}', dest: /etc/controller}\n\
         \x20   - fetch: {src: /etc/app.conf, dest: '{{ lookup(\"env\", \"HOME\") }}/fetched', flat: true}\n\
         \x20   - copy: {content: '{{ password }}', dest: /etc/secret, mode: '0600'}\n      no_log: true\n",
    );
    // The vault file is made by the very ansible-core that will read it: a first run installs that.
    project.write("ansible/vault.yml", "password: swordfish\n");
    let _ = project.rootbuild(&["provision"]).expect(0);
    let vault = Command::new("sh")
        .args(["-euc", "exec \"$1\"/toolchains/*2.16.19*/bin/ansible-vault encrypt --vault-password-file secret ansible/vault.yml", "sh"])
        .arg(shared_store())
        .current_dir(project.dir())
        .output()
        .expect("sh runs");
    assert!(vault.status.success(), "{}", String::from_utf8_lossy(&vault.stderr));
    assert!(
        std::fs::read_to_string(project.dir().join("ansible/vault.yml"))
            .expect("it is there")
            .starts_with("$ANSIBLE_VAULT")
    );
    let ran = project.rootbuild(&["provision"]).expect(0);

    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    let inside = |path: &str| project.inside("own", &format!("cat {path}"));
    assert_eq!(inside("/etc/app.conf"), "red group host swordfish 1-zwei aa db0\n");
    assert_eq!(inside("/etc/handled"), "handled");
    assert_eq!(inside("/etc/rescued"), "hello world");
    assert_eq!(inside("/etc/loop"), "a\nb\n");
    assert_eq!(inside("/etc/mark"), "collection");
    assert_eq!(inside("/etc/who"), "nobody");
    assert_eq!(inside("/etc/controller"), host.trim());
    assert_eq!(inside("/etc/secret"), "swordfish");
    // What is secret is in no log and no record.
    let log = project.rootbuild(&["log", "own"]).expect(0).stdout;
    assert!(!log.contains("swordfish") && !ran.stderr.contains("swordfish"), "{log}");
    let leaked = Command::new("grep")
        .args(["-rlE", "swordfish|open sesame"])
        .arg(project.store().join("layers"))
        .output();
    assert_eq!(String::from_utf8_lossy(&leaked.expect("grep runs").stdout), "");

    // A wrong password is an error that says so; the right one again is cached: it is in no key.
    project.write("secret", "wrong\n").write("ansible/host_vars/web7.yml", "from_host: changed\n");
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["vault"]);
    project.write("ansible/host_vars/web7.yml", "from_host: host\n");
    let _ = project.rootbuild(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn an_inventory_that_does_not_know_the_host_is_an_error_with_the_nearest_name() {
    if !privileged("an_inventory_that_does_not_know_the_host_is_an_error_with_the_nearest_name") {
        return;
    }
    let project = Project::new();
    project.write_standin_repo();
    project.write(
        "rootbuild.toml",
        &format!("{EL7}inventory = \"hosts\"\n[root.stranger]\nbase = \"el7\"\nhost = \"hgwbe0\"\nplaybooks = [\"site.yml\"]\n"),
    );
    project.write("hosts", "hgweb0\nhgweb1\n");
    project.write("site.yml", "- hosts: all\n  tasks:\n    - ping:\n");
    let _ = project.rootbuild(&["provision"]).expect(2).says(&["hgwbe0", "hgweb0"]);
}

#[test]
fn nothing_reaches_another_machine_or_the_build_machine_by_accident() {
    if !privileged("nothing_reaches_another_machine_or_the_build_machine_by_accident") {
        return;
    }
    let project = Project::new();
    project.write_standin_repo();
    project.write(
        "rootbuild.toml",
        &format!("{EL7}inventory = \"hosts\"\n[root.safe]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n"),
    );
    project.write("hosts", "safe ansible_connection=local\nother ansible_connection=local\n");
    project.write(
        "site.yml",
        "- hosts: safe\n  connection: local\n  gather_facts: false\n  tasks:\n    - file: {path: /etc/rootbuild-was-here, state: touch}\n",
    );
    let _ = project.rootbuild(&["provision"]).expect(0);
    assert!(!std::path::Path::new("/etc/rootbuild-was-here").exists());
    assert_eq!(project.inside("safe", "ls /etc/rootbuild-was-here"), "/etc/rootbuild-was-here\n");
    project.write(
        "site.yml",
        "- hosts: safe\n  gather_facts: false\n  tasks:\n    - file: {path: /etc/rootbuild-was-here, state: touch}\n      delegate_to: other\n",
    );
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["other", "safe"]);
    assert!(!std::path::Path::new("/etc/rootbuild-was-here").exists());
}
