//! What doesn't come up, and what else goes wrong.

use std::fs;
use std::time::{Duration, Instant};

use rootbuild_tests::rootbuild_binary;

use super::support::{Cluster, Service, service, serving};

#[test]
fn what_does_not_come_up_is_told_with_what_it_said_and_stops_nobody_else() {
    let test = "what_does_not_come_up_is_told_with_what_it_said_and_stops_nobody_else";
    let Some(it) = Cluster::boot(test) else { return };
    let never = "[Service]\nType=notify\nExecStart=/bin/sh -c 'echo am about to; sleep 1000'\n";
    let loops = "[Service]\nRestart=always\nRestartSec=20ms\nExecStart=/bin/sh -c 'echo not today; exit 9'\n";
    let forks = "[Service]\nType=forking\nPIDFile=/run/x.pid\nTimeoutStartSec=1\nExecStart=/bin/sh -c 'sleep 1000 & exit 0'\n";
    for (name, text) in [("never", never), ("loops", loops), ("forks", forks)] {
        it.make(name, "one", &[service("it.service", text)]);
    }
    it.make("good", "one", &[service("it.service", &serving(7001))]);
    it.make("needs", "one", &[service("it.service", &serving(7002))]);
    let run = "network = \"host\"\nready_timeout = \"3s\"";
    let needs = format!("{run}\nrequires = [\"never\"]");
    it.define(&[("never", run), ("loops", run), ("forks", run), ("good", run), ("needs", &needs)]);
    let _ = it.provision();
    let begin = Instant::now();
    let ran = it.rootbuild(&["up", "--json"]).expect(1).says(&[
        "`it.service` of root `never` isn't up: not ready within 3 s",
        "am about to",
        "`it.service` of root `loops` isn't up",
        "not today",
        "`it.service` of root `forks` isn't up",
        "rootbuild logs never",
    ]);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let json = ran.json();
    let roots = json["roots"].as_array().unwrap();
    let state = |name: &str| roots.iter().find(|it| it["name"] == name).unwrap()["state"].clone();
    assert_eq!(
        [state("never"), state("loops"), state("forks"), state("good")],
        ["failed", "failed", "failed", "up"]
    );
    assert_ne!(state("needs"), "up");
    assert!(it.ask(7001).starts_with("one "));
    assert_eq!(it.ask(7002), "", "what it requires isn't up");
    let _ = it.rootbuild(&["status", "good"]).expect(0);
    let _ = it.rootbuild(&["status"]).expect(1);
    let _ = it.rootbuild(&["down"]).expect(0);
}

#[test]
fn two_at_once_wait_for_each_other_and_a_root_that_is_deleted_comes_back() {
    let test = "two_at_once_wait_for_each_other_and_a_root_that_is_deleted_comes_back";
    let Some(it) = Cluster::boot(test) else { return };
    let slow = "[Service]\nType=notify\nExecStart=/usr/bin/perl /srv/server 7001 2\n";
    it.make("slow", "one", &[service("slow.service", slow)]);
    // A service that nobody has asked yet.
    let socket = Service {
        name: "lazy.socket",
        text: "[Socket]\nListenStream=7002\n",
        wanted_by: Some("sockets.target"),
    };
    let lazy = serving(7002);
    it.make("lazy", "one", &[socket, Service { wanted_by: None, ..service("lazy.service", &lazy) }]);
    it.define(&[("slow", "network = \"host\""), ("lazy", "network = \"host\"")]);
    let _ = it.provision();
    let binary = rootbuild_binary().to_str().unwrap();
    let mut first = it.command(binary, &["up"]).spawn().unwrap();
    let locks = it.project.store().join("locks/handoff");
    while !locks.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = it.rootbuild(&["up", "--lock-timeout", "0"]).expect(3).says(&["held by pid", "starting roots"]);
    let second = it.rootbuild(&["up", "--json"]).expect(0).json();
    assert_eq!(second["roots"][0]["action"], "nothing", "{second}");
    assert!(first.wait().unwrap().success());
    assert!(it.ask(7002).starts_with("one "), "{}", it.host.journal());

    // The root is deleted under what runs.
    let slow = it.ask(7001);
    let checkout = fs::canonicalize(it.project.root("lazy")).unwrap();
    for name in ["usr", "etc", "srv", "var"] {
        fs::remove_dir_all(checkout.join(name)).unwrap();
    }
    fs::rename(&checkout, checkout.with_extension("gone")).unwrap();
    let _ = it.rootbuild(&["up"]).expect(1).says(&["`lazy` isn't provisioned", "rootbuild provision lazy"]);
    let _ = it.provision();
    let _ = it.rootbuild(&["up"]).expect(0);
    assert!(it.ask(7002).starts_with("one "), "{}", it.host.journal());
    assert_eq!(it.ask(7001), slow);
}
