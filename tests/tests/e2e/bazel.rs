//! The Bazel rules: Debian's Bazel, offline, on a copy of `bazel/e2e/smoke`, counting what is really built.
//!
//! `make test-bazel` runs this alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rootbuild_tests::{
    Project, Ran, machine_archive, privileged, rootbuild_binary, shared_store, skipped, source,
};
use serde_json::Value;

/// Repositories that Bazel 4 itself asks for, as far as it does when it looks for toolchains: they are elsewhere.
const BUILTIN: &[(&str, &str, &str)] = &[
    (
        "rules_cc",
        "cc/defs.bzl",
        "cc_binary cc_library cc_proto_library cc_import cc_test cc_toolchain cc_toolchain_suite",
    ),
    (
        "rules_java",
        "java/defs.bzl",
        "java_binary java_library java_import java_toolchain java_runtime java_test java_proto_library",
    ),
    ("rules_proto", "proto/defs.bzl", "proto_library"),
    ("remote_coverage_tools", "none/defs.bzl", ""),
];

/// A workspace with a server of its own, which is shut down when this is dropped.
struct Workspace {
    project: Project,
}

impl Workspace {
    /// A copy of the smoke test's, or a line that says why there is none.
    fn new(test: &str) -> Option<Self> {
        if !privileged(test) {
            return None;
        }
        if !Path::new("/usr/bin/bazel-4").exists() {
            skipped(test, "needs Debian's bazel-bootstrap: `tools/install --bazel` installs it");
            return None;
        }
        let workspace = Self { project: Project::with_own_store() };
        let copied =
            Command::new("cp").args(["-r"]).arg(source().join("bazel")).arg(workspace.project.dir()).status();
        assert!(copied.expect("cp runs").success());
        fs::hard_link(machine_archive(), workspace.dir().join("base.tar")).expect("it is there");
        for (name, file, rules) in BUILTIN {
            let (package, _) = file.split_once('/').expect("a package");
            let rules: String = rules
                .split(' ')
                .filter(|rule| !rule.is_empty())
                .fold(String::new(), |text, rule| text + &format!("{rule} = native.{rule}\n"));
            let build =
                "filegroup(name = \"coverage_report_generator\", visibility = [\"//visibility:public\"])\n";
            workspace
                .project
                .write(&format!("builtin/{name}/WORKSPACE"), "")
                .write(&format!("builtin/{name}/BUILD"), build)
                .write(&format!("builtin/{name}/{package}/BUILD"), "")
                .write(&format!("builtin/{name}/{file}"), &rules);
        }
        // What Bazel calls says what it does.
        let tool = format!(
            "#!/bin/sh\nexec '{}' --events '{}' \"$@\"\n",
            rootbuild_binary().display(),
            workspace.log().display()
        );
        workspace.project.write("rootbuild", &tool);
        let chmod = Command::new("chmod").arg("755").arg(workspace.project.dir().join("rootbuild")).status();
        assert!(chmod.expect("chmod runs").success());
        workspace.fill_store();
        Some(workspace)
    }

    /// A store, with the ansible-core that other tests use too.
    fn fill_store(&self) {
        let _ = self.project.rootbuild(&["bazel", "info"]).expect(0);
        for name in ["toolchains", "ansible"] {
            let _ = fs::remove_dir_all(self.project.store().join(name));
            let mut copy = Command::new("cp");
            let copied = copy.arg("-al").arg(toolchains().join(name)).arg(self.project.store()).status();
            assert!(copied.expect("cp runs").success());
        }
    }

    /// The workspace's directory.
    fn dir(&self) -> PathBuf {
        self.project.dir().join("bazel/e2e/smoke")
    }

    fn log(&self) -> PathBuf {
        self.project.dir().join("events")
    }

