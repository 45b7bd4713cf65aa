//! Each wrong thing has an error that names file, line and remedy, and leaves nothing behind.

use std::process::Command;

use rootbuild_tests::{Project, Ran, privileged, standin};

use crate::support::{EL7, el7_project, leftovers};

fn minimal(project: &Project, definition: &str) {
    project.write_standin_repo();
    project.write("rootbuild.toml", definition);
}

#[test]
fn unknown_keys_and_missing_playbooks_are_named_with_file_and_line() {
    let project = Project::with_own_store();
    minimal(
        &project,
        "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackagess = [\"@core\"]\npackages = [\"bash\"]\n\
         [ansible]\ncore = \"2.16.19\"\n\n[root.web]\nbase = \"el8\"\nplaybooks = [\"gone.yml\"]\n",
    );
    let ran = project.rootbuild(&["provision"]).expect(2);
    let _ = ran.says(&[
        "rootbuild.toml:4:1",
        "packagess",
        "packages",
        "rootbuild.toml:10",
        "el7",
        "rootbuild.toml:11",
        "gone.yml",
    ]);
    assert!(!project.store().exists(), "a store was made for a wrong definition");
}

#[test]
fn malformed_toml_is_a_definition_error() {
    let project = Project::with_own_store();
    project.write("rootbuild.toml", "[root.web\nbase = 1\n");
    let _ = project.rootbuild(&["plan"]).expect(2).says(&["rootbuild.toml:1"]);
    let nowhere = Project::with_own_store();
    let output = nowhere.command(&["plan"]).current_dir("/").output().expect("it runs");
    let _ = Ran::new(&output).expect(2).says(&["rootbuild.toml"]);
}

#[test]
fn an_unknown_root_gets_the_nearest_name() {
    let project = Project::with_own_store();
    minimal(&project, &format!("{EL7}\n[root.hgweb]\nbase = \"el7\"\n"));
    let _ = project.rootbuild(&["provision", "hgwbe"]).expect(2).says(&["hgwbe", "hgweb"]);
}

#[test]
fn a_playbook_without_a_play_for_the_host_is_an_error() {
    if !privileged("a_playbook_without_a_play_for_the_host_is_an_error") {
        return;
    }
    let project = el7_project(
        "[root.nobody]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: databases\n  tasks:\n    - ping:\n",
    );
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["site.yml", "nobody", "no play"]);
    assert!(!project.root("nobody").exists());
    assert_eq!(leftovers(&project, "nobody"), Vec::<String>::new());
}

#[test]
fn a_failing_task_shows_its_output_and_keeps_the_failed_root_and_the_good_one() {
    if !privileged("a_failing_task_shows_its_output_and_keeps_the_failed_root_and_the_good_one") {
        return;
    }
    let good =
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: good, dest: /etc/state}\n";
    let project = el7_project("[root.fails]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n", good);
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let checkout = std::fs::canonicalize(project.root("fails")).expect("the root stands");
    project.write(
        "site.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: bad, dest: /etc/state}\n\
         \x20   - name: this one fails\n      shell: echo the reason why >&2; exit 7\n",
    );
    let failed = project.rootbuild(&["provision", "-q"]).expect(1);
    let failed =
        failed.says(&["this one fails", "the reason why", "site.yml:5", ".log", "shell --failed fails"]);
    assert_eq!(failed.stdout, "");
    assert_eq!(std::fs::canonicalize(project.root("fails")).expect("the root stands"), checkout);
    assert_eq!(project.inside("fails", "cat /etc/state"), "good");
    let inside = project.rootbuild(&["shell", "--failed", "fails", "--", "cat", "/etc/state"]).expect(0);
    assert_eq!(inside.stdout, "bad");
    let log = project.rootbuild(&["log", "fails"]).expect(0);
    assert!(log.stdout.contains("the reason why"), "{}", log.stdout);
    assert_eq!(leftovers(&project, "fails"), Vec::<String>::new());
    // Mended: the failed root is forgotten.
    project.write("site.yml", &good.replace("good", "better"));
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
    let _ = project.rootbuild(&["shell", "--failed", "fails", "--", "true"]).expect(1);
    assert_eq!(project.inside("fails", "cat /etc/state"), "better");
}

