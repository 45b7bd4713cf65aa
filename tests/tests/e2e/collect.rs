//! The store is collected, checked and repaired: beside provisions, killed in the middle, whatever is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rootbuild_tests::{Project, privileged};
use serde_json::Value;

/// A project whose root `web` comes from an archive that holds `text`.
fn project() -> Project {
    let project = Project::with_own_store();
    project.write(
        "rootbuild.toml",
        "[base.a]\nsource = \"archive\"\nfile = \"a.tar\"\nunverified = true\n[root.web]\nbase = \"a\"\n",
    );
    project
}

/// Provisions with another content; the tree.
fn provision(project: &Project, text: &str) -> String {
    archive(project.dir(), text);
    let ran = project.rootbuild(&["provision", "--json"]).expect(0);
    ran.json()["roots"][0]["tree"].as_str().expect("a tree").to_owned()
}

fn archive(dir: &Path, text: &str) {
    let script = "rm -rf t; mkdir -p t/etc t/usr/bin; echo same > t/usr/bin/x; echo \"$1\" > t/etc/text
                  head -c 100000 /dev/zero | tr '\\0' \"$1\" > t/usr/big; tar -C t -cf a.tar.new .; mv a.tar.new a.tar";
    let made = Command::new("sh").args(["-euc", script, "sh", text]).current_dir(dir).status();
    assert!(made.expect("sh runs").success());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn whole(project: &Project) {
    let ran = project.rootbuild(&["cache", "fsck", "--json"]).expect(0);
    assert_eq!(ran.json()["findings"], Value::Array(Vec::new()));
}

#[test]
fn what_a_dry_run_tells_is_what_goes_and_what_stands_or_is_pinned_stays() {
    if !privileged("what_a_dry_run_tells_is_what_goes_and_what_stands_or_is_pinned_stays") {
        return;
    }
    let project = project();
    let first = provision(&project, "1");
    let _ = project.rootbuild(&["pin", "first", &first]).expect(0);
    for text in ["2", "3", "4"] {
        provision(&project, text);
    }
    let _ = project.rootbuild(&["pin", "nothing", "web@9"]).expect(1);
    let _ = project.rootbuild(&["pin", "../x", "web"]).expect(2);
    let collect = ["cache", "gc", "--json", "--max-age", "0"];
    let before = files(&project.store().join("objects")).len();
    let told = project.rootbuild(&[&collect[..], &["--dry-run"]].concat()).expect(0).json();
    assert_eq!(files(&project.store().join("objects")).len(), before);
    let done = project.rootbuild(&collect).expect(0).json();
    assert_eq!((&told["classes"], &told["freed"]), (&done["classes"], &done["freed"]));
    // Of four trees the current one, the one before, and the pinned one; each has two contents of its own.
    assert_eq!(files(&project.store().join("trees")).len(), 3);
    assert_eq!(files(&project.store().join("objects")).len(), 3 * 2 + 1);
    whole(&project);
    let again = project.rootbuild(&["provision", "--json"]).expect(0).json();
    assert_eq!(again["roots"][0]["layers"][0]["status"], "cached");
    let size = project.rootbuild(&["cache", "size", "--json"]).expect(0).json();
    assert_eq!(size["pins"][0]["name"], "first");
    let _ = project.rootbuild(&["unpin", "firs"]).expect(2).says(&["did you mean `first`?"]);
    let _ = project.rootbuild(&["unpin", "first"]).expect(0);
    let _ = project
        .rootbuild(&["cache", "gc", "--max-size", "1", "--keep-generations", "1"])
        .expect(0)
        .says(&["stay"]);
    assert_eq!(files(&project.store().join("trees")).len(), 1);
    whole(&project);
}

#[test]
fn whatever_is_collected_or_killed_beside_provisions_is_whole_afterwards() {
    if !privileged("whatever_is_collected_or_killed_beside_provisions_is_whole_afterwards") {
        return;
    }
    let rounds: u64 = std::env::var("ROOTBUILD_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(6);
    let projects: Vec<Project> = {
        let first = project();
        let others = (1..3).map(|number| {
            let other = Project::on_store(first.store().to_owned());
            let definition = fs::read_to_string(first.dir().join("rootbuild.toml")).expect("it is there");
            other.write("rootbuild.toml", &definition.replace("root.web", &format!("root.web{number}")));
            other
        });
        let others: Vec<_> = others.collect();
        std::iter::once(first).chain(others).collect()
    };
    for project in &projects {
        provision(project, "a");
    }
    let until = Instant::now() + Duration::from_secs(rounds);
    std::thread::scope(|scope| {
        for project in &projects {
            scope.spawn(move || {
                // The same few contents again and again: what one lets go another finds.
                for text in ["a", "b", "c", "d"].iter().cycle() {
                    if Instant::now() > until {
                        break;
                    }
                    provision(project, text);
                }
            });
        }
        for number in 0..2_u64 {
            let project = &projects[0];
            scope.spawn(move || {
                let mut round = 0;
                while Instant::now() < until {
                    let mut command =
                        project.command(&["cache", "gc", "--max-age", "0", "--keep-generations", "1"]);
                    if number == 0 {
                        let ran = command.output().expect("it runs");
                        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
                        continue;
                    }
                    // This one is killed, a little later each time.
                    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                    let mut child = started.expect("it runs");
                    round += 1;
                    std::thread::sleep(Duration::from_millis(round * 3 % 60));
                    child.kill().expect("it is ours");
                    child.wait().expect("it is ours");
                }
            });
        }
    });
    whole(&projects[0]);
    for project in &projects {
        let again = project.rootbuild(&["provision", "--json"]).expect(0).json();
        let path = again["roots"][0]["path"].as_str().expect("a path").to_owned();
        assert_eq!(fs::read_to_string(format!("{path}/usr/bin/x")).expect("it stands"), "same\n");
    }
    whole(&projects[0]);
    is_tidy(projects[0].store());
}

/// Nothing is left of anything that was killed.
fn is_tidy(store: &Path) {
    for dir in ["staging", "condemned", "leases"] {
        assert_eq!(files(&store.join(dir)), Vec::<PathBuf>::new(), "{dir}");
    }
}

#[test]
fn damage_ends_with_4_and_after_a_repair_a_provision_gives_the_same_tree() {
    if !privileged("damage_ends_with_4_and_after_a_repair_a_provision_gives_the_same_tree") {
        return;
    }
    let project = project();
    let tree = provision(&project, "1");
    whole(&project);
    let spoil = || {
        for object in files(&project.store().join("objects")) {
            fs::remove_file(&object).expect("it was there");
            fs::write(&object, "spoilt").expect("it can be written");
        }
    };
    spoil();
    let told = project.rootbuild(&["cache", "fsck", "--json"]).expect(4).json();
    assert_eq!(told["clean"], false);
    // The checkout still holds all of it.
    let _ = project.rootbuild(&["cache", "fsck", "--repair"]).expect(0);
    whole(&project);
    assert!(files(&project.store().join("quarantine")).len() >= 3);
    let cached = project.rootbuild(&["provision", "--json"]).expect(0).json();
    assert_eq!(cached["roots"][0]["layers"][0]["status"], "cached");
    // Where nothing holds it any more it is made again.
    spoil();
    for place in ["lowers", "checkouts", "published", "roots"] {
        let dir = project.store().join(place);
        fs::remove_dir_all(&dir).expect("it was there");
        fs::create_dir(&dir).expect("it was there");
    }
    let _ = project.rootbuild(&["cache", "fsck", "--repair", "-v"]);
    let again = project.rootbuild(&["provision", "--json"]).expect(0).json();
    assert_eq!(again["roots"][0]["tree"], tree.as_str());
    assert_eq!(again["roots"][0]["layers"][0]["status"], "built");
    let _ = project.rootbuild(&["cache", "fsck", "--repair"]);
    whole(&project);
}
