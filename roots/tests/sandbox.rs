//! What a sandbox promises, each promise a test, in real sandboxes over a root that borrows the host's
//! `/usr`. They need root privileges and systemd-nspawn.

#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rootbuild_roots::Cancel;
use rootbuild_roots::sandbox::{Bind, Console, Network, Nspawn, Running, Sandbox, SandboxError, SandboxSpec};
use rootbuild_roots::working::RootMount;
use tempfile::TempDir;

/// Whether the test can run here; says so if not.
fn privileged() -> bool {
    let can = Nspawn::preflight();
    if let Err(error) = &can {
        println!("skipped: {error}");
    }
    can.is_ok()
}

/// A root whose `/usr` is the host's.
struct Root {
    dir: TempDir,
}

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for name in ["usr", "etc", "proc", "sys", "dev", "run", "tmp", "var", "root"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
        fs::write(root.join("etc/os-release"), "ID=test\n").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, script: &str) -> SandboxSpec {
        SandboxSpec {
            name: "test".to_owned(),
            root: RootMount::Plain(self.path("root")),
            writable: true,
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![],
            binds: vec![usr()],
            network: Network::None,
            hostname: "inside".to_owned(),
            boot: false,
            console: Console::Pipe,
            chdir: None,
        }
    }

    /// The same over an overlay whose lower side is the root.
    fn overlay_spec(&self, script: &str) -> SandboxSpec {
        for name in ["upper", "work"] {
            fs::create_dir_all(self.path(name)).unwrap();
        }
        let lowers = vec![self.path("root")];
        let root = RootMount::Overlay { lowers, upper: self.path("upper"), work: self.path("work") };
        SandboxSpec { root, ..self.spec(script) }
    }
}

fn usr() -> Bind {
    Bind { source: "/usr".into(), target: "/usr".into(), read_only: true }
}

fn start(spec: &SandboxSpec) -> Running {
    Nspawn.start(spec, &Cancel::new()).unwrap()
}

/// Runs to the end: exit code and stdout.
fn run(spec: &SandboxSpec) -> (i32, String) {
    let mut running = start(spec);
    let mut out = String::new();
    running.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    let tail = running.stderr_tail();
    let code = running.wait().unwrap();
    println!("exit code {code}; stderr: {tail}");
    (code, out)
}

/// Waits until a payload says a line.
fn first_line(running: &mut Running) -> String {
    let mut line = String::new();
    BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
    line
}

/// Whether any process of this machine has `word` as an argument of its own.
fn runs(word: &str) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    processes.any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    })
}

/// Whether any process of this machine sees a mount of `path`.
fn mounted(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let number = entry.file_name().to_string_lossy().parse::<u32>();
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        number.is_ok() && mounts.contains(path)
    })
}

fn soon(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// This process's control groups by sandboxes.
fn cgroups() -> Vec<PathBuf> {
    let prefix = format!("rootbuild-{}-", std::process::id());
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.into_path());
        }
    }
    found
}

#[test]
fn propagates_exit_code() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(run(&root.spec(&format!("exit {code}"))).0, code);
    }
}

#[test]
fn closing_stdin_asks_the_payload_to_end() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut running = start(&root.spec("echo up; cat > /dev/null; exit 3"));
    assert_eq!(first_line(&mut running), "up\n");
    assert_eq!(running.stop().unwrap(), 3);
}

#[test]
fn output_nobody_reads_stops_nothing() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let running =
        start(&root.spec("dd if=/dev/zero bs=1M count=3; dd if=/dev/zero bs=1M count=3 >&2; exit 4"));
    assert_eq!(running.wait().unwrap(), 4);
}

#[test]
fn stderr_is_kept_for_the_error() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let running = start(&root.spec("echo one >&2; echo two >&2; exit 1"));
    let tail = running.stderr_tail();
    assert_eq!(running.wait().unwrap(), 1);
    assert_eq!(tail.to_string(), "one\ntwo");
}