#[test]
fn a_playbook_that_does_not_parse_names_its_line() {
    if !privileged("a_playbook_that_does_not_parse_names_its_line") {
        return;
    }
    let project = el7_project(
        "[root.parse]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: all\n  tasks:\n    - copy: {content: x, dest: /etc/x\n",
    );
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["site.yml", "line"]);
}

#[test]
fn bad_repositories_are_refused_by_name() {
    if !privileged("bad_repositories_are_refused_by_name") {
        return;
    }
    let standin = standin();
    let key = format!("file://{}/RPM-GPG-KEY-standin", standin.dir.display());
    for (variant, says) in [
        ("unsigned", "sign"),
        ("wrongkey", "key"),
        ("tampered", "standin-hello"),
        ("badsum", "standin-hello"),
    ] {
        let project = Project::with_own_store();
        project.write_standin_repo();
        project.write(
            "bases/bad.repo",
            &format!(
                "[bad]\nname=bad\nbaseurl=file://{}/{variant}\ngpgcheck=1\ngpgkey={key}\n",
                standin.variants.display()
            ),
        );
        project.write(
            "rootbuild.toml",
            "[base.bad]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\", \"bases/bad.repo\"]\n\
             packages = [\"setup\", \"filesystem\", \"bash\", \"standin-hello\"]\n[root.bad]\nbase = \"bad\"\n",
        );
        let ran = project.rootbuild(&["provision"]).expect(1);
        let ran = ran.says(&["standin-hello"]);
        assert!(ran.stderr.to_lowercase().contains(says), "{variant}:\n{}", ran.stderr);
        assert!(!project.root("bad").exists());
        assert_eq!(leftovers(&project, "bad"), Vec::<String>::new());
    }
}

#[test]
fn an_unreachable_repository_is_named_with_its_line() {
    if !privileged("an_unreachable_repository_is_named_with_its_line") {
        return;
    }
    let project = Project::with_own_store();
    project.write(
        "bases/gone.repo",
        "[gone]\nname=gone\nbaseurl=http://127.0.0.1:9/nothing\ngpgcheck=1\ngpgkey=file://@STANDIN@/RPM-GPG-KEY-standin\n",
    );
    project.write(
        "rootbuild.toml",
        "[base.gone]\nsource = \"rpm\"\nrepos = [\"bases/gone.repo\"]\npackages = [\"bash\"]\n[root.gone]\nbase = \"gone\"\n",
    );
    let _ = project.rootbuild(&["provision"]).expect(1).says(&["gone.repo", "http://127.0.0.1:9/nothing"]);
    project.write("bases/gone.repo", "[gone]\nname=gone\nbaseurl=http://127.0.0.1:9/nothing\n");
    let _ = project.rootbuild(&["provision"]).expect(2).says(&["gone.repo:1", "gpgkey"]);
}

#[test]
fn without_privileges_provision_says_so() {
    if !privileged("without_privileges_provision_says_so") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("rootbuild-plain-").tempdir_in("/var/tmp").expect("/var/tmp");
    let binary = dir.path().join("rootbuild");
    std::fs::copy(rootbuild_tests::rootbuild_binary(), &binary).expect("the binary is readable");
    std::fs::write(dir.path().join("a.tar"), [0u8; 1024]).expect("writable");
    std::fs::write(
        dir.path().join("rootbuild.toml"),
        "[base.a]\nsource = \"archive\"\nfile = \"a.tar\"\nunverified = true\n[root.a]\nbase = \"a\"\n",
    )
    .expect("writable");
    let chmod = Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status();
    assert!(chmod.expect("chmod runs").success());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["provision", "--store", "/var/tmp/rootbuild-never"])
        .current_dir(dir.path())
        .output()
        .expect("setpriv runs");
    let _ = Ran::new(&output).expect(2).says(&["root", "sudo"]);
}

