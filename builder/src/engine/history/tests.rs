use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

fn part(kind: &str, subject: &str, value: &str) -> Part {
    Part { kind: kind.into(), subject: subject.into(), value: Some(value.into()) }
}

fn key(text: &str) -> LayerKey {
    LayerKey(Digest::of(text.as_bytes()))
}

fn record(tree: &str) -> Record {
    Record {
        tree: Digest::of(tree.as_bytes()),
        inputs: Vec::new(),
        seconds: 3.0,
        created: "2026-01-01T00:00:00Z".into(),
        facts: json!({}),
    }
}

fn parts() -> Vec<Part> {
    vec![part("parent", "base:el7", "b3:1"), part("host", "host", "web0"), part("variable", "pin", "1234")]
}

fn came<'a>(record: &'a Record, key: LayerKey, parts: Vec<Part>, made: Option<Made>) -> Came<'a> {
    Came { step: "site.yml", key, record, made_for: None, parts, made }
}

fn made(reasons: Vec<Told>) -> Made {
    let at = "2026-01-01T00:00:00Z".into();
    Made { status: LayerStatus::Built, at, seconds: 3.0, tasks_run: 4, tasks_replayed: 0, reasons }
}

fn told(reasons: &[Reason]) -> Vec<(&str, &str, Option<&str>, Option<&str>)> {
    reasons.iter().map(|it| (it.kind, it.subject.as_str(), it.old.as_deref(), it.new.as_deref())).collect()
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    World { dir, store }
}

impl World {
    fn history(&self) -> History {
        History::of(&self.store, Path::new("/p/rootbuild.toml"), "web")
    }
}

#[test]
fn what_is_remembered_is_found_again_with_its_values() {
    let world = world();
    let reason = Told { kind: "variable".into(), subject: "pin".into(), old: None, new: Some("1234".into()) };
    let made = made(vec![reason]);
    world.history().remember(0, came(&record("a"), key("k"), parts(), Some(made.clone()))).unwrap();
    let history = world.history();
    let latest = history.step(0, "site.yml").unwrap();
    assert_eq!((latest.parts.clone(), latest.made.clone()), (parts(), Some(made)));
    assert!(history.step(0, "other.yml").is_none());
}

#[test]
fn values_of_variables_are_for_root_alone() {
    let world = world();
    let reason = Told { kind: "variable".into(), subject: "pin".into(), old: Some("99".into()), new: None };
    world.history().remember(0, came(&record("a"), key("k"), parts(), Some(made(vec![reason])))).unwrap();
    let dir = world.history().dir;
    let text = fs::read_to_string(dir.join("0.json")).unwrap();
    assert!(text.contains("pin") && text.contains("web0"), "{text}");
    assert!(!text.contains("1234") && !text.contains("99"), "{text}");
    let mode = fs::metadata(dir.join("0.private.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Whoever can't read it learns that it changed, and nothing more.
    fs::remove_file(dir.join("0.private.json")).unwrap();
    let latest = world.history().step(0, "site.yml").unwrap().clone();
    assert_eq!(differences(&latest.parts, &parts()), []);
    let mut now = parts();
    now[2].value = Some("4321".into());
    assert_eq!(told(&differences(&latest.parts, &now)), [("variable", "pin", None, None)]);
    drop(world.dir);
}

#[test]
fn a_layer_that_is_found_again_keeps_how_it_was_made_and_another_one_does_not() {
    let world = world();
    world.history().remember(0, came(&record("a"), key("k"), parts(), Some(made(Vec::new())))).unwrap();
    world.history().remember(0, came(&record("a"), key("k"), parts(), None)).unwrap();
    assert!(world.history().step(0, "site.yml").unwrap().made.is_some());
    world.history().remember(0, came(&record("b"), key("k"), parts(), None)).unwrap();
    assert!(world.history().step(0, "site.yml").unwrap().made.is_none());
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let world = world();
    world.history().remember(0, came(&record("a"), key("k"), parts(), None)).unwrap();
    let path = world.history().dir.join("0.json");
    let before = fs::metadata(&path).unwrap();
    world.history().remember(0, came(&record("a"), key("k"), parts(), None)).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&before), std::os::unix::fs::MetadataExt::ino(&after));
}

#[test]
fn a_key_that_changed_is_told_by_its_parts() {
    let now = vec![
        part("parent", "common.yml", "b3:2"),
        part("host", "host", "web1"),
        part("variable", "debug", "true"),
    ];
    assert_eq!(
        told(&differences(&parts(), &now)),
        [
            ("parent", "common.yml", Some("b3:1"), Some("b3:2")),
            ("host", "host", Some("web0"), Some("web1")),
            ("variable", "debug", None, Some("true")),
            ("unset", "pin", Some("1234"), None),
        ]
    );
}

#[test]
fn a_layer_without_a_record_is_explained_by_the_latest_one_of_its_step() {
    let world = world();
    world.history().remember(0, came(&record("a"), key("k"), parts(), None)).unwrap();
    let history = world.history();
    let latest = history.step(0, "site.yml");
    let new = || vec![Reason::new("new", "site.yml")];
    let kinds = |reasons: Vec<Reason>| reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>();
    assert_eq!(kinds(complete(new(), None, &key("k"), &parts(), None)), ["new"]);
    assert_eq!(kinds(complete(new(), latest, &key("k"), &parts(), None)), ["lost"]);
    assert_eq!(kinds(complete(new(), latest, &key("other"), &parts(), None)), ["rootbuild"]);
    assert_eq!(kinds(complete(new(), latest, &key("other"), &parts(), Some("a.tar"))), ["file"]);
    let changed = vec![Reason::new("file", "x")];
    assert_eq!(complete(changed.clone(), latest, &key("k"), &parts(), None), changed);
}

#[test]
fn layers_of_steps_that_are_gone_are_forgotten_and_rubbish_is_passed_over() {
    let world = world();
    let mut history = world.history();
    for index in 0..4 {
        history.remember(index, came(&record("a"), key("k"), parts(), None)).unwrap();
    }
    history.forget_after(2);
    assert_eq!(world.history().layers.len(), 2);
    let dir = world.history().dir;
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 4);
    fs::write(dir.join("1.json"), "{").unwrap();
    assert_eq!(world.history().layers.len(), 1);
}
