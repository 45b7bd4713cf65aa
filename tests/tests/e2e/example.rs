//! The example cluster, as `make demo` provisions it on the stand-in.

use std::process::Command;

use rootbuild_tests::{Project, privileged, source, standin};

use crate::support::{statuses, tasks_run};

#[test]
fn the_example_cluster_is_provisioned_once_and_cached_from_then_on() {
    if !privileged("the_example_cluster_is_provisioned_once_and_cached_from_then_on") {
        return;
    }
    let project = Project::new();
    let run = |program: &str, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).current_dir(source()).output().expect("it runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    let dir = project.dir().to_string_lossy().into_owned();
    run("cp", &["-a", "playbooks/examples/vcs-cluster/.", &dir]);
    run("tools/point-at-standin", &[&dir, &standin().dir.to_string_lossy(), &standin().url]);

    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    let result = first.json();
    let names: Vec<&str> = result["roots"]
        .as_array()
        .expect("roots")
        .iter()
        .map(|root| root["name"].as_str().expect("name"))
        .collect();
    assert_eq!(names, ["web-common", "hgweb0", "hgweb1", "hgssh", "queue", "ldap", "lb"]);
    assert!(tasks_run(&first) > 400, "{} tasks ran", tasks_run(&first));
    // The web heads share every layer but the last.
    let root = |name: &str| &result["roots"][names.iter().position(|known| *known == name).expect("a root")];
    assert_eq!(root("hgweb0")["layers"][0]["tree"], root("web-common")["tree"]);
    assert_eq!(root("hgweb1")["layers"][0]["tree"], root("web-common")["tree"]);
    assert_ne!(root("hgweb0")["tree"], root("hgweb1")["tree"]);
    // The base is built once for all of them.
    let bases = result["roots"].as_array().expect("roots").iter().map(|root| &root["layers"][0]);
    assert_eq!(bases.filter(|base| base["step"] == "base:centos7" && base["status"] == "built").count(), 1);

    let enabled = |root: &str, unit: &str| project.inside(root, &format!("systemctl is-enabled {unit}"));
    for (root, unit) in
        [("hgweb0", "httpd"), ("hgssh", "sshd"), ("ldap", "slapd"), ("lb", "haproxy"), ("queue", "crond")]
    {
        assert_eq!(enabled(root, unit), "enabled\n", "{unit} in {root}");
    }
    assert!(project.inside("hgweb1", "cat /etc/motd").contains("hgweb1"));
    let commit = "cd /tmp && hg init r && cd r && echo x > f && hg -q add f && hg commit -u me -m x && hg log -T '{desc}'";
    assert_eq!(project.inside("hgssh", commit), "x");
    let roles = std::fs::read_dir(project.dir().join("ansible/roles")).expect("roles").count();
    assert!(roles >= 8, "{roles} roles");

    let second = project.rootbuild(&["provision", "--json"]).expect(0);
    assert!(statuses(&second).iter().all(|status| status == "cached"), "{:?}", statuses(&second));
    assert_eq!(tasks_run(&second), 0);
    for (before, after) in result["roots"]
        .as_array()
        .expect("roots")
        .iter()
        .zip(second.json()["roots"].as_array().expect("roots"))
    {
        assert_eq!((&before["tree"], &after["changed"]), (&after["tree"], &false.into()));
    }
}
