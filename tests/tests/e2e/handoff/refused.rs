//! What a root lacks is told, and what is another's isn't taken; who dies halfway, or restarts a part, leaves the rest alone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rootbuild_tests::rootbuild_binary;

use super::support::{Cluster, Service, service, serving};

const HOST: &str = "network = \"host\"";

#[test]
fn a_volume_without_room_stops_its_root_and_loses_nothing() {
    let test = "a_volume_without_room_stops_its_root_and_loses_nothing";
    let Some(it) = Cluster::boot(test) else { return };
    it.make("db", "one", &[service("db.service", &serving(7001))]);
    it.make("web", "one", &[service("web.service", &serving(7002))]);
    it.define(&[("db", &format!("{HOST}\nstate = [\"/srv\"]")), ("web", HOST)]);
    let _ = it.provision();
    // Room for directories, but for no file.
    let state = it.project.store().join("state");
    let state = state.display();
    let _ = it.host.sh(&format!("mkdir -p {state} && mount -t tmpfs -o nr_inodes=3 tmpfs {state}")).expect(0);
    let _ = it.rootbuild(&["up"]).expect(1).says(&[
        "of root `db` isn't up",
        "No space left on device",
        "the state volume for /srv can not be seeded",
        "needs room for",
    ]);
    assert!(it.ask(7002).starts_with("one "), "{}", it.host.journal());
    assert_eq!(it.host.sh(&format!("ls -A {state}/db")).stdout, "", "what was begun is gone");

    // It fills up while its root runs: that goes on, and is started again and swapped with all that is in it.
    let _ = it.host.sh(&format!("mount -o remount,nr_inodes=100,size=64k {state}")).expect(0);
    let _ = it.rootbuild(&["up"]).expect(0);
    let fill = format!("cd {state}/db/srv && echo precious > kept && ! head -c 1M /dev/zero > fill");
    let _ = it.host.sh(&fill).expect(0);
    let _ = it.rootbuild(&["restart", "db"]).expect(0);
    it.make("db", "two", &[service("db.service", &serving(7001))]);
    let _ = it.provision();
    let _ = it.rootbuild(&["up"]).expect(0);
    assert!(it.ask(7001).starts_with("two "), "{}", it.host.journal());
    assert_eq!(it.rootbuild(&["exec", "db", "--", "cat", "/srv/kept"]).expect(0).stdout, "precious\n");
    let _ = it.rootbuild(&["down"]).expect(0);
}

#[test]
fn names_that_the_host_or_another_definition_has_are_not_taken() {
    let test = "names_that_the_host_or_another_definition_has_are_not_taken";
    let Some(it) = Cluster::boot(test) else { return };
    it.make("web", "one", &[service("web.service", &serving(7001))]);
    it.define(&[("web", "")]);
    let _ = it.provision();
    let units = it.rootbuild(&["units", "web"]).expect(0).stdout;
    let bridge = units.split([' ', '"']).find(|word| word.starts_with("rb-") && word.len() == 11).unwrap();
    let _ = it.host.sh(&format!("ip link add {bridge} type veth peer name other")).expect(0);
    let told = format!("an interface {bridge} that is no bridge");
    let _ = it.rootbuild(&["up"]).expect(1).says(&["of root `web` isn't up", &told]);
    let _ = it.host.sh(&format!("ip link show {bridge} type veth && ip link del {bridge}")).expect(0);
    let _ = it.rootbuild(&["up"]).expect(0);
    let ask = "bash -c 'exec 3<>/dev/tcp/web/7001 && cat <&3'";
    let served = it.host.sh(ask).stdout;
    assert!(served.starts_with("one "), "{served}{}", it.host.journal());

    // Another definition, another store, a root of the same name.
    let definition = fs::read_to_string(it.project.dir().join("rootbuild.toml")).unwrap();
    it.project.write("other/rootbuild.toml", &definition.replace("web.tar", "../web.tar"));
    let store = it.project.dir().join("other/store");
    let other = |command| ["-f", "other/rootbuild.toml", "--store", store.to_str().unwrap(), command];
    let _ = it.project.rootbuild(&other("provision")).expect(0);
    let taken = ["the root `web` of another definition is on this host", "rootbuild down web"];
    let _ = it.rootbuild(&other("up")).expect(1).says(&taken);
    assert_eq!(it.host.sh(ask).stdout, served);
    let again = it.rootbuild(&["up", "--json"]).expect(0).json();
    assert_eq!(again["roots"][0]["action"], "nothing", "{again}");
    let _ = it.rootbuild(&["down"]).expect(0);
    let _ = it.rootbuild(&other("up")).expect(0);
    let _ = it.rootbuild(&other("down")).expect(0);
}

