//! One recorded provision, as every sink tells it.

use std::path::PathBuf;

use indicatif::{InMemoryTerm, ProgressDrawTarget};
use rootbuild_cache::Digest;
use rootbuild_playbooks::event::TaskStatus;

use super::bars::Bars;
use super::json_lines::JsonLines;
use super::plain::Plain;
use crate::event::{Event, EventSink, LayerStatus};

fn text(text: &str) -> String {
    text.to_owned()
}

fn layer(root: &str, step: &str, index: usize, status: LayerStatus, tasks: u64) -> Event {
    let tree = Digest::of(step.as_bytes());
    let (root, step) = (text(root), text(step));
    let (tasks_replayed, verified) = (0, false);
    Event::LayerFinished { root, step, index, status, tree, tasks, tasks_replayed, verified, seconds: 12.3 }
}

/// Two roots: one is built up to its end, one fails in its playbook; a third only lends its base.
fn recorded() -> Vec<Event> {
    let (web, db) = (|| text("hgweb0"), || text("db"));
    let log = PathBuf::from("/store/logs/x.log");
    vec![
        Event::Started { roots: vec![web(), db()] },
        Event::RootStarted { root: web(), steps: vec![text("base:el7"), text("web.yml")] },
        Event::RootStarted { root: db(), steps: vec![text("base:el7"), text("db.yml")] },
        Event::LayerStarted { root: web(), step: text("base:el7"), index: 0, log: log.clone() },
        Event::Waiting { root: db(), step: text("base:el7"), index: 0, holder: text("root `hgweb0`") },
        Event::Phase { root: web(), text: text("downloading 168 packages") },
        Event::Progress { root: web(), done: 1 << 20, total: 5 << 20, bytes: true },
        Event::Line { root: web(), text: text("bash-5.1-2.x86_64") },
        layer("hgweb0", "base:el7", 0, LayerStatus::Built, 0),
        layer("db", "base:el7", 0, LayerStatus::Cached, 0),
        Event::LayerStarted { root: web(), step: text("web.yml"), index: 1, log: log.clone() },
        Event::LayerStarted { root: db(), step: text("db.yml"), index: 1, log: log.clone() },
        Event::Task {
            root: web(),
            name: text("web : motd\x1b[2J"),
            source: text("roles/web/tasks/main.yml:3"),
        },
        Event::Task { root: db(), name: text("initialise"), source: text("db.yml:4") },
        Event::Warning { root: db(), text: text("no `ansible.cfg` here") },
        Event::TaskEnded {
            root: db(),
            name: text("initialise"),
            source: text("db.yml:4"),
            status: TaskStatus::Failed,
            replayed: false,
            seconds: 0.5,
            detail: Some(text("no such command")),
        },
        Event::RootFailed {
            root: db(),
            step: Some(text("db.yml")),
            message: text("task `initialise` failed"),
            stopped: false,
            log: Some(log),
        },
        Event::ServiceDeferred { root: web(), service: text("httpd"), state: text("started") },
        layer("hgweb0", "web.yml", 1, LayerStatus::Built, 34),
        Event::Phase { root: web(), text: text("checking out") },
        Event::RootFinished {
            root: web(),
            tree: Digest::of(b"x"),
            path: PathBuf::from("/store/roots/hgweb0"),
            changed: true,
            seconds: 30.0,
        },
        Event::Finished { seconds: 95.2 },
    ]
}

fn plainly(verbose: bool, events: &[Event]) -> String {
    let sink = Plain::new(verbose);
    events.iter().flat_map(|event| sink.lines(event)).map(|line| line + "\n").collect()
}

#[test]
fn plain_lines_say_what_was_built_and_what_it_came_to() {
    insta::assert_snapshot!(plainly(false, &recorded()));
}

#[test]
fn plain_lines_tell_task_by_task_when_asked() {
    insta::assert_snapshot!(plainly(true, &recorded()));
}

