//! Bases from RPM repositories, made of the stand-in (`tests/standin/generate.py target/standin`, and
//! `--variants target/standin-variants` for the bad ones). They need root privileges.

#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rootbuild_cache::Store;
use rootbuild_roots::base::rpm::{Bootstrap, Written};
use rootbuild_roots::base::{BaseContext, BaseError, BaseSource, DownloadError, RpmBase, RpmError};
use rootbuild_roots::sandbox::{Console, Network, Nspawn, Sandbox, SandboxSpec};
use rootbuild_roots::working::RootMount;
use rootbuild_roots::{Cancel, StepEvent};
use tempfile::TempDir;

/// The stand-in's directory, and that of its bad repositories.
fn standin() -> Option<(PathBuf, PathBuf)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().unwrap();
    let (good, bad) = (target.join("standin"), target.join("standin-variants"));
    if let Err(error) = Nspawn::preflight() {
        println!("skipped: {error}");
        return None;
    }
    if !good.join("fingerprint").exists() || !bad.join("fingerprint").exists() {
        println!("skipped: no stand-in in target/standin and target/standin-variants");
        return None;
    }
    Some((good, bad))
}

/// A definition's directory, a store, and an empty root.
struct Project {
    dir: TempDir,
    base: RpmBase,
    cancel: Cancel,
    events: Mutex<Vec<StepEvent>>,
}

