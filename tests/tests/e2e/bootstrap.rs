//! Who installs a base: the host's rpm, or the root's own. It makes no difference to the root.

use std::process::Command;

use rootbuild_tests::{Project, Ran, privileged, rootbuild_binary};

use crate::support::{installed_packages, locked_packages, unexplained};

/// A base of the stand-in and a root of it.
fn based(name: &str, packages: &str, more: &str) -> String {
    format!(
        "[base.{name}]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [{packages}]\n{more}\n\
         [root.{name}]\nbase = \"{name}\"\n"
    )
}

/// Runs rootbuild on a host that lacks these files and directories: something else lies over them.
fn without(files: &[&str], project: &Project, arguments: &[&str]) -> Ran {
    let hide = |file: &&str| {
        format!("if [ -d {file} ]; then mount -t tmpfs none {file}; else mount --bind /dev/null {file}; fi; ")
    };
    after(&files.iter().map(hide).collect::<String>(), project, arguments)
}

/// Runs rootbuild on a host on which `prepare` has changed something, for it alone.
fn after(prepare: &str, project: &Project, arguments: &[&str]) -> Ran {
    let script = format!("{prepare}exec \"$0\" \"$@\"");
    let told = project.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    command.arg(rootbuild_binary()).args(arguments).current_dir(project.dir());
    for (name, value) in told.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::new(&command.output().expect("unshare runs"))
}

/// The tree of a root that a `provision --json` printed.
pub(crate) fn tree(ran: &Ran, root: &str) -> String {
    let result = ran.json();
    let roots = result["roots"].as_array().expect("roots");
    let found = roots.iter().find(|found| found["name"] == root).expect("the root was provisioned");
    found["tree"].as_str().expect("a tree").to_owned()
}

const RPM: [&str; 3] = ["/usr/bin/rpm", "/usr/bin/rpmkeys", "/usr/bin/rpmdb"];

#[test]
fn a_root_is_the_same_whether_the_hosts_rpm_or_its_own_installs_it() {
    if !privileged("a_root_is_the_same_whether_the_hosts_rpm_or_its_own_installs_it") {
        return;
    }
    let project = Project::with_own_store();
    project.write_standin_repo();
    let more = |how: &str| format!("lock = \"bases/core.lock\"\nbootstrap = \"{how}\"");
    let bases = ["host", "root"].map(|how| based(how, "\"@core\"", &more(how)));
    project.write("rootbuild.toml", &bases.concat());
    let _ = project.rootbuild(&["lock"]).expect(0);
    let ran = project.rootbuild(&["provision", "--locked", "--json"]).expect(0);
    let names = |root: &str| project.inside(root, "rpm -qa | LC_ALL=C sort");
    assert_eq!(names("host"), names("root"));
    assert!(names("root").lines().count() > 100, "{}", names("root"));
    // How long a directory is depends on what was ever in it.
    let list = "find / -xdev \\( -type d -printf '%p %y %m %U %G\\n' \\) -o -printf '%p %y %m %U %G %s %l\\n' | LC_ALL=C sort";
    let (host, root) = (project.inside("host", list), project.inside("root", list));
    let only = |these: &str, those: &str| -> Vec<String> {
        let those: std::collections::HashSet<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(str::to_owned).collect()
    };
    assert_eq!((only(&host, &root), only(&root, &host)), (vec![], vec![]));
    assert_eq!(tree(&ran, "host"), tree(&ran, "root"));
    assert_eq!(installed_packages(&project, "root"), locked_packages(&project.dir().join("bases/core.lock")));
    assert_eq!(unexplained(&project, "root"), Vec::<String>::new());
}

