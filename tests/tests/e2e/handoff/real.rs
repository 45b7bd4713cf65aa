//! Ten services as Debian packages them, installed and configured by playbooks, each asked to do what it is for.

use std::time::{Duration, Instant};

use rootbuild_tests::{Project, privileged, shared_store};
use serde_json::Value;

use super::support::Cluster;

const DEFINITION: &str = r#"
[base.bookworm]
source = "debian"
suite = "bookworm"
packages = ["python3", "systemd", "sudo", "cron", "libcap2-bin", "iputils-ping"]
[ansible]
core = "2.19.14"
project = "ansible"
[cluster]
domain = "real.test"
"#;

/// Each root with what it installs, how it runs, and what else its playbook does.
const ROOTS: [(&str, &str, &str, &str); 4] = [
    (
        "real-data",
        "postgresql, mariadb-server, redis-server",
        "state = [\"/var/lib/postgresql\", \"/var/lib/mysql\"]",
        r#"
    - lineinfile: {path: /etc/redis/redis.conf, regexp: "^bind ", line: "bind 0.0.0.0"}
    - lineinfile: {path: /etc/redis/redis.conf, regexp: "^protected-mode ", line: "protected-mode no"}
"#,
    ),
    (
        "real-web",
        "apache2, memcached, bsdutils",
        "after = [\"real-data\"]",
        r#"
    - copy: {content: "a page of apache's\n", dest: /var/www/html/index.html}
    - lineinfile: {path: /etc/memcached.conf, regexp: "^-l 127", line: "-l 0.0.0.0"}
"#,
    ),
    (
        "real-front",
        "nginx-light, haproxy",
        "requires = [\"real-web\"]\nports = [\"8080:80\"]",
        r#"
    - copy:
        dest: /etc/nginx/sites-available/default
        content: |
          server {
              listen 8000;
              location / { proxy_pass http://real-web.real.test; add_header X-By nginx; }
          }
    - blockinfile:
        path: /etc/haproxy/haproxy.cfg
        block: |
          listen http
              bind :80
              server nginx 127.0.0.1:8000
              http-response set-header X-Balanced-By haproxy
"#,
    ),
    (
        "real-login",
        "openssh-server, cron, rsyslog",
        "",
        r#"
    - user: {name: dev, shell: /bin/bash, generate_ssh_key: true, ssh_key_type: ed25519}
    - copy: {src: /home/dev/.ssh/id_ed25519.pub, dest: /home/dev/.ssh/authorized_keys, remote_src: true, owner: dev, mode: "0600"}
    - cron: {name: once, job: "id -un > /home/dev/by-cron", user: dev, special_time: reboot}
    - copy:
        dest: /etc/rsyslog.d/remote.conf
        content: |
          module(load="imudp")
          input(type="imudp" port="514")
          :programname, isequal, "far" /var/log/far.log
"#,
    ),
];

const SERVICES: [(&str, &[&str]); 4] = [
    ("real-data", &["postgresql@15-main.service", "mariadb.service", "redis-server.service"]),
    ("real-web", &["apache2.service", "memcached.service"]),
    ("real-front", &["nginx.service", "haproxy.service"]),
    ("real-login", &["ssh.service", "cron.service", "rsyslog.service"]),
];

#[test]
fn ten_services_of_debian_do_out_of_their_roots_what_they_are_for() {
    let test = "ten_services_of_debian_do_out_of_their_roots_what_they_are_for";
    if !privileged(test) {
        return;
    }
    let project = Project::new();
    let mut definition = DEFINITION.to_owned();
    for (root, packages, run, tasks) in ROOTS {
        definition.push_str(&format!(
            "[root.{root}]\nbase = \"bookworm\"\nhost = \"localhost\"\nnetwork = \"host\"\n\
             playbooks = [\"ansible/{root}.yml\"]\n[root.{root}.run]\n{run}\n"
        ));
        let apt = format!(
            "apt: {{name: [{packages}], install_recommends: false, update_cache: true, dpkg_options: \"force-confdef,force-confold,force-unsafe-io\"}}"
        );
        let head = format!("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - {apt}");
        project.write(&format!("ansible/{root}.yml"), &format!("{head}{tasks}"));
    }
    project.write("rootbuild.toml", &definition);
    let Some(it) = Cluster::with(test, project, &[shared_store()]) else { return };
    let _ = it.provision();
    let up = it.rootbuild(&["up", "--json"]).expect(0);
    assert_eq!(it.host.sh("systemctl --failed --no-legend").stdout, "", "{up:?}{}", it.host.journal());
    for (root, services) in SERVICES {
        let units = it.status(root)["units"].as_array().cloned().unwrap_or_default();
        for name in services {
            let runs = |it: &Value| it["name"] == *name && it["active"] == "active" && it["pid"] != 0;
            assert!(units.iter().any(runs), "{root}: {name}: {units:?}{}", it.host.journal());
        }
    }

    let talk = |to: &str, text: &str| {
        it.host.sh(&format!("bash -c 'exec 3<>/dev/tcp/{to} && printf \"{text}\" >&3 && cat <&3'")).stdout
    };
    // A browser, three servers.
    let page = talk("127.0.0.1/8080", "GET / HTTP/1.0\\r\\n\\r\\n").to_lowercase();
    for part in ["x-balanced-by: haproxy", "x-by: nginx", "\r\n\r\na page of apache's\n"] {
        assert!(page.contains(part), "{part} in {page}{}", it.host.journal());
    }
    let kept = talk("real-web/11211", "set a 0 0 2\\r\\n42\\r\\nget a\\r\\nquit\\r\\n");
    assert!(kept.starts_with("STORED\r\nVALUE a 0 2\r\n42\r\n"), "{kept}");
    let kept = talk("real-data/6379", "SET a 42\\r\\nGET a\\r\\nQUIT\\r\\n");
    assert!(kept.contains("+OK\r\n$2\r\n42\r\n"), "{kept}");

    // What was written to a database is there when all of it was restarted.
    let inside = |root: &str, script: &str| {
        let ran = it.rootbuild(&["exec", root, "--", "sh", "-c", &format!("cd /; {script}")]);
        assert_eq!(ran.code, 0, "{ran:?}{}", it.host.journal());
        ran.stdout.trim().to_owned()
    };
    let psql = |text: &str| inside("real-data", &format!("runuser -u postgres -- psql -Atqc '{text}'"));
    let mariadb = |text: &str| inside("real-data", &format!("mariadb -Ne '{text}'"));
    let _ = psql("create table t (n int); insert into t values (6)");
    let _ = mariadb("create database d; create table d.t (n int); insert into d.t values (7)");
    let _ = it.rootbuild(&["restart", "real-data"]).expect(0);
    assert_eq!((psql("select n * 7 from t"), mariadb("select n * 6 from d.t")), ("42".into(), "42".into()));

    // Somebody logs in; a job has run; a message comes from another root.
    let login = "runuser -u dev -- ssh -o StrictHostKeyChecking=no -o BatchMode=yes real-login.real.test 'id -un; hostname' 2>/dev/null";
    assert_eq!(inside("real-login", login), "dev\nreal-login", "{}", it.host.journal());
    let arrives = |script: &str| {
        let begin = Instant::now();
        loop {
            let found = inside("real-login", script);
            if !found.is_empty() || begin.elapsed() > Duration::from_secs(20) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!(arrives("cat /home/dev/by-cron || true"), "dev", "{}", it.host.journal());
    let _ = inside("real-web", "logger --udp --server real-login --port 514 --tag far it came");
    let line = arrives("cat /var/log/far.log 2>/dev/null || true");
    assert!(line.ends_with("far it came") || line.ends_with("far: it came"), "{line}{}", it.host.journal());
    // The kernel's log is the host's: who would read it can't open it, and doesn't try for ever.
    let open = it.host.sh("ls -l /proc/$(pidof rsyslogd)/fd");
    assert!(open.code == 0 && !open.stdout.contains("kmsg"), "{open:?}");

    let _ = it.rootbuild(&["down"]).expect(0);
    let left = it.host.sh("findmnt -n -R /run/rootbuild; systemctl --failed --no-legend; pgrep -l 'sshd|postgres|nginx|cron'; true");
    assert_eq!(left.stdout, "", "{}", it.host.journal());
}
