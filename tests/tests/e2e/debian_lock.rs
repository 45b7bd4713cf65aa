//! Locks of Debian bases: the same as of others, from an archive made on the spot; and one real base, twice.

use std::fs;
use std::path::Path;
use std::process::Command;

use rootbuild_tests::{Project, Ran, privileged, skipped};

use crate::specs::{NEW, OLD, Spec};

/// What every Debian has, first and later.
const CORE: [Spec<'static>; 2] = [
    ("core", "1", "core", "Essential: yes\nPriority: required"),
    ("core", "1:0.9~b-2", "core (0.9~b-2)", "Essential: yes\nPriority: required"),
];

const DEFINITION: &str = r#"[base.tiny]
source = "debian"
suite = "tiny"
mirror = "copy:@DIR@/archive"
keyring = "key.gpg"
packages = [
    "app",
    "tool",
    "strict",
]
lock = "bases/tiny.lock"

[root.tiny]
base = "tiny"
"#;

/// A project with a base from an archive of old packages, not locked yet.
fn tiny() -> Project {
    let project = Project::with_own_store();
    key(&project);
    fill(&project, &[&OLD[..], &CORE[..1]].concat());
    project.write("bases/.keep", "");
    project.write("rootbuild.toml", &DEFINITION.replace("@DIR@", &project.dir().to_string_lossy()));
    project
}

/// A project whose lock is older than its archive.
fn aged() -> Project {
    let project = tiny();
    let _ = project.rootbuild(&["lock"]).expect(0);
    fill(&project, &[&OLD[..], &NEW[..], &CORE[..]].concat());
    project
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the tools of Debian are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn gpg(project: &Project) -> Command {
    let mut command = Command::new("gpg");
    let home = project.dir().join("gnupg");
    command.args(["--batch", "--yes", "--quiet", "--homedir"]).arg(home);
    command
}

fn key(project: &Project) {
    use std::os::unix::fs::PermissionsExt;
    let home = project.dir().join("gnupg");
    fs::create_dir(&home).expect("the project is writable");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("it is ours");
    run(gpg(project).args(["--passphrase", "", "--quick-gen-key", "tiny", "ed25519", "sign", "never"]));
    run(gpg(project).arg("--export").arg("--output").arg(project.dir().join("key.gpg")));
}

/// An archive with just these packages, signed.
fn fill(project: &Project, packages: &[Spec<'_>]) {
    let archive = project.dir().join("archive");
    let _ = fs::remove_dir_all(&archive);
    let lists = archive.join("dists/tiny/main/binary-amd64");
    fs::create_dir_all(&lists).expect("the project is writable");
    fs::create_dir_all(archive.join("pool")).expect("the project is writable");
    let mut list = String::new();
    for (name, version, source, more) in packages {
        let work = tempfile::tempdir().expect("a temporary directory");
        let file = format!("pool/{name}_{}.deb", version.replace(':', "."));
        let source = if source == name { String::new() } else { format!("Source: {source}\n") };
        let more: String = more.lines().map(field).collect();
        let control = format!(
            "Package: {name}\n{source}Version: {version}\nArchitecture: all\nMaintainer: x <x@x.invalid>\n{more}Description: none\n"
        );
        fs::create_dir(work.path().join("DEBIAN")).expect("the directory is new");
        fs::write(work.path().join("DEBIAN/control"), &control).expect("the directory is new");
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "-Zgzip", "--build"]).env("SOURCE_DATE_EPOCH", "1");
        run(build.arg(work.path()).arg(archive.join(&file)));
        let (size, sum) = sum(&archive.join(&file));
        list.push_str(&format!("{control}Filename: {file}\nSize: {size}\nSHA256: {sum}\n\n"));
    }
    fs::write(lists.join("Packages"), list).expect("the directory is new");
    let (size, sum) = sum(&lists.join("Packages"));
    let release = format!(
        "Suite: tiny\nCodename: tiny\nComponents: main\nArchitectures: all amd64\nNo-Support-for-Architecture-all: Packages\n\
         Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n {sum} {size} main/binary-amd64/Packages\n"
    );
    fs::write(archive.join("dists/tiny/Release"), release).expect("the directory is new");
    let dist = archive.join("dists/tiny");
    run(gpg(project)
        .arg("--clearsign")
        .arg("--output")
        .arg(dist.join("InRelease"))
        .arg(dist.join("Release")));
}

