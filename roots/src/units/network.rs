//! The network of a root: a namespace of its own, on the bridge that its cluster has together.
//!
//! Who comes first makes the bridge, who goes last takes it away; a lock lets one of them at a time. Nothing
//! runs beside the kernel, but for published ports of TCP `systemd-socket-proxyd`.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::host::Firewall;
use super::ours::{argument, script, slice, target};
use super::run::{Cluster, Port, Protocol, hash};
use super::text::Writer;
use super::{Request, UnitFile, UnitsError};

/// The unit that makes a root's network.
pub(super) fn unit(root: &str) -> String {
    format!("rootbuild-{root}-net.service")
}

/// Where the root's namespace is found.
pub(super) fn namespace(root: &str) -> String {
    format!("/run/netns/rootbuild-{root}")
}

/// The bridge's name: such are 15 bytes at most.
fn bridge(cluster: &Cluster) -> String {
    format!("rb-{}", cluster.id)
}

/// The units of a root's network and its ports; none where it has the host's.
pub(super) fn units(request: &Request<'_>) -> Result<Vec<UnitFile>, UnitsError> {
    let Some(address) = request.run.address else { return Ok(Vec::new()) };
    let missing = |what, need| Err(UnitsError::Missing { what, need });
    if !request.host.ip {
        return missing("`ip` of iproute2", "`network = \"private\"`");
    }
    let udp = request.run.ports.iter().any(|port| port.protocol == Protocol::Udp);
    if request.host.firewall.is_none() {
        if request.cluster.outgoing {
            return missing("`nft` or `iptables`", "`outgoing = true` of `[cluster]`");
        }
        if udp {
            return missing("`nft` or `iptables`", "a port of UDP");
        }
    }
    let mut files = vec![UnitFile { name: unit(request.name), text: service(request, address) }];
    for port in request.run.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
        let Some(proxy) = request.host.proxy else {
            return missing("`systemd-socket-proxyd`", "a port of TCP");
        };
        let name = port_unit(request.name, port);
        files.push(UnitFile { name: format!("{name}.socket"), text: port_socket(request.name, port) });
        let text = port_service(request.name, port, address, proxy);
        files.push(UnitFile { name: format!("{name}.service"), text });
    }
    Ok(files)
}

