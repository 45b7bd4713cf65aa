//! Real services: the unit files of Debian 12's packages, without their comments.

use std::fs;
use std::process::Command;

use super::testing::{Root, cluster};
use super::{Generated, Host, Lifted, Request, Run, lift};

/// The root of all those packages, with a cluster of PostgreSQL's.
fn root() -> Root {
    let root = Root::new();
    for part in include_str!("fixtures/debian12.txt").split("=== ").skip(1) {
        let (head, text) = part.split_once('\n').unwrap();
        match head.split_once(" -> ") {
            Some((path, target)) => root.link(path, target),
            None => root.write(head, text),
        }
    }
    root
}

/// As `postgresql-generator` makes it for the cluster 15/main.
fn generated() -> Generated {
    let dir = tempfile::tempdir().unwrap();
    let wants = dir.path().join("generator/postgresql.service.wants");
    fs::create_dir_all(&wants).unwrap();
    let link = wants.join("postgresql@15-main.service");
    std::os::unix::fs::symlink("/lib/systemd/system/postgresql@.service", link).unwrap();
    Generated::of(dir)
}

fn lifted() -> Lifted {
    let root = root();
    let link = std::path::Path::new("/var/lib/rootbuild/roots/web");
    let host = Host::with(252, true);
    let (run, cluster) = (Run::new("web"), cluster());
    let request = Request { name: "web", link, host, private: None, run: &run, cluster: &cluster };
    lift(root.path(), Some(&generated()), &request).unwrap()
}

#[test]
fn typical_services_of_debian_are_lifted_whole() {
    let lifted = lifted();
    let mut text = String::new();
    for file in &lifted.files {
        text.push_str(&format!("=== {}\n{}\n", file.name, file.text));
    }
    for record in &lifted.users {
        text.push_str(&format!("=== {}\n{}\n", record.file, record.text));
    }
    text.push_str(&format!("=== reports\n{}", lifted.told()));
    insta::assert_snapshot!(text);
}

#[test]
fn systemd_itself_understands_what_was_made() {
    let asked = Command::new("systemd-analyze").arg("--version").output();
    if !asked.is_ok_and(|asked| asked.status.success()) {
        println!("skipped: needs systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lifted = lifted();
    for file in &lifted.files {
        let path = dir.path().join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.text).unwrap();
    }
    let units = lifted.files.iter().filter(|file| !file.name.contains('/'));
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--generators=no", "--recursive-errors=yes"])
        .args(units.map(|file| dir.path().join(&file.name)))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .env("SYSTEMD_LOG_COLOR", "no")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    // It looks for the programs on the host.
    let wrong = |line: &&str| line.contains("rootbuild-") && !line.contains("is not executable");
    let wrong: Vec<&str> = said.lines().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
