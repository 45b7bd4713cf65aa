//! `network = "repos"`: declared repositories, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rootbuild_tests::{Project, Ran, privileged, skipped};

use crate::support::{BOOKWORM, EL7, el7_project, statuses};

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

fn facts(project: &Project, root: &str) -> Vec<(String, String)> {
    let shown = project.rootbuild(&["show", "--json", root]).expect(0).json();
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

    let fetched = facts(&project, "el7-repos");
    let digest = &fetched.iter().find(|(url, _)| url.contains("/httpd-2")).expect("httpd was fetched").1;
    assert!(project.store().join("packages").join(&digest[..2]).join(digest).is_file(), "{digest}");
    assert!(fetched.iter().any(|(url, _)| url.ends_with("/repodata/repomd.xml")), "{fetched:?}");

    // All of it again, and nothing is asked of the network; what journals answer for is told like it.
    let again = ["provision", "--json", "--offline", "--no-replay", "--rebuild", "el7-repos:site.yml"];
    let offline = project.rootbuild(&[&again[..], &["el7-repos"]].concat()).expect(0);
    let tree = |ran: &Ran| ran.json()["roots"][0]["layers"][1]["tree"].clone();
    assert_eq!(statuses(&offline)[1], "built");
    assert_eq!(tree(&offline), tree(&first));
    assert_eq!(facts(&project, "el7-repos"), fetched);

    // A journal answers for the tasks that fetched, and tells what it was.
    project.write("site.yml", &format!("{PLAYBOOK}    - command: touch /root/later\n"));
    let replayed = project.rootbuild(&["provision", "--json", "--offline", "el7-repos"]).expect(0);
    let tasks = replayed.json()["roots"][0]["layers"][1]["tasks_replayed"].as_u64();
    assert!(tasks >= Some(2), "{}", replayed.stdout);
    assert_eq!(facts(&project, "el7-repos"), fetched);
}

#[test]
fn a_booted_root_has_declared_repositories_and_nothing_else() {
    if !privileged("a_booted_root_has_declared_repositories_and_nothing_else") {
        return;
    }
    let root = ROOT.replace("el7-repos", "el7-booted") + "boot = true\n";
    let started = "    - service: {name: crond, state: started}\n\
                   \x20   - shell: systemctl is-system-running > /root/system; systemctl is-active crond > /root/cron\n";
    let playbook = PLAYBOOK.replace("el7-repos", "el7-booted") + started;
    let project = el7_project(&root, &playbook);
    let _ = project.rootbuild(&["provision", "--json", "el7-booted"]).expect(0);
    let inside = |script: &str| project.inside("el7-booted", script);
    assert_eq!(inside("rpm -q httpd > /dev/null && cat /root/cron").trim(), "active");
    assert!(["running", "degraded"].contains(&inside("cat /root/system").trim()));
    let tried = inside("cat /root/tried");
    assert!(tried.matches("no way").count() == 2 && tried.contains("(403, "), "{tried}");
    let fetched = facts(&project, "el7-booted");
    assert!(fetched.iter().any(|(url, _)| url.contains("/httpd-2")), "{fetched:?}");
    // The store has all of it now.
    let again = ["provision", "--json", "--offline", "--no-replay", "--rebuild", "el7-booted:site.yml"];
    let offline = project.rootbuild(&[&again[..], &["el7-booted"]].concat()).expect(0);
    assert_eq!(statuses(&offline)[1], "built");
    assert_eq!(facts(&project, "el7-booted"), fetched);
}

/// An https server for one file, `/os/thing`, whose certificate `ca.pem` in `dir` vouches for.
struct Https {
    process: Child,
    port: String,
}

impl Https {
    fn start(dir: &Path) -> Option<Self> {
        let script = r#"
            set -e
            key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            openssl req -x509 $key -keyout ca.key -out ca.pem -subj /CN=test -days 2
            openssl req $key -keyout key.pem -out csr.pem -subj /CN=localhost
            echo subjectAltName=DNS:localhost > names
            openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem
            mkdir -p served/os
            echo thing > served/os/thing
        "#;
        let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().ok()?;
        if !made.status.success() {
            return None;
        }
        let script = "import http.server, ssl, sys\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain('../cert.pem', '../key.pem')\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_address[1], flush=True)\n\
            server.serve_forever()\n";
        let mut command = Command::new("python3");
        command.args(["-c", script]).current_dir(dir.join("served"));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut port = String::new();
        let read = process.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut port));
        let server = Self { process, port: port.trim().to_owned() };
        (matches!(read, Some(Ok(2..)))).then_some(server)
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_is_declared_as_https_comes_by_https_from_a_server_that_is_who_it_says() {
    const NAME: &str = "what_is_declared_as_https_comes_by_https_from_a_server_that_is_who_it_says";
    if !privileged(NAME) {
        return;
    }
    let certificates = tempfile::tempdir().expect("a directory");
    let Some(server) = Https::start(certificates.path()) else {
        return skipped(NAME, "needs openssl and python3");
    };
    let port = &server.port;
    let root = format!(
        "[root.el7-https]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\nnetwork = \"repos\"\n\
         repos = [\"https://localhost:{port}/os\"]\n"
    );
    let playbook = format!(
        "- hosts: el7-https\n  gather_facts: false\n  tasks:\n    \
         - get_url: {{url: 'http://localhost:{port}/os/thing', dest: /root/thing}}\n"
    );
    let project = el7_project(&root, &playbook);
    let run = ["provision", "--json"];
    // Nobody knows who vouches for it.
    let refused = project.rootbuild(&run).expect(1);
    assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
    let mut command = project.command(&run);
    command.env("SSL_CERT_FILE", certificates.path().join("ca.pem"));
    let _ = Ran::new(&command.output().expect("rootbuild runs")).expect(0);
    assert_eq!(project.inside("el7-https", "cat /root/thing"), "thing\n");
    let url = format!("https://localhost:{port}/os/thing");
    assert!(facts(&project, "el7-https").iter().any(|(fetched, _)| *fetched == url));
}

#[test]
fn apt_installs_from_declared_repositories_and_offline_what_it_did_before() {
    if !privileged("apt_installs_from_declared_repositories_and_offline_what_it_did_before") {
        return;
    }
    let project = Project::new();
    // The base that another test has, and so its layer.
    project.write(
        "rootbuild.toml",
        &format!(
            "{BOOKWORM}[root.apt]\nbase = \"bookworm\"\nplaybooks = [\"site.yml\"]\nnetwork = \"repos\"\n\
             repos = [\"http://deb.debian.org/debian/\", \"http://deb.debian.org/debian-security/\"]\n"
        ),
    );
    project.write(
        "site.yml",
        "- hosts: apt\n  gather_facts: false\n  tasks:\n    - apt: {name: hello, update_cache: true}\n",
    );
    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    assert_eq!(project.inside("apt", "hello -t").trim(), "hello, world");
    let fetched = facts(&project, "apt");
    assert!(fetched.iter().any(|(url, _)| url.contains("/pool/main/h/hello/hello_")), "{fetched:?}");
    let again = ["provision", "--json", "--offline", "--no-replay", "--rebuild", "apt:site.yml", "apt"];
    let offline = project.rootbuild(&again).expect(0);
    assert_eq!(offline.json()["roots"][0]["tree"], first.json()["roots"][0]["tree"]);
    assert_eq!(facts(&project, "apt"), fetched);
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