/// Makes and removes the namespace. Sockets need it before `basic.target`.
fn service(request: &Request<'_>, address: Ipv4Addr) -> String {
    let (root, cluster) = (request.name, request.cluster);
    let mut writer = Writer::default();
    let mut set = |section: &str, key: &str, value: &str| writer.set(section, key, value);
    set("Unit", "Description", &format!("Network of the root {root} of rootbuild"));
    set("Unit", "DefaultDependencies", "no");
    set("Unit", "After", "local-fs.target systemd-sysctl.service systemd-modules-load.service");
    // Those begin with an empty table.
    set("Unit", "After", "nftables.service iptables.service firewalld.service ufw.service");
    set("Unit", "Conflicts", "shutdown.target");
    set("Unit", "Before", "shutdown.target");
    set("Unit", "PartOf", &target(root));
    set("Service", "Type", "oneshot");
    set("Service", "RemainAfterExit", "yes");
    set("Service", "Slice", &slice(root));
    let (subnet, bridge) = (cluster.subnet, bridge(cluster));
    let number = hash(root);
    let mac = |kind: u8, number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        format!("02:{kind:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    };
    let common = [
        format!("rootbuild-{root}"),
        bridge.clone(),
        format!("rbv-{number:08x}"),
        subnet.host().to_string(),
        subnet.bits().to_string(),
        subnet.to_string(),
        address.to_string(),
        mac(0, u32::from(subnet.host())),
        mac(1, number),
    ];
    let arguments = common.map(|it| argument(&it)).join(" ");
    let mut start = START.to_owned();
    let mut stop = STOP.to_owned();
    if let Some(firewall) = request.host.firewall {
        let rules = rules(request, address, &bridge);
        if !rules.is_empty() {
            start.push_str(FORWARD);
            stop.push_str(UNFORWARD);
        }
        for rule in rules {
            let (add, remove) = rule.commands(firewall);
            let _ = write!(start, "; {add}");
            let _ = write!(stop, "; {remove}");
        }
    }
    set("Service", "ExecStart", &format!("/bin/sh -ec '{}' sh {arguments}", script(&start)));
    set("Service", "ExecStopPost", &format!("-/bin/sh -c '{}' sh {arguments}", script(&stop)));
    writer.finish(&format!("Makes the network of the root `{root}`: {address} in {subnet}."))
}

/// `$1` namespace, `$2` bridge, `$3` the host's end, `$4` the host's address, `$5` bits, `$6` the network, `$7` the
/// root's address, `$8` the bridge's hardware address, `$9` the root's. Those are given: a bridge would else change its
/// own as roots come and go, and break connections.
///
/// Each program costs milliseconds, and all roots of a cluster start at once, one after the other here: so it asks the
/// file system what it can, and gives `ip` its commands together. (`read` fails on files of `/proc/sys`, which end after
/// the first byte that is read alone; that byte is all that is wanted.)
const START: &str = "test -d /run/rootbuild || mkdir -p /run/rootbuild; exec 9>/run/rootbuild/network.lock; flock 9; \
    if ! test -e \"/sys/class/net/$2\"; then \
    taken=$(ip -4 route show root \"$6\"); \
    if test -n \"$taken\"; then echo \"the network $6 is in use on this host ($taken): name another as network in [cluster]\" >&2; exit 1; fi; \
    ip link add \"$2\" address \"$8\" type bridge; \
    elif ! test -d \"/sys/class/net/$2/bridge\"; then \
    echo \"this host has an interface $2 that is no bridge: rename it\" >&2; exit 1; fi; \
    filtered=0; if test -r /proc/sys/net/bridge/bridge-nf-call-iptables; then \
    read -r filtered < /proc/sys/net/bridge/bridge-nf-call-iptables || true; fi; \
    if test \"$filtered\" = 1 && command -v iptables >/dev/null; then \
    iptables -w -C FORWARD -i \"$2\" -o \"$2\" -j ACCEPT 2>/dev/null || iptables -w -I FORWARD -i \"$2\" -o \"$2\" -j ACCEPT; fi; \
    if test -e \"/run/netns/$1\"; then ip netns del \"$1\" || true; fi; \
    if test -e \"/sys/class/net/$3\"; then ip link del dev \"$3\" || true; fi; \
    printf \"%s\\\\n\" \"addr replace $4/$5 dev $2\" \"link set dev $2 up\" \"netns add $1\" \
    \"link add $3 type veth peer name eth0 netns $1\" \"link set dev $3 addrgenmode none master $2 up\" | ip -batch -; \
    printf \"%s\\\\n\" \"link set dev lo up\" \"link set dev eth0 address $9 addrgenmode none up\" \
    \"addr add $7/$5 dev eth0\" \"route add default via $4\" | ip -n \"$1\" -batch -";

const STOP: &str = "exec 9>/run/rootbuild/network.lock; flock 9; \
    ip netns del \"$1\" 2>/dev/null; \
    ip link del dev \"$3\" 2>/dev/null; \
    ip neigh flush to \"$7\" dev \"$2\" 2>/dev/null; \
    if test -n \"$(ip -o link show dev \"$2\" type bridge 2>/dev/null)\" && \
    test -z \"$(ip -o link show master \"$2\" 2>/dev/null)\"; then \
    ip link del dev \"$2\" 2>/dev/null; \
    if command -v iptables >/dev/null; then iptables -w -D FORWARD -i \"$2\" -o \"$2\" -j ACCEPT 2>/dev/null; fi; fi";

/// The host passes packets on while any root needs it; then it does what it did before.
const FORWARD: &str = "; mkdir -p /run/rootbuild/forwarding; \
    if test \"$(cat /proc/sys/net/ipv4/ip_forward)\" = 0; then \
    : > /run/rootbuild/forwarding-was-off; echo 1 > /proc/sys/net/ipv4/ip_forward; fi; \
    : > \"/run/rootbuild/forwarding/$1\"";

const UNFORWARD: &str = "; rm -f \"/run/rootbuild/forwarding/$1\"; \
    if rmdir /run/rootbuild/forwarding 2>/dev/null && test -e /run/rootbuild/forwarding-was-off; then \
    rm -f /run/rootbuild/forwarding-was-off; echo 0 > /proc/sys/net/ipv4/ip_forward; fi";

/// A rule of the host's firewall.
#[derive(Debug)]
enum Rule {
    /// What a root sends beyond the bridge leaves with the host's address, and answers come back.
    Outgoing { bridge: String, address: Ipv4Addr },
    /// What comes to a port of the host is the root's.
    Port { bridge: String, port: Port, to: Ipv4Addr },
}

fn rules(request: &Request<'_>, address: Ipv4Addr, bridge: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    if request.cluster.outgoing {
        rules.push(Rule::Outgoing { bridge: bridge.to_owned(), address });
    }
    let udp = request.run.ports.iter().filter(|port| port.protocol == Protocol::Udp);
    rules.extend(udp.map(|port| Rule::Port { bridge: bridge.to_owned(), port: *port, to: address }));
    rules
}

impl Rule {
    /// What makes it, if it isn't there, and what takes it away, if it is.
    fn commands(&self, firewall: Firewall) -> (String, String) {
        match firewall {
            Firewall::Nft => self.nft(),
            Firewall::Iptables => self.iptables(),
        }
    }

