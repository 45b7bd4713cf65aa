//! Roots that are booted.

use super::harness::*;

/// A root that can boot: the host's systemd over an `/etc` of its own.
fn bootable() -> Option<Root> {
    if !privileged() || !Path::new("/usr/lib/systemd/systemd").exists() {
        println!("skipped: needs privileges and systemd");
        return None;
    }
    let root = Root::new();
    let write = |name: &str, text: &str| {
        let path = root.path("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("etc/machine-id", "");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    write("etc/group", "root:x:0:\n");
    write("etc/systemd/system/default.target", "[Unit]\nRequires=basic.target\n");
    let service = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /var/started\nExecStop=/bin/touch /var/stopped\n";
    write("etc/systemd/system/thing.service", service);
    Some(root)
}

#[test]
fn a_booted_root_runs_the_payload_and_is_shut_down_cleanly() {
    let Some(root) = bootable() else { return };
    for spec in [root.spec(""), root.overlay_spec("")] {
        let script = "cat /proc/1/comm; systemctl start thing || exit 9; echo $WHAT $PWD; env | grep -c OFFLINE; cat; exit 6";
        let spec = SandboxSpec {
            boot: true,
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![("WHAT".to_owned(), "it's \"fine\"".to_owned())],
            chdir: Some("/etc".into()),
            ..spec
        };
        let mut running = start(&spec);
        let mut lines = BufReader::new(running.take_stdout().unwrap()).lines();
        let mut next = || lines.next().map(|line| line.unwrap());
        let tail = running.stderr_tail();
        let first = next();
        println!("{tail}");
        assert_eq!(first.as_deref(), Some("systemd"));
        assert_eq!(next().as_deref(), Some("it's \"fine\" /etc"));
        assert_eq!(next().as_deref(), Some("0"));
        assert_eq!(running.stop().unwrap(), 6);
        let top = if matches!(spec.root, RootMount::Plain(_)) { "root" } else { "upper" };
        assert!(root.path(top).join("var/started").exists());
        assert!(root.path(top).join("var/stopped").exists(), "services are stopped in order:\n{tail}");
        for layer in ["root/run", "upper/run"] {
            let left = fs::read_dir(root.path(layer)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{layer}");
        }
    }
}

#[test]
fn a_booted_root_that_goes_down_by_itself_is_noticed() {
    let Some(root) = bootable() else { return };
    let spec = SandboxSpec { boot: true, ..root.spec("systemctl poweroff; sleep 60") };
    let running = start(&spec);
    let tail = running.stderr_tail();
    assert_eq!(running.wait().unwrap(), 143, "{tail}");
    assert!(tail.to_string().contains("went down before the payload"), "{tail}");
}

#[test]
fn a_root_that_cannot_boot_is_an_error_of_its_own() {
    if !privileged() {
        return;
    }
    let root = Root::new();
    let spec = SandboxSpec { boot: true, binds: vec![], ..root.spec("exit 0") };
    let error = start(&spec).wait().unwrap_err();
    assert!(matches!(error, SandboxError::Setup { .. }), "{error}");
    assert!(error.to_string().contains("booting the root failed"), "{error}");
}

#[test]
fn cancelling_kills_a_booted_root() {
    let Some(root) = bootable() else { return };
    let cancel = Cancel::new();
    let spec = SandboxSpec { boot: true, ..root.spec("echo up; exec sleep 77005555") };
    let mut running = Nspawn.start(&spec, &cancel).unwrap();
    assert_eq!(first_line(&mut running), "up\n");
    soon("up", || runs("77005555"));
    let start = Instant::now();
    cancel.cancel();
    assert!(matches!(running.stop(), Err(SandboxError::Cancelled(_))));
    assert!(!runs("77005555") && start.elapsed() < Duration::from_secs(5));
}
