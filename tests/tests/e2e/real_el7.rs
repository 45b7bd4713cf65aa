//! All of it on a real CentOS 7, for who has a mirror: `ROOTBUILD_REAL_EL7=URL`, of what has
//! `7.9.2009/{os,updates,extras}/x86_64/` below it. `ROOTBUILD_REAL_EL7=stand-in` rehearses it without one.

use std::fs;
use std::process::Command;

use rootbuild_tests::{Project, Ran, privileged, rootbuild_binary, skipped};

use crate::bootstrap::tree;
use crate::init::{CENTOS_7, as_a_vault, believe_the_standin, text};
use crate::support::{installed_packages, locked_packages, statuses, unexplained};

const MIRROR: &str = "ROOTBUILD_REAL_EL7";

/// One request and one lock; installed by the host's rpm and by CentOS's own.
const DEFINITION: &str = r#"
[base.host]
source = "rpm"
repos = ["bases/centos7.repo"]
packages = ["@core", "python"]
lock = "bases/centos7.lock"
releasever = "7"
bootstrap = "host"

[base.root]
source = "rpm"
repos = ["bases/centos7.repo"]
packages = ["@core", "python"]
lock = "bases/centos7.lock"
releasever = "7"
bootstrap = "root"

[root.el7-host]
base = "host"

[root.el7-root]
base = "root"
"#;

/// Runs rootbuild where there is no network at all, not even the host's own addresses.
fn without_network(project: &Project, arguments: &[&str]) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(rootbuild_binary()).args(arguments).current_dir(project.dir());
    for (name, value) in project.command(arguments).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::new(&command.output().expect("unshare runs"))
}

#[test]
fn a_real_centos_7_is_locked_built_and_verified_and_the_same_each_time() {
    let name = "a_real_centos_7_is_locked_built_and_verified_and_the_same_each_time";
    let Ok(mirror) = std::env::var(MIRROR) else {
        return skipped(name, "needs a CentOS 7 mirror in ROOTBUILD_REAL_EL7");
    };
    if !privileged(name) {
        return;
    }
    // Only the definition is other than what `init` writes: key, pin and repositories are the product's own.
    let project = Project::with_own_store();
    let _ = project.rootbuild(&["init", "--base", "centos7"]).expect(0);
    project.write("rootbuild.toml", DEFINITION);
    let (mirror, key) = if mirror == "stand-in" {
        // Its `@core` is built by other tests: this is about the steps.
        let few = r#"["bash", "rpm", "util-linux", "standin-hello"]"#;
        project.write("rootbuild.toml", &DEFINITION.replace(r#"["@core", "python"]"#, few));
        as_a_vault(&project.dir().join("mirror"));
        (format!("file://{}/mirror", project.dir().display()), believe_the_standin(&project))
    } else {
        (mirror, CENTOS_7.replace(' ', ""))
    };
    let lock = project.dir().join("bases/centos7.lock");

    // Locked once, whoever does it; the mirror is no part of it, the key is.
    let _ = project.rootbuild(&["lock", "--mirror", &mirror]).expect(0);
    let locked = text(&project, "bases/centos7.lock");
    assert!(locked.contains("https://vault.centos.org/7.9.2009/os/x86_64"), "{locked}");
    assert!(!locked.contains(&mirror), "{locked}");
    assert_eq!(locked.matches(&format!("fingerprints = [\"{key}\"]")).count(), 3, "{locked}");
    let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    fs::remove_file(&lock).expect("the lock is there");
    let elsewhere = project.dir().join("other");
    let other = project.command(&["lock", "--mirror", &mirror, "--store"]).arg(elsewhere).output();
    let _ = Ran::new(&other.expect("rootbuild runs")).expect(0);
    assert_eq!(text(&project, "bases/centos7.lock"), locked, "another store gives the same bytes");

    // Installed by either rpm, it is the same root, and has what is locked.
    let first =
        project.rootbuild(&["provision", "--locked", "--json", "--jobs", "1", "--mirror", &mirror]).expect(0);
    assert_eq!(statuses(&first), ["built", "built"]);
    let made = tree(&first, "el7-host");
    assert_eq!(made, tree(&first, "el7-root"));
    for root in ["el7-host", "el7-root"] {
        assert_eq!(installed_packages(&project, root), locked_packages(&lock));
        assert_eq!(unexplained(&project, root), Vec::<String>::new());
    }

    // Built anew, whole, without any network.
    let again = without_network(&project, &["provision", "--offline", "--locked", "--json", "--no-cache"]);
    let again = again.expect(0);
    assert_eq!(statuses(&again), ["built", "built"]);
    assert_eq!((tree(&again, "el7-host"), tree(&again, "el7-root")), (made.clone(), made));

    // Another key than the pinned one is refused, though the packages are in the store.
    let repo = text(&project, "bases/centos7.repo");
    let pin = |line: &str| line.starts_with("fingerprints=");
    let foreign: String = repo
        .lines()
        .map(
            |line| if pin(line) { format!("fingerprints={}\n", "0".repeat(40)) } else { format!("{line}\n") },
        )
        .collect();
    project.write("bases/centos7.repo", &foreign);
    fs::remove_file(&lock).expect("the lock is there");
    let refused = project.rootbuild(&["lock", "--mirror", &mirror]);
    let _ = refused.says(&[&key[32..], "expected", "centos7.repo:"]);
    assert!(!lock.exists());
}
