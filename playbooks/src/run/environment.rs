//! The caller's environment: Ansible's own is made from nothing, but playbooks may ask for the caller's
//! variables by `lookup('env', …)`. The lookup plugin notes what it was asked for.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rootbuild_cache::Digest;
use serde::Deserialize;

/// Variables of Ansible, Python and the dynamic linker: a run has its own, or none.
const OWN: &[&str] = &["ANSIBLE_", "PYTHON", "LD_"];

/// Whether a playbook may see a variable of the caller.
fn is_shown(name: &OsStr) -> bool {
    !OWN.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// The caller's variables as the lookup plugin reads them: a JSON object in ASCII, where each character
/// of a name or value stands for one byte.
pub(super) fn text() -> String {
    let variables = env::vars_os().filter(|(name, _)| is_shown(name));
    encoded(&variables.collect())
}

fn encoded(variables: &BTreeMap<OsString, OsString>) -> String {
    let mut text = String::from("{");
    for (number, (name, value)) in variables.iter().enumerate() {
        text.push_str(if number == 0 { "" } else { "," });
        quote(&mut text, name);
        text.push(':');
        quote(&mut text, value);
    }
    text.push('}');
    text
}

fn quote(text: &mut String, bytes: &OsStr) {
    text.push('"');
    for &byte in bytes.as_bytes() {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{byte:04x}")),
        }
    }
    text.push('"');
}

/// One note of the lookup plugin.
#[derive(Debug, Deserialize)]
struct Note {
    name: String,
    digest: Option<String>,
}

/// The variables that were asked for, each with the SHA-256 of its value, or nothing where it wasn't set.
/// A file that isn't there says that none was.
pub(super) fn used(file: &Path) -> io::Result<BTreeMap<String, Option<Digest>>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let invalid = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no note"));
    let note = |line: &str| {
        let note: Note = serde_json::from_str(line).map_err(|_| invalid(line))?;
        let digest = match note.digest {
            Some(hex) => Some(digest(&hex).ok_or_else(|| invalid(line))?),
            None => None,
        };
        Ok((note.name, digest))
    };
    let notes = text.lines().map(note).collect::<io::Result<BTreeMap<_, _>>>()?;
    Ok(notes.into_iter().filter(|(name, _)| is_shown(OsStr::new(name))).collect())
}

fn digest(hex: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    let pairs = hex.as_bytes().chunks_exact(2);
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_one_character_each() {
        let pair = (OsString::from("A\"\\"), OsStr::from_bytes(b"\xff\n x~").to_owned());
        let text = encoded(&[pair, ("B".into(), OsString::new())].into());
        assert_eq!(text, r#"{"A\u0022\u005c":"\u00ff\u000a x~","B":""}"#);
        let read: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read["A\"\\"], "\u{ff}\n x~");
    }

    #[test]
    fn what_steers_ansible_itself_is_left_out() {
        assert!(["HOME", "PATH", "MY_ANSIBLE_X"].iter().all(|name| is_shown(OsStr::new(name))));
        assert!(
            !["ANSIBLE_CONFIG", "PYTHONPATH", "LD_PRELOAD"].iter().any(|name| is_shown(OsStr::new(name)))
        );
    }

    #[test]
    fn notes_are_read_and_nonsense_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("used");
        assert_eq!(used(&file).unwrap(), BTreeMap::new());
        let hex = "0a".repeat(32);
        fs::write(&file, format!("{{\"name\":\"A\",\"digest\":\"{hex}\"}}\n{{\"name\":\"B\",\"digest\":null}}\n{{\"name\":\"LD_X\",\"digest\":null}}\n")).unwrap();
        let notes = used(&file).unwrap();
        assert_eq!(
            notes,
            [("A".to_owned(), Some(Digest::from_bytes([10; 32]))), ("B".to_owned(), None)].into()
        );
        for nonsense in ["x", "{\"name\":\"A\",\"digest\":\"0a\"}"] {
            fs::write(&file, nonsense).unwrap();
            assert_eq!(used(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
