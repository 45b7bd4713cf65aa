//! What the root answered.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::names::Names;
use super::request::Request;
use super::wire::{self, Kind};

/// Longer answers end the journal, and are handed on as they come.
pub(super) const LONGEST: usize = 8 << 20;

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) out: Vec<u8>,
    pub(super) err: Vec<u8>,
    /// Whether the request was carried out.
    pub(super) done: bool,
    /// The last frame's JSON.
    pub(super) last: Vec<u8>,
}

/// What an agent that watches the root tells after its answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Watched {
    /// Processes in the root that aren't the agent's; nothing when it wasn't counted.
    pub(super) strays: Option<u64>,
    /// What is in the root's volatile directories.
    pub(super) volatile: Option<String>,
}

impl Answer {
    /// An answer in the root's words.
    pub(super) fn of(out: Vec<u8>, err: Vec<u8>, done: bool, last: &[u8]) -> io::Result<Self> {
        let body: Map<String, Value> = serde_json::from_slice(last).map_err(wire::odd)?;
        Ok(Self { out, err, done, last: serde_json::to_vec(&body)? })
    }

    /// With the journals' names.
    pub(super) fn canonical(mut self, request: &Request, names: &mut Names) -> Self {
        if request.kind == Kind::Exec {
            self.out = names.out_of_root(&self.out).into_owned();
            self.err = names.out_of_root(&self.err).into_owned();
        }
        self.last = names.out_of_root(&self.last).into_owned();
        self
    }

    /// Sends a canonical answer to Ansible, with its names.
    pub(super) fn send(&self, request: &Request, names: &Names) -> Vec<u8> {
        let told = |text| if request.kind == Kind::Exec { names.outward(text) } else { Cow::Borrowed(text) };
        let mut frames = Vec::with_capacity(self.out.len() + self.err.len() + self.last.len() + 64);
        wire::pieces(&mut frames, Kind::Out, &told(&self.out));
        wire::pieces(&mut frames, Kind::Err, &told(&self.err));
        let kind = if self.done { Kind::Status } else { Kind::Failure };
        wire::frame(&mut frames, kind, &names.outward(&self.last));
        frames
    }

    /// Its bytes, for a journal.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.done)];
        for part in [&self.out, &self.err, &self.last] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// The answer in a journal's bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (done, mut rest) = bytes.split_first()?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<8>()?;
            let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            rest = after;
            Some(part.to_vec())
        };
        let (out, err, last) = (part()?, part()?, part()?);
        (rest.is_empty() && *done <= 1).then_some(Self { out, err, done: *done == 1, last })
    }

    /// Whether a job has ended, if this is the answer to who asked.
    pub(super) fn is_finished(&self) -> bool {
        let ended = |value: &Value| value.as_bool().unwrap_or_else(|| value.as_u64() == Some(1));
        result(&self.out).is_none_or(|(result, ..)| result.get("finished").is_none_or(ended))
    }

    /// Whether a request that was carried out a second time has ended like the first time: all is the
    /// same but for times, places on the disk and how the agent ran it.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let last = |answer: &Self| {
            let mut body: Map<String, Value> = serde_json::from_slice(&answer.last).unwrap_or_default();
            body.remove("how");
            body
        };
        self.done == other.done
            && self.err == other.err
            && last(self) == last(other)
            && (self.out == other.out || same_result(&self.out, &other.out))
    }
}

/// Keys of module results that tell when and where, and not what.
const NOISE: &[&str] =
    &["start", "end", "delta", "atime", "mtime", "ctime", "inode", "ino", "dev", "cache_update_time"];

fn same_result(one: &[u8], two: &[u8]) -> bool {
    match (result(one), result(two)) {
        (Some(one), Some(two)) => one == two,
        _ => false,
    }
}

/// What a module printed, what stands before and after, all without noise.
fn result(text: &[u8]) -> Option<(Value, &[u8], &[u8])> {
    let from = memchr::memchr(b'{', text)?;
    let to = memchr::memrchr(b'}', text)? + 1;
    let mut value: Value = serde_json::from_slice(text.get(from..to)?).ok()?;
    without_noise(&mut value);
    Some((value, text[..from].trim_ascii(), text[to..].trim_ascii()))
}

fn without_noise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !NOISE.contains(&key.as_str()));
            map.values_mut().for_each(without_noise);
        }
        Value::Array(values) => values.iter_mut().for_each(without_noise),
        _ => {}
    }
}

/// Says that a request couldn't be carried out.
pub(super) fn refuse(stream: &mut impl Write, why: &str) -> io::Result<()> {
    wire::send(stream, Kind::Failure, &serde_json::json!({"kind": "protocol", "message": why, "errno": null}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(out: &str) -> Answer {
        Answer::of(out.into(), b"e".to_vec(), true, br#"{"code": 0, "how": "warm"}"#).unwrap()
    }

    #[test]
    fn answers_survive_a_journal() {
        let answer = answer("out");
        let bytes = answer.encode();
        assert_eq!(Answer::decode(&bytes).unwrap(), answer);
        for length in 0..bytes.len() {
            assert_eq!(Answer::decode(&bytes[..length]), None);
        }
    }

    #[test]
    fn times_are_no_difference_and_outputs_are_one() {
        let one =
            answer("\n{\"changed\": true, \"start\": \"1\", \"stdout\": \"x\", \"stat\": {\"mtime\": 1}}\n");
        let two =
            answer("{\"changed\": true, \"start\": \"2\", \"stdout\": \"x\", \"stat\": {\"mtime\": 2}}");
        let three =
            answer("{\"changed\": true, \"start\": \"2\", \"stdout\": \"y\", \"stat\": {\"mtime\": 2}}");
        assert!(one.agrees(&two) && !one.agrees(&three));
        assert!(!answer("a").agrees(&answer("b")));
    }
}
