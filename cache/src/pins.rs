//! What keeps trees beside standing roots: pins, by a name, and references, by a file elsewhere.
//!
//! `pins/<name>.json` keeps a tree until it is removed. `refs/<name>.json` keeps one as long as a file
//! outside the store, the reference, is there and says the tree's digest: so who removes the file (a build
//! tool that cleans up) lets the tree go, and needs to know nothing of the store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::gc::{Class, Item, Need, Standing};
use crate::store::Store;
use crate::usage::Usage;

/// More of a reference file isn't read.
const MOST: u64 = 1 << 20;

/// A tree that is kept by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The tree.
    pub tree: Digest,
    /// What was pinned, in words.
    pub what: String,
    /// When, RFC 3339 in UTC.
    pub created: String,
}

/// A tree that is kept by a file outside the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The tree.
    pub tree: Digest,
    /// The file, absolute, which says the tree's digest as `b3:…`.
    pub path: PathBuf,
}

impl Reference {
    /// Why it keeps nothing any more; `None` where it does. A file that can't be read for now is taken for one
    /// that does.
    #[must_use]
    pub fn is_dead(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let read = match self.path.metadata() {
            Ok(found) if !found.is_file() => return Some(format!("`{}` is no file", self.path.display())),
            Ok(_) => File::open(&self.path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)),
            Err(error) => Err(error),
        };
        match read {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Some(format!("`{}` is gone", self.path.display()))
            }
            Err(_) => None,
            Ok(_) => {
                let digest = self.tree.to_string();
                let says = bytes.windows(digest.len()).any(|window| window == digest.as_bytes());
                (!says).then(|| format!("`{}` names another tree", self.path.display()))
            }
        }
    }
}

/// Whether something can be the name of a pin: letters, digits, `_`, `.` and `-`, at most 100, the first a letter or
/// digit.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 100 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(good)
}

impl Store {
    /// Keeps a tree that is in the store under `name`, instead of what was kept under it, until
    /// [`Store::unpin`]. Durable when this returns.
    pub fn pin(&self, name: &str, pin: &Pin) -> Result<()> {
        self.writable()?;
        if !is_name(name) {
            return Err(Error::io("pin as", Path::new(name))(io::ErrorKind::InvalidInput.into()));
        }
        self.name(&pin.tree, &self.dir().join("pins").join(format!("{name}.json")), pin)
    }

    /// Lets what is kept under `name` go; whether there was anything.
    pub fn unpin(&self, name: &str) -> Result<bool> {
        self.writable()?;
        if !is_name(name) {
            return Ok(false);
        }
        let path = self.dir().join("pins").join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            done => {
                done.map_err(Error::io("remove", &path))?;
                durable::fsync_dir(durable::parent(&path)).map(|()| true)
            }
        }
    }

    /// All pins by name. What can't be read as one is passed over.
    pub fn pins(&self) -> Result<Vec<(String, Pin)>> {
        self.named("pins", false)
    }

    /// Keeps a tree that is in the store as long as the file that the reference names says its digest; one
    /// reference per file. Durable when this returns.
    pub fn refer(&self, reference: &Reference) -> Result<()> {
        self.writable()?;
        let name = Digest::of(reference.path.as_os_str().as_encoded_bytes()).hex();
        self.name(&reference.tree, &self.dir().join("refs").join(format!("{name}.json")), reference)
    }

    /// All references by name, dead ones too. What can't be read as one is passed over.
    pub fn references(&self) -> Result<Vec<(String, Reference)>> {
        self.named("refs", false)
    }

    fn name(&self, tree: &Digest, path: &Path, value: &impl Serialize) -> Result<()> {
        if !self.has_tree(tree) {
            return Err(Error::Missing { what: format!("tree {tree}") });
        }
        let text = serde_json::to_vec(value).map_err(|error| Error::io("write", path)(error.into()))?;
        durable::write_atomic(path, &text, 0o644)
    }

    /// `strict`: what can't be read as one is an error.
    fn named<T: DeserializeOwned>(&self, dir: &str, strict: bool) -> Result<Vec<(String, T)>> {
        let dir = self.dir().join(dir);
        let mut found = Vec::new();
        for file in crate::gc::names(&dir)? {
            let Some(name) = file.strip_suffix(".json").filter(|name| is_name(name)) else { continue };
            let path = dir.join(&file);
            match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(value)) => found.push((name.to_owned(), value)),
                Ok(Err(error)) if strict => {
                    return Err(Error::Damaged {
                        what: format!("what keeps a tree makes no sense ({error}):"),
                        path,
                    });
                }
                Ok(Err(error)) => tracing::warn!(path = %path.display(), %error, "passed over"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        found.sort_by(|a: &(String, T), b| a.0.cmp(&b.0));
        Ok(found)
    }
}

