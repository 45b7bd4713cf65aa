//! Start, end, and everything that can end it early.

use super::harness::*;

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
        .args(["--exact", "life::starter", "--nocapture"])
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
