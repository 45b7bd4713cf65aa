//! A real root, once; and what goes wrong, without a network.

use std::process::Command;
use std::sync::Mutex;

use rootbuild_cache::Store;
use tempfile::TempDir;

use super::*;

fn privileged(test: &str) -> bool {
    let privileged = rustix::process::geteuid().is_root() && process::is_installed("mmdebstrap");
    if !privileged {
        eprintln!("skipped: {test}: needs root and mmdebstrap");
    }
    privileged
}

fn base() -> DebianBase {
    DebianBase {
        name: "bookworm".to_owned(),
        suite: "bookworm".to_owned(),
        packages: Vec::new(),
        mirror: Vec::new(),
        components: Vec::new(),
        variant: None,
        keyring: None,
        lock: None,
        written: Written::default(),
    }
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        for name in ["root", "scratch"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn build(
        &self,
        base: &DebianBase,
        cancel: &Cancel,
        sink: &(dyn Fn(StepEvent) + Sync),
    ) -> Result<serde_json::Value, BaseError> {
        let store = Store::open(&self.dir.path().join("store")).expect("a store");
        let scratch = self.dir.path().join("scratch");
        base.build(
            BaseContext { store: &store, cancel, sink, scratch: &scratch, offline: false, mirror: None },
            &self.root(),
        )
    }

    /// Mounts below this place, and processes that have something to do with it.
    fn leftovers(&self) -> Vec<String> {
        let place = self.dir.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mut found: Vec<String> =
            mounts.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect();
        for process in fs::read_dir("/proc").expect("/proc").flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let root = fs::read_link(process.path().join("root")).unwrap_or_default();
            if command.contains(&place) || root.to_string_lossy().contains(&place) {
                found.push(command);
            }
        }
        found
    }
}

#[test]
fn a_real_root_is_installed_and_knows_its_packages() {
    if !privileged("a_real_root_is_installed_and_knows_its_packages") {
        return;
    }
    let (place, told) = (Place::new(), Mutex::new(Vec::new()));
    let base = DebianBase { packages: vec!["cron".to_owned()], ..base() };
    let sink = |event| told.lock().expect("kept").push(event);
    let facts = match place.build(&base, &Cancel::new(), &sink) {
        Ok(facts) => facts,
        Err(BaseError::Debian(DebianError::Unreachable { message })) => {
            eprintln!("skipped: a_real_root_is_installed_and_knows_its_packages: {message}");
            return;
        }
        Err(error) => panic!("{error}\n{:?}", told.lock().expect("kept")),
    };
    let packages = facts["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{}", packages.len());
    let cron = packages.iter().find(|package| package["name"] == "cron").expect("cron");
    assert!(cron["version"].as_str().is_some_and(|version| version.starts_with("3.0")), "{cron}");
    assert_eq!(facts["suite"], "bookworm");

    let seen = Command::new("chroot")
        .arg(place.root())
        .args([
            "sh",
            "-ec",
            "dpkg --audit; dpkg -s cron; cat /etc/apt/sources.list; stat -c %a:%u / /usr/bin/passwd",
        ])
        .output()
        .expect("chroot");
    let seen = String::from_utf8_lossy(&seen.stdout);
    assert!(seen.starts_with("Package: cron\nStatus: install ok installed"), "{seen}");
    assert!(seen.contains(" bookworm main") && seen.contains("755:0\n4755:0"), "{seen}");
    // Of the host nothing stays, of the moment nothing, and no service was started.
    assert!(!place.root().join("etc/hostname").exists() && !place.root().join("etc/resolv.conf").exists());
    let shadow = fs::read_to_string(place.root().join("etc/shadow")).expect("shadow");
    assert!(shadow.lines().all(|line| line.split(':').nth(2) == Some("18262")), "{shadow}");
    assert!(!place.root().join("var/run/crond.pid").exists());
    assert_eq!(place.leftovers(), Vec::<String>::new());

    let told = told.into_inner().expect("kept");
    let phases = told.iter().filter_map(|event| match event {
        StepEvent::Phase(phase) => Some(phase.as_str()),
        _ => None,
    });
    let phases = phases.collect::<Vec<_>>();
    assert!(
        phases.contains(&"downloading packages") && phases.contains(&"installing the other packages"),
        "{phases:?}"
    );
    assert!(
        told.iter().any(|event| matches!(event, StepEvent::Progress { done, total, .. } if done == total))
    );
}

