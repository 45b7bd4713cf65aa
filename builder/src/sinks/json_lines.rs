//! `--events FILE`: every event as a line of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::event::{EVENT_VERSION, Event, EventSink};

/// Appends events to a file, pipe or `/dev/fd/N`.
pub struct JsonLines(Mutex<File>);

impl JsonLines {
    /// Opens `path` for appending, making it if need be.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).open(path).map(|file| Self(Mutex::new(file)))
    }
}

impl EventSink for JsonLines {
    fn event(&self, event: &Event) {
        let mut line = Map::new();
        line.insert("v".into(), json!(EVENT_VERSION));
        line.insert("time".into(), json!(jiff::Timestamp::now().to_string()));
        if let Ok(Value::Object(fields)) = serde_json::to_value(event) {
            line.extend(fields);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // One write per line, so that lines of several writers don't mix. A reader that went away
        // is no reason to stop a build.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
    }
}