    fn bazel(&self, command: &str) -> Command {
        let mut bazel = Command::new("bazel");
        // Should this process be killed, the server ends by itself.
        bazel.arg(format!("--output_user_root={}", self.project.dir().join("out").display()));
        bazel.args(["--nohome_rc", "--max_idle_secs=60", command]);
        if matches!(command, "build" | "run" | "test") {
            for (name, ..) in BUILTIN {
                let dir = self.project.dir().join("builtin").join(name);
                bazel.arg(format!("--override_repository={name}={}", dir.display()));
            }
            bazel.args(["--nosandbox_debug", "--noshow_progress"]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOTBUILD_") {
                bazel.env_remove(name);
            }
        }
        bazel
            .current_dir(self.dir())
            .env("ROOTBUILD", self.project.dir().join("rootbuild"))
            .env("ROOTBUILD_STORE", self.project.store())
            .stdin(Stdio::null());
        bazel
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut bazel = self.bazel(arguments[0]);
        Ran::new(&bazel.args(&arguments[1..]).output().expect("bazel runs")).expect(0)
    }

    /// Builds everything with `arguments` more, and gives how each layer came that rootbuild was asked for, sorted.
    #[track_caller]
    fn build(&self, arguments: &[&str]) -> Vec<String> {
        let _ = fs::remove_file(self.log());
        let _ = self.run(&[&["build", "//:host", "//app:web", "//app:api"], arguments].concat());
        let mut layers: Vec<String> = self
            .events("layer-finished")
            .iter()
            .map(|event| {
                let text = |key: &str| event[key].as_str().expect("text").to_owned();
                format!("{} {}", text("root"), text("status"))
            })
            .collect();
        layers.sort();
        layers
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
        events.filter(|event| event["event"] == kind).collect()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir().join(file);
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).expect("it can be written");
    }

    fn reference(&self) -> String {
        fs::read_to_string(self.dir().join("bazel-bin/app/web.rootbuild")).expect("it was built")
    }

    /// Takes everything out of the store that made up roots, and nothing that says so.
    fn lose_roots(&self) {
        for name in ["trees", "layers", "objects", "lowers", "replays"] {
            let dir = self.project.store().join(name);
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).expect("it was there");
        }
    }

    fn gc(&self, more: &[&str]) {
        let gc = ["cache", "gc", "-q", "--max-age", "0", "--keep-generations", "1"];
        let _ = self.project.rootbuild(&[&gc[..], more].concat()).expect(0);
        // It takes ansible-core too.
        self.fill_store();
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = self.bazel("shutdown").output();
    }
}

/// A store that has the ansible-core which the workspace names.
fn toolchains() -> &'static Path {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(provision_once);
    shared_store()
}

fn provision_once() {
    let project = Project::new();
    fs::hard_link(machine_archive(), project.dir().join("p.tar")).expect("it is there");
    project.write("site.yml", "- hosts: all\n  gather_facts: false\n  tasks: []\n").write(
        "rootbuild.toml",
        "[base.p]\nsource = \"archive\"\nfile = \"p.tar\"\nunverified = true\n[ansible]\ncore = \"2.19.14\"\n\
         [root.forbazel]\nbase = \"p\"\nplaybooks = [\"site.yml\"]\n",
    );
    let _ = project.rootbuild(&["provision", "-q"]).expect(0);
}