/// A line of a spec file as one of a control file: `Requires: lib >= 1` is `Depends: lib (>= 1)` there.
fn field(line: &str) -> String {
    let Some(needed) = line.strip_prefix("Requires: ") else { return format!("{line}\n") };
    match needed.split_once(' ') {
        Some((name, version)) => format!("Depends: {name} ({version})\n"),
        None => format!("Depends: {needed}\n"),
    }
}

fn sum(file: &Path) -> (u64, String) {
    let sum = run(Command::new("sha256sum").arg(file));
    let sum = String::from_utf8_lossy(&sum);
    let size = file.metadata().expect("it was just made").len();
    (size, sum.split(' ').next().expect("a sum").to_owned())
}

fn read(project: &Project) -> String {
    fs::read_to_string(project.dir().join("bases/tiny.lock")).expect("the lock is there")
}

/// `name_version` of everything in a lock.
fn locked(lock: &str) -> String {
    let value = |block: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = block.lines().find(|line| line.starts_with(&start)).expect("every package has it");
        line[start.len()..].trim_end_matches('"').to_owned()
    };
    let blocks = lock.split("[[package]]").skip(1);
    let names: Vec<_> =
        blocks.map(|block| format!("{}_{}", value(block, "name"), value(block, "version"))).collect();
    names.join(" ")
}