#[test]
fn binds_are_read_only() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    for name in ["ro", "rw"] {
        fs::create_dir(root.path(name)).unwrap();
    }
    let mut spec = root.spec("touch /run/ro/x && exit 9; touch /run/rw/x");
    for name in ["ro", "rw"] {
        spec.binds.push(Bind {
            source: root.path(name),
            target: Path::new("/run").join(name),
            read_only: name == "ro",
        });
    }
    assert_eq!(run(&spec).0, 0);
    assert!(!root.path("ro/x").exists() && root.path("rw/x").exists());
}

#[test]
fn colons_in_bind_paths_are_kept() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let odd = "a:b \\c\"d' e,f\\:";
    fs::create_dir(root.path(odd)).unwrap();
    fs::write(root.path(odd).join("file"), "found").unwrap();
    let mut spec = root.spec("cat \"/run/x:y\\\\/file\"");
    spec.binds.push(Bind { source: root.path(odd), target: "/run/x:y\\".into(), read_only: true });
    assert_eq!(run(&spec), (0, "found".to_owned()));
}

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

#[test]
fn inside_sees_overlay_and_writes_go_to_upper() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    fs::write(root.path("root/etc/old"), "old").unwrap();
    let script = "cat /etc/old && echo new > /etc/new && echo changed > /etc/old && rm /etc/os-release && echo x > /tmp/x";
    assert_eq!(run(&root.overlay_spec(script)), (0, "old".to_owned()));
    assert_eq!(fs::read_to_string(root.path("root/etc/old")).unwrap(), "old");
    assert!(!root.path("root/etc/new").exists() && root.path("root/etc/os-release").exists());
    assert_eq!(fs::read_to_string(root.path("upper/etc/new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(root.path("upper/etc/old")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(root.path("upper/tmp/x")).unwrap(), "x\n", "/tmp belongs to the step");
    // A second sandbox goes on where the first ended.
    assert_eq!(run(&root.overlay_spec("cat /etc/new; test ! -e /etc/os-release")), (0, "new\n".to_owned()));
}

#[test]
fn many_lowers_with_odd_names_are_stacked_in_order() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut spec = root.overlay_spec("cat /etc/who /etc/layer-*");
    let RootMount::Overlay { lowers, .. } = &mut spec.root else { unreachable!() };
    for n in 0..60 {
        let dir = root.path(&format!("lower,:{n} \\ {}", "long".repeat(40)));
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(dir.join("etc/who"), format!("{n} ")).unwrap();
        fs::write(dir.join(format!("etc/layer-{n:02}")), ".").unwrap();
        lowers.insert(lowers.len() - 1, dir);
    }
    assert_eq!(run(&spec), (0, format!("0 {}", ".".repeat(60))));
}

#[test]
fn a_read_only_root_cannot_be_changed() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let script = "touch /etc/x && exit 9; touch /tmp/x /run/x";
    for spec in [root.spec(script), root.overlay_spec(script)] {
        assert_eq!(run(&SandboxSpec { writable: false, ..spec }).0, 0);
        assert!(!root.path("root/tmp/x").exists());
    }
}

#[test]
fn the_environment_is_what_was_asked_for() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec("env; hostname; pwd; cat /proc/1/comm");
    spec.env.push(("ODD".to_owned(), "a=b c\td\\".to_owned()));
    spec.chdir = Some("/etc".into());
    let (code, out) = run(&spec);
    assert_eq!(code, 0);
    for line in ["ODD=a=b c\td\\", "SYSTEMD_OFFLINE=1", "inside", "/etc", "sh"] {
        assert!(out.lines().any(|l| l == line), "{line} not in:\n{out}");
    }
    assert!(out.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{out}");
    assert!(!out.contains("CARGO") && !out.contains("HOSTNAME"), "the caller's environment leaked:\n{out}");
}

#[test]
fn no_fd_of_ours_leaks_inside() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let file = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let (code, out) = run(&root.spec("ls /proc/1/fd"));
    assert_eq!((code, out.as_str()), (0, "0\n1\n2\n"));
}

