//! Journals, for who checks the store.

use std::io;

use rootbuild_cache::fsck::{Check, Kind};

use super::{Entry, holdings};

/// Looks at each journal: whether it is whole, and what it names is there.
pub fn check(check: &Check<'_>) -> io::Result<()> {
    check.phase("checking journals");
    let home = check.store().dir().join("replays");
    for path in check.names(&home) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_state = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_state && !name.starts_with("secret") {
            check.unknown(&path);
        }
    }
    for journals in holdings::all(check.store())? {
        for path in check.names(&journals.dir) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("new-") {
                continue;
            }
            if name.strip_suffix(".journal").is_none_or(|number| number.parse::<u64>().is_err()) {
                check.unknown(&path);
                continue;
            }
            check.looked();
            match journals.read(&path) {
                Ok(entries) => {
                    if let Some(what) = entries.iter().find_map(|entry| missing(check, entry)) {
                        check.damaged(Kind::Dangling, &path, what);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    check.damaged(Kind::Malformed, &path, error.to_string());
                }
                Err(error) => check.damaged(Kind::Unreadable, &path, error.to_string()),
            }
        }
    }
    Ok(())
}

/// What of a journal's entry isn't there. (A tree at which a run ended need not be: it is asked for first.)
fn missing(check: &Check<'_>, entry: &Entry) -> Option<String> {
    let Entry::Checkpoint { checkpoint, .. } = entry else { return None };
    let object = checkpoint.volatile.filter(|object| !check.store().has_object(object));
    object.map(|object| format!("the object {object} isn't there, which a checkpoint needs"))
}
