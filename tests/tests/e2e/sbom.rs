//! What `sbom` says of a root is what the root's own package manager says, with the layer that brought it.

use std::collections::BTreeMap;

use rootbuild_tests::{Project, privileged};
use serde_json::Value;

use crate::support::el7_project;

/// Each package's version and layer, by an SPDX document.
fn by_spdx(document: &Value) -> BTreeMap<String, (String, String)> {
    let list = |field: &str| document[field].as_array().expect(field).clone();
    let text = |value: &Value, field: &str| value[field].as_str().expect(field).to_owned();
    let packages: BTreeMap<String, Value> =
        list("packages").into_iter().map(|it| (text(&it, "SPDXID"), it)).collect();
    list("relationships")
        .iter()
        .filter(|it| it["relationshipType"] == "CONTAINS" && it["spdxElementId"] != "SPDXRef-Root")
        .map(|it| {
            let (layer, package) =
                (&packages[&text(it, "spdxElementId")], &packages[&text(it, "relatedSpdxElement")]);
            (text(package, "name"), (text(package, "versionInfo"), text(layer, "name")))
        })
        .collect()
}

/// The same by a CycloneDX document.
fn by_cyclonedx(document: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value, field: &str| value[field].as_str().expect(field).to_owned();
    let components = document["components"].as_array().expect("components");
    components
        .iter()
        .map(|it| {
            let properties = it["properties"].as_array().expect("properties");
            let layer = properties.iter().find(|it| it["name"] == "rootbuild:layer").expect("a layer");
            (text(it, "name"), (text(it, "version"), text(layer, "value")))
        })
        .collect()
}

/// Both documents of a root say `expected` (name, version and layer), whatever became of its checkout, and each is the same twice.
fn check(project: &Project, root: &str, listed: &str, database: &str, expected: &[(&str, &str)]) {
    let listed: BTreeMap<&str, &str> =
        listed.lines().map(|line| line.split_once(' ').expect("a version")).collect();
    let spdx = project.rootbuild(&["sbom", root]).expect(0);
    let found = by_spdx(&spdx.json());
    let seen: BTreeMap<&str, &str> =
        found.iter().map(|(name, (version, _))| (name.as_str(), version.as_str())).collect();
    assert_eq!(seen, listed);
    for (name, layer) in expected {
        assert_eq!(found[*name].1, *layer, "{name}");
    }
    let cyclonedx = project.rootbuild(&["sbom", root, "--format", "cyclonedx"]).expect(0);
    assert_eq!(by_cyclonedx(&cyclonedx.json()), found);
    // What users do to the checkout isn't what was built.
    std::fs::remove_file(project.root(root).join(database)).expect("it is there");
    for (format, document) in [("spdx", spdx), ("cyclonedx", cyclonedx)] {
        let written = project.rootbuild(&["sbom", root, "--format", format, "-o", "bill.json"]).expect(0);
        assert_eq!(written.stdout, "");
        let bill = std::fs::read_to_string(project.dir().join("bill.json")).expect("it was written");
        assert!(bill == document.stdout, "{format}: another document");
    }
}

#[test]
fn the_bill_of_an_rpm_root_is_what_its_rpm_says() {
    if !privileged("the_bill_of_an_rpm_root_is_what_its_rpm_says") {
        return;
    }
    let roots = "[root.bill]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nnetwork = \"host\"\n\
                 [base.on-bill]\nsource = \"root\"\nroot = \"bill\"\n[root.above-bill]\nbase = \"on-bill\"\nplaybooks = [\"more.yml\"]\n";
    let playbook = r#"
- hosts: bill
  tasks:
    - yum_repository:
        name: standin
        description: stand-in
        baseurl: "@URL@/os"
        gpgkey: file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7
    - package: {name: [httpd], state: present}
"#;
    let project = el7_project(roots, playbook);
    project.write("more.yml", "- hosts: above-bill\n  tasks:\n    - command: rpm -e httpd --nodeps\n");
    let _ = project.rootbuild(&["sbom", "bill"]).expect(1).says(&["rootbuild provision bill"]);
    let _ = project.rootbuild(&["provision", "-q", "above-bill", "bill"]).expect(0);
    let query = "rpm -qa --qf '%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n' | grep -v ^gpg-pubkey | sed 's/ 0:/ /'";
    let above = project.inside("above-bill", query);
    let below = project.inside("bill", query);
    check(
        &project,
        "above-bill",
        &above,
        "var/lib/rpm/Packages",
        &[("bash", "base:el7"), ("httpd-tools", "bill:site.yml")],
    );
    check(&project, "bill", &below, "var/lib/rpm/Packages", &[("bash", "base:el7"), ("httpd", "site.yml")]);
}

#[test]
fn the_bill_of_a_debian_root_is_what_its_dpkg_says() {
    if !privileged("the_bill_of_a_debian_root_is_what_its_dpkg_says") {
        return;
    }
    let project = Project::new();
    project.write(
        "rootbuild.toml",
        "[base.bookworm]\nsource = \"debian\"\nsuite = \"bookworm\"\npackages = [\"python3\", \"systemd\", \"sudo\", \"cron\", \"libcap2-bin\", \"iputils-ping\"]\n\
         [ansible]\ncore = \"2.19.14\"\n\
         [root.deb-bill]\nbase = \"bookworm\"\nplaybooks = [\"site.yml\"]\n",
    );
    project.write(
        "site.yml",
        r#"
- hosts: deb-bill
  tasks:
    - file: {path: /srv/own/DEBIAN, state: directory, mode: "0755"}
    - copy:
        dest: /srv/own/DEBIAN/control
        content: |
          Package: own
          Version: 3:1.0-2
          Architecture: all
          Maintainer: Me <me@example.org>
          Description: ours
    - command: dpkg-deb --build /srv/own /srv/own.deb
    - command: dpkg -i /srv/own.deb
"#,
    );
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let listed = project.inside("deb-bill", "dpkg-query -Wf '${Package} ${Version}\\n'");
    assert!(listed.contains("own 3:1.0-2"), "{listed}");
    check(
        &project,
        "deb-bill",
        &listed,
        "var/lib/dpkg/status",
        &[("own", "site.yml"), ("dpkg", "base:bookworm")],
    );
}
