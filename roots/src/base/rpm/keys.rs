//! The keys that sign packages: which ones, and whether they are still good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::{BaseContext, BaseError, DownloadError, Place, fetch};
use super::RpmError;
use super::lock::LockedRepo;
use super::repo_file::{KeyFile, Repo};
use crate::process;
use crate::progress::StepEvent;

mod store;

/// A key file of this host, and the keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) file: PathBuf,
    /// Of the primary keys.
    pub(super) fingerprints: Vec<String>,
    /// All keys in it that can sign, subkeys too.
    pub(super) signers: Vec<Signer>,
}

/// A key, or a subkey, that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signer {
    /// The last sixteen digits of its fingerprint, lower-case: what signatures name.
    pub(super) id: String,
    /// Why it isn't good any more, if so.
    pub(super) problem: Option<KeyProblem>,
}

/// Why a key isn't good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyProblem {
    /// Its time is over: since this day.
    Expired(String),
    /// Its owner took it back.
    Revoked,
    /// It doesn't vouch for itself: no valid self-signature.
    Invalid,
}

impl std::fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired(day) => write!(f, "expired on {day}"),
            Self::Revoked => f.write_str("was revoked by its owner"),
            Self::Invalid => f.write_str("has no valid self-signature"),
        }
    }
}

/// A primary key or subkey as gpg lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    primary: bool,
    fingerprint: String,
    id: String,
    signs: bool,
    problem: Option<KeyProblem>,
}

/// Gets the keys of all repositories, and checks that each is one of the repository's pinned ones and still good; the
/// first error in their order is told. `locked` is what packages are taken from: keys that were good when they were
/// locked are good for them, even if their time is over by now.
pub(super) fn fetch_all(
    context: BaseContext<'_>,
    repos: Vec<Repo>,
    locked: &[LockedRepo],
) -> Result<Vec<(Repo, Vec<Key>)>, BaseError> {
    let one = |repo: Repo| {
        let locked = locked.iter().find(|locked| locked.id == repo.id);
        fetch(context, &repo, locked).map(|keys| (repo, keys))
    };
    let fetched: Vec<_> = repos.into_par_iter().map(one).collect();
    fetched.into_iter().collect()
}

fn fetch(context: BaseContext<'_>, repo: &Repo, locked: Option<&LockedRepo>) -> Result<Vec<Key>, BaseError> {
    let mut keys = Vec::new();
    for (number, (key, place)) in repo.keys.iter().enumerate() {
        let own = format!("key-{}-{number}", repo.id.replace([':', '/'], "_"));
        let (file, home) = (context.scratch.join(&own), context.scratch.join(format!("gnupg-{own}")));
        let bytes = match key {
            KeyFile::File(path) => fs::read(path).map_err(BaseError::io("read", path))?,
            KeyFile::Url(url) => by_url(context, repo, url)?,
        };
        fs::write(&file, &bytes).map_err(BaseError::io("write", &file))?;
        let mut listed = list(context, &file, &home)?;
        for (key, day) in locked.map(|locked| as_locked(&mut listed, locked)).unwrap_or_default() {
            (context.sink)(StepEvent::Line(format!(
                "the key {key} of the repository `{}` expired on {day}: it was good when the packages were locked",
                repo.id
            )));
        }
        check(repo, key, place, &listed)?;
        if let KeyFile::Url(url) = key {
            store::keep(context, url, &bytes)?;
        }
        let primary = listed.iter().filter(|listed| listed.primary);
        let fingerprints = primary.map(|listed| listed.fingerprint.clone()).collect();
        let signers = listed.into_iter().filter(|listed| listed.signs);
        let signers = signers.map(|Listed { id, problem, .. }| Signer { id, problem }).collect();
        keys.push(Key { file, fingerprints, signers });
    }
    Ok(keys)
}

/// A key from the network; from the store where that can't be had.
fn by_url(context: BaseContext<'_>, repo: &Repo, url: &str) -> Result<Vec<u8>, BaseError> {
    if context.offline {
        return store::kept(context, url)?.ok_or_else(|| BaseError::Offline {
            message: format!("offline, and not in the store: the key {url} of the repository `{}`", repo.id),
            hint: "provision once without `--offline`, or keep the key in a file beside the .repo file"
                .to_owned(),
        });
    }
    // A key that nothing pins is had from where the .repo file says, or it could be anybody's.
    let from = if repo.fingerprints.is_empty() { url.to_owned() } else { context.mirrored(url) };
    match fetch::small(&from, repo.sslverify) {
        Ok(bytes) => Ok(bytes),
        Err(error) => match store::kept(context, url)? {
            Some(bytes) => {
                (context.sink)(StepEvent::Warning(format!(
                    "the key {url} of the repository `{}` can't be had ({error}): the copy in the store is used",
                    repo.id
                )));
                Ok(bytes)
            }
            None => Err(DownloadError::Failed {
                what: "a key".to_owned(),
                repo: repo.named(),
                tried: vec![(from, error.to_string())],
            }
            .into()),
        },
    }
}

