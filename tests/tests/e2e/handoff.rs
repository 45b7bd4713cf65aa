//! Units of roots, started for real by a systemd of their own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod failures;
mod real;
mod refused;
mod running;
mod support;
mod upgrade;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rootbuild_roots::checkout::Areas;
use rootbuild_roots::units::{self, Cluster, Directories, Host, Lifted, Request, Run};
use rootbuild_tests::{Project, TestHost, privileged, skipped};

/// Where the test host has its store.
pub(crate) const STORE: &str = "/var/lib/rootbuild";

/// A web server that is ready when it says so and tells who it is; in plain perl, for a small root.
const SERVER: &str = r#"
socket(S, 2, 1, 0) or die; setsockopt(S, 1, 2, 1);
bind(S, pack("Sna4x8", 2, $ARGV[0], "\0\0\0\0")) or die "bind: $!"; listen(S, 5) or die;
socket(N, 1, 2, 0) or die;
send(N, "READY=1", 0, pack("Sa108", 1, $ENV{NOTIFY_SOCKET})) or die "notify: $!";
while (accept(C, S)) {
    open(F, "/etc/os-release"); my $release = <F>; close F;
    open(T, ">/run/page/served") or die "served: $!"; close T;
    syswrite(C, "HTTP/1.0 200 OK\r\n\r\nuid $< user $ENV{USER} home $ENV{HOME} $release");
    close C;
}
"#;

/// A root with a shell and perl, a user of its own, and units that are enabled.
pub(crate) fn make_root(root: &Path, number: u32) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["proc", "sys", "dev", "run", "tmp", "var/lib", "etc/systemd/system", "usr/bin", "usr/lib"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    symlink("/run", root.join("var/run")).unwrap();
    for program in ["/usr/bin/sh", "/usr/bin/cat", "/usr/bin/touch", "/usr/bin/perl"] {
        copy_program(root, program);
    }
    write("etc/os-release", &format!("ID=of-the-root-{number}\n"));
    write("etc/machine-id", "");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\npage:x:4321:4322::/srv/page:/bin/sh\n");
    write("etc/group", "root:x:0:\npage:x:4322:\nextra:x:4400:page\n");
    write("srv/server", SERVER);
    write("etc/default/page", "PORT=8000\n");
    // `/etc/alternatives` and its like: absolute, and only right inside.
    symlink("/etc/default/page", root.join("etc/page.conf")).unwrap();
    let units: &[(&str, &str, &str)] = &[
        (
            "page.service",
            "multi-user.target",
            "[Unit]\nConditionPathExists=/srv/server\nAfter=network.target\n[Service]\nType=notify\nUser=page\n\
             EnvironmentFile=/etc/page.conf\nRuntimeDirectory=page\nEnvironment=LANG=C\nExecStartPre=sh -c 'cat /proc/self/status > /run/page/status'\n\
             ExecStart=/usr/bin/perl /srv/server $PORT\nProtectSystem=strict\n",
        ),
        (
            "echo.socket",
            "sockets.target",
            "[Socket]\nListenStream=/var/run/echo.sock\nAccept=yes\nSocketUser=page\nSocketMode=0600\n",
        ),
        ("tick.timer", "timers.target", "[Timer]\nOnActiveSec=0\nAccuracySec=1ms\n"),
    ];
    for (name, target, text) in units {
        write(&format!("usr/lib/systemd/system/{name}"), text);
        fs::create_dir_all(root.join(format!("etc/systemd/system/{target}.wants"))).unwrap();
        let link = root.join(format!("etc/systemd/system/{target}.wants/{name}"));
        symlink(format!("/usr/lib/systemd/system/{name}"), link).unwrap();
    }
    write("srv/echo", "$_ = <STDIN>; print \"heard $_\";\n");
    write(
        "usr/lib/systemd/system/echo@.service",
        "[Service]\nStandardInput=socket\nStandardError=journal\nEnvironment=LANG=C\nExecStart=-perl /srv/echo\n",
    );
    write(
        "usr/lib/systemd/system/tick.service",
        "[Service]\nType=oneshot\nUser=page\nStateDirectory=tick\nStateDirectoryMode=0750\n\
         ExecStart=sh -c 'touch $STATE_DIRECTORY/ticked /tmp/private'\n",
    );
}

/// Copies a program of this machine's, and the libraries that it needs.
pub(crate) fn copy_program(root: &Path, program: &str) {
    copy(root, Path::new(program));
    let needed = Command::new("ldd").arg(program).output().unwrap().stdout;
    for word in String::from_utf8_lossy(&needed).split_whitespace().filter(|word| word.starts_with('/')) {
        copy(root, Path::new(word));
    }
}

fn copy(root: &Path, file: &Path) {
    let real = fs::canonicalize(file).unwrap();
    let name = Path::new("/usr").join(file.strip_prefix("/usr").unwrap_or(file.strip_prefix("/").unwrap()));
    let target = root.join(name.strip_prefix("/").unwrap());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(real, target).unwrap();
}

