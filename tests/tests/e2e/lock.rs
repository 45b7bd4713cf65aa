//! Locks of bases: written once, moved on purpose, refused when they don't answer.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rootbuild_tests::{Project, Ran, privileged};

use crate::specs::{NEW, OLD, Spec};
use crate::support::{installed_packages, locked_packages, statuses};

#[path = "lock/packages.rs"]
mod packages;

use packages::repository;

/// What the repository has later, beside that.
const LATER: [Spec<'static>; 3] = [
    ("app-ng", "3", "app-ng", "Obsoletes: app < 3\nProvides: app = 3"),
    ("other", "2", "other", "Requires: extra"),
    ("extra", "1", "extra", ""),
];

const REPO: &str = "[tiny]\nname=tiny\nbaseurl=file://@DIR@/repo\ngpgcheck=0\n";

const DEFINITION: &str = r#"[base.tiny]
source = "rpm"
repos = ["bases/tiny.repo"]
packages = [
    "app",
    "tool",
    "other",
    "strict",
]
lock = "bases/tiny.lock"

[root.tiny]
base = "tiny"
"#;

/// A project with a base from a repository of old packages, not locked yet.
fn tiny() -> Project {
    let project = Project::with_own_store();
    fill(&project, &OLD);
    project.write("bases/tiny.repo", &REPO.replace("@DIR@", &project.dir().to_string_lossy()));
    project.write("rootbuild.toml", DEFINITION);
    project
}