/// Refuses a file without keys, and keys that aren't pinned or not good any more.
fn check(repo: &Repo, key: &KeyFile, place: &Place, listed: &[Listed]) -> Result<(), RpmError> {
    let (place, key) = (place.clone(), key.shown());
    if !listed.iter().any(|listed| listed.primary) {
        return Err(RpmError::NoKey { place, key });
    }
    for primary in listed.iter().filter(|listed| listed.primary) {
        let found = primary.fingerprint.clone();
        if !repo.fingerprints.is_empty() && !repo.fingerprints.contains(&found) {
            let (expected, default) = (repo.fingerprints.clone(), repo.pinned_by_default);
            return Err(RpmError::Fingerprint { place, key, found, expected, default });
        }
        if let Some(problem) = primary.problem.clone() {
            return Err(RpmError::KeyNotGood { place, key, fingerprint: found, problem });
        }
    }
    Ok(())
}

/// Takes keys for good that were when packages were locked; the ids of these, with the days on which their time was
/// over. Who wrote the lock looked at them, and it has the digest of everything that they signed. One that was revoked
/// stays so: what it signed isn't trustworthy, whenever that was.
fn as_locked(listed: &mut [Listed], locked: &LockedRepo) -> Vec<(String, String)> {
    let (mut known, mut taken) = (false, Vec::new());
    for key in listed {
        if key.primary {
            known = locked.fingerprints.contains(&key.fingerprint);
        }
        if let (true, Some(KeyProblem::Expired(day))) =
            (known && !locked.expired.contains(&key.id), &key.problem)
        {
            taken.push((key.id.clone(), day.clone()));
            key.problem = None;
        }
    }
    taken
}

/// The ids of those among `keys` whose time is over, sorted, each once.
pub(super) fn expired(keys: &[Key]) -> Vec<String> {
    let signers = keys.iter().flat_map(|key| &key.signers);
    let expired = signers.filter(|signer| matches!(signer.problem, Some(KeyProblem::Expired(_))));
    let ids: BTreeSet<String> = expired.map(|signer| signer.id.clone()).collect();
    ids.into_iter().collect()
}

/// All fingerprints of `keys`, sorted, each once.
pub(super) fn all_fingerprints(keys: &[Key]) -> Vec<String> {
    let all: BTreeSet<&String> = keys.iter().flat_map(|key| &key.fingerprints).collect();
    all.into_iter().cloned().collect()
}

/// The key among `keys` that has the id which a signature names; `None`: it is a foreign one.
pub(super) fn signer<'a>(keys: &'a [Key], id: &str) -> Option<&'a Signer> {
    let id = id.to_ascii_lowercase();
    // Old tools name the last eight digits only; two keys with the same are told apart by nobody, so take the worse.
    let mut found =
        keys.iter().flat_map(|key| &key.signers).filter(|signer| signer.id.ends_with(&id) && id.len() >= 8);
    let first = found.next()?;
    Some(found.find(|signer| signer.problem.is_some()).filter(|_| first.problem.is_none()).unwrap_or(first))
}

/// The keys in a file, by gpg.
fn list(context: BaseContext<'_>, file: &Path, home: &Path) -> Result<Vec<Listed>, BaseError> {
    private_dir(home)?;
    let mut command = process::tool("gpg");
    command.arg("--homedir").arg(home).args([
        "--batch",
        "--no-options",
        "--with-colons",
        "--fixed-list-mode",
    ]);
    command.args(["--import-options", "show-only", "--import"]).arg(file);
    let output = process::capture(command, b"", context.cancel, &|_| ())?;
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads gpg's list: a line for each key and subkey, each with one of its fingerprint below.
fn listed(text: &str) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |number: usize| fields.get(number).copied().unwrap_or_default();
        match field(0) {
            kind @ ("pub" | "sub") => {
                open = true;
                listed.push(Listed {
                    primary: kind == "pub",
                    fingerprint: String::new(),
                    id: field(4).to_ascii_lowercase(),
                    signs: field(11).contains('s'),
                    problem: problem(field(1), field(6)),
                });
            }
            "fpr" if open => {
                open = false;
                if let Some(last) = listed.last_mut() {
                    last.fingerprint = field(9).to_owned();
                }
            }
            _ => {}
        }
    }
    // A subkey of a bad key is no better.
    let mut of_primary = None;
    for listed in &mut listed {
        if listed.primary {
            of_primary.clone_from(&listed.problem);
        } else if listed.problem.is_none() {
            listed.problem.clone_from(&of_primary);
        }
    }
    listed.retain(|listed| !listed.fingerprint.is_empty());
    listed
}

