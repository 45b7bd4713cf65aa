//! The project that is edited, its store, and what a provision of it did.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, thread};

use rootbuild_tests::{Project, Ran, rootbuild_binary, source};
use serde_json::Value;

/// A change of the project, as it is in the repository. Paths are relative to the Ansible project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// Another date.
    Touch(&'static str),
    /// More at a file's end.
    Append(&'static str, &'static str),
    /// A text in a file, found once, becomes another.
    Replace(&'static str, &'static str, &'static str),
    /// A file is this.
    Write(&'static str, &'static str),
}

/// What a provision gave.
#[derive(Debug, Clone)]
pub(super) struct Built {
    /// The playbook layer's status.
    pub(super) status: String,
    /// The tree.
    pub(super) tree: String,
    /// All tasks that ended, in order.
    pub(super) all: Vec<String>,
    /// Those that weren't replayed.
    pub(super) ran: Vec<String>,
}

/// The project on a store of its own, and a second store for builds from nothing.
pub(super) struct Cluster {
    project: Project,
    fresh: PathBuf,
}

/// A store with the base and both versions of ansible-core, kept between test runs: stores are copied from it.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = source().join("target/e2e-changes");
        let (project, store) = (dir.join("project"), dir.join("store"));
        fs::create_dir_all(&project).expect("target/ is writable");
        let definition = fs::read_to_string(pristine().join("rootbuild.toml")).expect("it is there");
        let (shared, _) = definition.split_once("project =").expect("the base and ansible-core come first");
        fs::write(
            project.join("ping.yml"),
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n",
        )
        .expect("writable");
        // ansible-core is installed by being used.
        for core in ["2.16.19", "2.19.14"] {
            let text = format!(
                "{}[root.template]\nbase = \"small\"\nhost = \"localhost\"\nplaybooks = [\"ping.yml\"]\n",
                shared.replace("2.16.19", core)
            );
            fs::write(project.join("rootbuild.toml"), text).expect("writable");
            let mut command = Command::new(rootbuild_binary());
            command.args(["provision", "--quiet", "--store"]).arg(&store).current_dir(&project);
            let _ = Ran::new(&command.output().expect("rootbuild runs")).expect(0);
        }
        store
    })
}

/// The project as it is in the repository.
fn pristine() -> PathBuf {
    source().join("tests/tests/e2e/changes/project")
}

fn copy(options: &str, from: &Path, to: &Path) {
    let status = Command::new("cp").arg(options).arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {} {}", from.display(), to.display());
}

impl Cluster {
    /// The project as it is, with nothing provisioned but the base, in both stores.
    pub(super) fn new() -> Self {
        let project = Project::with_own_store();
        let cluster = Self { fresh: project.dir().join("fresh"), project };
        cluster.write(&[]);
        for store in [cluster.project.store(), &cluster.fresh] {
            fs::create_dir_all(store).expect("writable");
            for part in ["format", "layers", "objects", "trees", "toolchains", "ansible"] {
                copy("-al", &template().join(part), &store.join(part));
            }
        }
        cluster
    }

    fn ansible(&self) -> PathBuf {
        self.project.dir().join("ansible")
    }

    /// The project as it is in the repository, with these edits. Files have the dates that they have there.
    pub(super) fn write(&self, edits: &[&Edit]) {
        let dir = self.project.dir();
        let _ = fs::remove_dir_all(self.ansible());
        copy("-a", &pristine().join("ansible"), dir);
        copy("-a", &pristine().join("rootbuild.toml"), &dir.join("rootbuild.toml"));
        for edit in edits {
            self.edit(edit);
        }
    }

    fn edit(&self, edit: &Edit) {
        let path = |name: &str| self.ansible().join(name);
        match *edit {
            Edit::Touch(name) => {
                let text = fs::read(path(name)).expect("it is there");
                fs::write(path(name), text).expect("writable");
            }
            Edit::Append(name, more) => {
                let text = fs::read_to_string(path(name)).expect("it is there");
                fs::write(path(name), text + more).expect("writable");
            }
            Edit::Replace(name, old, new) => {
                let text = fs::read_to_string(path(name)).expect("it is there");
                assert_eq!(text.matches(old).count(), 1, "{old:?} in {name}");
                fs::write(path(name), text.replace(old, new)).expect("writable");
            }
            Edit::Write(name, text) => {
                fs::create_dir_all(path(name).parent().expect("it has one")).expect("writable");
                fs::write(path(name), text).expect("writable");
            }
        }
    }

    /// Provisions; what failed, if it does.
    pub(super) fn provision(&self, arguments: &[&str]) -> Result<Built, String> {
        let events = self.project.dir().join("events");
        let _ = fs::remove_file(&events);
        let path = events.to_string_lossy().into_owned();
        let ran = self.project.rootbuild(&[&["provision", "--json", "--events", &path], arguments].concat());
        if ran.code != 0 {
            return Err(ran.stderr);
        }
        let root = ran.json()["roots"][0].clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let told = fs::read_to_string(&events).expect("events were written");
        let ended: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event is JSON"))
            .filter(|event: &Value| event["event"] == "task-ended")
            .collect();
        let layers = root["layers"].as_array().expect("layers");
        Ok(Built {
            status: text(&layers.last().expect("a layer")["status"]),
            tree: text(&root["tree"]),
            all: ended.iter().map(|event| text(&event["name"])).collect(),
            ran: ended
                .iter()
                .filter(|event| event["replayed"] != true)
                .map(|event| text(&event["name"]))
                .collect(),
        })
    }

    /// The tree that a build from nothing gives: on another store, without records and journals.
    pub(super) fn built_from_nothing(&self) -> String {
        let store = self.fresh.to_string_lossy().into_owned();
        let arguments = [
            "provision",
            "--json",
            "--quiet",
            "--rebuild",
            "ansible/site.yml",
            "--no-replay",
            "--store",
            &store,
        ];
        let ran = self.project.rootbuild(&arguments).expect(0);
        ran.json()["roots"][0]["tree"].as_str().expect("a tree").to_owned()
    }

    /// A copy of the journals that the store has now.
    pub(super) fn journals(&self) -> PathBuf {
        let kept = self.project.dir().join("journals");
        let replays = self.project.store().join("replays");
        if replays.exists() {
            copy("-a", &replays, &kept);
        }
        kept
    }

    /// Forgets what was remembered since `journals`.
    pub(super) fn bring_back(&self, journals: &Path) {
        let replays = self.project.store().join("replays");
        if journals.exists() {
            fs::remove_dir_all(&replays).expect("it was there");
            copy("-a", journals, &replays);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the project was in {}", self.project.dir().display());
        }
    }
}