/// What pins and living references need, and dead references as items. One that makes no sense is an error: nobody
/// knows what it is to keep. With `force` living references keep nothing either, and their files are removed.
pub fn needs<'a>(store: &Store, force: bool) -> Result<(Vec<Need>, Vec<Item<'a>>)> {
    let pins = store.named::<Pin>("pins", true)?.into_iter();
    let mut needs: Vec<Need> =
        pins.map(|(name, pin)| Need { tree: pin.tree, why: format!("pin `{name}`") }).collect();
    let mut items = Vec::new();
    for (name, reference) in store.named::<Reference>("refs", true)? {
        let dead = reference.is_dead();
        let Some(why) =
            dead.or_else(|| force.then(|| "nothing may refer to the store from elsewhere".to_owned()))
        else {
            let why = format!("reference `{}`", reference.path.display());
            needs.push(Need { tree: reference.tree, why });
            continue;
        };
        let path = store.dir().join("refs").join(format!("{name}.json"));
        let Ok(found) = path.symlink_metadata() else { continue };
        items.push(Item {
            class: Class::Other,
            name: format!("reference `{}`", reference.path.display()),
            trees: vec![reference.tree],
            objects: Vec::new(),
            usage: Usage::of_file(&found),
            last_used: found.modified().unwrap_or(std::time::SystemTime::UNIX_EPOCH),
            seconds: 0.0,
            standing: Standing::Useless(why),
            remove: Box::new(move |trash| {
                // It may have been written anew.
                let mut dead = reference.is_dead().is_some();
                if force && !dead {
                    // Who believes in the file finds it gone, and asks for the tree again.
                    fs::remove_file(&reference.path)?;
                    dead = true;
                }
                Ok(dead && fs::rename(&path, trash.join("ref")).is_ok())
            }),
        });
    }
    Ok((needs, items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn a_reference_lives_as_long_as_its_file_names_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let tree = store.put_tree(&Tree::default()).unwrap();
        let path = dir.path().join("web.rootbuild");
        let reference = Reference { tree, path: path.clone() };
        fs::write(&path, format!("{{\"tree\": \"{tree}\"}}")).unwrap();
        store.refer(&reference).unwrap();
        store.refer(&reference).unwrap();
        assert_eq!(store.references().unwrap().len(), 1);
        assert_eq!(needs(&store, false).unwrap().0.len(), 1);
        let (none, mut items) = needs(&store, true).unwrap();
        assert!(none.is_empty() && path.exists());
        assert!((items.remove(0).remove)(dir.path()).unwrap());
        assert!(!path.exists() && store.references().unwrap().is_empty());
        fs::write(&path, tree.to_string()).unwrap();
        store.refer(&reference).unwrap();
        fs::write(&path, "another").unwrap();
        assert_eq!(reference.is_dead(), Some(format!("`{}` names another tree", path.display())));
        fs::remove_file(&path).unwrap();
        let (needs, items) = needs(&store, false).unwrap();
        assert!(needs.is_empty());
        assert_eq!(items[0].standing, Standing::Useless(format!("`{}` is gone", path.display())));
    }

    #[test]
    fn a_pin_is_kept_until_it_is_removed_and_names_a_tree_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let tree = store.put_tree(&Tree::default()).unwrap();
        let pin = Pin { tree, what: "root `web`".to_owned(), created: "2026-01-01T00:00:00Z".to_owned() };
        store.pin("good", &pin).unwrap();
        assert!(store.pin("../evil", &pin).is_err() && store.pin("", &pin).is_err());
        let lost = Pin { tree: Digest::of(b"lost"), ..pin.clone() };
        assert!(matches!(store.pin("lost", &lost), Err(Error::Missing { .. })));
        assert_eq!(store.pins().unwrap(), [("good".to_owned(), pin)]);
        assert!(store.unpin("good").unwrap() && !store.unpin("good").unwrap());
        assert!(!store.unpin("../good").unwrap());
    }
}
