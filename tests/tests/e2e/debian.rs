//! A Debian root, seen from inside; with the current ansible-core.

use rootbuild_tests::{Project, privileged};

use crate::support::{statuses, tasks_run};

#[test]
fn a_debian_root_is_as_its_playbook_says() {
    if !privileged("a_debian_root_is_as_its_playbook_says") {
        return;
    }
    let project = Project::new();
    project.write(
        "rootbuild.toml",
        "[base.bookworm]\nsource = \"debian\"\nsuite = \"bookworm\"\npackages = [\"python3\", \"systemd\", \"sudo\", \"cron\", \"libcap2-bin\", \"iputils-ping\"]\n\
         [ansible]\ncore = \"2.19.14\"\nproject = \"ansible\"\n\
         [root.deb]\nbase = \"bookworm\"\nhost = \"localhost\"\nplaybooks = [\"ansible/site.yml\"]\nvars = { shade = \"green\" }\n",
    );
    project.write(
        "ansible/site.yml",
        r##"
- hosts: localhost
  connection: local
  tasks:
    - group: {name: app, gid: 1600}
    - user: {name: app, uid: 1600, group: app, shell: /bin/bash}
    - copy: {content: "{{ shade }}\n", dest: /etc/shade, owner: app, mode: "0640"}
    - copy: {content: "#!/bin/sh\n", dest: /usr/local/bin/set, mode: "6755"}
    - name: as another user
      command: id -un
      become: true
      become_user: app
      register: who
    - copy: {content: "{{ who.stdout }}\n", dest: /etc/who}
    - copy:
        dest: /etc/systemd/system/app.service
        content: |
          [Service]
          ExecStart=/bin/sleep infinity
          [Install]
          WantedBy=multi-user.target
    - systemd_service: {name: app, enabled: true, daemon_reload: true, state: started}
    - cron: {name: n, minute: "1", job: /bin/true, user: app}
"##,
    );
    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    let inside = |script: &str| project.inside("deb", script).trim().to_owned();
    assert!(inside("dpkg -l | grep -c ^ii").parse::<u32>().expect("a number") > 80);
    assert_eq!(inside("cat /etc/shade /etc/who"), "green\napp");
    assert_eq!(inside("stat -c '%a %u' /etc/shade /usr/local/bin/set"), "640 1600\n6755 0");
    assert!(inside("getcap /usr/bin/ping").contains("cap_net_raw"));
    assert_eq!(inside("systemctl is-enabled app cron"), "enabled\nenabled");
    assert!(!std::path::Path::new("/etc/shade").exists(), "the playbook ran on the build machine");
    let second = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(statuses(&second), ["cached", "cached"]);
    assert_eq!(tasks_run(&second), 0);
    assert_eq!(second.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);
}
