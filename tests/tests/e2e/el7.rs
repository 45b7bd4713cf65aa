//! An EL7-shaped root, seen from inside.

use rootbuild_tests::{Project, privileged};

use crate::support::{EL7, el7_project, statuses, tasks_run};

const PLAYBOOK: &str = r##"
- hosts: el7-inside
  vars:
    greeting: "grüß dich"
  tasks:
    - name: install packages from the repositories of the root
      block:
        - name: repository
          yum_repository:
            name: standin
            description: stand-in
            baseurl: "@URL@/os"
            gpgcheck: true
            gpgkey: file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7
        - name: httpd
          package: {name: [httpd, rsync], state: present}
    - name: group
      group: {name: deploy, gid: 1500}
    - name: user
      user: {name: deploy, uid: 1500, group: deploy, shell: /bin/bash, home: /home/deploy}
    - name: template
      template: {src: motd.j2, dest: /etc/motd, mode: "0644"}
      notify: tell
    - name: setuid helper
      copy: {content: "#!/bin/sh\nid -u\n", dest: /usr/local/bin/helper, mode: "4750", group: deploy}
    - name: a file capability
      command: setcap cap_net_bind_service=ep /usr/bin/rsync
    - name: enable and start
      service: {name: httpd, enabled: true, state: started}
    - name: cron
      cron: {name: nightly, minute: "7", hour: "3", job: /bin/true, user: deploy, cron_file: nightly}
    - name: hard link
      file: {src: /etc/motd, dest: /etc/motd.link, state: hard}
  handlers:
    - name: tell
      copy: {content: "handled\n", dest: /etc/handled}
"##;

#[test]
fn an_el7_root_is_as_its_playbook_says() {
    if !privileged("an_el7_root_is_as_its_playbook_says") {
        return;
    }
    let roots = "[root.el7-inside]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nnetwork = \"host\"\n";
    let project = el7_project(roots, PLAYBOOK);
    project.write("templates/motd.j2", "{{ greeting }} auf {{ inventory_hostname }}\n");
    let first = project.rootbuild(&["provision", "--json", "el7-inside"]).expect(0);
    assert_eq!(first.json()["roots"][0]["name"], "el7-inside");
    assert_eq!(first.json()["roots"][0]["changed"], true);
    let path = first.json()["roots"][0]["path"].as_str().expect("path").to_owned();
    assert_eq!(std::path::Path::new(&path), project.root("el7-inside"));
    assert!(std::fs::symlink_metadata(&path).expect("the root is there").is_symlink());

    let inside = |script: &str| project.inside("el7-inside", script).trim().to_owned();
    let rpms: usize = inside("rpm -qa | grep -vc gpg-pubkey").parse().expect("a number");
    assert!(rpms > 150, "{rpms}");
    assert_eq!(inside("rpm -q httpd >/dev/null && rpm -q bash >/dev/null && echo both"), "both");
    let listed: usize = inside("dnf -q list installed | grep -c '\\.'").parse().expect("a number");
    assert!(listed >= rpms, "dnf sees {listed}, rpm {rpms}");
    assert_eq!(
        inside("test -f /var/lib/rpm/Packages && ! test -e /var/lib/rpm/rpmdb.sqlite && echo bdb"),
        "bdb"
    );
    assert_eq!(inside("ls /var/lib/rpm | grep -c __db || true"), "0");
    assert_eq!(inside("id deploy"), "uid=1500(deploy) gid=1500(deploy) groups=1500(deploy)");
    assert_eq!(inside("cat /etc/motd"), "grüß dich auf el7-inside");
    assert_eq!(inside("cat /etc/handled"), "handled");
    assert_eq!(inside("stat -c '%a %U %G' /usr/local/bin/helper"), "4750 root deploy");
    assert_eq!(inside("stat -c %a /usr/bin/sudo"), "4111");
    assert!(inside("getcap /usr/bin/ping").contains("cap_net_raw"), "ping lost its capability");
    assert!(inside("getcap /usr/bin/rsync").contains("cap_net_bind_service"), "rsync has no capability");
    assert_eq!(inside("systemctl is-enabled httpd sshd crond"), "enabled\nenabled\nenabled");
    assert!(inside("cat /etc/cron.d/nightly").contains("7 3 * * * deploy /bin/true"));
    assert_eq!(inside("test /etc/motd -ef /etc/motd.link && stat -c %h /etc/motd"), "2");
    assert_eq!(inside("stat -c %s /etc/machine-id"), "0");
    assert_eq!(
        inside("ls -A /tmp /var/cache/dnf /root/.ansible 2>/dev/null | grep -v : | grep -v '^$' || true"),
        ""
    );
    assert_eq!(inside("python --version 2>&1").split(' ').nth(1).map(|v| &v[..3]), Some("2.7"));

    // The service was to be started: recorded, and left to its unit.
    let shown = project.rootbuild(&["show", "el7-inside"]).expect(0);
    assert!(shown.stdout.contains("`httpd`") && shown.stdout.contains("started"), "{}", shown.stdout);

    let second = project.rootbuild(&["provision", "--json", "el7-inside"]).expect(0);
    assert_eq!(statuses(&second), ["cached", "cached"]);
    assert_eq!(tasks_run(&second), 0);
    assert_eq!(second.json()["roots"][0]["changed"], false);
    assert_eq!(second.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);

    // Made again from nothing, packages installed by the playbook and all, it is the same tree.
    assert_eq!(inside("rpm -q --tid 1 | wc -l"), inside("rpm -qa | wc -l"));
    let again =
        project.rootbuild(&["provision", "--json", "--no-cache", "--no-replay", "el7-inside"]).expect(0);
    assert_eq!(statuses(&again), ["built", "built"]);
    for layer in 0..2 {
        let tree = |ran: &rootbuild_tests::Ran| ran.json()["roots"][0]["layers"][layer]["tree"].clone();
        assert_eq!(tree(&again), tree(&first), "layer {layer}");
    }
}