impl Project {
    fn new(packages: &[&str], repo: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.repo");
        fs::write(&file, repo).unwrap();
        let base = RpmBase {
            repo_files: vec![file],
            packages: packages.iter().map(|&name| name.to_owned()).collect(),
            lock: None,
            arch: "x86_64".to_owned(),
            releasever: "7".to_owned(),
            bootstrap: Bootstrap::default(),
            written: Written::default(),
        };
        Self { dir, base, cancel: Cancel::new(), events: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Builds into a fresh root.
    fn build(&self) -> Result<serde_json::Value, BaseError> {
        let store = Store::open(&self.path("store")).unwrap();
        for name in ["root", "scratch"] {
            let _ = fs::remove_dir_all(self.path(name));
            fs::create_dir(self.path(name)).unwrap();
        }
        let sink = |event| self.events.lock().unwrap().push(event);
        let scratch = self.path("scratch");
        let context = BaseContext {
            store: &store,
            cancel: &self.cancel,
            sink: &sink,
            scratch: &scratch,
            offline: false,
            mirror: None,
        };
        self.base.build(context, &self.path("root"))
    }

    /// The error that building ends with, and its text.
    fn failure(&self) -> (String, BaseError) {
        let error = self.build().unwrap_err();
        let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
        println!("{text}");
        (text, error)
    }

    /// [`Project::failure`] as rpm's.
    fn error(&self) -> (String, RpmError) {
        match self.failure() {
            (text, BaseError::Rpm(error)) => (text, error),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            StepEvent::Warning(text) => Some(text.clone()),
            _ => None,
        });
        warnings.collect()
    }

    /// Runs a command in the built root.
    fn inside(&self, script: &str) -> String {
        let output = Command::new("chroot")
            .arg(self.path("root"))
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The good repositories.
fn good(dir: &Path) -> String {
    repo("os", &dir.join("os"), dir) + &repo("updates", &dir.join("updates"), dir)
}

/// One repository, its key being the stand-in's.
fn repo(id: &str, at: &Path, keys: &Path) -> String {
    let key = keys.join("RPM-GPG-KEY-standin");
    format!("[{id}]\nname={id}\nbaseurl=file://{}\ngpgkey=file://{}\n\n", at.display(), key.display())
}

/// The good repositories and a bad one.
fn with_bad(variant: &str) -> Option<Project> {
    let (dir, bad) = standin()?;
    Some(Project::new(&["standin-hello"], &(good(&dir) + &repo("bad", &bad.join(variant), &dir))))
}

#[test]
fn a_core_root_works_as_its_own_rpm_sees_it() {
    let Some((dir, _)) = standin() else { return };
    let mut project = Project::new(&["@core"], &good(&dir));
    project.base.lock = Some(project.path("core.lock"));
    let (unlocked, inputs) = (project.base.key().unwrap(), project.base.inputs_key().unwrap());
    let facts = project.build().unwrap();
    let count = facts["packages"].as_array().unwrap().len();
    assert!(count > 100, "{count}");
    assert_eq!((&facts["lock"], &facts["rpmdb"]), (&"written".into(), &"bdb".into()));
    let seen = project.inside("rpm -qa | grep -v ^gpg-pubkey | wc -l");
    assert_eq!(seen.trim(), count.to_string());
    assert_eq!(
        project.inside("rpm -q standin-hello bash >/dev/null; rpm -qa gpg-pubkey | wc -l").trim(),
        "1"
    );
    let rpmdb = project.path("root/var/lib/rpm");
    project.inside("rm -f /var/lib/rpm/__db.*");
    assert!(!rpmdb.join("rpmdb.sqlite").exists() && rpmdb.join("Packages").exists());
    for dir in ["proc", "sys"] {
        assert_eq!(fs::read_dir(project.path("root").join(dir)).unwrap().count(), 0, "{dir} is empty");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(project.dir.path().to_str().unwrap()));

    // The lock is used from now on: nothing is resolved, and the same packages come again.
    let locked = fs::read_to_string(project.path("core.lock")).unwrap();
    assert_ne!(project.base.key().unwrap(), unlocked);
    assert_eq!(project.base.inputs_key().unwrap(), inputs);
    fs::write(project.path("test.repo"), good(&dir)).unwrap();
    let again = project.build().unwrap();
    assert_eq!((&again["lock"], &again["packages"]), (&"used".into(), &facts["packages"]));
    assert_eq!(fs::read_to_string(project.path("core.lock")).unwrap(), locked);
    assert!(locked.contains("\n[[package]]\nname = \"bash\"\n"), "{}", &locked[..1000]);
}

#[test]
fn a_core_root_boots_and_runs_its_services() {
    let Some((dir, _)) = standin() else { return };
    let project = Project::new(&["@core"], &good(&dir));
    project.build().unwrap();
    let script = "systemctl start crond.service && systemctl is-active crond.service; echo $(systemctl --version | head -n 1); \
                  rpm -qa | wc -l; read line; exit 4";
    let spec = SandboxSpec {
        name: "core".to_owned(),
        root: RootMount::Plain(project.path("root")),
        writable: true,
        argv: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        env: vec![],
        binds: vec![],
        network: Network::None,
        hostname: "core".to_owned(),
        boot: true,
        console: Console::Pipe,
        chdir: None,
    };
    let mut running = Nspawn.start(&spec, &project.cancel).unwrap();
    let (mut out, tail) = (BufReader::new(running.take_stdout().unwrap()).lines(), running.stderr_tail());
    let first = out.next().map(Result::unwrap);
    assert_eq!(first.as_deref(), Some("active"), "{tail}");
    println!("{}, {} packages", out.next().unwrap().unwrap(), out.next().unwrap().unwrap());
    assert_eq!(running.stop().unwrap(), 4, "{tail}");
    println!("{tail}");
}

#[test]
fn a_package_whose_signature_is_missing_wrong_or_broken_is_refused() {
    let Some(project) = with_bad("unsigned") else { return };
    let (text, error) = project.error();
    assert!(matches!(error, RpmError::Unsigned { .. }), "{text}");
    assert!(text.contains("standin-hello-1.9") && text.contains("`bad`"), "{text}");
    let Some(project) = with_bad("wrongkey") else { return };
    let (text, error) = project.error();
    assert!(matches!(error, RpmError::WrongKey { .. }), "{text}");
    let Some(project) = with_bad("tampered") else { return };
    let (text, error) = project.error();
    assert!(matches!(error, RpmError::Tampered { .. }), "{text}");
    assert!(fs::read_dir(project.path("root")).unwrap().next().is_none(), "nothing was installed");
}

#[test]
fn a_key_of_one_repository_does_not_vouch_for_another() {
    let Some((dir, bad)) = standin() else { return };
    let wrong = repo("bad", &bad.join("wrongkey"), &dir);
    let other =
        format!("[other]\nbaseurl=file://{}/os\ngpgkey=file://{0}/RPM-GPG-KEY-standin\n", dir.display());
    let other = other.replace("RPM-GPG-KEY-standin", "RPM-GPG-KEY-standin\n  file://WRONG");
    let other = other.replace("WRONG", bad.join("RPM-GPG-KEY-wrong").to_str().unwrap());
    let (text, error) = Project::new(&["standin-hello"], &(other + &wrong)).error();
    assert!(matches!(error, RpmError::WrongKey { .. }), "{text}");
}

#[test]
fn a_file_that_is_not_what_the_metadata_says_is_refused() {
    let Some(project) = with_bad("badsum") else { return };
    let (text, error) = project.failure();
    assert!(
        matches!(error, BaseError::Download(DownloadError::Mismatch { .. })) && text.contains("sha256"),
        "{text}"
    );
    let Some(project) = with_bad("missing") else { return };
    let (text, error) = project.failure();
    assert!(matches!(error, BaseError::Download(DownloadError::Failed { .. })), "{text}");
}

#[test]
fn an_unreachable_repository_is_named_with_its_line() {
    let Some((dir, _)) = standin() else { return };
    let text = good(&dir)
        + "[gone]\nbaseurl=http://127.0.0.1:9/gone\ngpgkey=file://"
        + dir.to_str().unwrap()
        + "/RPM-GPG-KEY-standin\n";
    let (text, error) = Project::new(&["standin-hello"], &text).error();
    assert!(matches!(error, RpmError::Repository { .. }), "{text}");
    for part in ["`gone`", "http://127.0.0.1:9/gone", "test.repo:11", "hint: check the network"] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_package_that_is_not_there_is_named_with_the_nearest() {
    let Some((dir, _)) = standin() else { return };
    let (text, error) = Project::new(&["standin-helo", "@cor"], &good(&dir)).error();
    assert!(matches!(error, RpmError::NotFound { .. }), "{text}");
    for part in ["`standin-helo`", "`@cor`", "did you mean", "`standin-hello`", "`@core`"] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn packages_that_exclude_each_other_are_explained() {
    let Some((dir, _)) = standin() else { return };
    let text = good(&dir).replace("\n\n", "\nexclude=glibc\n\n");
    let (text, error) = Project::new(&["bash"], &text).error();
    assert!(matches!(error, RpmError::Conflict(_)), "{text}");
    assert!(text.contains("bash"), "{text}");
}

#[test]
fn pinned_fingerprints_are_checked() {
    let Some((dir, _)) = standin() else { return };
    let pinned = "\nfingerprints=6341 AB27 53D7 8A78 A7C2 7BB1 24C6 A8A7 F4A8 0EB5\n\n";
    let (text, error) = Project::new(&["standin-hello"], &good(&dir).replace("\n\n", pinned)).error();
    assert!(matches!(error, RpmError::Fingerprint { .. }), "{text}");
    assert!(text.contains("test.repo:4:"), "{text}");
}

#[test]
fn a_key_file_without_a_key_is_refused() {
    let Some((dir, _)) = standin() else { return };
    let project = Project::new(&["standin-hello"], "");
    let text = format!("[os]\nbaseurl=file://{}/os\ngpgkey=empty.asc\n", dir.display());
    fs::write(project.path("test.repo"), text).unwrap();
    fs::write(project.path("empty.asc"), "no key at all\n").unwrap();
    let (text, error) = project.error();
    assert!(matches!(error, RpmError::NoKey { .. }), "{text}");
}

#[test]
fn unchecked_packages_are_installed_with_a_loud_warning() {
    let Some((dir, bad)) = standin() else { return };
    let text = good(&dir) + &format!("[bad]\nbaseurl=file://{}/unsigned\ngpgcheck=0\n", bad.display());
    let project = Project::new(&["standin-hello"], &text);
    for _ in 0..2 {
        project.events.lock().unwrap().clear();
        let facts = project.build().unwrap();
        let warnings = project.warnings();
        assert!(warnings.iter().any(|w| w.contains("gpgcheck=0") && w.contains("WITHOUT")), "{warnings:?}");
        assert!(facts["packages"].to_string().contains("standin-hello-1.9"), "{facts}");
    }
}

/// `tests/standin/serve.py` on a free port; it ends with its stdin.
struct Server {
    child: Child,
    _stdin: ChildStdin,
    url: String,
}

impl Server {
    fn new(dir: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/standin/serve.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { _stdin: child.stdin.take().unwrap(), child, url: answer["url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fingerprint of the primary key in a file.
fn fingerprint(file: &Path) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home.path()).args(["--with-colons", "--show-keys"]).arg(file);
    let shown = String::from_utf8(gpg.output().unwrap().stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with("fpr:")).unwrap();
    line.split(':').nth(9).unwrap().to_owned()
}

#[test]
fn repositories_and_keys_come_over_http_too() {
    let Some((dir, _)) = standin() else { return };
    let server = Server::new(&dir);
    // The first URL is dead: the second does.
    let url = server.url.clone();
    let text = format!(
        "[os]\nbaseurl=http://127.0.0.1:9/os {url}/os\nrepo_gpgcheck=1\ngpgkey={url}/RPM-GPG-KEY-standin\n\
         fingerprints={}\n",
        fingerprint(&dir.join("RPM-GPG-KEY-standin"))
    );
    let mut project = Project::new(&["standin-hello"], &text);
    project.base.lock = Some(project.path("hello.lock"));
    let facts = project.build().unwrap();
    assert!(facts["packages"].to_string().contains("standin-hello-1.0"), "{facts}");
    // Kept packages aren't asked for again; damaged ones are.
    let locked = fs::read_to_string(project.path("hello.lock")).unwrap();
    let line = locked.lines().rfind(|line| line.starts_with("sha256")).unwrap();
    let digest = line.split('"').nth(1).unwrap();
    let kept = project.path("store/packages").join(&digest[..2]).join(digest);
    fs::write(&kept, "damaged").unwrap();
    project.build().unwrap();
    assert!(fs::metadata(&kept).unwrap().len() > 100);
    drop(server);
    let text = text.replace(&format!("{url}/RPM"), &format!("file://{}/RPM", dir.display()));
    fs::write(project.path("test.repo"), text).unwrap();
    assert_eq!(project.build().unwrap()["lock"], "used", "without any network");
}

#[test]
fn a_lock_that_does_not_fit_says_what_changed() {
    let Some((dir, _)) = standin() else { return };
    let mut project = Project::new(&["standin-hello"], &good(&dir));
    let lock = project.path("hello.lock");
    project.base.lock = Some(lock.clone());
    project.build().unwrap();
    let locked = fs::read_to_string(&lock).unwrap();
    let message = |project: &Project| {
        let error = project.base.key().unwrap_err();
        assert!(error.is_definition_error(), "{error}");
        assert!(error.hint().unwrap().contains("rootbuild lock"), "{error}");
        error.to_string()
    };
    project.base.packages.push("bash".to_owned());
    assert!(message(&project).contains("the package `bash` isn't locked"));
    project.base.packages = vec![];
    assert!(message(&project).contains("`standin-hello` is locked, but not asked for"));
    project.base.packages = vec!["standin-hello".to_owned()];
    project.base.releasever = "8".to_owned();
    assert!(message(&project).contains("releasever is `8`, locked is `7`"));
    project.base.releasever = "7".to_owned();
    fs::write(project.path("test.repo"), repo("os", &dir.join("os"), &dir)).unwrap();
    assert!(message(&project).contains("the repository `updates` is locked"));
    fs::write(project.path("test.repo"), good(&dir).replace("/updates", "/other")).unwrap();
    assert!(message(&project).contains("/other, locked is"));
    fs::write(project.path("test.repo"), good(&dir)).unwrap();
    fs::write(&lock, locked.replace("[request]", "[request]\nnew = 1")).unwrap();
    assert!(message(&project).contains("hello.lock:8: this is no lock file"), "{}", message(&project));
    // Another key under the same name is found out when the base is built.
    let other = locked.replace("fingerprints = [\"", "fingerprints = [\"0000");
    fs::write(&lock, other).unwrap();
    let error = project.build().unwrap_err();
    assert!(error.is_definition_error() && error.to_string().contains("the keys of"), "{error}");
}

#[test]
fn cancelling_ends_the_build() {
    let Some((dir, _)) = standin() else { return };
    let project = Project::new(&["@core"], &good(&dir));
    let cancel = project.cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        cancel.cancel();
    });
    let error = project.build().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    thread.join().unwrap();
}

#[test]
fn the_key_follows_everything_that_decides() {
    let Some((dir, _)) = standin() else { return };
    let mut project = Project::new(&["standin-hello"], &good(&dir));
    fs::copy(dir.join("RPM-GPG-KEY-standin"), project.path("KEY")).unwrap();
    fs::write(project.path("test.repo"), format!("[os]\nbaseurl=file://{}/os\ngpgkey=KEY\n", dir.display()))
        .unwrap();
    let mut keys = vec![project.base.key().unwrap()];
    assert_eq!(keys[0], project.base.key().unwrap());
    project.base.packages.push("bash".to_owned());
    keys.push(project.base.key().unwrap());
    project.base.releasever = "8".to_owned();
    keys.push(project.base.key().unwrap());
    fs::write(project.path("KEY"), "another").unwrap();
    keys.push(project.base.key().unwrap());
    fs::write(
        project.path("test.repo"),
        format!("# x\n[os]\nbaseurl=file://{}/os\ngpgkey=KEY\n", dir.display()),
    )
    .unwrap();
    keys.push(project.base.key().unwrap());
    keys.sort_by_key(|key| key.0);
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[test]
fn a_mirror_list_is_followed_and_locked() {
    let Some((dir, _)) = standin() else { return };
    let server = Server::new(&dir);
    let mut project = Project::new(&["standin-hello"], "");
    let list = project.path("mirrors");
    fs::write(&list, format!("# mirrors\n{}/os\n", server.url)).unwrap();
    let key = dir.join("RPM-GPG-KEY-standin");
    let text = format!("[os]\nmirrorlist=file://{}\ngpgkey={}\n", list.display(), key.display());
    fs::write(project.path("test.repo"), text).unwrap();
    project.base.lock = Some(project.path("hello.lock"));
    project.build().unwrap();
    let locked = fs::read_to_string(project.path("hello.lock")).unwrap();
    assert!(locked.contains(&format!("urls = [\"{}/os\"]", server.url)), "{locked}");
    assert_eq!(project.build().unwrap()["lock"], "used");
}
