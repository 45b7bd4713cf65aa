//! Downloads as people meet them: killed, shared, refused the network; and bases that nobody checks.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, Ran, privileged, standin};

#[path = "../../../roots/tests/common/server.rs"]
mod server;
use server::{DEAD, Server};

/// A project of its own whose locked base comes from `urls`.
fn project(root: &str, urls: &[&str], more: &str) -> Project {
    let project = Project::with_own_store();
    define(&project, root, urls, more);
    project
}

fn define(project: &Project, root: &str, urls: &[&str], more: &str) {
    project.write("bases/el7.repo", &format!("[os]\nbaseurl={}\n{more}", urls.join(" ")));
    let base = "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"standin-hello\"]\nlock = \"bases/el7.lock\"";
    project.write("rootbuild.toml", &format!("{base}\n[root.{root}]\nbase = \"el7\"\n"));
}

const KEY: &str = "gpgkey=file://@STANDIN@/RPM-GPG-KEY-standin\n";

/// Half-done downloads in the store, and how much there is of them.
fn parts(project: &Project) -> Vec<(PathBuf, u64)> {
    let shelves = fs::read_dir(project.store().join("packages")).into_iter().flatten().flatten();
    let files = shelves.flat_map(|shelf| fs::read_dir(shelf.path()).into_iter().flatten().flatten());
    let parts = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "part"));
    parts.map(|file| (file.path(), file.metadata().map_or(0, |data| data.len()))).collect()
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    if !privileged("a_killed_download_goes_on_where_it_was") {
        return;
    }
    let server = Server::new(&standin().dir, &["--rate", "300000"]);
    let project = project("goes-on", &[&format!("{}/os", server.url)], KEY);
    let mut command = project.command(&["provision"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("rootbuild runs");
    let start = Instant::now();
    while !parts(&project).iter().any(|(_, came)| *came > 200_000) {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended too early");
        assert!(start.elapsed() < Duration::from_secs(600), "no download is under way");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("it runs");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    let left: u64 = parts(&project).iter().map(|(_, came)| came).sum();
    assert!(left > 0, "what came is kept");
    let before = server.asked().len();
    let _ = project.rootbuild(&["provision"]).expect(0);
    let asked = server.asked().split_off(before);
    let goes_on = asked.iter().filter(|(_, range)| range.as_ref().is_some_and(|range| range != "bytes=0-"));
    assert!(goes_on.count() > 0, "{asked:?}");
    assert_eq!(parts(&project), []);
    assert!(project.root("goes-on").join("usr/bin/bash").exists());
}

#[test]
fn two_projects_at_once_download_each_package_once() {
    if !privileged("two_projects_at_once_download_each_package_once") {
        return;
    }
    let server = Server::new(&standin().dir, &["--rate", "1500000"]);
    let url = format!("{}/os", server.url);
    let one = project("one", &[&url], KEY);
    let other = Project::on_store(one.store().to_owned());
    // Another base, so that nobody waits for the other's layer.
    define(&other, "other", &[&url], &format!("{KEY}# other\n"));
    let runs: Vec<_> = [&one, &other]
        .map(|project| {
            let mut command = project.command(&["provision"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("rootbuild runs")
        })
        .into_iter()
        .map(|child| Ran::new(&child.wait_with_output().expect("it ends")).expect(0))
        .collect();
    assert_eq!(runs.len(), 2);
    let mut packages: Vec<String> = server.asked().into_iter().map(|(path, _)| path).collect();
    packages.retain(|path| path.ends_with(".rpm"));
    let count = packages.len();
    packages.sort();
    packages.dedup();
    assert!(count > 0 && count == packages.len(), "{count} requests for {} packages", packages.len());
}

#[test]
fn offline_needs_nothing_but_a_warm_store_and_else_names_what_is_missing() {
    if !privileged("offline_needs_nothing_but_a_warm_store_and_else_names_what_is_missing") {
        return;
    }
    let server = Server::new(&standin().dir, &[]);
    let project = project("off", &[&format!("{}/os", server.url)], KEY);
    let unlocked = project.rootbuild(&["provision", "--offline"]).expect(1);
    let _ = unlocked.says(&["offline, and the lock file", "isn't there", "hint: ", "rootbuild lock"]);
    let _ = project.rootbuild(&["provision"]).expect(0);
    let asked = server.asked().len();
    // Built again, whole, with the server gone.
    let _ = project.rootbuild(&["provision", "--offline", "--no-cache"]).expect(0);
    assert_eq!(server.asked().len(), asked);
    drop(server);
    let _ = project.rootbuild(&["provision", "--offline", "--no-cache"]).expect(0);
    fs::remove_dir_all(project.store().join("packages")).expect("it is there");
    let missing = project.rootbuild(&["provision", "--offline", "--no-cache"]).expect(1);
    let _ = missing.says(&["offline, and not in the store: `", "` of `os`", " more", "without `--offline`"]);
    // What is built already needs neither.
    let _ = project.rootbuild(&["provision", "--offline"]).expect(0);
}

#[test]
fn packages_that_nobody_checks_are_told_every_time() {
    if !privileged("packages_that_nobody_checks_are_told_every_time") {
        return;
    }
    let project = project("unchecked", &["file://@STANDIN@/os"], "gpgcheck=0\n");
    for _ in 0..2 {
        let ran = project.rootbuild(&["provision"]).expect(0);
        let _ =
            ran.says(&["el7.repo:1: `gpgcheck=0`: packages of the repository `os` are installed WITHOUT"]);
    }
    // Not saying anything is not switching it off.
    define(&project, "unchecked", &["file://@STANDIN@/os"], "");
    let ran = project.rootbuild(&["provision"]).expect(2);
    let _ = ran.says(&["is to be checked, but names no key", "el7.repo:1"]);
}

#[test]
fn a_dead_repository_is_told_with_its_line_and_cause() {
    if !privileged("a_dead_repository_is_told_with_its_line_and_cause") {
        return;
    }
    let project = project("dead", &[&format!("{DEAD}/os")], KEY);
    let ran = project.rootbuild(&["provision"]).expect(1);
    let _ = ran.says(&[
        "`os`",
        "http://127.0.0.1:9/os",
        "el7.repo:1",
        "connection refused",
        "hint: check the network",
    ]);
}
