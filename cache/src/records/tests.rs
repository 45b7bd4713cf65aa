use std::thread;

use super::*;
use crate::{Digest, Input};

pub(crate) fn record(input: &str, tree: u32) -> Record {
    Record {
        tree: Digest::of(&tree.to_le_bytes()),
        inputs: vec![
            Input { kind: "absent".into(), name: "host_vars/x.yml".into(), digest: None },
            Input {
                kind: "file".into(),
                name: "site.yml".into(),
                digest: Some(Digest::of(input.as_bytes())),
            },
        ],
        seconds: 1.5,
        created: "2025-11-21T19:00:00Z".into(),
        facts: serde_json::json!({"tasks": {"ok": 3}, "host": "hgweb0"}),
    }
}

fn store() -> (tempfile::TempDir, Store, LayerKey) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store, LayerKey(Digest::of(b"key")))
}

fn files(store: &Store, key: &LayerKey) -> Vec<u64> {
    numbers(&store.records_dir(key)).unwrap()
}

#[test]
fn records_come_back_newest_first() {
    let (_dir, store, key) = store();
    assert_eq!(store.records(&key).unwrap(), []);
    let records = [record("a", 1), record("b", 2), record("c", 1)];
    for record in &records {
        store.add_record(&key, record).unwrap();
    }
    let found = store.records(&key).unwrap();
    assert_eq!(found, [records[2].clone(), records[1].clone(), records[0].clone()]);
    assert_eq!(store.records(&LayerKey(Digest::of(b"other"))).unwrap(), []);
}

#[test]
fn a_record_replaces_one_with_equal_inputs() {
    let (_dir, store, key) = store();
    for (input, tree) in [("a", 1), ("b", 2), ("a", 3)] {
        store.add_record(&key, &record(input, tree)).unwrap();
    }
    assert_eq!(store.records(&key).unwrap(), [record("a", 3), record("b", 2)]);
    assert_eq!(files(&store, &key).len(), 2);
}

#[test]
fn the_oldest_records_go_first() {
    let (_dir, store, key) = store();
    for number in 0..40u32 {
        store.add_record(&key, &record(&number.to_string(), number)).unwrap();
    }
    let found = store.records(&key).unwrap();
    let want: Vec<Record> = (8..40).rev().map(|number| record(&number.to_string(), number)).collect();
    assert_eq!(found, want);
    assert_eq!(files(&store, &key).len(), MAX_RECORDS);
}

#[test]
fn a_record_that_cannot_be_read_is_passed_over() {
    let (_dir, store, key) = store();
    store.add_record(&key, &record("a", 1)).unwrap();
    let dir = store.records_dir(&key);
    let sound = fs::read_to_string(dir.join("1.json")).unwrap();
    let strange = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        sound[..sound.len() / 2].to_owned(),
        sound.replace("\"schema\": 1", "\"schema\": 2"),
        sound.replace("\"schema\": 1", "\"schema\": \"1\""),
        sound.replace(&key.0.hex(), &Digest::of(b"other").hex()),
        sound.replace("\"inputs\"", "\"outputs\""),
        "\u{0}".repeat(100),
    ];
    for (number, text) in strange.iter().enumerate() {
        assert_ne!(*text, sound);
        fs::write(record_path(&dir, number as u64 + 2), text).unwrap();
    }
    fs::write(dir.join("README"), "not a record").unwrap();
    fs::create_dir(dir.join("99.json")).unwrap();
    assert_eq!(store.records(&key).unwrap(), [record("a", 1)]);
    store.add_record(&key, &record("b", 2)).unwrap();
    assert_eq!(store.records(&key).unwrap(), [record("b", 2), record("a", 1)]);
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let (_dir, store, key) = store();
    store.add_record(&key, &record("a", 1)).unwrap();
    let path = record_path(&store.records_dir(&key), 1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"colour\": [1, 2],", 1)).unwrap();
    assert_eq!(store.records(&key).unwrap(), [record("a", 1)]);
}

/// Records lie in every store there is. If this text changes, so must `RECORD_VERSION`.
#[test]
fn the_text_of_a_known_record_never_changes() {
    let (_dir, store, key) = store();
    store.add_record(&key, &record("a", 1)).unwrap();
    let text = fs::read_to_string(record_path(&store.records_dir(&key), 1)).unwrap();
    insta::assert_snapshot!(text, @r#"
    {
      "schema": 1,
      "key": "b3:ff8e2bab3b26e0c127002127905539b47eb421de85d554e15f55a446459b52b4",
      "record": {
        "tree": "b3:c610e85212d0697cb161d4ba431ba603f273feee7dcb7927c9ff5d74ae6cbfa3",
        "inputs": [
          {
            "kind": "absent",
            "name": "host_vars/x.yml",
            "digest": null
          },
          {
            "kind": "file",
            "name": "site.yml",
            "digest": "b3:17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f"
          }
        ],
        "seconds": 1.5,
        "created": "2025-11-21T19:00:00Z",
        "facts": {
          "tasks": {
            "ok": 3
          },
          "host": "hgweb0"
        }
      }
    }
    "#);
}

#[test]
fn many_can_add_records_at_once() {
    let (_dir, store, key) = store();
    thread::scope(|scope| {
        for adder in 0..4u32 {
            let store = Store::open(store.dir()).unwrap();
            scope.spawn(move || {
                for number in 0..5u32 {
                    store.add_record(&key, &record(&format!("{adder} {number}"), number)).unwrap();
                    assert!(!store.records(&key).unwrap().is_empty());
                }
            });
        }
    });
    assert_eq!(store.records(&key).unwrap().len(), 20);
}
