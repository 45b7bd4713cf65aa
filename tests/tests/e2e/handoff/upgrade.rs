//! What happens to rootbuild, or by it to other roots, is none of a running service's business.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::support::{Cluster, Service, service, serving};

#[test]
fn services_lose_nothing_while_rootbuild_is_replaced_killed_and_changes_others() {
    let test = "services_lose_nothing_while_rootbuild_is_replaced_killed_and_changes_others";
    let Some(it) = Cluster::boot(test) else { return };
    let make = |marker: &str| {
        let socket = Service {
            name: "web.socket",
            text: "[Socket]\nListenStream=7002\n",
            wanted_by: Some("sockets.target"),
        };
        it.make("web", marker, &[socket, service("web.service", &serving(7002))]);
        let _ = it.provision();
    };
    it.make("db", "one", &[service("db.service", &serving(7001))]);
    it.make("app", "one", &[service("app.service", &serving(7003))]);
    let run = "network = \"host\"";
    it.define(&[
        ("db", run),
        ("web", &format!("{run}\nafter = [\"db\"]")),
        ("app", &format!("{run}\nrequires = [\"db\"]")),
    ]);
    make("one");
    let _ = it.rootbuild(&["up"]).expect(0);
    let clients = it.clients(0.01, &[7001, 7002, 7003]);

    // A rootbuild of another time: its store has another format, ours doesn't touch it, or what runs.
    let format = it.project.store().join("format");
    let ours = fs::read_to_string(&format).unwrap();
    make("two");
    for other in ["rootbuild-store 0\n", "rootbuild-store 2\n"] {
        fs::write(&format, other).unwrap();
        for command in ["up", "down", "restart", "rollback", "provision"] {
            let _ = it.rootbuild(&[command]).expect(2).says(&["format"]);
        }
        let _ = it.project.rootbuild(&["cache", "gc"]).expect(2);
    }
    fs::write(&format, ours).unwrap();

    // The binary goes while it works, and another comes.
    let binary = it.project.dir().join("rootbuild");
    fs::copy(rootbuild_tests::rootbuild_binary(), &binary).unwrap();
    let mut up = it.command(binary.to_str().unwrap(), &["up"]).spawn().unwrap();
    fs::remove_file(&binary).unwrap();
    fs::write(&binary, "#!/bin/sh\nexit 1\n").unwrap();
    let _ = up.wait().unwrap();
    let _ = it.rootbuild(&["up"]).expect(0);
    assert!(it.ask(7002).starts_with("two "), "{}", it.host.journal());

    // Killed wherever it is, the next one brings it to its end.
    for (number, after) in [0, 30, 60, 90, 130, 180].into_iter().enumerate() {
        let marker = format!("kill{number}");
        make(&marker);
        let mut up = it.command(rootbuild_tests::rootbuild_binary().to_str().unwrap(), &["up"]);
        let mut up = up.process_group(0).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", up.id())]).status();
        let _ = up.wait();
        let _ = it.project.rootbuild(&["cache", "gc", "--keep-generations", "1"]).expect(0);
        let _ = it.rootbuild(&["up"]).expect(0);
        assert!(it.ask(7002).starts_with(&marker), "{}", it.host.journal());
    }
    let heard = clients.finish();
    for port in ["7001", "7002", "7003"] {
        assert_eq!(heard[port]["lost"], serde_json::json!([]), "{port}: {heard}{}", it.host.journal());
        assert!(heard[port]["answers"].as_u64().unwrap() > 50, "{heard}");
    }
    for port in ["7001", "7003"] {
        assert_eq!(heard[port]["said"].as_array().unwrap().len(), 1, "its process stayed: {heard}");
    }
    let markers = heard["7002"]["said"].as_array().unwrap().len();
    assert!(markers >= 8, "{heard}");
}