#[test]
fn an_up_that_is_killed_anywhere_is_finished_by_the_next() {
    let test = "an_up_that_is_killed_anywhere_is_finished_by_the_next";
    let Some(it) = Cluster::boot(test) else { return };
    it.make("db", "one", &[service("db.service", &serving(7001))]);
    it.make("web", "one", &[service("web.service", &serving(7002))]);
    it.define(&[("db", HOST), ("web", &format!("{HOST}\nrequires = [\"db\"]"))]);
    let _ = it.provision();
    let before = it.listing();
    for after in [0, 25, 50, 100, 200] {
        let mut up = it.command(rootbuild_binary().to_str().unwrap(), &["up"]);
        let mut up = up.process_group(0).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", up.id())]).status();
        let _ = up.wait();
        let _ = it.rootbuild(&["up"]).expect(0);
        for port in [7001, 7002] {
            assert!(it.ask(port).starts_with("one "), "after {after} ms: {}", it.host.journal());
        }
        let _ = it.rootbuild(&["down"]).expect(0);
        assert_eq!(it.listing(), before, "after {after} ms");
        let left = it.host.sh("findmnt -n -R /run/rootbuild; systemctl --failed --no-legend; true");
        assert_eq!(left.stdout, "", "after {after} ms: {}", it.host.journal());
    }
}

#[test]
fn a_socket_refuses_nobody_however_fast_they_come_while_its_root_is_swapped() {
    let test = "a_socket_refuses_nobody_however_fast_they_come_while_its_root_is_swapped";
    let Some(it) = Cluster::boot(test) else { return };
    let make = |marker: &str| {
        let socket = Service {
            name: "web.socket",
            text: "[Socket]\nListenStream=7002\n",
            wanted_by: Some("sockets.target"),
        };
        it.make("web", marker, &[socket, service("web.service", &serving(7002))]);
        let _ = it.provision();
        let _ = it.rootbuild(&["up"]).expect(0);
    };
    it.define(&[("web", HOST)]);
    make("one");
    let clients = it.clients(0.0, &[7002]);
    for marker in ["two", "three", "four"] {
        make(marker);
        let _ = it.rootbuild(&["restart"]).expect(0);
    }
    let heard = &clients.finish()["7002"];
    assert_eq!(heard["lost"], serde_json::json!([]), "{heard}{}", it.host.journal());
    assert!(heard["answers"].as_u64().unwrap() > 300, "{heard}");
    assert!(heard["said"].as_array().unwrap().len() >= 7, "each start has another process: {heard}");
}

#[test]
fn what_is_part_of_a_changed_unit_is_restarted_with_it_and_nothing_else() {
    let test = "what_is_part_of_a_changed_unit_is_restarted_with_it_and_nothing_else";
    let Some(it) = Cluster::boot(test) else { return };
    let helper = format!("[Unit]\nPartOf=main.service\nAfter=main.service\n{}", serving(7002));
    let units =
        [("main.service", serving(7001)), ("helper.service", helper), ("other.service", serving(7003))];
    let services: Vec<Service<'_>> = units.iter().map(|(name, text)| service(name, text)).collect();
    it.make("web", "one", &services);
    it.define(&[("web", HOST)]);
    let _ = it.provision();
    let _ = it.rootbuild(&["up"]).expect(0);
    let before = [7001, 7002, 7003].map(|port| it.ask(port));
    it.define(&[("web", &format!("{HOST}\nsoften = {{ \"main.service\" = [\"PrivateIPC\"] }}"))]);
    let up = it.rootbuild(&["up", "--json"]).expect(0).json();
    assert_eq!(up["roots"][0]["action"], "swap", "{up}");
    let after = [7001, 7002, 7003].map(|port| it.ask(port));
    assert!(after.iter().all(|it| it.starts_with("one ")), "{after:?}{}", it.host.journal());
    let same = [0, 1, 2].map(|n| after[n] == before[n]);
    assert_eq!(same, [false, false, true], "{before:?} {after:?}");
}