#[test]
fn the_fd_limit_is_small_enough_for_el7() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let (code, out) = run(&root.spec("ulimit -Sn; ulimit -Hn"));
    let limits: Vec<u32> = out.lines().map(|line| line.parse().unwrap()).collect();
    assert!(code == 0 && limits[0] == 1024 && limits[1] <= 524_288, "{out}");
}

#[test]
fn nothing_is_mounted_outside() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut running = start(&root.overlay_spec("echo up; cat"));
    assert_eq!(first_line(&mut running), "up\n");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert_eq!(running.stop().unwrap(), 0);
    assert!(!mounted(root.dir.path()));
    assert!(!Path::new("/run/rootbuild/root").exists());
    let leftovers: Vec<_> = fs::read_dir(root.dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(leftovers.len(), 3, "{leftovers:?}");
}

#[test]
fn paths_below_run_can_be_shown() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let dir = tempfile::Builder::new().prefix("rootbuild-test").tempdir_in("/run").unwrap();
    fs::write(dir.path().join("file"), "from run").unwrap();
    let mut spec = root.spec("cat /run/shown/file");
    spec.binds.push(Bind { source: dir.path().to_owned(), target: "/run/shown".into(), read_only: true });
    assert_eq!(run(&spec), (0, "from run".to_owned()));
}

#[test]
fn runs_two_at_once() {
    if !privileged() {
        return;
    }
    let (one, two) = (Root::new(), Root::new());
    let script = "echo $$ up; read line; cat /proc/self/cgroup; exit 5";
    let (mut first, mut second) = (start(&one.spec(script)), start(&two.spec(script)));
    assert_eq!(first_line(&mut first), "1 up\n");
    assert_eq!(first_line(&mut second), "1 up\n");
    let groups = cgroups();
    assert!(groups.is_empty() || groups.len() >= 2, "{groups:?}");
    assert_eq!((first.stop().unwrap(), second.stop().unwrap()), (5, 5));
}

#[test]
fn cancel_kills_everything_inside() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let cancel = Cancel::new();
    let script = "trap '' TERM INT HUP; setsid sleep 77001234 & echo up; while :; do sleep 77001234; done";
    let mut running = Nspawn.start(&root.overlay_spec(script), &cancel).unwrap();
    assert_eq!(first_line(&mut running), "up\n");
    soon("up", || runs("77001234"));
    let other = cancel.clone();
    let start = Instant::now();
    let thread = std::thread::spawn(move || {
        sleep(Duration::from_millis(50));
        other.cancel();
    });
    assert!(matches!(running.wait(), Err(SandboxError::Cancelled(_))));
    thread.join().unwrap();
    assert!(!runs("77001234"), "everything is dead when it returns");
    assert!(start.elapsed() < Duration::from_secs(5));
    soon("unmounted", || !mounted(root.dir.path()));
    let late = Nspawn.start(&root.spec("exit 0"), &cancel);
    assert!(matches!(late, Err(SandboxError::Cancelled(_))));
}

#[test]
fn dropping_it_kills_everything_inside() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut running = start(&root.spec("setsid sleep 77004321 & echo up; sleep 77004321"));
    assert_eq!(first_line(&mut running), "up\n");
    drop(running);
    assert!(!runs("77004321"));
}

#[test]
fn control_groups_are_removed() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let before: Vec<_> = cgroups();
    let mut running = start(&root.spec("echo up; cat"));
    assert_eq!(first_line(&mut running), "up\n");
    let during = cgroups();
    running.stop().unwrap();
    let mine: Vec<_> = during.into_iter().filter(|dir| !before.contains(dir)).collect();
    // Other tests' sandboxes may be among them: all go in time.
    soon("control groups removed", || !mine.iter().any(|dir| dir.exists()));
}