#[test]
fn a_host_without_rpm_and_dnf_builds_what_is_locked() {
    if !privileged("a_host_without_rpm_and_dnf_builds_what_is_locked") {
        return;
    }
    let project = Project::with_own_store();
    project.write_standin_repo();
    let packages = "\"setup\", \"filesystem\", \"bash\", \"rpm\", \"util-linux\", \"standin-hello\"";
    project.write("rootbuild.toml", &based("small", packages, "lock = \"bases/small.lock\""));
    // Choosing packages needs dnf's library, and says so.
    let dnf = dnfs_library();
    let lacking: Vec<&str> = RPM.iter().copied().chain([dnf.as_str()]).collect();
    let _ = without(&lacking, &project, &["provision"]).expect(1).says(&[
        "dnf's library",
        "apt-get install python3-dnf",
        "rootbuild lock small",
    ]);
    let first = project.rootbuild(&["provision", "--json"]).expect(0);
    let again = without(&lacking, &project, &["provision", "--json", "--no-cache"]).expect(0);
    let log = project.rootbuild(&["log", "small"]).expect(0).stdout;
    assert!(log.contains("`rpm` isn't installed on this host: the packages are installed by"), "{log}");
    assert_eq!(tree(&first, "small"), tree(&again, "small"));
    // An rpm that won't have the keys, or doesn't know how payloads are compressed, is as good as none.
    let dir = project.dir().display().to_string();
    let fake = |program: &str, script: &str, says: &str| {
        project.write("fake", &format!("#!/bin/sh\n{script}\n"));
        let prepare = format!(
            "cp /usr/bin/rpm {dir}/rpm.real; chmod 755 {dir}/fake; mount --bind {dir}/fake {program}; "
        );
        let ran = after(&prepare, &project, &["provision", "--json", "--no-cache"]).expect(0);
        assert_eq!(tree(&first, "small"), tree(&ran, "small"));
        let log = project.rootbuild(&["log", "small"]).expect(0).stdout;
        assert!(log.contains(says), "{log}");
    };
    fake(
        "/usr/bin/rpmkeys",
        "echo 'rejected by policy' >&2; exit 1",
        "the host's rpm refuses the packages, which are right",
    );
    let other = format!("{dir}/rpm.real \"$@\" | grep -v PayloadIsXz");
    fake("/usr/bin/rpm", &other, "the host's rpm lacks `rpmlib(PayloadIsXz)`, which");
    // To ask for the root's own is another layer, which says why.
    project.write(
        "rootbuild.toml",
        &based("small", packages, "lock = \"bases/small.lock\"\nbootstrap = \"root\""),
    );
    let planned = project.rootbuild(&["plan", "--json"]).expect(0).json();
    let reason = &planned["roots"][0]["layers"][0]["reasons"][0];
    assert_eq!((&reason["subject"], &reason["new"]), (&"bootstrap".into(), &"root".into()), "{planned}");
    // Who asks for the host's gets no other.
    project.write(
        "rootbuild.toml",
        &based("small", packages, "lock = \"bases/small.lock\"\nbootstrap = \"host\""),
    );
    let _ = without(&lacking, &project, &["provision", "--no-cache"])
        .expect(1)
        .says(&["`rpm` isn't installed on this host", "apt-get install rpm"]);
}

/// Where dnf's library is.
fn dnfs_library() -> String {
    let output = Command::new("/usr/bin/python3").args(["-c", "import dnf; print(dnf.__path__[0])"]).output();
    String::from_utf8_lossy(&output.expect("python3 runs").stdout).trim().to_owned()
}

#[test]
fn a_root_without_rpm_can_not_install_itself() {
    if !privileged("a_root_without_rpm_can_not_install_itself") {
        return;
    }
    let project = Project::with_own_store();
    project.write_standin_repo();
    for (packages, lacks) in [
        ("\"setup\"", "bash"),
        ("\"setup\", \"filesystem\", \"bash\"", "rpm"),
        ("\"bash\", \"rpm\"", "util-linux"),
    ] {
        project.write("rootbuild.toml", &based("none", packages, "bootstrap = \"root\""));
        let remedy = format!("add \"{lacks}\" to the base's `packages`");
        let _ = project.rootbuild(&["provision"]).expect(1).says(&["rootbuild.toml:4: ", &remedy]);
    }
    project.write("rootbuild.toml", &based("none", "\"bash\"", "bootstrap = \"rooot\""));
    let _ = project.rootbuild(&["plan"]).expect(2).says(&["rootbuild.toml:5", "did you mean `root`"]);
}

#[test]
fn signatures_are_checked_without_the_hosts_rpm_as_well() {
    if !privileged("signatures_are_checked_without_the_hosts_rpm_as_well") {
        return;
    }
    let project = Project::with_own_store();
    let variants = rootbuild_tests::standin().variants.clone();
    let packages = "\"bash\", \"rpm\", \"util-linux\", \"standin-hello\"";
    for (variant, says) in [
        ("unsigned", "is not signed"),
        ("wrongkey", "is signed with the key"),
        ("tampered", "was tampered with"),
    ] {
        project.write_standin_repo();
        let repo =
            std::fs::read_to_string(project.dir().join("bases/el7.repo")).expect("it was just written");
        let bad = format!(
            "\n[bad]\nbaseurl=file://{}\ngpgkey=file://@STANDIN@/RPM-GPG-KEY-standin\n",
            variants.join(variant).display()
        );
        project.write("bases/el7.repo", &(repo + &bad));
        project.write("rootbuild.toml", &based(variant, packages, "bootstrap = \"root\""));
        let _ = project.rootbuild(&["provision"]).expect(1).says(&["standin-hello", "`bad`", says]);
    }
}
