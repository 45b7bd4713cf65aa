//! The root: what is mounted where, and what of it can be written.

use super::harness::*;

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