/// Hides `systemd-nspawn` from this mount namespace, then runs the arguments.
const HIDE: &str =
    "mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work; mknod /mnt/upper/systemd-nspawn c 0 0
mount -t overlay -o lowerdir=/usr/bin,upperdir=/mnt/upper,workdir=/mnt/work overlay /usr/bin; exec \"$@\"";

#[test]
fn without_nspawn_the_error_says_what_to_install() {
    if !privileged("without_nspawn_the_error_says_what_to_install") {
        return;
    }
    let project = el7_project(
        "[root.nonspawn]\nbase = \"el7\"\nplaybooks = [\"site.yml\"]\n",
        "- hosts: all\n  tasks:\n    - ping:\n",
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", HIDE, "sh"]);
    let inner = project.command(&["provision"]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(project.dir());
    command.env("ROOTBUILD_STORE", project.store());
    let ran = Ran::new(&command.output().expect("unshare runs")).expect(1);
    let _ = ran.says(&["systemd-nspawn", "systemd-container"]);
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    if !privileged("a_store_of_a_newer_format_is_refused") {
        return;
    }
    let project = Project::with_own_store();
    minimal(&project, &format!("{EL7}\n[root.newer]\nbase = \"el7\"\n"));
    std::fs::create_dir(project.store()).expect("writable");
    std::fs::write(project.store().join("format"), "rootbuild-store 999\n").expect("writable");
    for command in ["provision", "plan", "list"] {
        let _ = project.rootbuild(&[command]).expect(2).says(&["999", "format"]);
    }
    assert_eq!(std::fs::read_dir(project.store()).expect("readable").count(), 1, "it was touched");
}

#[test]
fn a_directory_that_is_no_store_is_left_alone() {
    if !privileged("a_directory_that_is_no_store_is_left_alone") {
        return;
    }
    let project = Project::with_own_store();
    minimal(&project, &format!("{EL7}\n[root.other]\nbase = \"el7\"\n"));
    std::fs::create_dir(project.store()).expect("writable");
    std::fs::write(project.store().join("thesis.txt"), "years of work").expect("writable");
    let ran = project.rootbuild(&["provision"]);
    assert_ne!(ran.code, 0);
    assert_eq!(std::fs::read_dir(project.store()).expect("readable").count(), 1, "it was touched");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_root() {
    if !privileged("a_full_disk_is_an_error_and_leaves_no_root") {
        return;
    }
    // Too small for the packages; for the installed base beside them; for its capture.
    for size in ["60m", "200m", "400m"] {
        let project = Project::with_own_store();
        minimal(&project, &format!("{EL7}\n[root.full]\nbase = \"el7\"\n"));
        std::fs::create_dir(project.store()).expect("writable");
        let mut command = Command::new("unshare");
        // The file system is private to this run, and so is what it left: looked at before it goes.
        command.args(["--mount", "sh", "-ec"]).arg(format!(
            "mount -t tmpfs -o size={size} tmpfs \"$1\"; store=$1; shift; code=0; \"$@\" || code=$?\n\
             ls \"$store/roots\" \"$store/staging\"; exit $code"
        ));
        command.arg("sh").arg(project.store());
        let inner = project.command(&["provision"]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(project.dir());
        command.env("ROOTBUILD_STORE", project.store());
        let ran = Ran::new(&command.output().expect("unshare runs")).expect(1);
        assert!(ran.stderr.contains("space"), "{size}:\n{}", ran.stderr);
        assert!(ran.stderr.lines().count() < 40, "{size}:\n{}", ran.stderr);
        let listed = ran.stdout.replace(&*project.store().to_string_lossy(), "");
        let listed: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!(listed, ["/roots:", "/staging:"], "{size}:\n{}", ran.stdout);
    }
}

#[test]
fn a_definition_can_be_named_from_elsewhere() {
    let project = Project::with_own_store();
    minimal(&project, &format!("{EL7}\n[root.named]\nbase = \"el7\"\n"));
    let output =
        project.command(&["list", "-f"]).arg(project.dir()).current_dir("/").output().expect("it runs");
    assert!(Ran::new(&output).expect(0).stdout.contains("not provisioned yet"));
}