/// What gpg's letter for a key's validity says against it.
fn problem(validity: &str, expires: &str) -> Option<KeyProblem> {
    match validity.chars().next()? {
        'e' => {
            let day = expires.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            Some(KeyProblem::Expired(
                day.map_or_else(|| "an unknown day".to_owned(), |day| day.strftime("%Y-%m-%d").to_string()),
            ))
        }
        'r' => Some(KeyProblem::Revoked),
        'i' | 'd' => Some(KeyProblem::Invalid),
        _ => None,
    }
}

/// Makes a directory that only we can enter, unless it is there.
pub(super) fn private_dir(dir: &Path) -> Result<(), BaseError> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(BaseError::io("make", dir)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gpg_says_of_a_key_is_understood() {
        let text = "\
tru::1:1795314137:0:3:1:5
pub:-:2048:1:26C924EED5E08278:1577836800:::-:::scSC::::::23::0:
fpr:::::::::F4CD1ABB545DBE4447481CCC26C924EED5E08278:
uid:-::::1577836800::B0D75FB7A0C144D4B9C6CCFB4693D97DE6CDDEAD::good <good@invalid>::::::::::0:
sub:e:2048:1:2C4F7DC44AFEF592:1577836800:1580428800:::::s::::::23:
fpr:::::::::FE3C6BF6D83DCC254B094F622C4F7DC44AFEF592:
sub:-:2048:1:3C4F7DC44AFEF592:1577836800::::::e::::::23:
fpr:::::::::003C6BF6D83DCC254B094F623C4F7DC44AFEF592:
pub:r:2048:1:0740ECA60F31964C:1577836800:::-:::sc::::::23::0:
fpr:::::::::E802F6E3FF365B57201DFC320740ECA60F31964C:
sub:-:2048:1:1740ECA60F31964C:1577836800::::::s::::::23:
fpr:::::::::0002F6E3FF365B57201DFC321740ECA60F31964C:
";
        let found = listed(text);
        let shown: Vec<_> = found
            .iter()
            .map(|l| (l.primary, &l.id[..4], l.signs, l.problem.as_ref().map(ToString::to_string)))
            .collect();
        let revoked = || Some("was revoked by its owner".to_owned());
        assert_eq!(
            shown,
            [
                (true, "26c9", true, None),
                (false, "2c4f", true, Some("expired on 2020-01-31".to_owned())),
                (false, "3c4f", false, None),
                (true, "0740", true, revoked()),
                (false, "1740", true, revoked()),
            ]
        );
        assert_eq!(found[0].fingerprint, "F4CD1ABB545DBE4447481CCC26C924EED5E08278");
    }

    #[test]
    fn keys_that_were_good_when_packages_were_locked_are_so_for_these() {
        let listed = |fingerprint: &str, primary, problem: Option<KeyProblem>| Listed {
            primary,
            fingerprint: fingerprint.to_owned(),
            id: fingerprint.to_lowercase(),
            signs: true,
            problem,
        };
        let expired = || Some(KeyProblem::Expired("2020-01-31".to_owned()));
        let mut keys = [
            listed("A", true, expired()),
            listed("AB", false, expired()),
            listed("AC", false, expired()),
            listed("AD", false, Some(KeyProblem::Revoked)),
            listed("B", true, expired()),
            listed("BC", false, expired()),
        ];
        let locked = LockedRepo {
            id: String::new(),
            source: Vec::new(),
            urls: Vec::new(),
            options: Vec::new(),
            repomd_sha256: String::new(),
            fingerprints: vec!["A".to_owned()],
            expired: vec!["ac".to_owned()],
        };
        let taken = as_locked(&mut keys, &locked);
        assert_eq!(taken.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "ab"]);
        let left = keys.map(|key| key.problem);
        assert_eq!(left, [None, None, expired(), Some(KeyProblem::Revoked), expired(), expired()]);
    }

    #[test]
    fn a_signer_is_found_by_either_length_of_its_id() {
        let signer_of = |id: &str, problem| Signer { id: id.to_owned(), problem };
        let signers = vec![
            signer_of("26c924eed5e08278", None),
            signer_of("00c924eed5e08278", Some(KeyProblem::Revoked)),
        ];
        let keys = [Key { file: PathBuf::new(), fingerprints: vec![], signers }];
        assert_eq!(signer(&keys, "26C924EED5E08278").map(|s| s.problem.is_none()), Some(true));
        assert_eq!(signer(&keys, "d5e08278").map(|s| s.problem.is_some()), Some(true), "the worse of two");
        assert_eq!(signer(&keys, "0123456789abcdef"), None);
        assert_eq!(signer(&keys, ""), None);
    }
}