    /// A table of its own, made anew in one transaction.
    fn nft(&self) -> (String, String) {
        let (table, chains) = match self {
            Self::Outgoing { bridge, address } => (
                format!("rootbuild_{:08x}", u32::from(*address)),
                format!(
                    "chain nat {{ type nat hook postrouting priority 100; ip saddr {address} oifname != {bridge} masquerade; }}; \
                     chain pass {{ type filter hook forward priority -5; ip saddr {address} accept; \
                     ip daddr {address} iifname != {bridge} ct status != dnat ct state != {{ established, related }} drop; }}"
                ),
            ),
            Self::Port { port, to, .. } => {
                let at = match port.address {
                    Some(address) => format!("ip daddr {address}"),
                    None => "fib daddr type local".to_owned(),
                };
                let (host, root) = (port.host, port.root);
                let nat = |name: &str, hook: &str| {
                    format!(
                        "chain {name} {{ type nat hook {hook} priority -100; {at} udp dport {host} dnat to {to}:{root}; }}"
                    )
                };
                (
                    format!("rootbuild_{:08x}_{host}", u32::from(*to)),
                    format!("{}; {}", nat("outside", "prerouting"), nat("inside", "output")),
                )
            }
        };
        let make = format!("table ip {table}; delete table ip {table}; table ip {table} {{ {chains}; }}");
        (format!("nft \"{make}\""), format!("nft delete table ip {table} 2>/dev/null"))
    }

    fn iptables(&self) -> (String, String) {
        let rules = match self {
            Self::Outgoing { bridge, address } => vec![
                ("nat", format!("POSTROUTING -s {address} ! -o {bridge} -j MASQUERADE")),
                ("filter", format!("FORWARD -i {bridge} -s {address} -j ACCEPT")),
                (
                    "filter",
                    format!(
                        "FORWARD -o {bridge} -d {address} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
                    ),
                ),
            ],
            Self::Port { bridge, port, to } => {
                let at = match port.address {
                    Some(address) => format!("-d {address}"),
                    None => "-m addrtype --dst-type LOCAL".to_owned(),
                };
                let (host, root) = (port.host, port.root);
                let nat = |chain| {
                    format!("{chain} -p udp {at} --dport {host} -j DNAT --to-destination {to}:{root}")
                };
                vec![
                    ("nat", nat("PREROUTING")),
                    ("nat", nat("OUTPUT")),
                    ("filter", format!("FORWARD -o {bridge} -p udp -d {to} --dport {root} -j ACCEPT")),
                    ("filter", format!("FORWARD -i {bridge} -p udp -s {to} --sport {root} -j ACCEPT")),
                ]
            }
        };
        let of = |make: &dyn Fn(&str, &str) -> String| {
            rules.iter().map(|(table, rule)| make(table, rule)).collect::<Vec<_>>().join("; ")
        };
        let add = of(&|table, rule| {
            format!("iptables -w -t {table} -C {rule} 2>/dev/null || iptables -w -t {table} -I {rule}")
        });
        (add, of(&|table, rule| format!("iptables -w -t {table} -D {rule} 2>/dev/null")))
    }
}

/// What leads a port of the host into a root, without its kind. Its name is no unit's of the root: those don't begin
/// with a dash.
fn port_unit(root: &str, port: &Port) -> String {
    let address = port.address.map(|address| format!("{address}-")).unwrap_or_default();
    format!("rootbuild-{root}--port-{address}{}", port.host)
}

/// The names of the sockets that lead ports of the host into the root.
pub(super) fn port_sockets(request: &Request<'_>) -> Vec<String> {
    let has = request.run.address.is_some();
    let ports = request.run.ports.iter().filter(|port| has && port.protocol == Protocol::Tcp);
    ports.map(|port| format!("{}.socket", port_unit(request.name, port))).collect()
}

fn port_socket(root: &str, port: &Port) -> String {
    let mut writer = Writer::default();
    writer.set("Unit", "Description", &format!("Port {} of the root {root} of rootbuild", port.root));
    writer.set("Unit", "PartOf", &target(root));
    let listen = match port.address {
        Some(address) => format!("{address}:{}", port.host),
        None => port.host.to_string(),
    };
    writer.set("Socket", "ListenStream", &listen);
    writer.set("Socket", "Slice", &slice(root));
    writer.set("Install", "WantedBy", &target(root));
    writer
        .finish(&format!("Port {} of the host leads to port {} of the root `{root}`.", port.host, port.root))
}

fn port_service(root: &str, port: &Port, to: Ipv4Addr, proxy: &str) -> String {
    let mut writer = Writer::default();
    let mut set = |section: &str, key: &str, value: &str| writer.set(section, key, value);
    set("Unit", "Description", &format!("Port {} of the root {root} of rootbuild", port.root));
    set("Unit", "Requires", &unit(root));
    set("Unit", "After", &unit(root));
    set("Unit", "PartOf", &target(root));
    set("Service", "Type", "notify");
    set("Service", "Slice", &slice(root));
    set("Service", "ExecStart", &format!("{proxy} {to}:{}", port.root));
    set("Service", "DynamicUser", "yes");
    for key in ["PrivateDevices", "PrivateTmp", "ProtectHome", "NoNewPrivileges"] {
        set("Service", key, "yes");
    }
    set("Service", "CapabilityBoundingSet", "");
    writer.finish(&format!("Leads connections into the root `{root}`."))
}
