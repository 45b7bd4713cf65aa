//! A project with everything that Ansible offers, on every ansible-core, in a real sandbox.

// A test that cannot go on panics.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rootbuild_playbooks::event::{RunEvent, TaskStatus};
use support::{Bench, EVERY_VERSION, privileged};

fn copy_project(bench: &Bench) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project");
    let copied =
        Command::new("cp").arg("-a").arg(from.join(".")).arg(&bench.run.project.dir).status().unwrap();
    assert!(copied.success());
}

#[test]
fn what_works_with_ansible_playbook_works_here() {
    if !privileged("what_works_with_ansible_playbook_works_here") {
        return;
    }
    for &version in EVERY_VERSION {
        let mut bench = Bench::new(version);
        copy_project(&bench);
        let big: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(bench.dir.path().join("big"), big).unwrap();
        bench.run.playbook = bench.run.project.dir.join("everything.yml");
        bench.run.vars = serde_json::json!({
            "big": bench.dir.path().join("big"),
            "fetched": bench.dir.path().join("fetched"),
        });
        let outcome = bench.go().unwrap_or_else(|error| panic!("{version}: {error}"));

        let deferred: Vec<_> =
            outcome.deferred.iter().map(|(s, state)| (s.as_str(), state.as_str())).collect();
        let expected =
            [("one", "started"), ("two", "restarted"), ("three", "restarted"), ("one", "reloaded")];
        assert_eq!(deferred, expected);
        assert!(outcome.tasks > 40 && outcome.changed > 20, "{outcome:?}");

        let events = bench.events();
        let ended = |task: &str| {
            events.iter().find_map(|event| match event {
                RunEvent::Result { name, status, detail, source, .. } if name == task => {
                    Some((*status, detail.clone().unwrap_or_default(), source.clone()))
                }
                _ => None,
            })
        };
        let (status, detail, _) = ended("delegate to another machine").unwrap();
        assert_eq!(status, TaskStatus::Ignored);
        assert!(detail.contains("`web1` is another machine; while provisioning only `web0`"), "{detail}");
        let (status, detail, source) = ended("fails").unwrap();
        assert_eq!(status, TaskStatus::Failed);
        assert!(
            detail.contains("exit code: 1") && source.starts_with("everything.yml:"),
            "{detail} {source}"
        );
        assert_eq!(ended("app : write the unicode template").unwrap().0, TaskStatus::Changed);
        let handler = |event: &RunEvent| matches!(event, RunEvent::Task { handler: true, .. });
        assert_eq!(events.iter().filter(|event| handler(event)).count(), 1);

        // Secrets are neither told nor logged.
        let told = format!("{events:?}") + &bench.log();
        assert!(!told.contains("the secret word") && !told.contains("s3cr3t-parameter"));
        assert_eq!(fs::read_to_string(bench.made("etc/secret.test")).unwrap(), "the secret word");

        // Nothing of ours is left in the root, nothing is written into the project.
        assert!(!bench.made("run/rootbuild").exists());
        for name in ["ansible.log", "fact-cache", "filter_plugins/__pycache__"] {
            assert!(!bench.run.project.dir.join(name).exists(), "{name}");
        }
    }
}
