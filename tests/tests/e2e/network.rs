//! Roots that run together: networks, names, limits and state, made for real by a systemd of their own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_roots::units::{
    self, Cluster, Directories, Host, Lifted, Member, Request, Run, Writable, uninstall,
};
use rootbuild_tests::{TestHost, skipped};

use crate::handoff::{STORE, copy_program};

/// Answers on ports 22 and 80, and is ready when it does; says who it is.
const SERVER: &str = r#"
my $bits = "";
for my $port (22, 80) {
    socket(my $s, 2, 1, 0) or die; setsockopt($s, 1, 2, 1);
    bind($s, pack("Sna4x8", 2, $port, "\0\0\0\0")) or die "bind $port: $!"; listen($s, 5) or die;
    vec($bits, fileno($s), 1) = 1; push @all, $s; $port{$s} = $port;
}
socket(my $u, 2, 2, 0) or die; bind($u, pack("Sna4x8", 2, 53, "\0\0\0\0")) or die "bind 53: $!";
vec($bits, fileno($u), 1) = 1;
socket(N, 1, 2, 0) or die;
send(N, "READY=1", 0, pack("Sa108", 1, $ENV{NOTIFY_SOCKET})) or die "notify: $!";
sub text { open(F, $_[0]) or return "no $_[0]"; my $text = <F>; close F; chomp $text; $text }
while (select(my $ready = $bits, undef, undef, undef)) {
    if (vec($ready, fileno($u), 1)) { my $from = recv($u, $_, 99, 0); send($u, text("/etc/hostname"), 0, $from); }
    for my $s (grep { vec($ready, fileno($_), 1) } @all) {
        accept(C, $s);
        syswrite(C, join(" ", $port{$s}, text("/etc/hostname"), text("/proc/sys/kernel/hostname"), text("/etc/machine-id")) . "\n");
        close C;
    }
}
"#;

/// Asks `$ARGV[0]`, by its name, on port `$ARGV[1]`.
const ASK: &str = r#"
$SIG{ALRM} = sub { die "late" }; alarm 20;
my $address = gethostbyname($ARGV[0]) or die "no $ARGV[0]"; socket(S, 2, 1, 0);
connect(S, pack("Sna4x8", 2, $ARGV[1], $address)) or die "$ARGV[0]:$ARGV[1]: $!"; print <S>;
"#;