#[test]
fn the_srcs_that_a_root_reads_are_printed_and_a_build_file_that_lacks_one_is_told() {
    let test = "the_srcs_that_a_root_reads_are_printed_and_a_build_file_that_lacks_one_is_told";
    let Some(workspace) = Workspace::new(test) else { return };
    let it = &workspace;
    let definition = "[base.host]\nsource = \"archive\"\nfile = \"../base.tar\"\nunverified = true\n\
                      [ansible]\ncore = \"2.19.14\"\n[root.web]\nbase = \"host\"\nplaybooks = [\"site.yml\"]\n\
                      vars = { port = 8000 }\n";
    fs::write(it.dir().join("app/rootbuild.toml"), definition).expect("writable");
    fs::write(it.dir().join("app/motd.txt"), "here\n").expect("writable");
    fs::write(it.dir().join("app/roles/web/templates/unused.j2"), "").expect("writable");
    let definition = it.dir().join("app/rootbuild.toml");
    let plan = |more: &[&str]| {
        let mut plan = it.project.command(&["plan", "--bazel", "-f"]);
        Ran::new(&plan.arg(&definition).args(more).output().expect("rootbuild runs"))
    };
    let _ = plan(&[]).expect(1).says(&["site.yml", "rootbuild provision"]);
    let mut provision = it.project.command(&["provision", "-q", "-f"]);
    let _ = Ran::new(&provision.arg(&definition).output().expect("rootbuild runs")).expect(0);
    let printed = plan(&[]).expect(0).stdout;
    let files = ["motd.txt", "roles/web/tasks/main.yml", "roles/web/templates/web.conf.j2", "site.yml"];
    let lines: String = files.iter().map(|file| format!("    \"{file}\",\n")).collect();
    assert_eq!(printed, format!("# web\nsrcs = [\n{lines}],\n"));
    let recipe = || {
        let _ = it.run(&["build", "//app:web", "--output_groups=recipe"]);
        it.dir().join("bazel-bin/app/web.recipe").to_string_lossy().into_owned()
    };
    let _ = plan(&["--check", &recipe()]).expect(0);
    it.edit("app/BUILD.bazel", "glob([\"roles/**\"])", "glob([\"roles/*/tasks/**\"])");
    let lacking = plan(&["--check", &recipe()]).expect(5).stdout;
    assert_eq!(lacking, "//app:web: `app/roles/web/templates/web.conf.j2` isn't declared\n");
}

const NOTHING: [&str; 0] = [];

#[test]
fn bazel_builds_what_changed_and_nothing_else() {
    let Some(workspace) = Workspace::new("bazel_builds_what_changed_and_nothing_else") else { return };
    let it = &workspace;
    let template = "app/roles/web/templates/web.conf.j2";
    assert_eq!(it.build(&[]), ["api built", "host built", "web built"]);
    let first = it.reference();
    let read: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(read.as_object().expect("an object").len(), 3, "schema, key and tree: {first}");
    assert_eq!(it.build(&[]), NOTHING, "nothing changed");

    let touched = Command::new("touch").arg(it.dir().join("app/site.yml")).status();
    assert!(touched.expect("touch runs").success());
    assert_eq!(it.build(&[]), NOTHING, "touch");
    it.edit("app/BUILD.bazel", "genrule(", "# A comment.\ngenrule(");
    assert_eq!(it.build(&[]), NOTHING, "a comment in a BUILD file");
    let chmod = Command::new("chmod").arg("755").arg(it.dir().join(template)).status();
    assert!(chmod.expect("chmod runs").success());
    assert_eq!(it.build(&[]), NOTHING, "chmod");
    let mut bazel = it.bazel("build");
    bazel.args(["//app:web"]).env("FOO", "1").env("LC_ALL", "C");
    let _ = fs::remove_file(it.log());
    let _ = Ran::new(&bazel.output().expect("bazel runs")).expect(0);
    assert_eq!(it.events("started").len(), 0, "the caller's environment");

    // One template: one root, of which all tasks but one are answered by the journal.
    it.edit(template, "port {{", "listen {{");
    assert_eq!(it.build(&[]), ["web built"], "an edit");
    let ended = &it.events("layer-finished")[0];
    assert_eq!((&ended["tasks"], &ended["tasks_replayed"]), (&1.into(), &2.into()), "{ended}");
    assert_ne!(it.reference(), first);
    it.edit(template, "listen {{", "port {{");
    assert_eq!(it.build(&[]), ["web cached"], "taking it back");
    assert_eq!(it.reference(), first);

    fs::write(it.dir().join("app/roles/web/templates/unused.j2"), "").expect("writable");
    assert_eq!(it.build(&[]), ["web cached"], "a new file that nobody reads");
    let defaults = it.dir().join("app/roles/web/defaults");
    fs::create_dir(&defaults).expect("writable");
    fs::write(defaults.join("main.yml"), "x: 1\n").expect("writable");
    assert_eq!(it.build(&[]), ["web replayed"], "a new file that was looked for");
    it.edit("app/BUILD.bazel", "8000", "8001");
    assert_eq!(it.build(&[]), ["web built"], "a var");
    it.edit("app/BUILD.bazel", "8001", "8000");
    fs::remove_dir_all(&defaults).expect("writable");
    assert_eq!(it.build(&[]), ["web cached"], "and back");

    let _ = it.run(&["shutdown"]);
    assert_eq!(it.build(&[]), NOTHING, "another server");
    assert_eq!(it.build(&["-c", "opt"]), ["api cached", "host cached", "web cached"]);
    assert_eq!(it.reference(), first, "the same bytes in every configuration");
    let _ = it.run(&["clean"]);
    assert_eq!(it.build(&[]), ["api cached", "host cached", "web cached"], "clean");
    assert_eq!(it.reference(), first);

    let _ = it.run(&["test", "//app:web_test"]);
    assert!(it.run(&["run", "//app:web.explain"]).stdout.contains("app/site.yml"));
    let shown = it.run(&["run", "//app:web.shell", "--", "--", "cat", "/etc/web.conf"]);
    assert_eq!(shown.stdout, "port 8000\n");
}