/// Puts a root on the host as its generation `number`, and its units with it.
fn hand_over(host: &TestHost, name: &str, number: u32) -> Lifted {
    let checkout = host.path(&format!("{STORE}/checkouts/{name}/{number}"));
    make_root(&checkout, number);
    fs::create_dir_all(host.path(&format!("{STORE}/roots"))).unwrap();
    let link = host.path(&format!("{STORE}/roots/{name}"));
    let new = link.with_extension("new");
    symlink(format!("../checkouts/{name}/{number}"), &new).unwrap();
    fs::rename(new, link).unwrap();
    let link = PathBuf::from(format!("{STORE}/roots/{name}"));
    let systemd = Host::detect().unwrap();
    let areas = Areas::default();
    let (run, cluster) = (Run::new(name), Cluster::of(Path::new("/project/rootbuild.toml")));
    let private = Some(&areas);
    let request = Request { name, link: &link, host: systemd, private, run: &run, cluster: &cluster };
    let lifted = units::lift(&checkout, None, &request).unwrap();
    let directories = Directories {
        units: host.path("/run/systemd/system"),
        users: host.path("/run/userdb"),
        state: host.path("/run/rootbuild/installed"),
        hosts: Some(host.path("/etc/hosts")),
    };
    let changes = units::install(&directories, name, &lifted).unwrap();
    // A text names no checkout.
    assert_eq!(changes.any(), number == 1, "{changes:?}");
    lifted
}