/// The rows of the table that a change was told with.
fn rows(ran: &Ran) -> Vec<String> {
    // The arrow depends on the locale.
    let text = ran.stdout.replace('→', "->");
    let rows = text.lines().filter(|line| line.contains("->"));
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn can(test: &str) -> bool {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let all = there("mmdebstrap") && there("dpkg-deb") && there("gpg");
    if !all {
        skipped(test, "needs mmdebstrap, dpkg and gpg");
    }
    all && cfg!(target_arch = "x86_64")
}

#[test]
fn a_debian_lock_says_all_and_comes_out_the_same_each_time() {
    if !can("a_debian_lock_says_all_and_comes_out_the_same_each_time") {
        return;
    }
    let project = tiny();
    let ran = project.rootbuild(&["lock", "--json"]).expect(0);
    let base = &ran.json()["bases"][0];
    assert_eq!((&base["status"], &base["packages"]), (&"new".into(), &7.into()));
    let lock = read(&project);
    assert_eq!(locked(&lock), "app_1 core_1 deep_1 lib_1 lib-common_1 strict_1 tool_1");
    for line in [
        "family = \"debian\"",
        "snapshot = \"20260711T101637Z\"",
        "suite = \"tiny\"",
        "arch = \"amd64\"",
        "variant = \"minbase\"",
        "id = \"tiny\"",
        "date = \"20260711T101637Z\"",
        "location = \"pool/lib-common_1.deb\"",
        "source = \"lib\"",
        "auto = true",
    ] {
        assert!(lock.lines().any(|found| found == line), "{line}\n{lock}");
    }
    let (_, release) = sum(&project.dir().join("archive/dists/tiny/InRelease"));
    assert!(lock.contains(&format!("release_sha256 = \"{release}\"")), "{lock}");
    let prints = lock.lines().find(|line| line.starts_with("fingerprints = [\"")).expect("a key");
    assert_eq!(prints.len(), "fingerprints = [\"\"]".len() + 40, "{prints}");
    fs::remove_file(project.dir().join("bases/tiny.lock")).expect("it is there");
    let _ = project.rootbuild(&["lock"]).expect(0);
    assert_eq!(read(&project), lock);
    let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    assert!(project.rootbuild(&["lock"]).expect(0).stdout.contains("unchanged, 7 packages"));
}

#[test]
fn a_debian_lock_moves_only_what_is_named_and_what_that_needs() {
    if !can("a_debian_lock_moves_only_what_is_named_and_what_that_needs") {
        return;
    }
    let project = aged();
    let unknown = project.rootbuild(&["lock", "--update", "tol"]).expect(2);
    assert!(unknown.stderr.contains("did you mean `tool`?"), "{}", unknown.stderr);
    let ran = project.rootbuild(&["lock", "--update", "tool"]).expect(0);
    assert_eq!(rows(&ran), ["tool.all 1 -> 2 tiny"]);
    let ran = project.rootbuild(&["lock", "--update", "strict,lib"]).expect(0);
    assert_eq!(
        rows(&ran),
        [
            "deep.all 1 -> 2 tiny",
            "lib.all 1 -> 2 tiny",
            "lib-common.all 1 -> 2 tiny",
            "strict.all 1 -> 2 tiny"
        ]
    );
    // What is asked for in one version stays, and that is told.
    let text = fs::read_to_string(project.dir().join("rootbuild.toml")).expect("it is there");
    project.write("rootbuild.toml", &text.replace("\"app\",", "\"app=1\",\n    \"other\","));
    let ran = project.rootbuild(&["lock", "--update", "app"]).expect(0);
    assert!(ran.stdout.contains("`app` can't become 2"), "{}", ran.stdout);
    assert_eq!(rows(&ran), ["other.all (added) -> 1 tiny"]);
    let ran = project.rootbuild(&["lock", "--update"]).expect(0);
    assert_eq!(rows(&ran), ["core.all 1 -> 1:0.9~b-2 tiny"]);
}

#[test]
fn a_debian_lock_that_does_not_answer_is_refused_with_the_line() {
    if !can("a_debian_lock_that_does_not_answer_is_refused_with_the_line") {
        return;
    }
    let project = tiny();
    if privileged("a_debian_lock_that_does_not_answer_is_refused_with_the_line") {
        let missing = project.rootbuild(&["provision", "--locked"]).expect(2);
        assert!(missing.stderr.contains("base `tiny` isn't locked"), "{}", missing.stderr);
        assert!(missing.stderr.contains("rootbuild.toml:11"), "{}", missing.stderr);
    }
    let _ = project.rootbuild(&["lock", "--check"]).expect(5);
    let _ = project.rootbuild(&["lock"]).expect(0);
    let text = fs::read_to_string(project.dir().join("rootbuild.toml")).expect("it is there");
    for (from, to, line, told) in [
        ("\"app\",", "\"app\", \"other\",", 7, "the package `other` isn't locked"),
        ("\"tool\",", "", 7, "the package `tool` is locked, but not asked for"),
        ("keyring =", "variant = \"buildd\"\nkeyring =", 5, "variant is `buildd`, locked is `minbase`"),
        (
            "keyring =",
            "components = [\"main\", \"x\"]\nkeyring =",
            5,
            "components is `main x`, locked is `main`",
        ),
        ("/archive\"", "/other\"", 4, "/other, locked is copy:"),
    ] {
        project.write("rootbuild.toml", &text.replace(from, to));
        let stale = project.rootbuild(&["lock", "--check"]).expect(5);
        assert!(stale.stderr.contains(told), "{told}: {}", stale.stderr);
        assert!(stale.stderr.contains(&format!("rootbuild.toml:{line}")), "{line}: {}", stale.stderr);
    }
    // A mirror that has what there was then needs no other lock.
    let day = "mirror = [\"http://snapshot.debian.org/archive/debian/20260711T141637Z/\", \"copy:";
    project
        .write("rootbuild.toml", &text.replace("mirror = \"copy:", day).replace("/archive\"", "/archive\"]"));
    let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    // One of RPM packages is none of these.
    project.write("bases/tiny.lock", "version = 2\n");
    let odd = project.rootbuild(&["lock", "--check"]).expect(2);
    assert!(odd.stderr.contains("no lock file of a Debian base"), "{}", odd.stderr);
}

#[test]
fn an_archive_with_another_key_is_not_locked() {
    if !can("an_archive_with_another_key_is_not_locked") {
        return;
    }
    let (project, other) = (tiny(), Project::with_own_store());
    key(&other);
    fs::copy(other.dir().join("key.gpg"), project.dir().join("key.gpg")).expect("both are there");
    let ran = project.rootbuild(&["lock"]).expect(1);
    assert!(ran.stderr.contains("can't be trusted"), "{}", ran.stderr);
    assert!(!project.dir().join("bases/tiny.lock").exists());
}

#[test]
fn a_locked_debian_base_is_the_same_in_two_stores_without_a_network() {
    let test = "a_locked_debian_base_is_the_same_in_two_stores_without_a_network";
    if !privileged(test) || !can(test) {
        return;
    }
    let (first, second) = (Project::with_own_store(), Project::with_own_store());
    let definition = "[base.bookworm]\nsource = \"debian\"\nsuite = \"bookworm\"\npackages = [\"cron\"]\nvariant = \"essential\"\n\
                      lock = \"bookworm.lock\"\n[root.locked]\nbase = \"bookworm\"\n";
    for project in [&first, &second] {
        project.write("rootbuild.toml", definition);
    }
    let ran = first.rootbuild(&["lock"]);
    if ran.stderr.contains("can't reach the mirror") {
        skipped(test, "no Debian mirror");
        return;
    }
    let _ = ran.expect(0);
    let one = first.rootbuild(&["provision", "--locked", "--json"]).expect(0).json();
    let installed = first.inside("locked", "dpkg-query -W -f '${Package}_${Version}\\n' | LC_ALL=C sort");
    let lock = fs::read_to_string(first.dir().join("bookworm.lock")).expect("it was written");
    let mut expected: Vec<String> = locked(&lock).split(' ').map(str::to_owned).collect();
    expected.sort();
    assert_eq!(installed.lines().collect::<Vec<_>>(), expected);
    let sources = first.inside("locked", "cat /etc/apt/sources.list");
    assert!(sources.contains(" bookworm main\n") && !sources.contains("copy:"), "{sources}");

    // Elsewhere, from the same packages alone.
    fs::copy(first.dir().join("bookworm.lock"), second.dir().join("bookworm.lock")).expect("both are there");
    let cold = second.rootbuild(&["provision", "--locked", "--offline"]).expect(1);
    assert!(
        cold.stderr.contains("offline, and not in the store: `apt_")
            || cold.stderr.contains("not in the store")
    );
    let packages = second.store().join("packages");
    let _ = fs::remove_dir_all(&packages);
    run(Command::new("cp").arg("-al").arg(first.store().join("packages")).arg(&packages));
    let two = second.rootbuild(&["provision", "--locked", "--offline", "--json"]).expect(0).json();
    assert_eq!(two["roots"][0]["tree"], one["roots"][0]["tree"]);

    // One that is gone from the archive: what there was then is elsewhere.
    let (head, packages) = lock.split_once("[[package]]").expect("packages are locked");
    let at = packages.find("\nsha256 = \"").expect("each has a digest") + "\nsha256 = \"".len();
    let mut gone = packages.replacen(".deb\"", "_gone.deb\"", 1);
    let at = at + "_gone".len();
    let other = if gone[at..].starts_with('0') { "1" } else { "0" };
    gone.replace_range(at..=at, other);
    second.write("bookworm.lock", &format!("{head}[[package]]{gone}"));
    let ran = second.rootbuild(&["provision", "--locked"]).expect(1);
    assert!(ran.stderr.contains("is gone from"), "{}", ran.stderr);
    assert!(ran.stderr.contains("mirror = \"http://snapshot.debian.org/archive/debian"), "{}", ran.stderr);
}
