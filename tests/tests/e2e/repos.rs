//! `network = "repos"`: declared repositories, and nothing else.

use rootbuild_tests::{Project, privileged};

use crate::support::{EL7, el7_project, statuses};

const ROOT: &str = "[root.el7-repos]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nnetwork = \"repos\"\n";

const PLAYBOOK: &str = r#"
- hosts: el7-repos
  gather_facts: false
  tasks:
    - name: repository
      yum_repository:
        name: standin
        description: stand-in
        baseurl: "@URL@/os"
        gpgcheck: true
        gpgkey: file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7
    - name: httpd
      yum: {name: httpd, state: present, disablerepo: "*", enablerepo: standin}
    - name: what isn't declared
      shell: |
        cat > /root/try.py <<'END'
        import os, socket, urllib2
        url = "@URL@/updates-not-declared/x"
        host, port = url.split("/")[2].split(":")
        try:
            urllib2.urlopen(url)
        except urllib2.HTTPError as error:
            print(error.code, error.read())
        try:
            urllib2.urlopen("https://" + host + ":" + port + "/os/")
        except Exception as error:
            print(error)
        for address in [(host, int(port)), ("192.0.2.1", 80)]:
            try:
                socket.create_connection(address, 5)
                print("CONNECTED")
            except (socket.error, socket.timeout) as error:
                print("no way")
        END
        python2.7 /root/try.py > /root/tried 2>&1; rm /root/try.py
"#;

fn facts(project: &Project) -> Vec<(String, String)> {
    let shown = project.rootbuild(&["show", "--json", "el7-repos"]).expect(0).json();
    let mut found = Vec::new();
    collect(&shown, &mut found);
    found
}

/// URL and digest of everything that was fetched.
fn collect(value: &serde_json::Value, found: &mut Vec<(String, String)>) {
    if let Some(list) = value.get("fetched").and_then(|list| list.as_array()) {
        let text = |item: &serde_json::Value, key: &str| item[key].as_str().expect(key).to_owned();
        found.extend(list.iter().map(|item| (text(item, "url"), text(item, "sha256"))));
    }
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        serde_json::Value::Object(map) => map.values().for_each(|item| collect(item, found)),
        _ => {}
    }
}

#[test]
fn a_root_reaches_declared_repositories_and_nothing_else() {
    if !privileged("a_root_reaches_declared_repositories_and_nothing_else") {
        return;
    }
    let project = el7_project(ROOT, PLAYBOOK);
    let first = project.rootbuild(&["provision", "--json", "el7-repos"]).expect(0);
    assert_eq!(project.inside("el7-repos", "rpm -q httpd > /dev/null && echo there").trim(), "there");
    let tried = project.inside("el7-repos", "cat /root/tried");
    assert!(tried.contains("(403, ") && tried.contains("updates-not-declared"), "{tried}");
    assert!(tried.contains("repos = ["), "{tried}");
    assert_eq!(tried.matches("no way").count(), 2, "{tried}");
    assert!(tried.contains("403") && !tried.contains("CONNECTED"), "{tried}");
    assert!(first.stderr.contains("updates-not-declared"), "{}", first.stderr);

    let fetched = facts(&project);
    let digest = &fetched.iter().find(|(url, _)| url.contains("/httpd-2")).expect("httpd was fetched").1;
    assert!(project.store().join("packages").join(&digest[..2]).join(digest).is_file(), "{digest}");
    assert!(fetched.iter().any(|(url, _)| url.ends_with("/repodata/repomd.xml")), "{fetched:?}");

    // All of it again, and nothing is asked of the network; what journals answer for is told like it.
    let again = ["provision", "--json", "--offline", "--no-replay", "--rebuild", "el7-repos:site.yml"];
    let offline = project.rootbuild(&[&again[..], &["el7-repos"]].concat()).expect(0);
    let tree = |ran: &rootbuild_tests::Ran| ran.json()["roots"][0]["layers"][1]["tree"].clone();
    assert_eq!(statuses(&offline)[1], "built");
    assert_eq!(tree(&offline), tree(&first));
    assert_eq!(facts(&project), fetched);
}

#[test]
fn repositories_are_declared_where_they_are_seen() {
    let project = Project::new();
    project.write_standin_repo();
    project.write("site.yml", "- hosts: all\n");
    let root = |keys: &str| {
        project.write(
            "rootbuild.toml",
            &format!("{EL7}[root.x]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n{keys}"),
        );
        project.rootbuild(&["plan"])
    };
    let _ = root("repos = [\"http://h/x\"]\n").expect(2).says(&["`repos`", "network = \"repos\""]);
    let _ = root("network = \"repos\"\nrepos = [\"h/x\"]\n").expect(2).says(&["`h/x`", "URL"]);
    let _ = root("network = \"repos\"\nrepos = [\"https://h/x\"]\n").expect(0);
}
