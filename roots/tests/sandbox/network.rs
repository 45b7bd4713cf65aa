//! The network and resolv.conf.

use super::harness::*;

#[test]
fn network_is_off_by_default() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let (code, out) = run(&root.spec("tail -n +3 /proc/net/dev; cat /etc/resolv.conf"));
    let names: Vec<_> = out.lines().filter_map(|line| line.trim().split(':').next()).collect();
    assert_eq!((code, names), (1, vec!["lo"]));
}

#[test]
fn host_network_is_the_hosts() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let here = fs::read_link("/proc/self/ns/net").unwrap();
    let (code, out) = run(&SandboxSpec { network: Network::Host, ..root.spec("readlink /proc/self/ns/net") });
    assert_eq!((code, out.trim()), (0, here.to_str().unwrap()));
}

#[test]
fn resolv_conf_is_not_left_in_the_root() {
    if !privileged() || !Path::new("/etc/resolv.conf").exists() {
        println!("skipped: needs privileges and a resolv.conf");
        return;
    }
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    let script = "cat /etc/resolv.conf; echo other > /etc/resolv.conf";
    let root = Root::new();
    for spec in [root.spec(script), root.overlay_spec(script)] {
        assert_eq!(run(&SandboxSpec { network: Network::Host, ..spec }), (0, host.clone()));
        for layer in ["root", "upper"] {
            assert!(fs::symlink_metadata(root.path(layer).join("etc/resolv.conf")).is_err(), "{layer}");
        }
    }
}

#[test]
fn a_resolv_conf_that_is_a_link_stays_one() {
    if !privileged() || !Path::new("/etc/resolv.conf").exists() {
        println!("skipped: needs privileges and a resolv.conf");
        return;
    }
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    let root = Root::new();
    let (target, link) = ("../run/systemd/resolve/stub-resolv.conf", root.path("root/etc/resolv.conf"));
    symlink(target, &link).unwrap();
    let spec = SandboxSpec { network: Network::Host, ..root.spec("cat /etc/resolv.conf") };
    assert_eq!(run(&spec), (0, host));
    assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
    assert_eq!(fs::read_dir(root.path("root/run")).unwrap().count(), 0);
}

#[test]
fn a_resolv_conf_of_the_root_is_covered_not_changed() {
    if !privileged() || !Path::new("/etc/resolv.conf").exists() {
        println!("skipped: needs privileges and a resolv.conf");
        return;
    }
    let root = Root::new();
    let own = root.path("root/etc/resolv.conf");
    fs::write(&own, "").unwrap();
    let spec = SandboxSpec { network: Network::Host, ..root.spec("test -s /etc/resolv.conf") };
    assert_eq!(run(&spec).0, 0);
    assert_eq!(fs::read(&own).unwrap(), b"");
}