#[test]
fn python_2_7_may_be_the_only_python_of_a_root() {
    if !privileged("python_2_7_may_be_the_only_python_of_a_root") {
        return;
    }
    let project = Project::new();
    project.write_standin_repo();
    project.write(
        "rootbuild.toml",
        "[base.py27]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"@py27-minimal\"]\n\
         [ansible]\ncore = \"2.16.19\"\n[root.py27]\nbase = \"py27\"\nplaybooks = [\"site.yml\"]\n",
    );
    project.write(
        "site.yml",
        r##"
- hosts: all
  tasks:
    - name: the interpreter is 2.7
      assert:
        that: ansible_python_version is version('2.8', '<')
    - name: a module
      copy: {content: "{{ 'ü' }}\n", dest: /etc/from-two-seven}
      become: true
    - name: the shell
      shell: "set -o pipefail; printf 'a\\nb\\n' | wc -l"
      args: {executable: /bin/bash}
      register: counted
    - lineinfile: {path: /etc/from-two-seven, line: "{{ counted.stdout }}"}
"##,
    );
    let _ = project.rootbuild(&["provision"]).expect(0);
    assert_eq!(
        project.inside("py27", "cat /etc/from-two-seven; ls /usr/bin/python3* 2>/dev/null | wc -l"),
        "ü\n2\n0\n"
    );
    assert!(project.inside("py27", "rpm -qa | wc -l").trim().parse::<u32>().expect("a number") > 30);
}

#[test]
fn a_lock_is_written_once_and_answers_the_next_build() {
    if !privileged("a_lock_is_written_once_and_answers_the_next_build") {
        return;
    }
    let project = Project::with_own_store();
    project.write_standin_repo();
    let definition = "[base.locked]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\n\
         packages = [\"setup\", \"filesystem\", \"bash\", \"rpm\"]\nlock = \"bases/el7.lock\"\n[root.locked]\nbase = \"locked\"\n";
    project.write("rootbuild.toml", definition);
    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    let lock = std::fs::read_to_string(project.dir().join("bases/el7.lock")).expect("the lock was written");
    assert!(lock.contains("sha256"), "{lock}");
    let second = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&second), ["cached"]);
    // In another store the packages come from the lock.
    let other =
        project.command(&["provision", "--json", "--store"]).arg(project.dir().join("other")).output();
    let other = rootbuild_tests::Ran::new(&other.expect("rootbuild runs")).expect(0);
    assert_eq!(statuses(&other), ["built"]);
    assert_eq!(other.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);
    // A request that the lock doesn't answer.
    project.write("rootbuild.toml", &definition.replace("\"bash\"", "\"bash\", \"sed\""));
    let _ = project.rootbuild(&["provision"]).expect(2).says(&["el7.lock", "sed"]);
}

#[test]
fn roots_that_stand_on_another_root_share_its_layers() {
    if !privileged("roots_that_stand_on_another_root_share_its_layers") {
        return;
    }
    let project = Project::new();
    project.write_standin_repo();
    project.write(
        "rootbuild.toml",
        &format!(
            "{EL7}\n[base.share]\nsource = \"root\"\nroot = \"share-common\"\n\
             [root.share-common]\nbase = \"el7\"\nplaybooks = [\"common.yml\"]\n\
             [root.share0]\nbase = \"share\"\nplaybooks = [\"last.yml\"]\n\
             [root.share1]\nbase = \"share\"\nplaybooks = [\"last.yml\"]\n"
        ),
    );
    project.write(
        "common.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: common, dest: /etc/common}\n",
    );
    project.write(
        "last.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: '{{ inventory_hostname }}', dest: /etc/me}\n",
    );
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    let result = ran.json();
    let tree = |root: usize, layer: usize| result["roots"][root]["layers"][layer]["tree"].clone();
    assert_eq!(tree(0, 1), tree(1, 0));
    assert_eq!(tree(0, 1), tree(2, 0));
    assert_ne!(result["roots"][1]["tree"], result["roots"][2]["tree"]);
    assert_eq!(tasks_run(&ran), 3, "one common task, one for each head");
    assert_eq!(project.inside("share0", "cat /etc/common /etc/me"), "commonshare0");
    assert_eq!(project.inside("share1", "cat /etc/common /etc/me"), "commonshare1");
}