/// A root that serves, with what is needed to ask others.
fn make_root(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["proc", "sys", "dev", "run", "tmp", "var/lib/data", "usr/bin", "usr/lib"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    for program in ["/usr/bin/sh", "/usr/bin/cat", "/usr/bin/perl", "/usr/bin/nsenter"] {
        copy_program(root, program);
    }
    write("etc/os-release", "ID=x\n");
    write("etc/machine-id", "");
    write("etc/hosts", "127.0.0.1 the-root's-own\n");
    write("etc/nsswitch.conf", "hosts: files\n");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndata:x:501:502::/:/bin/sh\n");
    write("etc/group", "root:x:0:\ndata:x:502:\n");
    write("srv/server", SERVER);
    write("srv/ask", ASK);
    write("var/lib/data/seed", "seeded\n");
    fs::set_permissions(root.join("var/lib/data"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(root.join("var/lib/data"), Some(501), Some(502)).unwrap();
    std::os::unix::fs::chown(root.join("var/lib/data/seed"), Some(501), Some(502)).unwrap();
    enable(root, "serve.service", "[Service]\nType=notify\nEnvironment=LANG=C\nExecStart=perl /srv/server\n");
}

fn enable(root: &Path, unit: &str, text: &str) {
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    fs::write(root.join("etc/systemd/system").join(unit), text).unwrap();
    symlink(format!("/etc/systemd/system/{unit}"), wants.join(unit)).unwrap();
}

/// A host with roots that are handed over to it.
struct Site {
    host: TestHost,
    cluster: Cluster,
    /// A root to copy; files are shared by those that are copied.
    pattern: PathBuf,
}

impl Site {
    fn boot(test: &str, roots: &[&str]) -> Option<Self> {
        if !Path::new("/usr/bin/perl").exists() || !Path::new("/usr/sbin/ip").exists() {
            skipped(test, "needs perl and ip");
            return None;
        }
        let host = TestHost::boot(test)?;
        let mut cluster = Cluster::of(Path::new("/project/rootbuild.toml"));
        cluster.domain = Some("vcs.test".to_owned());
        let addresses = cluster.subnet.assign(roots, &[]).unwrap();
        cluster.members = roots
            .iter()
            .map(|root| Member {
                root: (*root).to_owned(),
                address: addresses[*root],
                names: vec![format!("{root}.vcs.test"), (*root).to_owned()],
            })
            .collect();
        // What `/usr/sbin/iptables` leads to.
        let _ =
            host.sh("mkdir -p /etc/alternatives; ln -s /usr/sbin/iptables-nft /etc/alternatives/iptables");
        let pattern = host.path(&format!("{STORE}/checkouts/pattern"));
        make_root(&pattern);
        Some(Self { host, cluster, pattern })
    }

    /// How a root runs in a network of its own.
    fn run(&self, root: &str) -> Run {
        let member = self.cluster.members.iter().find(|it| it.root == root).unwrap();
        Run { address: Some(member.address), ..Run::new(&root.replace('_', "-")) }
    }

    /// Makes a tree the current one of a root.
    fn publish(&self, name: &str, number: u32) -> PathBuf {
        let checkout = self.host.path(&format!("{STORE}/checkouts/{name}/{number}"));
        fs::create_dir_all(checkout.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-al").arg(&self.pattern).arg(&checkout).status();
        assert!(copied.unwrap().success());
        let link = self.host.path(&format!("{STORE}/roots/{name}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let new = link.with_extension("new");
        symlink(format!("../checkouts/{name}/{number}"), &new).unwrap();
        fs::rename(new, link).unwrap();
        checkout
    }

    fn install(&self, name: &str, checkout: &Path, run: &Run) -> Lifted {
        let link = PathBuf::from(format!("{STORE}/roots/{name}"));
        let host = Host::detect().unwrap();
        let request = Request { name, link: &link, host, private: None, run, cluster: &self.cluster };
        let lifted = units::lift(checkout, None, &request).unwrap();
        units::install(&self.directories(), name, &lifted).unwrap();
        lifted
    }

    fn directories(&self) -> Directories {
        Directories {
            units: self.host.path("/run/systemd/system"),
            users: self.host.path("/run/userdb"),
            state: self.host.path("/run/rootbuild/installed"),
            hosts: Some(self.host.path("/etc/hosts")),
        }
    }

    fn start(&self, units: &str) {
        let ran = self.host.sh(&format!("systemctl daemon-reload && systemctl start {units}"));
        let failed = self.host.sh("systemctl --failed --no-legend").stdout;
        assert!(ran.code == 0 && failed.is_empty(), "{}{failed}{}", ran.stderr, self.host.journal());
    }

    /// What a root, or the host, is told by a name.
    fn ask(&self, from: Option<&str>, name: &str, port: u16) -> String {
        let command = match from {
            Some(root) => format!(
                "nsenter --net=/run/netns/rootbuild-{root} chroot /run/rootbuild/roots/{root} perl /srv/ask {name} {port}"
            ),
            None => format!("perl {STORE}/checkouts/pattern/srv/ask {name} {port}"),
        };
        let ran = self.host.sh(&command);
        format!("{}{}", ran.stdout, ran.stderr)
    }
}

#[test]
fn eight_roots_answer_on_the_same_ports_by_their_names() {
    let names = ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "a-long_name.of-a-root"];
    let test = "eight_roots_answer_on_the_same_ports_by_their_names";
    let Some(site) = Site::boot(test, &names) else { return };
    let host = &site.host;
    let before = host.sh("cat /etc/hosts /proc/sys/net/ipv4/ip_forward; ip -o link").stdout;
    let firewall = Host::detect().unwrap().firewall.is_some();
    let mut targets = String::new();
    for name in names {
        let ports = match name {
            "r1" => vec!["8080:80".parse().unwrap()],
            "r5" if firewall => vec!["5353:53/udp".parse().unwrap()],
            _ => Vec::new(),
        };
        let requires = if name == "r2" { vec!["r1".to_owned()] } else { Vec::new() };
        let (memory, tasks) = (Some(1 << 28), Some(50));
        let run = Run { ports, requires, memory, tasks, cpu_weight: Some(50), ..site.run(name) };
        let lifted = site.install(name, &site.publish(name, 1), &run);
        targets = format!("{targets} {}", lifted.target);
    }
    site.start(&targets);
    let mut machines = Vec::new();
    for name in names {
        let own = name.replace('_', "-");
        for port in [22, 80] {
            let said = site.ask(None, &format!("{name}.vcs.test"), port);
            let words: Vec<&str> = said.split_whitespace().collect();
            assert_eq!(words[..3], [port.to_string().as_str(), &own, &own], "{said}{}", host.journal());
            machines.push(words[3].to_owned());
            assert_eq!(words[3].len(), 32, "{said}");
        }
    }
    machines.dedup();
    assert_eq!(machines.len(), 8, "{machines:?}");
    // Roots know each other, themselves, and nobody's 8080.
    let from = Some("a-long_name.of-a-root");
    assert!(site.ask(from, "r1", 80).starts_with("80 r1 "), "{}", site.ask(from, "r1", 80));
    assert!(site.ask(from, "a-long_name.of-a-root", 22).starts_with("22 a-long"));
    assert!(site.ask(from, "r1", 8080).contains("refused"));
    assert!(site.ask(None, "127.0.0.1", 8080).starts_with("80 r1 "), "{}", host.journal());
    if firewall {
        let ask = format!(
            r#"perl -e '$SIG{{ALRM}} = sub {{ die "late" }}; alarm 5; socket(S, 2, 2, 0); $to = gethostbyname("{}"); send(S, "?", 0, pack("Sna4x8", 2, 5353, $to)); recv(S, $_, 99, 0); print'"#,
            site.cluster.subnet.host()
        );
        assert_eq!(host.sh(&ask).stdout, "r5", "{}", host.journal());
    } else {
        skipped(test, "ports of UDP need nft or iptables");
    }
    let limits =
        "for key in MemoryMax TasksMax CPUWeight; do systemctl show -P $key rootbuild-r1.slice; done";
    assert_eq!(host.sh(limits).stdout.split_whitespace().collect::<Vec<_>>(), ["268435456", "50", "50"]);

    // Who comes after another starts when that is ready.
    let when = |unit: &str| {
        let asked = host.sh(&format!("systemctl show -P ActiveEnterTimestampMonotonic {unit}"));
        asked.stdout.trim().parse::<u64>().unwrap()
    };
    assert!(when("rootbuild-r1-serve.service") < when("rootbuild-r2-gate.service"));
    assert!(when("rootbuild-r2-gate.service") < when("rootbuild-r2-serve.service"));

    // One goes, the others stay; what is made twice is made once.
    let pid = "systemctl show -P MainPID rootbuild-r3-serve.service";
    let serving = host.sh(pid).stdout;
    assert_eq!(
        host.sh("systemctl restart rootbuild-r4-net.service; systemctl start rootbuild-r4-serve.service")
            .code,
        0,
        "{}",
        host.journal()
    );
    assert_eq!(host.sh("systemctl stop rootbuild-r1.target").code, 0);
    assert!(site.ask(None, "r4", 80).starts_with("80 r4 "), "{}", host.journal());
    assert!(!site.ask(None, "r1", 80).starts_with("80"));
    assert_eq!(host.sh(pid).stdout, serving);

    // Nothing is left.
    let stopped = host.sh(&format!("systemctl stop {targets}; systemctl stop 'rootbuild-*'"));
    assert_eq!(stopped.code, 0, "{}", host.journal());
    for name in names {
        uninstall(&site.directories(), name).unwrap();
    }
    let after = host.sh("cat /etc/hosts /proc/sys/net/ipv4/ip_forward; ip -o link").stdout;
    assert_eq!(after, before, "{}", host.journal());
    let left = host.sh("systemctl daemon-reload; ls /run/netns /run/rootbuild/installed /run/systemd/system; ls /run/rootbuild/files; findmnt -n | grep rootbuild/roots");
    assert_eq!(
        left.stdout
            .split_whitespace()
            .filter(|it| !it.starts_with("/run/") && !it.starts_with("system"))
            .count(),
        0,
        "{left:?}"
    );
}

#[test]
fn a_root_does_not_start_without_those_that_it_requires() {
    let test = "a_root_does_not_start_without_those_that_it_requires";
    let Some(site) = Site::boot(test, &["bad", "needs", "taken"]) else { return };
    let host = &site.host;
    let bad = site.publish("bad", 1);
    enable(&bad, "fails.service", "[Service]\nType=oneshot\nExecStart=sh -c 'exit 3'\n");
    let _ = site.install("bad", &bad, &site.run("bad"));
    let run = Run { requires: vec!["bad".to_owned()], ..site.run("needs") };
    let needs = site.install("needs", &site.publish("needs", 1), &run);
    let _ = host.sh(&format!("systemctl daemon-reload; systemctl start {}", needs.target));
    let state =
        host.sh("systemctl is-active rootbuild-needs-serve.service rootbuild-bad-serve.service").stdout;
    assert_eq!(state, "inactive\nactive\n", "{}", host.journal());
    assert!(
        host.journal().contains("rootbuild-bad-fails.service has failed, which it requires"),
        "{}",
        host.journal()
    );

    // A network that the host uses already is refused by its name.
    let mut other = Cluster::of(Path::new("/elsewhere/rootbuild.toml"));
    other.subnet = site.cluster.subnet;
    other.members = site.cluster.members.clone();
    let site = Site { cluster: other, ..site };
    let host = &site.host;
    let taken = site.install("taken", &site.publish("taken", 1), &site.run("taken"));
    let _ = host.sh(&format!("systemctl daemon-reload; systemctl start {}", taken.target));
    assert_eq!(host.sh("systemctl is-active rootbuild-taken-serve.service").stdout, "inactive\n");
    let expected = format!("the network {} is in use on this host", site.cluster.subnet);
    assert!(host.journal().contains(&expected), "{}", host.journal());
}

#[test]
fn state_stays_when_all_else_is_handed_over_anew() {
    let test = "state_stays_when_all_else_is_handed_over_anew";
    let Some(site) = Site::boot(test, &["db"]) else { return };
    let host = &site.host;
    for writable in [Writable::Checkout, Writable::Overlay] {
        let state = vec!["/var/lib/data".to_owned(), "/srv/new".to_owned()];
        let run = Run { state, writable, ..site.run("db") };
        let first = site.publish("db", 1);
        let lifted = site.install("db", &first, &run);
        site.start(&lifted.target);
        let mount = "/run/rootbuild/roots/db";
        let seeded = host.sh(&format!("cat {mount}/var/lib/data/seed; stat -c '%u:%g %a' {mount}/var/lib/data; echo more > {mount}/var/lib/data/more; echo x > {mount}/srv/gone; ls {mount}/srv/new"));
        assert_eq!(seeded.stdout, "seeded\n501:502 750\n", "{seeded:?}{}", host.journal());
        assert!(!first.join("var/lib/data/more").exists());
        assert_eq!(first.join("srv/gone").exists(), writable == Writable::Checkout);

        let _ = site.publish("db", 2);
        assert_eq!(host.sh("systemctl restart rootbuild-db-root.service").code, 0, "{}", host.journal());
        let kept = host.sh(&format!("cat {mount}/var/lib/data/more; ls {mount}/srv"));
        assert!(kept.stdout.starts_with("more\n") && !kept.stdout.contains("gone"), "{kept:?}");

        // Whose it is must be known by the same number.
        let third = site.publish("db", 3);
        fs::remove_file(third.join("etc/passwd")).unwrap();
        fs::write(third.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\ndata:x:777:502::/:/bin/sh\n")
            .unwrap();
        assert_ne!(host.sh("systemctl restart rootbuild-db-root.service").code, 0);
        let told = "has files of data, who was 501 in passwd and is 777 in this root";
        assert!(host.journal().contains(told), "{}", host.journal());
        let left = host.sh(&format!("findmnt -n -R {mount}; ls -A {STORE}/state"));
        assert_eq!(left.stdout, "db\n", "{left:?}");

        let _ = host.sh(&format!("systemctl stop {}; systemctl reset-failed", lifted.target));
        for path in [format!("{STORE}/checkouts/db"), format!("{STORE}/state")] {
            fs::remove_dir_all(host.path(&path)).unwrap();
        }
    }
}