#[test]
fn a_cancelled_run_leaves_no_mount_and_no_process() {
    if !privileged("a_cancelled_run_leaves_no_mount_and_no_process") {
        return;
    }
    let (place, cancel) = (Place::new(), Cancel::new());
    let error = place.build(&base(), &cancel, &|event| {
        if matches!(&event, StepEvent::Phase(phase) if phase == "extracting packages") {
            cancel.cancel();
        }
    });
    match error.expect_err("cancelled") {
        BaseError::Debian(DebianError::Unreachable { message }) => {
            eprintln!("skipped: a_cancelled_run_leaves_no_mount_and_no_process: {message}");
        }
        error => assert!(error.is_cancelled(), "{error}"),
    }
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn a_mirror_that_can_not_be_reached_is_told() {
    if !privileged("a_mirror_that_can_not_be_reached_is_told") {
        return;
    }
    let place = Place::new();
    let base = DebianBase { mirror: vec!["http://127.0.0.1:9/debian".to_owned()], ..base() };
    let error = place.build(&base, &Cancel::new(), &|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("can't reach the mirror") && text.contains("127.0.0.1:9"), "{text}");
    assert!(error.hint().expect("a hint").contains("mirror") && !error.is_definition_error());
}

#[test]
fn a_mirror_without_the_suite_or_its_signature_is_told() {
    if !privileged("a_mirror_without_the_suite_or_its_signature_is_told") {
        return;
    }
    let place = Place::new();
    let mirror = place.dir.path().join("mirror");
    fs::create_dir_all(mirror.join("dists/bookworm")).expect("writable");
    let url = format!("copy://{}", mirror.display());
    let base = DebianBase { mirror: vec![url], ..base() };
    let error = place.build(&base, &Cancel::new(), &|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("there is no suite `bookworm` at copy:"), "{error}");

    fs::write(mirror.join("dists/bookworm/Release"), "Suite: stable\nCodename: bookworm\nComponents: main\n")
        .expect("writable");
    fs::remove_dir_all(place.root()).and_then(|()| fs::create_dir(place.root())).expect("empty");
    let error = place.build(&base, &Cancel::new(), &|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("the mirror can't be trusted"), "{error}");
    assert!(error.to_string().contains("is not signed"), "{error}");
}

#[test]
fn the_key_is_what_the_definition_says() {
    let key = |base: &DebianBase| base.key().expect("a key");
    let first = key(&base());
    let with = |change: &dyn Fn(&mut DebianBase)| {
        let mut changed = base();
        change(&mut changed);
        key(&changed)
    };
    assert_eq!(with(&|base| base.name = "other".to_owned()), first);
    assert_eq!(with(&|base| base.components = vec!["main".to_owned()]), first);
    assert_eq!(with(&|base| base.variant = Some("minbase".to_owned())), first);
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("k.gpg"), "1").expect("writable");
    let file = dir.path().join("k.gpg");
    let others = [
        with(&|base| base.suite = "trixie".to_owned()),
        with(&|base| base.packages = vec!["a".to_owned()]),
        with(&|base| base.mirror = vec!["http://deb.mirror.lan/debian".to_owned()]),
        with(&|base| base.components = vec!["main".to_owned(), "contrib".to_owned()]),
        with(&|base| base.variant = Some("apt".to_owned())),
        with(&|base| base.keyring = Some(file.clone())),
        with(&|base| base.keyring = Some(dir.path().to_owned())),
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != first && !others[..at].contains(other), "{at}");
    }
    let packages = |names: [&str; 2]| with(&|base| base.packages = names.map(str::to_owned).to_vec());
    assert_eq!(packages(["a", "b"]), packages(["b", "a"]));
    fs::write(&file, "2").expect("writable");
    assert!(!others.contains(&with(&|base| base.keyring = Some(file.clone()))));
}

#[test]
fn a_keyring_that_is_not_there_is_an_error_of_the_definition() {
    let missing = DebianBase { keyring: Some("/nonexistent/k.gpg".into()), ..base() };
    let error = missing.key().unwrap_err();
    assert!(error.is_definition_error() && error.to_string().contains("/nonexistent/k.gpg"), "{error}");
    let dir = TempDir::new().expect("a directory");
    let empty = DebianBase { keyring: Some(dir.path().to_owned()), ..base() };
    assert!(empty.key().unwrap_err().is_definition_error());
}

#[test]
fn no_name_is_taken_for_an_option_or_a_list() {
    for name in ["--variant=x", "", "a,b", "a b"] {
        let name = || name.to_owned();
        for base in [
            DebianBase { packages: vec![name()], ..base() },
            DebianBase { suite: name(), ..base() },
            DebianBase { mirror: vec![name()], ..base() },
        ] {
            let error = base.key().unwrap_err();
            assert!(matches!(error, BaseError::Debian(DebianError::Name(_))), "{error}");
        }
    }
}
