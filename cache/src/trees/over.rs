//! Trees that are stored as what they have over another.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::tree::{DELTA_VERSION, DecodeError, Delta, START, Tree, base_of, is_sound};

/// So many trees may be stored over each other. We write one over a whole one; more come about where a tree
/// was lost and is written again.
const LONGEST: usize = 4;

/// How a whole tree is read.
pub(super) type Decode = fn(&[u8]) -> std::result::Result<Tree, DecodeError>;

impl Store {
    /// Whether the tree is there, and what it is stored over, none of it damaged. Nothing keeps it from being
    /// collected afterwards.
    #[must_use]
    pub fn holds_tree(&self, digest: &Digest) -> bool {
        let mut digest = *digest;
        for _ in 0..=LONGEST {
            let Ok(bytes) = fs::read(self.tree_path(&digest)) else { return false };
            if !is_sound(&bytes, &digest) {
                return false;
            }
            match base_of(&bytes) {
                None => return true,
                Some(base) => digest = base,
            }
        }
        false
    }

    /// The tree that the tree `digest` is stored over: without it, it can't be read. Whoever keeps a tree has to
    /// keep that one too, and what that is stored over in turn.
    pub fn tree_base(&self, digest: &Digest) -> Result<Option<Digest>> {
        let path = self.tree_path(digest);
        let file = File::open(&path).map_err(unreadable(digest, &path))?;
        let mut start = Vec::with_capacity(START);
        file.take(START as u64).read_to_end(&mut start).map_err(Error::io("read", &path))?;
        Ok(base_of(&start))
    }

    /// The tree `digest` and all that it is stored over, as far as they are there. Nothing but names is read.
    #[must_use]
    pub fn with_bases(&self, digest: &Digest) -> Vec<Digest> {
        let mut chain = vec![*digest];
        while let Some(Ok(Some(base))) =
            (chain.len() <= LONGEST).then(|| self.tree_base(&chain[chain.len() - 1]))
        {
            chain.push(base);
        }
        chain
    }

    /// Whether a tree that may go any time is there, and what it is stored over.
    pub(crate) fn tree_is_there(&self, digest: &Digest) -> bool {
        let mut digest = *digest;
        for _ in 0..=LONGEST {
            match self.tree_base(&digest) {
                Ok(None) => return true,
                Ok(Some(base)) => digest = base,
                Err(_) => return false,
            }
        }
        false
    }

    /// The file that `tree` is to be: what it has over `near` or its base, where that pays and the base is there
    /// and sound; else the whole.
    pub(super) fn encode(&self, tree: &Tree, near: Option<&Tree>) -> Vec<u8> {
        // What is there already may be what others are stored over: those need it whole.
        let near = near.filter(|_| tree.is_large() && !self.tree_path(&tree.digest()).exists());
        near.and_then(|near| self.delta(tree, near)).map_or_else(|| tree.encode(), |delta| delta.encode())
    }

    fn delta(&self, tree: &Tree, near: &Tree) -> Option<Delta> {
        // One that was put together elsewhere may have other times than the one that is stored.
        let near = match near.stored_base() {
            Some(_) => Cow::Borrowed(near),
            None => Cow::Owned(self.load(&near.digest(), Tree::decode_own).ok()?),
        };
        let delta = tree.delta(&near)?;
        let base = fs::read(self.tree_path(&delta.base)).ok()?;
        let whole = base_of(&base).is_none() && is_sound(&base, &delta.base);
        (whole && delta.base != delta.tree).then_some(delta)
    }

    /// Loads a tree, and what it is stored over by `decode`.
    pub(super) fn load(&self, digest: &Digest, decode: Decode) -> Result<Tree> {
        self.load_over(digest, decode, LONGEST)
    }

    fn load_over(&self, digest: &Digest, decode: Decode, longest: usize) -> Result<Tree> {
        let path = self.tree_path(digest);
        let bytes = fs::read(&path).map_err(unreadable(digest, &path))?;
        let damaged = |what: String| Error::Damaged { what, path: path.clone() };
        let failed = |error| match error {
            DecodeError::Version { found } => {
                Error::Format { path: path.clone(), found: found.to_string(), known: DELTA_VERSION }
            }
            other => damaged(other.to_string()),
        };
        let tree = if base_of(&bytes).is_some() {
            let delta = Delta::decode(&bytes).map_err(failed)?;
            if longest == 0 {
                return Err(damaged("a tree that is stored over too many others".to_owned()));
            }
            let base = self.load_over(&delta.base, decode, longest - 1)?;
            delta.apply(base).map_err(failed)?
        } else {
            decode(&bytes).map_err(failed)?.stored_whole()
        };
        if tree.digest() != *digest {
            return Err(damaged(format!("the tree {}", tree.digest())));
        }
        Ok(tree)
    }
}

fn unreadable<'a>(digest: &'a Digest, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { what: format!("tree {digest}") },
        _ => Error::io("read", path)(error),
    }
}
