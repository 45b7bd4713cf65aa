//! What the definition says of a root that runs, as units.

use super::testing::Root;
use super::{Cluster, Firewall, Host, Lifted, Request, Run, Softened, UnitsError, Writable, lift};

/// A root that everything is said of.
fn run() -> Run {
    Run {
        after: vec!["ldap".to_owned()],
        requires: vec!["db".to_owned()],
        address: "10.213.7.5".parse().ok(),
        hostname: "www.vcs.test".to_owned(),
        ports: ["8080:80", "127.0.0.1:2222:22", "53:53/udp"].map(|it| it.parse().unwrap()).to_vec(),
        memory: Some(1 << 30),
        cpu_weight: Some(200),
        tasks: Some(512),
        state: vec!["/var/lib/app".to_owned()],
        softened: vec![Softened { unit: None, setting: Some("PrivateDevices".to_owned()) }],
        writable: Writable::Overlay,
    }
}

fn root() -> Root {
    let root = Root::new();
    let text = "[Service]\nExecStart=@/bin/a argv0 b\n";
    root.enable("a.service", "multi-user.target", text);
    root.enable("alone.service", "multi-user.target", "[Service]\nExecStart=/a\nPrivateNetwork=yes\n");
    root.enable("a.socket", "sockets.target", "[Socket]\nListenStream=80\n");
    root.enable("a.timer", "timers.target", "[Timer]\nOnBootSec=1\n");
    root.enable("net.service", "multi-user.target", "[Service]\nExecStart=/a\n");
    let nsenter = root.path().join("usr/bin/nsenter");
    root.write("usr/bin/nsenter", "");
    std::fs::set_permissions(nsenter, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    root
}

fn try_lift(host: Host, run: &Run, outgoing: bool) -> Result<Lifted, UnitsError> {
    let mut cluster = Cluster::of(std::path::Path::new("/project/rootbuild.toml"));
    cluster.subnet = "10.213.7.0/24".parse().unwrap();
    cluster.outgoing = outgoing;
    let link = std::path::Path::new("/var/lib/rootbuild/roots/web");
    let request = Request { name: "web", link, host, private: None, run, cluster: &cluster };
    lift(root().path(), None, &request)
}

#[test]
fn a_root_gets_a_network_limits_names_and_state() {
    let lifted = try_lift(Host::with(252, true), &run(), true).unwrap();
    let mut text = String::new();
    for file in &lifted.files {
        text.push_str(&format!("=== {}\n{}\n", file.name, file.text));
    }
    text.push_str(&lifted.told());
    insta::assert_snapshot!(text);
}

#[test]
fn systemd_gives_the_hostname_where_it_can() {
    let lifted = try_lift(Host::with(258, true), &run(), false).unwrap();
    let drop_in = lifted.text("a.service.d/50-rootbuild.conf");
    assert!(drop_in.contains("ProtectHostname=private:www.vcs.test\nRestrictRealtime"), "{drop_in}");
    assert!(drop_in.contains("RestrictNamespaces=yes\n"), "{drop_in}");
    assert!(lifted.text("a.service").contains("ExecStart=@/bin/a argv0 b\n"));
    assert!(!lifted.text("root.service").contains("--uts"));
}

#[test]
fn what_a_host_can_not_do_is_refused_by_its_name() {
    let bare = Host { ip: false, firewall: None, proxy: None, ..Host::with(252, true) };
    let with_ip = Host { ip: true, ..bare };
    let with_proxy = Host { proxy: Some("/p"), ..with_ip };
    let no_udp = Run { ports: run().ports[..2].to_vec(), ..run() };
    let said = |host, run: &Run, outgoing| try_lift(host, run, outgoing).map_err(|error| error.to_string());
    let missing = |what: &str, need: &str| format!("this host has no {what}, which {need} needs");
    assert_eq!(
        said(bare, &run(), false).unwrap_err(),
        missing("`ip` of iproute2", "`network = \"private\"`")
    );
    let firewall = "`nft` or `iptables`";
    assert_eq!(said(with_proxy, &run(), false).unwrap_err(), missing(firewall, "a port of UDP"));
    let outgoing = "`outgoing = true` of `[cluster]`";
    assert_eq!(said(with_proxy, &no_udp, true).unwrap_err(), missing(firewall, outgoing));
    assert_eq!(
        said(with_ip, &no_udp, false).unwrap_err(),
        missing("`systemd-socket-proxyd`", "a port of TCP")
    );
    assert!(said(with_proxy, &no_udp, false).is_ok());
    let none = Run { address: None, ports: Vec::new(), ..run() };
    let lifted = said(bare, &none, false).unwrap();
    assert!(!lifted.has("net.service") || lifted.text("net.service").contains("ExecStart=/a"));
    assert!(lifted.files.iter().all(|file| !file.text.contains("NetworkNamespacePath")));
}

#[test]
fn the_firewall_is_changed_by_what_the_host_has() {
    for (firewall, line) in
        [(Firewall::Nft, "nft delete table ip"), (Firewall::Iptables, "iptables -w -t nat -D")]
    {
        let host = Host { firewall: Some(firewall), ..Host::with(252, true) };
        let lifted = try_lift(host, &run(), true).unwrap();
        let net = lifted.text("net.service");
        let stop = net.lines().find(|text| text.starts_with("ExecStopPost=")).unwrap();
        assert!(stop.contains(line), "{stop}");
    }
}

#[test]
fn state_behind_a_link_is_refused() {
    let state = |path: &str| Run { state: vec![path.to_owned()], ..Run::new("web") };
    for path in ["/var/run/x", "/lib/x", "/etc/passwd"] {
        let error = try_lift(Host::with(252, true), &state(path), false).unwrap_err();
        assert!(matches!(error, UnitsError::NoState { .. }), "{path}");
    }
    assert!(try_lift(Host::with(252, true), &state("/srv/not/yet"), false).is_ok());
}
