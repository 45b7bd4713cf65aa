//! Whole steps: a working root, a sandbox that works in it, and what is left.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Bench, settle};
use rootbuild_cache::{Digest, Kind, Store};
use rootbuild_roots::Cancel;
use rootbuild_roots::publish::publish;
use rootbuild_roots::sandbox::{Bind, Console, Network, Nspawn, Sandbox, SandboxSpec};
use rootbuild_roots::working::{RootMount, WorkingRoot, failed_root};

/// Whether the test can run here; says so if not.
fn can_run(test: &str) -> bool {
    let can = Nspawn::preflight();
    if let Err(error) = &can {
        eprintln!("skipped: {test} ({error})");
    }
    can.is_ok()
}

/// A root that borrows the host's `/usr`.
fn base(store: &Store) -> Digest {
    let working = WorkingRoot::empty(store).unwrap();
    let RootMount::Plain(root) = working.mount() else { panic!() };
    for name in ["usr", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "opt"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), root.join(name)).unwrap();
    }
    fs::write(root.join("etc/os-release"), "ID=test\n").unwrap();
    fs::write(root.join("opt/a"), "a").unwrap();
    fs::hard_link(root.join("opt/a"), root.join("opt/b")).unwrap();
    working.finish(store, &Cancel::new()).unwrap()
}

fn run(root: RootMount, script: &str) -> (i32, String) {
    let usr = Bind { source: "/usr".into(), target: "/usr".into(), read_only: true };
    let spec = SandboxSpec {
        name: format!("step-test-{}", std::process::id()),
        root,
        writable: true,
        argv: vec!["/bin/bash".into(), "-ec".into(), script.into()],
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
        binds: vec![usr],
        network: Network::None,
        hostname: "inside".into(),
        boot: false,
        console: Console::Pipe,
        chdir: None,
    };
    let mut running = Nspawn.start(&spec, &Cancel::new()).unwrap();
    let mut out = String::new();
    running.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    let tail = running.stderr_tail();
    let code = running.wait().unwrap();
    println!("exit code {code}; stderr: {tail}");
    (code, out)
}

fn step(store: &Store, parent: &Digest, script: &str) -> Digest {
    let working = WorkingRoot::on(store, parent, &Cancel::new()).unwrap();
    assert_eq!(run(working.mount(), script).0, 0);
    working.finish(store, &Cancel::new()).unwrap()
}

#[test]
fn a_sandbox_that_does_nothing_leaves_nothing() {
    if !can_run("a step that does nothing") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    assert_eq!(step(&bench.store, &parent, "true"), parent);
    let litter = "touch /tmp/x /var/tmp/y /run/z; mkdir -p /root/.ansible/tmp/ansible-tmp-1";
    assert_eq!(step(&bench.store, &parent, litter), parent);
}

#[test]
fn steps_build_upon_each_other_and_are_handed_over() {
    if !can_run("steps upon each other") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    let first = step(
        &bench.store,
        &parent,
        "mv /opt /srv; rm /srv/b; mkdir /opt; ln /srv/a /srv/c; install -m 4755 -o 7 -g 9 /bin/true /srv/setuid
         mkfifo /srv/fifo; mkdir -m 1777 /srv/sticky; setcap cap_net_raw+ep /srv/setuid
         truncate -s 100M /srv/sparse; touch -d '1999-12-31 23:59:59.123456789 UTC' /srv/old",
    );
    let second = step(
        &bench.store,
        &first,
        "test -u /srv/setuid; getcap /srv/setuid | grep -q cap_net_raw; test ! -e /srv/b; mv /srv/sticky /opt/
         test \"$(stat -c %h /srv/a)\" = 2; rm /srv/a",
    );
    let tree = bench.store.tree(&second).unwrap();
    assert!(tree.get(b"srv/a").is_none() && tree.get(b"opt/a").is_none());
    assert!(matches!(tree.get(b"srv/c").unwrap().kind, Kind::File { size: 1, .. }));
    let setuid = &tree.get(b"srv/setuid").unwrap().meta;
    assert_eq!((setuid.mode, setuid.uid, setuid.gid), (0o4755, 7, 9));
    assert_eq!(setuid.xattrs[0].0, b"security.capability");
    assert_eq!(tree.get(b"srv/old").unwrap().meta.mtime.nanoseconds, 123_456_789);
    assert_eq!(tree.get(b"opt/sticky").unwrap().meta.mode, 0o1777);
    let (published, _) =
        publish(&bench.store, "root", &second, Path::new("/nowhere"), &Cancel::new()).unwrap();
    let (code, out) = run(RootMount::Plain(published.checkout), "getcap /srv/setuid; stat -c %h /srv/c");
    assert_eq!((code, out.as_str()), (0, "/srv/setuid cap_net_raw=ep\n1\n"));
    settle(&bench.store);
}

#[test]
fn a_failed_step_can_be_looked_into_more_than_once() {
    if !can_run("failed steps") {
        return;
    }
    let bench = Bench::new();
    let parent = base(&bench.store);
    let working = WorkingRoot::on(&bench.store, &parent, &Cancel::new()).unwrap();
    assert_eq!(run(working.mount(), "echo half > /etc/done; exit 3").0, 3);
    working.keep_failed(&bench.store, "hgweb", Path::new("/nowhere")).unwrap();
    for script in ["cat /etc/done; echo more >> /etc/done", "cat /etc/done"] {
        let failed = failed_root(&bench.store, "hgweb", Path::new("/nowhere")).unwrap().unwrap();
        let (code, out) = run(failed.mount().clone(), script);
        assert!(code == 0 && out.starts_with("half\n"), "{out}");
    }
}
