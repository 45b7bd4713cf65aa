//! `up`, `down`, `status`, `rollback`, on a host of their own.

use super::support::{Cluster, service, serving};

#[test]
fn roots_go_up_are_swapped_rolled_back_and_go_down_without_a_trace() {
    let test = "roots_go_up_are_swapped_rolled_back_and_go_down_without_a_trace";
    let Some(it) = Cluster::boot(test) else { return };
    let host = "network = \"host\"";
    it.make("db", "one", &[service("db.service", &serving(7001))]);
    it.make("web", "one", &[service("web.service", &serving(7002))]);
    it.define(&[("db", host), ("web", &format!("{host}\nafter = [\"db\"]"))]);
    let _ = it.rootbuild(&["up"]).expect(1).says(&["nothing is provisioned", "rootbuild provision"]);
    let _ = it.provision();
    let before = it.listing();
    let up = it.rootbuild(&["up", "--json"]).expect(0).json();
    for root in [0, 1] {
        assert_eq!(
            (&up["roots"][root]["state"], &up["roots"][root]["action"]),
            (&"up".into(), &"start".into())
        );
    }
    let (db, web) = (it.ask(7001), it.ask(7002));
    assert!(db.starts_with("one ") && web.starts_with("one "), "{db:?} {web:?} {}", it.host.journal());
    let status = it.status("web");
    assert_eq!(
        (&status["state"], &status["stale"], &status["generation"]),
        (&"up".into(), &false.into(), &1.into())
    );

    // Nothing changed, nothing is touched.
    let again = it.rootbuild(&["up", "--json"]).expect(0).json();
    assert_eq!(
        (&again["roots"][0]["action"], &again["roots"][1]["action"]),
        (&"nothing".into(), &"nothing".into())
    );
    assert_eq!((it.ask(7001), it.ask(7002)), (db.clone(), web.clone()));

    // One root changes: the other goes on.
    it.make("web", "two", &[service("web.service", &serving(7002))]);
    let _ = it.provision();
    assert_eq!(it.status("web")["stale"], true);
    let up = it.rootbuild(&["up", "--json"]).expect(0).json();
    assert_eq!((&up["roots"][0]["action"], &up["roots"][1]["action"]), (&"nothing".into(), &"swap".into()));
    assert!(it.ask(7002).starts_with("two "), "{}", it.host.journal());
    assert_eq!(it.ask(7001), db);

    // What doesn't come up goes back to what ran before, text of units and all.
    let broken = "[Service]\nType=notify\nExecStart=/bin/sh -c 'echo it is broken; exit 3'\n";
    it.make("web", "three", &[service("web.service", broken)]);
    let _ = it.provision();
    let ran =
        it.rootbuild(&["up", "--json"]).expect(1).says(&["web.service", "exited with 3", "it is broken"]);
    assert_eq!(ran.json()["roots"][1]["state"], "rolled-back", "{ran:?}");
    assert!(it.ask(7002).starts_with("two "), "{}", it.host.journal());
    let status = it.status("web");
    assert_eq!(
        (&status["state"], &status["stale"], &status["generation"]),
        (&"up".into(), &true.into(), &2.into())
    );

    // By hand, to the generation before, and by its number.
    let _ = it.rootbuild(&["rollback", "web"]).expect(0);
    assert!(it.ask(7002).starts_with("one "), "{}", it.host.journal());
    let _ = it.rootbuild(&["rollback", "2", "web"]).expect(0);
    assert!(it.ask(7002).starts_with("two "), "{}", it.host.journal());
    assert_eq!(it.ask(7001), db);
    let _ = it.project.rootbuild(&["cache", "gc", "--keep-generations", "1", "--max-age", "0s"]).expect(0);
    let _ = it.project.rootbuild(&["cache", "fsck", "--quick"]).expect(0);
    assert!(it.ask(7002).starts_with("two "), "what runs isn't collected");

    let _ = it.rootbuild(&["exec", "web", "--", "sh", "-c", "cat /etc/marker; exit 7"]).expect(7);
    assert_eq!(it.rootbuild(&["exec", "web", "--", "cat", "/etc/marker"]).expect(0).stdout, "two\n");
    let logs = it.rootbuild(&["logs", "web"]).expect(0);
    assert!(logs.stdout.contains("it is broken"), "{logs:?}");
    let _ = it.rootbuild(&["restart", "web"]).expect(0);
    assert!(it.ask(7002).starts_with("two "));

    let _ = it.rootbuild(&["down"]).expect(0);
    assert_eq!(it.ask(7002), "");
    assert_eq!(it.status("web")["state"], "down");
    assert_eq!(it.listing(), before);
    let mounts = it.host.sh("findmnt -n -R /run/rootbuild; systemctl --failed --no-legend; true");
    assert_eq!(mounts.stdout, "", "{}", it.host.journal());
}

#[test]
fn roots_come_up_at_boot_by_themselves_and_leave_nothing_when_they_go() {
    let test = "roots_come_up_at_boot_by_themselves_and_leave_nothing_when_they_go";
    let Some(mut it) = Cluster::boot(test) else { return };
    it.make("web", "one", &[service("web.service", &serving(7002))]);
    it.define(&[("web", "network = \"host\"")]);
    let _ = it.provision();
    let before = it.listing();
    // Not for good at first.
    let _ = it.rootbuild(&["up"]).expect(0);
    let served = it.ask(7002);
    let _ = it.rootbuild(&["up", "--enable"]).expect(0);
    assert_eq!(it.ask(7002), served, "where its units stand doesn't matter to what runs");
    assert_eq!(it.status("web")["enabled"], true);
    let binary = rootbuild_tests::rootbuild_binary().display();
    assert_eq!(it.host.sh(&format!("grep -rl {binary} /etc/systemd /etc/userdb")).stdout, "");
    // What is handed over meanwhile isn't what comes up.
    it.make("web", "two", &[service("web.service", &serving(7002))]);
    let _ = it.provision();
    it.host.write(
        "/etc/systemd/system/default.target.d/users.conf",
        "[Unit]\nWants=multi-user.target\nAfter=multi-user.target\n",
    );
    it.host.reboot();
    let up = it.host.sh("systemctl is-active rootbuild-web.target").stdout;
    assert_eq!(up, "active\n", "{}{}", it.host.console(), it.host.journal());
    let _ = it.host.sh("rm -r /etc/systemd/system/default.target.d").expect(0);
    assert!(it.ask(7002).starts_with("one "), "{}", it.host.journal());
    let _ = it.rootbuild(&["up"]).expect(0);
    assert!(it.ask(7002).starts_with("two "), "{}", it.host.journal());
    let _ = it.rootbuild(&["down"]).expect(0);
    assert!(it.host.path("/etc/systemd/system/rootbuild-web.target").exists());
    let _ = it.rootbuild(&["down", "--disable"]).expect(0);
    assert_eq!(it.listing(), before);
}