#[test]
fn a_provision_that_builds_nothing_takes_one_line_for_each_root_and_one_for_all() {
    let done = |root: &str| Event::RootFinished {
        root: text(root),
        tree: Digest::of(b"x"),
        path: PathBuf::from("/store/roots").join(root),
        changed: false,
        seconds: 0.1,
    };
    let events = [
        Event::Started { roots: vec![text("a"), text("b")] },
        layer("a", "base:el7", 0, LayerStatus::Cached, 0),
        layer("b", "base:el7", 0, LayerStatus::Cached, 0),
        done("a"),
        done("b"),
        Event::Finished { seconds: 0.03 },
    ];
    insta::assert_snapshot!(plainly(false, &events));
}

#[test]
fn what_journals_answered_is_told_apart() {
    let layer = |step: &str, status, tasks, tasks_replayed, verified| {
        let (root, step, tree) = (text("a"), text(step), Digest::of(b"x"));
        let (index, seconds) = (0, 1.4);
        Event::LayerFinished { root, step, index, status, tree, tasks, tasks_replayed, verified, seconds }
    };
    let events = [
        Event::Started { roots: vec![text("a"), text("b")] },
        layer("one.yml", LayerStatus::Replayed, 0, 34, false),
        layer("two.yml", LayerStatus::Built, 1, 33, true),
        layer("three.yml", LayerStatus::Built, 4, 0, false),
        layer("four.yml", LayerStatus::Cached, 0, 0, false),
        layer("five.yml", LayerStatus::Cached, 0, 0, true),
        Event::Finished { seconds: 3.0 },
        Event::Started { roots: vec![text("a"), text("b")] },
        layer("one.yml", LayerStatus::Replayed, 0, 1, false),
        Event::Finished { seconds: 3.0 },
    ];
    insta::assert_snapshot!(plainly(false, &events));
}

#[test]
fn what_was_stopped_has_not_failed() {
    let stopped = Event::RootFailed {
        root: text("a"),
        step: Some(text("web.yml")),
        message: text("cancelled"),
        stopped: true,
        log: None,
    };
    let events = [
        Event::Started { roots: vec![text("a"), text("b")] },
        Event::Stopping { signal: 2 },
        stopped,
        Event::Finished { seconds: 3.0 },
    ];
    insta::assert_snapshot!(plainly(false, &events));
}

/// What stands on a terminal after each event.
fn screens(width: u16, verbose: bool) -> Vec<String> {
    let term = InMemoryTerm::new(30, width);
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
    let bars = Bars::on(target, None, verbose, "hgweb0".len());
    recorded()
        .iter()
        .map(|event| {
            bars.event(event);
            // More often than the target is drawn, events aren't shown.
            std::thread::sleep(std::time::Duration::from_millis(10));
            bars.redraw();
            term.contents().lines().map(|line| format!("{}\n", line.trim_end())).collect()
        })
        .collect()
}

#[test]
fn bars_show_what_each_root_is_doing_and_leave_nothing_behind() {
    let screens = screens(80, false);
    // While the base is downloaded, in the middle of the playbooks, and at the end.
    let shown = [6, 13, screens.len() - 1].map(|index| screens[index].as_str());
    insta::assert_snapshot!(shown.join("----\n"));
}

#[test]
fn bars_fit_a_narrow_terminal() {
    for screen in screens(40, false) {
        assert!(screen.lines().all(|line| line.chars().count() <= 40), "{screen}");
    }
}

#[test]
fn every_event_is_a_line_of_json_even_with_a_path_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    let sink = JsonLines::open(file.path()).unwrap();
    let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/caf\xe9/roots/a"));
    let mut events = recorded();
    events.push(Event::RootFinished {
        root: text("a"),
        tree: Digest::of(b"x"),
        path: odd,
        changed: true,
        seconds: 1.0,
    });
    events.iter().for_each(|event| sink.event(event));
    let written = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), events.len());
    assert!(lines.iter().all(|line| line["v"] == 1 && line["event"].is_string() && line["time"].is_string()));
    assert_eq!(lines.last().unwrap()["path"], "/caf\u{fffd}/roots/a");
    assert_eq!(lines[4]["holder"], "root `hgweb0`");
}