/// Not a test by itself: the process that [`dies_with_its_starter`] kills.
#[test]
fn starter() {
    let Some(dir) = std::env::var_os("ROOTBUILD_TEST_STARTER") else { return };
    let dir = PathBuf::from(dir);
    let lowers = vec![dir.join("root")];
    let root = RootMount::Overlay { lowers, upper: dir.join("upper"), work: dir.join("work") };
    let script = "trap '' TERM INT HUP; setsid sleep 77009876 & echo up; while :; do sleep 77009876; done";
    let mut spec = SandboxSpec { root, ..Root::new().spec(script) };
    spec.binds.push(Bind { source: dir, target: "/run/dir".into(), read_only: true });
    let mut running = start(&spec);
    assert_eq!(first_line(&mut running), "up\n");
    println!("STARTED");
    let _ = running.wait();
}

#[test]
fn dies_with_its_starter() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    for name in ["upper", "work"] {
        fs::create_dir_all(root.path(name)).unwrap();
    }
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starter", "--nocapture"])
        .env("ROOTBUILD_TEST_STARTER", root.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(starter.stdout.take().unwrap());
    assert!(out.lines().any(|line| line.unwrap().contains("STARTED")));
    soon("up", || runs("77009876"));
    assert!(mounted(root.dir.path()));
    starter.kill().unwrap();
    starter.wait().unwrap();
    soon("payload dead", || !runs("77009876"));
    soon("unmounted", || !mounted(root.dir.path()));
    // What it could not clean up, the next sandbox does.
    let stale = format!("rootbuild-{}-", starter.id());
    run(&root.spec("exit 0"));
    let left = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten();
    let left: Vec<_> = left.filter(|e| e.file_name().to_string_lossy().starts_with(&stale)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_root_that_cannot_be_mounted_is_an_error_of_its_own() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut spec = root.overlay_spec("exit 0");
    let RootMount::Overlay { work, .. } = &mut spec.root else { unreachable!() };
    *work = PathBuf::from("/proc");
    let error = start(&spec).wait().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SandboxError::Setup { .. }), "{text}");
    assert!(text.contains("mounting the root failed"), "{text}");
}

#[test]
fn a_missing_path_is_named() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec("exit 0");
    spec.binds.push(Bind { source: root.path("nowhere"), target: "/run/x".into(), read_only: true });
    let error = Nspawn.start(&spec, &Cancel::new()).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_bad_specification_is_refused() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let good = root.spec("exit 0");
    let bad = [
        SandboxSpec { argv: vec![], ..good.clone() },
        SandboxSpec { argv: vec!["sh".into()], ..good.clone() },
        SandboxSpec { env: vec![("A=B".to_owned(), "c".to_owned())], ..good.clone() },
        SandboxSpec { chdir: Some("etc".into()), ..good.clone() },
        SandboxSpec { root: RootMount::Plain("relative".into()), ..good },
    ];
    for spec in bad {
        let error = Nspawn.start(&spec, &Cancel::new()).unwrap_err();
        assert!(matches!(error, SandboxError::Spec(_)), "{error}");
    }
}

#[test]
fn a_shell_has_the_terminal() {
    if !privileged() {
        return;
    }
    // script(1) gives a terminal; the starter hands it through.
    let script = format!(
        "stty rows 33 cols 77; ROOTBUILD_TEST_SHELL=1 {} --exact shell_starter --nocapture",
        std::env::current_exe().unwrap().display()
    );
    let output = Command::new("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SIZE 33 77") && text.contains("TTY /dev/"), "{text}");
    assert!(text.contains("JOBS Running"), "job control works:\n{text}");
}

/// Not a test by itself: runs a shell in the caller's terminal for [`a_shell_has_the_terminal`].
#[test]
fn shell_starter() {
    if std::env::var_os("ROOTBUILD_TEST_SHELL").is_none() {
        return;
    }
    let root = Root::new();
    let script = "echo SIZE $(stty size); echo TTY $(tty); set -m; sleep 9 & jobs | sed 's/.*Running.*/JOBS Running/'; kill %1";
    let spec = SandboxSpec {
        console: Console::Inherit,
        argv: vec!["/bin/bash".into(), "-c".into(), script.into()],
        ..root.spec("")
    };
    start(&spec).wait().unwrap();
}