#[test]
fn an_undeclared_file_is_not_found_and_modes_are_those_of_the_recipe() {
    let test = "an_undeclared_file_is_not_found_and_modes_are_those_of_the_recipe";
    let Some(workspace) = Workspace::new(test) else { return };
    let it = &workspace;
    fs::write(it.dir().join("app/secret"), "x").expect("writable");
    it.edit("app/api.yml", "src: motd.txt, dest: /etc/motd", "src: secret, dest: /etc/motd, mode: preserve");
    let mut bazel = it.bazel("build");
    let ran = Ran::new(&bazel.arg("//app:api").output().expect("bazel runs")).expect(1);
    let _ = ran.says(&["Could not find or access", "secret"]);
    it.edit("app/BUILD.bazel", "srcs = [\":motd\"],", "srcs = [\":motd\"], executables = [\"secret\"],");
    let _ = it.run(&["build", "//app:api"]);
    let mode = it.run(&["run", "//app:api.shell", "--", "--", "stat", "-c", "%a", "/etc/motd"]);
    assert_eq!(mode.stdout, "755\n");
}

#[test]
fn what_the_store_lost_is_built_again() {
    let Some(workspace) = Workspace::new("what_the_store_lost_is_built_again") else { return };
    let it = &workspace;
    let all = ["api built", "host built", "web built"];
    assert_eq!(it.build(&[]), all);
    let first = it.reference();

    // References keep their trees, even if nothing else knows of them.
    it.gc(&[]);
    let read: Value = serde_json::from_str(&first).expect("JSON");
    let tree = read["tree"].as_str().expect("a tree");
    let _ = it.project.rootbuild(&["pin", "probe", tree]).expect(0);
    let _ = it.project.rootbuild(&["unpin", "probe"]).expect(0);
    assert_eq!(it.build(&[]), NOTHING, "after a collection");
    let path = it.run(&["run", "//app:web.path"]).stdout;
    assert_eq!(
        fs::read_to_string(Path::new(path.trim()).join("etc/web.conf")).expect("it stands"),
        "port 8000\n"
    );

    // By force they go, and Bazel sees it.
    it.gc(&["--force"]);
    assert!(!it.dir().join("bazel-bin/app/web.rootbuild").exists());
    let again = it.build(&[]);
    assert_eq!(again.len(), 3, "after a collection by force: {again:?}");

    // Bazel believes in its outputs; who wants to use them finds the root made again.
    it.lose_roots();
    fs::remove_dir_all(it.project.store().join("roots")).expect("it was there");
    fs::create_dir(it.project.store().join("roots")).expect("it was there");
    let _ = it.build(&[]);
    let path = it.run(&["run", "//app:web.path"]).stdout;
    assert_eq!(
        fs::read_to_string(Path::new(path.trim()).join("etc/web.conf")).expect("it stands"),
        "port 8000\n"
    );

    // A store that is gone altogether is another epoch, with a disk cache too.
    let cache = format!("--disk_cache={}", it.project.dir().join("cache").display());
    let _ = it.build(&[&cache]);
    fs::remove_dir_all(it.project.store()).expect("it was there");
    it.fill_store();
    assert_eq!(it.build(&[&cache]), all, "after the store was lost");
    assert_eq!(it.build(&[&cache]), NOTHING);
    assert_eq!(it.reference(), first, "and gives the same tree");
}