#[test]
fn services_of_a_root_start_and_answer_out_of_it() {
    let test = "services_of_a_root_start_and_answer_out_of_it";
    if !Path::new("/usr/bin/perl").exists() {
        return skipped(test, "needs perl");
    }
    let Some(host) = TestHost::boot(test) else { return };
    let lifted = hand_over(&host, "web", 1);
    assert_eq!(lifted.reports, [], "all of it is lifted");
    let ran = host.sh(&format!("systemctl daemon-reload && systemctl start {}", lifted.target));
    let failed = host.sh("systemctl --failed --no-legend").stdout;
    assert!(ran.code == 0 && failed.is_empty(), "{}{failed}{}", ran.stderr, host.journal());

    let get = r#"perl -e 'socket(S,2,1,0); connect(S,pack("Sna4x8",2,8000,"\x7f\0\0\1")) or die; print <S>'"#;
    let page = host.sh(get);
    let expected = "uid 4321 user page home /srv/page ID=of-the-root-1\n";
    assert!(page.stdout.ends_with(expected), "{page:?}{}", host.journal());
    let status = fs::read_to_string(host.path("/run/rootbuild/roots/web/run/page/status")).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    assert_eq!(line("Gid:"), "4322\t4322\t4322\t4322");
    assert_eq!(line("Groups:"), "4322 4400");
    assert!(host.path("/run/rootbuild/roots/web/run/page/served").exists());

    let shout = r#"perl -e 'socket(S,1,1,0); connect(S,pack("Sa108",1,"/run/rootbuild/roots/web/run/echo.sock")) or die $!; syswrite(S,"hello\n"); print <S>'"#;
    assert_eq!(host.sh(shout).stdout, "heard hello\n", "{}", host.journal());

    // A timer without a delay has gone off by the time its service is asked for.
    let ticked = host.sh("systemctl start rootbuild-web-tick.service; stat -c '%U %u:%g %a' /run/rootbuild/roots/web/var/lib/tick; ls /run/rootbuild/roots/web/var/lib/tick");
    assert!(ticked.stdout.ends_with("4321:4322 750\nticked\n"), "{ticked:?}{}", host.journal());
    assert!(!host.path("/run/rootbuild/roots/web/tmp/private").exists(), "/tmp is the service's own");

    // The next generation is mounted in its place; who waits for a time goes on.
    let timer = "systemctl show -P ActiveEnterTimestampMonotonic rootbuild-web-tick.timer";
    let since = host.sh(timer).stdout;
    hand_over(&host, "web", 2);
    let ran = host.sh(&format!("systemctl restart {}", lifted.root_unit));
    assert_eq!(ran.code, 0, "{ran:?}{}", host.journal());
    let page = host.sh(&format!("systemctl start rootbuild-web-page.service; {get}"));
    assert!(page.stdout.ends_with("ID=of-the-root-2\n"), "{page:?}{}", host.journal());
    assert_eq!(host.sh(shout).stdout, "heard hello\n", "{}", host.journal());
    assert_eq!(host.sh(timer).stdout, since);

    // Nothing of it is left when it stops, nor in the store.
    let ran = host.sh(&format!("systemctl stop {} && findmnt -n -R /run/rootbuild; true", lifted.target));
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{}", host.journal());
    for name in ["1/run", "1/tmp", "2/run", "2/tmp"] {
        let directory = host.path(&format!("{STORE}/checkouts/web/{name}"));
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn the_units_of_a_root_are_printed_with_what_does_not_come_along() {
    let test = "the_units_of_a_root_are_printed_with_what_does_not_come_along";
    if !privileged(test) || !Path::new("/usr/bin/perl").exists() {
        return skipped(test, "needs root and perl");
    }
    let project = Project::with_own_store();
    let root = project.dir().join("root");
    make_root(&root, 1);
    for program in ["/usr/bin/mkdir", "/usr/bin/ln"] {
        copy_program(&root, program);
    }
    let generator = "#!/bin/sh\ntouch /usr/made\nmkdir \"$1/multi-user.target.wants\"\n\
        printf '[Service]\\nExecStart=/bin/made %%n\\nPAMName=x\\n' > \"$1/made.service\"\n\
        ln -s \"$1/made.service\" \"$1/multi-user.target.wants/made.service\"\n";
    let generators = root.join("etc/systemd/system-generators");
    fs::create_dir(&generators).unwrap();
    for (name, text) in [("made", generator), ("bad", "#!/bin/sh\nexit 3\n")] {
        fs::write(generators.join(name), text).unwrap();
        fs::set_permissions(generators.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let archive = project.dir().join("root.tar");
    let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(archive).arg(".").status();
    assert!(packed.unwrap().success());
    project.write(
        "rootbuild.toml",
        "[base.tiny]\nsource = \"archive\"\nfile = \"root.tar\"\nunverified = true\n\
         [root.handed]\nbase = \"tiny\"\nplaybooks = []\n[ansible]\ncore = \"2.19.14\"\n",
    );
    let _ =
        project.rootbuild(&["units", "handed"]).expect(1).says(&["handed", "isn't provisioned", "provision"]);
    let _ = project.rootbuild(&["provision"]).expect(0);
    let text = project.rootbuild(&["units", "handed"]).expect(0).says(&[
        "warning: `/etc/systemd/system-generators/bad` failed",
        "warning: `made.service` (/run/systemd/generator/made.service:3) `PAMName` is left out",
    ]);
    for line in [
        "# /run/systemd/system/rootbuild-handed-page.service",
        "# /run/systemd/system/rootbuild-handed-page.service.d/50-rootbuild.conf",
        "User=rootbuild-handed-page",
        "# /run/userdb/rootbuild-handed-page.user",
        "ExecStart=/bin/made made.service",
        "Wants=rootbuild-handed-made.service",
    ] {
        assert!(text.stdout.lines().any(|it| it == line), "{line} in {}{}", text.stdout, text.stderr);
    }
    let json = project.rootbuild(&["units", "handed", "--json"]).expect(0).json();
    assert_eq!(json["target"], "rootbuild-handed.target");
    let lost = |it: &serde_json::Value| it["kind"] == "setting-dropped" && it["line"] == 3;
    assert!(json["reports"].as_array().unwrap().iter().any(lost), "{json}");
    assert!(!project.root("handed").join("usr/made").exists(), "the root isn't changed");

    // How it runs decides nothing of what it is.
    let definition = fs::read_to_string(project.dir().join("rootbuild.toml")).unwrap();
    let run = "[cluster]\ndomain = \"x.test\"\n[root.handed.run]\nmemory = \"64M\"\nports = [\"8080:80\"]\nstate = [\"/srv\"]\n\
               hostname = \"other\"\nsoften = { \"page.service\" = [\"PrivateIPC\"] }\n";
    project.write("rootbuild.toml", &format!("{definition}{run}"));
    let plan = project.rootbuild(&["plan", "--json", "--detailed-exitcode"]).expect(0);
    assert!(plan.stdout.contains("\"cached\"") && !plan.stdout.contains("\"build\""), "{}", plan.stdout);
    let json = project.rootbuild(&["units", "handed", "--json"]).expect(0).json();
    let page = json["units"].as_array().unwrap().iter().find(|it| {
        it["path"].as_str().is_some_and(|path| path.ends_with("handed-page.service.d/50-rootbuild.conf"))
    });
    let page = page.unwrap()["text"].as_str().unwrap();
    assert!(page.contains("PrivateDevices=yes") && !page.contains("PrivateIPC"), "{page}");
}

#[test]
fn test_hosts_come_up_whole_and_apart_from_each_other() {
    let test = "test_hosts_come_up_whole_and_apart_from_each_other";
    let (Some(one), Some(other)) = (TestHost::boot(test), TestHost::boot(test)) else { return };
    for host in [&one, &other] {
        let state = host
            .sh("systemctl --failed --no-legend; ls /sys/class/net; busctl status >/dev/null && echo bus");
        assert_eq!(state.stdout, "lo\nbus\n", "{state:?}{}", host.journal());
    }
    one.write("/run/systemd/system/only.service", "[Service]\nExecStart=sleep 77001234\n");
    assert_eq!(one.sh("systemctl daemon-reload && systemctl start only").code, 0, "{}", one.journal());
    assert_ne!(other.sh("systemctl start only").code, 0);
    let leader = one.leader();
    drop(one);
    assert!(!Path::new(&format!("/proc/{leader}")).exists());
    assert_eq!(other.sh("systemctl is-active basic.target").stdout, "active\n");
}
