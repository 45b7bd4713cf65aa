//! A definition to start from, and mirrors in place of the hosts that it names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rootbuild_tests::{Project, privileged, standin};

use crate::support::statuses;

/// The fingerprint of the key that signs CentOS 7, as `init` writes it.
pub(crate) const CENTOS_7: &str = "6341 AB27 53D7 8A78 A7C2 7BB1 24C6 A8A7 F4A8 0EB5";

/// What is in a file of the project.
pub(crate) fn text(project: &Project, path: &str) -> String {
    fs::read_to_string(project.dir().join(path)).expect(path)
}

#[test]
fn what_init_writes_is_a_definition_that_can_be_planned() {
    for (base, files) in [
        ("centos7", &["bases/RPM-GPG-KEY-CentOS-7", "bases/centos7.repo", "rootbuild.toml"][..]),
        ("almalinux9", &["bases/almalinux9.repo", "rootbuild.toml"]),
        ("debian12", &["rootbuild.toml"]),
    ] {
        let project = Project::with_own_store();
        let ran = project.rootbuild(&["init", "--base", base, "new/project"]).expect(0);
        for file in files {
            assert!(ran.stdout.contains(&format!("wrote new/project/{file}\n")), "{}", ran.stdout);
        }
        let planned = project.rootbuild(&["plan", "--json", "-f", "new/project"]).expect(0);
        assert_eq!(planned.json()["roots"][0]["layers"][0]["step"], format!("base:{base}"));
        let definition = text(&project, "new/project/rootbuild.toml");
        let lock = definition.lines().find_map(|line| line.strip_prefix("lock = \"")?.split('"').next());
        let lock = project.dir().join("new/project").join(lock.expect("the base has a lock"));
        assert!(lock.parent().is_some_and(Path::is_dir), "it can be written");
        // What is there is never replaced, nor half of it written beside it.
        let before: Vec<String> =
            files.iter().map(|file| text(&project, &format!("new/project/{file}"))).collect();
        let _ = project.rootbuild(&["init", "--base", base, "new/project"]).expect(2).says(&[
            "new/project/rootbuild.toml` ",
            "there already",
            "name another directory",
        ]);
        let after: Vec<String> =
            files.iter().map(|file| text(&project, &format!("new/project/{file}"))).collect();
        assert_eq!(before, after);
    }
    let project = Project::with_own_store();
    project.write("bases/centos7.repo", "mine\n");
    let _ =
        project.rootbuild(&["init", "--base", "centos7"]).expect(2).says(&["bases/centos7.repo` is there"]);
    assert!(!project.dir().join("rootbuild.toml").exists());
    assert_eq!(text(&project, "bases/centos7.repo"), "mine\n");
    let _ = project.rootbuild(&["init", "--base", "centos6"]).expect(2).says(&[
        "centos7",
        "almalinux9",
        "debian12",
    ]);
    let _ = project.rootbuild(&["init"]).expect(2).says(&["--base"]);
}

#[test]
fn init_writes_a_mirror_down_and_gives_its_result_as_json() {
    let project = Project::with_own_store();
    let ran = project
        .rootbuild(&["--json", "init", "--base", "centos7", "--mirror", "http://mirror.lan/centos/", "x"])
        .expect(0);
    assert_eq!(ran.json()["files"][1], "x/bases/centos7.repo");
    let repo = text(&project, "x/bases/centos7.repo");
    assert!(repo.contains("\nbaseurl=http://mirror.lan/centos/7.9.2009/updates/$basearch/\n"), "{repo}");
    let _ = project.rootbuild(&["plan", "-f", "x"]).expect(0);
    let _ = project
        .rootbuild(&["init", "--base", "centos7", "--mirror", "mirror.lan", "y"])
        .expect(2)
        .says(&["`mirror.lan` is no URL of a mirror", "https://"]);
    assert!(!project.dir().join("y").exists());
}

#[test]
fn a_mirror_changes_where_packages_come_from_and_nothing_else() {
    if !privileged("a_mirror_changes_where_packages_come_from_and_nothing_else") {
        return;
    }
    let project = Project::with_own_store();
    // The stand-in, laid out as a mirror of the vault has it.
    as_a_vault(&project.dir().join("mirror/pub"));
    let _ = project.rootbuild(&["init", "--base", "centos7"]).expect(0);
    let _ = believe_the_standin(&project);
    let definition = text(&project, "rootbuild.toml");
    project.write("rootbuild.toml", &definition.replace("[\"@core\", \"python\"]", "[\"bash\", \"rpm\"]"));

    let url = format!("file://{}/mirror/pub", project.dir().display());
    let _ = project.rootbuild(&["lock", "--mirror", &url]).expect(0);
    let lock = text(&project, "bases/centos7.lock");
    assert!(
        lock.contains("https://vault.centos.org/7.9.2009/os/x86_64") && !lock.contains("mirror/pub"),
        "{lock}"
    );
    let key = |mirror: Option<&str>| -> String {
        let mut command = project.command(&["provision", "--json"]);
        if let Some(mirror) = mirror {
            command.env("ROOTBUILD_MIRROR", mirror);
        }
        let ran = rootbuild_tests::Ran::new(&command.output().expect("rootbuild runs")).expect(0);
        statuses(&ran).concat()
    };
    assert_eq!(key(Some(&url)), "built");
    assert_eq!(key(None), "cached", "the same layer without the mirror");
    assert_eq!(key(Some("http://other.lan")), "cached", "and with another");
    // Where a mirror lacks something, the error says where that was looked for.
    let ran = project
        .command(&["lock", "--update", "--mirror", "file:///nowhere"])
        .output()
        .expect("rootbuild runs");
    let _ = rootbuild_tests::Ran::new(&ran)
        .expect(1)
        .says(&["file:///nowhere/7.9.2009/os/x86_64", "centos7.repo:"]);
}

/// Lays the stand-in out as a mirror of the vault has it.
pub(crate) fn as_a_vault(mirror: &Path) {
    for (name, source) in [("os", "os"), ("updates", "updates"), ("extras", "updates")] {
        let dir = mirror.join("7.9.2009").join(name);
        fs::create_dir_all(&dir).expect("writable");
        symlink(standin().dir.join(source), dir.join("x86_64")).expect("writable");
    }
}

/// Lets a project that `init --base centos7` wrote believe the stand-in, which isn't CentOS: its key is another.
/// Gives the key's fingerprint.
pub(crate) fn believe_the_standin(project: &Project) -> String {
    let key = standin().dir.join("RPM-GPG-KEY-standin");
    let repo = text(project, "bases/centos7.repo");
    assert_eq!(repo.matches(CENTOS_7).count(), 3);
    let other = fingerprint(&key);
    project.write("bases/centos7.repo", &repo.replace(CENTOS_7, &other));
    fs::copy(key, project.dir().join("bases/RPM-GPG-KEY-CentOS-7")).expect("writable");
    other
}

/// The fingerprint of the first key in a file.
fn fingerprint(key: &Path) -> String {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home.path()).args(["--batch", "--with-colons", "--show-keys"]).arg(key);
    let output = gpg.output().expect("gpg runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("fpr:")).expect("a fingerprint");
    line.split(':').nth(9).expect("its digits").to_owned()
}