fn fill(project: &Project, packages: &[Spec<'_>]) {
    repository(&project.dir().join("repo"), packages);
}

/// A project whose lock is older than its repository.
fn aged() -> Project {
    let project = tiny();
    let _ = project.rootbuild(&["lock"]).expect(0);
    fill(&project, &[&OLD[..], &NEW[..], &LATER[..]].concat());
    project
}

fn read(project: &Project) -> String {
    fs::read_to_string(project.dir().join("bases/tiny.lock")).expect("the lock is there")
}

/// `name-version` of everything in a lock.
fn locked(lock: &str) -> String {
    let values = |key: &str| -> Vec<String> {
        let start = format!("{key} = \"");
        let values = lock.split("[[package]]").skip(1).map(|block| {
            let line = block.lines().find(|line| line.starts_with(&start)).expect("every package has it");
            line[start.len()..].trim_end_matches('"').to_owned()
        });
        values.collect()
    };
    let versions = values("evr").into_iter().map(|evr| evr.trim_end_matches("-1.el7").to_owned());
    values("name")
        .into_iter()
        .zip(versions)
        .map(|(name, evr)| format!("{name}-{evr}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The rows of the table that a change was told with.
fn rows(ran: &Ran) -> Vec<String> {
    // The arrow depends on the locale.
    let text = ran.stdout.replace('→', "->");
    let rows = text.lines().filter(|line| line.contains("->"));
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_lock_says_all_and_comes_out_the_same_each_time() {
    let project = Project::with_own_store();
    project.write_standin_repo();
    project.write(
        "rootbuild.toml",
        "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"@core\"]\nlock = \"el7.lock\"\n[root.x]\nbase = \"el7\"\n",
    );
    let ran = project.rootbuild(&["lock", "--json"]).expect(0);
    let base = &ran.json()["bases"][0];
    assert_eq!((base["name"].as_str(), base["status"].as_str()), (Some("el7"), Some("new")));
    let path = project.dir().join("el7.lock");
    assert_eq!(base["lock"].as_str(), path.to_str());
    let lock = fs::read_to_string(&path).expect("the lock was written");
    let packages = lock.matches("[[package]]").count();
    assert!(packages > 150 && base["packages"] == packages, "{packages}, {base}");
    assert_eq!(base["changes"].as_array().map(Vec::len), Some(packages));
    assert!(lock.contains("\nversion = 2\n\n[request]\nreleasever = \"7\"\n"), "{lock}");
    let key = &lock[lock.find("fingerprints = [\"").expect("keys are locked")..][17..57];
    assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let bash = lock.split("[[package]]\n").find(|block| block.starts_with("name = \"bash\"")).expect("bash");
    let keys: Vec<&str> =
        bash.lines().filter_map(|line| line.split(" = ").next()).filter(|key| !key.is_empty()).collect();
    assert_eq!(keys, ["name", "evr", "arch", "repo", "location", "size", "sha256", "source_rpm"], "{bash}");
    assert!(bash.contains(".src.rpm\""), "{bash}");
    assert!(lock.matches("repomd_sha256 = \"").count() == 2, "{lock}");

    // What answers already is left alone, repositories aren't even asked.
    let written = fs::metadata(&path).and_then(|data| data.modified()).expect("a time");
    let again = project.rootbuild(&["lock", "el7"]).expect(0);
    assert_eq!(again.stdout, format!("el7: el7.lock: unchanged, {packages} packages\n"));
    assert_eq!(fs::metadata(&path).and_then(|data| data.modified()).expect("a time"), written);
    // Another store, another time: the same bytes.
    fs::remove_file(&path).expect("the lock is there");
    let other = project.command(&["lock", "--store"]).arg(project.dir().join("other")).output();
    let _ = Ran::new(&other.expect("rootbuild runs")).expect(0);
    assert_eq!(fs::read_to_string(&path).expect("the lock was written"), lock);
    // Resolved anew as a whole, it says the same.
    assert!(project.rootbuild(&["lock", "--update"]).expect(0).stdout.contains("unchanged"));
    assert_eq!(fs::read_to_string(&path).expect("the lock is there"), lock);
}

#[test]
fn packages_stay_what_they_are_however_much_newer_ones_there_are() {
    let project = aged();
    let before = read(&project);
    assert_eq!(locked(&before), "app-1 deep-1 lib-1 lib-common-1 other-1 strict-1 tool-1");
    assert!(project.rootbuild(&["lock"]).expect(0).stdout.contains("unchanged"));
    assert_eq!(read(&project), before);
    // What is new in the definition comes as it is now, with what it needs; the rest stays.
    project.write(
        "rootbuild.toml",
        &DEFINITION.replace("\"tool\"", "\"extra\"").replace("    \"strict\",\n", ""),
    );
    let ran = project.rootbuild(&["lock"]).expect(0);
    assert_eq!(locked(&read(&project)), "app-1 extra-1 lib-1 lib-common-1 other-1");
    assert_eq!(
        rows(&ran),
        [
            "deep.noarch 1-1.el7 -> (removed) tiny",
            "extra.noarch (added) -> 1-1.el7 tiny",
            "strict.noarch 1-1.el7 -> (removed) tiny",
            "tool.noarch 1-1.el7 -> (removed) tiny",
        ]
    );
    assert!(
        ran.stdout.starts_with("tiny: bases/tiny.lock: 1 added, 3 removed, 5 packages\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("why: the package `extra` isn't locked\n"), "{}", ran.stdout);
    // A version that can't be what is locked moves its package.
    project.write(
        "rootbuild.toml",
        &DEFINITION.replace("\"tool\"", "\"app-2\"").replace("    \"strict\",\n", ""),
    );
    let _ = project.rootbuild(&["lock"]).expect(0);
    assert_eq!(locked(&read(&project)), "app-2 lib-1 lib-common-1 other-1");
    // That another repository has the same packages is no reason to take them from there.
    repository(&project.dir().join("again"), &[&OLD[..], &NEW[..], &LATER[..]].concat());
    let text = REPO.replace("@DIR@", &project.dir().to_string_lossy());
    project.write(
        "bases/tiny.repo",
        &format!("{}\n{text}", text.replace("tiny", "again").replace("/repo", "/again")),
    );
    let ran = project.rootbuild(&["lock"]).expect(0);
    assert!(ran.stdout.contains("no package changed"), "{}", ran.stdout);
    assert!(read(&project).contains("id = \"again\"") && !read(&project).contains("repo = \"again\""));
}

#[test]
fn an_update_moves_what_it_names_and_what_that_needs() {
    for (names, expected) in [
        // Nothing else, though `app-ng` would replace it.
        (&["app"][..], "app-2 deep-1 lib-1 lib-common-1 other-1 strict-1 tool-1"),
        // What is newly needed.
        (&["other"], "app-1 deep-1 extra-1 lib-1 lib-common-1 other-2 strict-1 tool-1"),
        // The sibling from the same source package.
        (&["lib"], "app-1 deep-1 lib-2 lib-common-2 other-1 strict-1 tool-1"),
        // What is needed in another version, or stands in the way.
        (&["strict"], "app-1 deep-2 lib-1 lib-common-1 other-1 strict-2 tool-1"),
        (&["deep"], "app-1 deep-2 lib-1 lib-common-1 other-1 strict-2 tool-1"),
        (&["too?", "a*p"], "app-2 deep-1 lib-1 lib-common-1 other-1 strict-1 tool-2"),
        (&[], "app-ng-3 deep-2 extra-1 lib-2 lib-common-2 other-2 strict-2 tool-2"),
    ] {
        let project = aged();
        let mut arguments = vec!["lock", "tiny", "--update"];
        arguments.extend(names);
        let ran = project.rootbuild(&arguments).expect(0);
        assert_eq!(locked(&read(&project)), expected, "{names:?}");
        assert!(!rows(&ran).is_empty(), "{}", ran.stdout);
        let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    }
}

#[test]
fn an_update_is_told_as_a_table_and_as_json() {
    let project = aged();
    let ran = project.rootbuild(&["lock", "--update", "lib", "deep"]).expect(0);
    assert_eq!(
        rows(&ran),
        [
            "deep.noarch 1-1.el7 -> 2-1.el7 tiny",
            "lib.noarch 1-1.el7 -> 2-1.el7 tiny",
            "lib-common.noarch 1-1.el7 -> 2-1.el7 tiny",
            "strict.noarch 1-1.el7 -> 2-1.el7 tiny",
        ]
    );
    let ran = project.rootbuild(&["lock", "--json", "--update", "app,lib"]).expect(0);
    let base = &ran.json()["bases"][0];
    assert_eq!(base["status"], "changed");
    let changes = base["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(
        changes[0],
        serde_json::json!({"name": "app", "arch": "noarch", "old": "1-1.el7", "new": "2-1.el7",
                           "repository": "tiny", "old_repository": null})
    );
    let ran = project.rootbuild(&["lock", "--update", "app"]).expect(0);
    assert!(
        ran.stdout.contains("unchanged") && ran.stdout.contains("`app` is the newest there is"),
        "{}",
        ran.stdout
    );
    // One that can't move is no reason for others to.
    let project = aged();
    let text = REPO.replace("@DIR@", &project.dir().to_string_lossy()) + "exclude=strict-2*\n";
    project.write("bases/tiny.repo", &text);
    let ran = project.rootbuild(&["lock", "--update", "deep", "app"]).expect(0);
    assert_eq!(rows(&ran), ["app.noarch 1-1.el7 -> 2-1.el7 tiny"]);
    assert!(ran.stdout.contains("`deep` can't become 2-1.el7"), "{}", ran.stdout);
    // A name that isn't there moves nothing.
    let before = read(&project);
    let _ = project.rootbuild(&["lock", "--update", "aap"]).expect(2).says(&["`aap`", "did you mean `app`?"]);
    assert_eq!(read(&project), before);
}

#[test]
fn a_locked_package_that_no_repository_has_any_more_moves_alone() {
    let project = tiny();
    let _ = project.rootbuild(&["lock"]).expect(0);
    let rest: Vec<Spec<'_>> = OLD
        .iter()
        .chain(&NEW)
        .chain(&LATER)
        .copied()
        .filter(|spec| (spec.0, spec.1) != ("tool", "1"))
        .collect();
    fill(&project, &rest);
    // The lock answers the definition all the same: that is not asked before something has to be resolved.
    assert!(project.rootbuild(&["lock"]).expect(0).stdout.contains("unchanged"));
    let _ = project.rootbuild(&["lock", "--update", "app"]).expect(0);
    assert_eq!(locked(&read(&project)), "app-2 deep-1 lib-1 lib-common-1 other-1 strict-1 tool-2");
}

#[test]
fn a_lock_that_does_not_answer_is_refused_with_the_line_that_says_otherwise() {
    let project = tiny();
    let _ = project
        .rootbuild(&["lock", "--check"])
        .expect(5)
        .says(&["there is no `bases/tiny.lock`", "rootbuild.toml:10"]);
    let missing = project.rootbuild(&["provision", "--locked"]).expect(2);
    let missing = missing.says(&[
        "base `tiny` isn't locked",
        "rootbuild.toml:10",
        "lock = \"bases/tiny.lock\"",
        "`rootbuild lock tiny`",
    ]);
    assert!(!project.dir().join("bases/tiny.lock").exists() && missing.stdout.is_empty());
    let _ = project.rootbuild(&["lock"]).expect(0);
    let checked = project.rootbuild(&["lock", "--check"]).expect(0);
    assert_eq!(checked.stdout, "tiny: bases/tiny.lock: answers the definition\n");

    let repo = fs::read_to_string(project.dir().join("bases/tiny.repo")).expect("the .repo file");
    let answered = read(&project);
    for (definition, repo, says) in [
        (
            DEFINITION.replace("\"tool\"", "\"extra\""),
            repo.clone(),
            ["rootbuild.toml:6", "`extra` isn't locked"],
        ),
        (
            DEFINITION.replace("    \"tool\",\n", ""),
            repo.clone(),
            ["rootbuild.toml:5", "`tool` is locked, but not asked for"],
        ),
        (
            DEFINITION.replace("\nlock", "\nreleasever = \"8\"\nlock"),
            repo.clone(),
            ["rootbuild.toml:10", "releasever is `8`, locked is `7`"],
        ),
        (
            DEFINITION.to_owned(),
            format!("{repo}exclude=lib-2*\n"),
            ["bases/tiny.repo:5", "`excludepkgs=lib-2*`, none is locked"],
        ),
        (
            DEFINITION.to_owned(),
            format!("{repo}includepkgs=a*,t*\n"),
            ["bases/tiny.repo:5", "`includepkgs=a* t*`, none is locked"],
        ),
        (
            DEFINITION.to_owned(),
            format!("{repo}\npriority=7\n"),
            ["bases/tiny.repo:6", "`priority=7`, none is locked"],
        ),
        (DEFINITION.to_owned(), repo.replace("/repo", "/other"), ["bases/tiny.repo:3", "/other, locked is"]),
        (
            DEFINITION.to_owned(),
            repo.replace("[tiny]", "[huge]"),
            ["bases/tiny.repo:1", "`huge` isn't locked"],
        ),
    ] {
        project.write("rootbuild.toml", &definition);
        project.write("bases/tiny.repo", &repo);
        let _ = project
            .rootbuild(&["lock", "--check"])
            .expect(5)
            .says(&says)
            .says(&["hint: `rootbuild lock tiny` writes it anew"]);
        let _ = project.rootbuild(&["provision", "--locked"]).expect(2).says(&says);
        let _ = project.rootbuild(&["provision"]).expect(2).says(&says);
        let _ = project.rootbuild(&["plan"]).expect(2).says(&says);
        assert_eq!(read(&project), answered, "nobody but `lock` writes it");
    }
    let json = project.rootbuild(&["lock", "--check", "--json"]).expect(5);
    let found = &json.json()["bases"][0];
    assert_eq!(found["status"], "stale");
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(found["problems"][0]["line"], 1);

    // `lock` is the way out of all of these.
    project.write("rootbuild.toml", &DEFINITION.replace("\"tool\"", "\"deep\""));
    project.write("bases/tiny.repo", &format!("{repo}exclude=nothing\n"));
    let _ = project.rootbuild(&["lock"]).expect(0);
    let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    assert_eq!(locked(&read(&project)), "app-1 deep-1 lib-1 lib-common-1 other-1 strict-1");
}

#[test]
fn a_base_that_names_no_lock_is_told_which_line_to_add() {
    let project = tiny();
    project.write("rootbuild.toml", &DEFINITION.replace("lock = \"bases/tiny.lock\"\n", ""));
    let line = "add `lock = \"tiny.lock\"` to `[base.tiny]`";
    let _ = project.rootbuild(&["lock"]).expect(2).says(&["names a lock file", line]);
    let _ = project.rootbuild(&["lock", "tiny"]).expect(2).says(&["rootbuild.toml:1", line]);
    let _ = project.rootbuild(&["provision", "--locked"]).expect(2).says(&["rootbuild.toml:1", line]);
    let _ = project.rootbuild(&["lock", "tny"]).expect(2).says(&["no base `tny`", "did you mean `tiny`?"]);
}

#[test]
fn bases_that_ask_for_different_packages_share_no_lock() {
    let project = tiny();
    let other = DEFINITION
        .replace("tiny]", "more]")
        .replace("    \"strict\",\n", "")
        .replace("base = \"tiny\"", "base = \"more\"");
    project.write("rootbuild.toml", &format!("{DEFINITION}\n{other}"));
    let says =
        ["rootbuild.toml:23", "base `more` can't share the lock file `bases/tiny.lock` with base `tiny`"];
    let _ = project.rootbuild(&["lock"]).expect(2).says(&says);
    assert!(!project.dir().join("bases/tiny.lock").exists());
}

#[test]
fn another_key_in_the_place_of_the_locked_one_is_found_out() {
    let project = Project::with_own_store();
    let standin = rootbuild_tests::standin();
    let key = |name: &Path| fs::copy(name, project.dir().join("bases/KEY")).expect("the key is there");
    project.write("bases/el7.repo", "[os]\nname=stand-in\nbaseurl=@URL@/os\ngpgcheck=1\ngpgkey=KEY\n");
    key(&standin.dir.join("RPM-GPG-KEY-standin"));
    project.write(
        "rootbuild.toml",
        "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"standin-hello\"]\nlock = \"el7.lock\"\n[root.x]\nbase = \"el7\"\n",
    );
    let _ = project.rootbuild(&["lock"]).expect(0);
    let _ = project.rootbuild(&["lock", "--check"]).expect(0);
    key(&standin.variants.join("RPM-GPG-KEY-wrong"));
    let says = ["bases/el7.repo:5", "the keys of the repository `os` are now", "locked are"];
    let _ = project.rootbuild(&["lock", "--check"]).expect(5).says(&says);
    if privileged("another_key_in_the_place_of_the_locked_one_is_found_out") {
        let _ = project.rootbuild(&["provision", "--locked"]).expect(2).says(&says);
    }
}

#[test]
fn a_lock_of_an_older_rootbuild_is_refused_until_it_is_renewed() {
    let project = aged();
    let now = read(&project);
    let mut old = now.replace("version = 2", "version = 1");
    for line in now.lines().filter(|line| line.starts_with("source_rpm")) {
        old = old.replacen(&format!("{line}\n"), "", 1);
    }
    let old = old
        .replace("evr = \"1-1.el7\"", "epoch = 0\nversion = \"1\"\nrelease = \"1.el7\"")
        .replace("repomd_sha256", "urls = []\nrepomd_sha256");
    project.write("bases/tiny.lock", &old);
    let _ = project.rootbuild(&["provision"]).expect(2).says(&["has version 1", "`rootbuild lock tiny`"]);
    let _ = project.rootbuild(&["lock", "--check"]).expect(5).says(&["has version 1"]);
    let _ = project.rootbuild(&["lock"]).expect(0);
    assert_eq!(locked(&read(&project)), locked(&now), "with the packages that it had");
    // A merge that went wrong is nothing to guess from.
    project.write("bases/tiny.lock", &now.replace("[request]", "<<<<<<< HEAD\n[request]"));
    for arguments in [&["lock"][..], &["lock", "--check"], &["provision", "--locked"]] {
        let _ = project.rootbuild(arguments).expect(2).says(&[
            "no lock file",
            "bases/tiny.lock:7",
            "version control",
        ]);
    }
    let _ = project.rootbuild(&["lock", "--update"]).expect(0);
    assert!(locked(&read(&project)).starts_with("app-ng-3 "));
}

#[test]
fn what_can_not_be_resolved_leaves_the_lock_as_it_was() {
    let project = aged();
    let before = read(&project);
    project.write("rootbuild.toml", &DEFINITION.replace("\"tool\"", "\"nothing-like-it\""));
    let _ =
        project.rootbuild(&["lock"]).expect(1).says(&["base `tiny` can't be locked", "`nothing-like-it`"]);
    assert_eq!(read(&project), before);
    project.write("rootbuild.toml", DEFINITION);
    fs::remove_dir_all(project.dir().join("repo")).expect("the repository is there");
    let _ = project.rootbuild(&["lock", "--update"]).expect(1).says(&["`tiny`", "bases/tiny.repo:1"]);
    assert_eq!(read(&project), before);
    let _ = project.rootbuild(&["lock"]).expect(0);
}

#[test]
fn a_killed_lock_leaves_a_whole_file_or_none() {
    let project = tiny();
    let whole = {
        let _ = project.rootbuild(&["lock"]).expect(0);
        read(&project)
    };
    for pause in [20, 80, 140, 200, 260, 320, 380, 440] {
        let _ = fs::remove_file(project.dir().join("bases/tiny.lock"));
        let mut child = project
            .command(&["lock"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rootbuild runs");
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().expect("it is ours");
        let _ = child.wait();
        let path = project.dir().join("bases/tiny.lock");
        assert!(!path.exists() || read(&project) == whole, "after {pause} ms");
    }
    let _ = project.rootbuild(&["lock"]).expect(0);
    assert_eq!(read(&project), whole);
    let left = |dir: &Path| fs::read_dir(dir).map_or(0, Iterator::count);
    assert_eq!(left(&project.store().join("staging")), 0, "the next one sweeps what was left");
}

#[test]
fn nobody_needs_privileges_to_lock() {
    if !privileged("nobody_needs_privileges_to_lock") {
        return;
    }
    let project = tiny();
    // Somebody else's project, below a directory that he may enter.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(project.dir().join("bases/tiny.repo")).expect("the .repo file");
    let text = text.replace(&*project.dir().to_string_lossy(), &dir.path().to_string_lossy());
    project.write("bases/tiny.repo", &text);
    let binary = dir.path().join("rootbuild");
    fs::copy(rootbuild_tests::rootbuild_binary(), &binary).expect("the binary is there");
    for (command, arguments) in [
        ("cp", "-r @FROM@/repo @FROM@/bases @FROM@/rootbuild.toml @TO@"),
        ("chown", "-R 65534 @TO@"),
        ("chmod", "-R a+rX @TO@"),
    ] {
        let arguments = arguments
            .replace("@FROM@", &project.dir().to_string_lossy())
            .replace("@TO@", &dir.path().to_string_lossy());
        let status = std::process::Command::new(command).args(arguments.split(' ')).status();
        assert!(status.expect("it runs").success());
    }
    let ran = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "--"])
        .arg(&binary)
        .arg("lock")
        .current_dir(dir.path())
        .env("TMPDIR", "/tmp")
        .output();
    let _ = Ran::new(&ran.expect("setpriv runs")).expect(0);
    let lock = dir.path().join("bases/tiny.lock");
    assert!(locked(&fs::read_to_string(&lock).expect("the lock was written")).starts_with("app-1 deep-1"));
    // What root writes beside it belongs to him too.
    use std::os::unix::fs::MetadataExt as _;
    fs::remove_file(&lock).expect("it is there");
    let ran = project.command(&["lock", "-f"]).arg(dir.path()).output();
    let _ = Ran::new(&ran.expect("rootbuild runs")).expect(0);
    assert_eq!(fs::metadata(&lock).expect("the lock was written").uid(), 65534);
}

#[test]
fn a_root_has_what_is_locked_and_moves_with_its_lock() {
    if !privileged("a_root_has_what_is_locked_and_moves_with_its_lock") {
        return;
    }
    let project = Project::with_own_store();
    project.write_standin_repo();
    let both = fs::read_to_string(project.dir().join("bases/el7.repo")).expect("the .repo file");
    let (os, _) = both.split_once("[updates]").expect("two repositories");
    project.write("bases/el7.repo", os);
    let definition = "[base.el7]\nsource = \"rpm\"\nrepos = [\"bases/el7.repo\"]\npackages = [\"setup\", \"filesystem\", \"bash\", \"rpm\", \"standin-hello\"]\n\
         lock = \"bases/el7.lock\"\n[root.moves]\nbase = \"el7\"\n";
    project.write("rootbuild.toml", definition);
    let _ = project.rootbuild(&["lock"]).expect(0);
    let inside = || installed_packages(&project, "moves");
    let in_lock = || locked_packages(&project.dir().join("bases/el7.lock"));
    let _ = project.rootbuild(&["provision", "--locked"]).expect(0);
    assert_eq!(inside(), in_lock());
    assert!(in_lock().contains("standin-hello 1.0-"), "{}", in_lock());

    // A further repository is a further line; its newer packages come when they are asked for.
    project.write("bases/el7.repo", &both);
    let line = both.lines().position(|line| line == "[updates]").expect("it is there") + 1;
    let _ = project
        .rootbuild(&["provision", "--locked"])
        .expect(2)
        .says(&[&format!("bases/el7.repo:{line}"), "the repository `updates` isn't locked"]);
    let ran = project.rootbuild(&["lock"]).expect(0);
    assert!(
        ran.stdout.contains("no package changed") && ran.stdout.contains("`updates` isn't locked"),
        "{}",
        ran.stdout
    );
    let ran = project.rootbuild(&["lock", "--update", "standin-hello"]).expect(0);
    let rows = rows(&ran);
    assert_eq!(rows, ["standin-hello.noarch 1.0-1.el7 -> 1.1-1.el7 os -> updates"]);
    let ran = project.rootbuild(&["provision", "--locked", "--json"]).expect(0);
    assert_eq!(statuses(&ran), ["built"]);
    assert!(in_lock().contains("standin-hello 1.1-"), "{}", in_lock());
    assert_eq!(inside(), in_lock());
}
