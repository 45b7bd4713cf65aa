//! Signatures: each package must be signed with a key of the repository it comes from.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::{BaseContext, BaseError};
use super::RpmError;
use super::keys::{self, Key, KeyProblem};
use super::repo_file::Repo;
use super::resolve::Package;
use crate::process::{self, ProcessError};
use crate::unsynced::unsynced;

/// Checks the packages of one repository, given with their files.
pub(super) fn signatures(
    context: BaseContext<'_>,
    repo: &Repo,
    keys: &[Key],
    packages: &[(&Package, PathBuf)],
) -> Result<(), BaseError> {
    // A key ring of this repository alone: another repository's key must not do.
    let home = context.scratch.join(format!("verify-{}", repo.id.replace([':', '/'], "_")));
    keys::private_dir(&home)?;
    let mut import = rpmkeys(&home);
    import.arg("--import").args(keys.iter().map(|key| &key.file));
    // A key ring of the moment: it needn't reach the disk.
    unsynced(|| process::run(import, context.cancel, &|_| ()))?;
    // One process for each core; the first error in the packages' order is told.
    let parts = parts(packages, |(package, _)| package.size, rayon::current_num_threads());
    let results: Vec<_> = parts.par_iter().map(|part| check(context, repo, keys, &home, part)).collect();
    results.into_iter().collect()
}

/// Up to `count` parts of a list, in its order, of about the same size.
fn parts<T>(list: &[T], size: impl Fn(&T) -> u64, count: usize) -> Vec<&[T]> {
    let each = list.iter().map(&size).sum::<u64>().div_ceil(count.max(1) as u64).max(1);
    let mut filled = 0;
    let goes_on = |one: &T, _: &T| {
        filled += size(one);
        let is_full = filled >= each;
        if is_full {
            filled = 0;
        }
        !is_full
    };
    list.chunk_by(goes_on).collect()
}

/// Checks some of the packages, whose keys are in the key ring at `home`.
fn check(
    context: BaseContext<'_>,
    repo: &Repo,
    keys: &[Key],
    home: &Path,
    packages: &[(&Package, PathBuf)],
) -> Result<(), BaseError> {
    let mut command = rpmkeys(home);
    command.args(["--checksig", "--verbose"]).args(packages.iter().map(|(_, file)| file));
    let output = process::capture(command, b"", context.cancel, &|_| ())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts = verdicts(&text);
    for (package, file) in packages {
        let verdict = verdicts.iter().find(|(name, _)| Path::new(name) == file).map(|(_, verdict)| verdict);
        let (package, repo) = (package.nevra(), repo.named());
        let error = match verdict {
            Some(Verdict::Good(signers)) => match problem(keys, signers) {
                None => continue,
                Some((key, None)) => {
                    let known = keys::all_fingerprints(keys);
                    RpmError::WrongKey { package, repo, key, known }
                }
                Some((key, Some(problem))) => RpmError::SignerNotGood { package, repo, key, problem },
            },
            Some(Verdict::Unsigned) => RpmError::Unsigned { package, repo },
            Some(Verdict::WrongKey(key)) => {
                let known = keys::all_fingerprints(keys);
                RpmError::WrongKey { package, repo, key: key.clone(), known }
            }
            Some(Verdict::Untrusted(key)) => {
                let problem = keys::signer(keys, key).and_then(|signer| signer.problem.clone());
                let problem = problem.unwrap_or(KeyProblem::Invalid);
                RpmError::SignerNotGood { package, repo, key: key.clone(), problem }
            }
            Some(Verdict::Unbound) => RpmError::Tampered {
                package,
                repo,
                problem: "its signature doesn't cover its content".to_owned(),
            },
            Some(Verdict::Bad(problem)) => RpmError::Tampered { package, repo, problem: problem.clone() },
            None => {
                let (program, status, tail) = ("rpmkeys".to_owned(), output.status, output.tail);
                return Err(BaseError::Process(ProcessError::Failed { program, status, tail }));
            }
        };
        return Err(error.into());
    }
    // It knows something that we don't read.
    if !output.status.success() {
        let (program, status, tail) = ("rpmkeys".to_owned(), output.status, output.tail);
        return Err(BaseError::Process(ProcessError::Failed { program, status, tail }));
    }
    Ok(())
}

/// What is wrong with one of the keys that signed, and its id; `None` inside: it isn't among `keys`. rpm itself
/// may take a subkey that expired or was revoked.
fn problem(keys: &[Key], signers: &[String]) -> Option<(String, Option<KeyProblem>)> {
    signers.iter().find_map(|id| match keys::signer(keys, id) {
        Some(signer) => signer.problem.clone().map(|problem| (signer.id.clone(), Some(problem))),
        None => Some((id.clone(), None)),
    })
}

pub(super) fn rpmkeys(home: &Path) -> std::process::Command {
    let mut command = process::tool("rpmkeys");
    command.env("HOME", home).arg("--define").arg(format!("_dbpath {}", home.display()));
    command
}

/// What is to be thought of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Signed by the keys of these ids, each signature being right.
    Good(Vec<String>),
    Unsigned,
    /// Nothing that is signed says what the payload has to be: only the header is signed, and it holds no
    /// SHA-256 of the payload, or none that was checked.
    Unbound,
    /// The id of a key that isn't the repository's.
    WrongKey(String),
    /// The id of a key that rpm has, but doesn't take.
    Untrusted(String),
    /// The line that says so.
    Bad(String),
}

/// Reads what `rpmkeys --checksig --verbose` says: a line per file, and indented ones about it.
fn verdicts(text: &str) -> Vec<(String, Verdict)> {
    let mut files: Vec<(String, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if line.starts_with(char::is_whitespace) {
            if let Some((_, about)) = files.last_mut() {
                about.push(line.trim());
            }
        } else if let Some(name) = line.trim_end().strip_suffix(':') {
            files.push((name.to_owned(), Vec::new()));
        }
    }
    files.into_iter().map(|(name, about)| (name, verdict(&about))).collect()
}

fn verdict(lines: &[&str]) -> Verdict {
    let (mut header, mut whole, mut payload, mut wrong) = (false, false, false, None);
    let mut signers: Vec<String> = Vec::new();
    for line in lines {
        let Some((about, result)) = line.rsplit_once(": ") else { continue };
        let about_lower = about.to_ascii_lowercase();
        let is_signature = about_lower.contains("signature");
        let of_header = about_lower.starts_with("header ");
        let id = || about.rsplit_once("key ID ").map_or("unknown", |(_, key)| key).to_owned();
        if result.starts_with("OK") && is_signature && !signers.contains(&id()) {
            signers.push(id());
        }
        match result.split_whitespace().next().unwrap_or_default() {
            // A signature of the header binds the payload by a digest in it; the others are of both.
            "OK" if is_signature && of_header => header = true,
            "OK" if is_signature => whole = true,
            "OK" => payload |= about_lower.starts_with("payload sha") && about_lower.ends_with("digest"),
            "NOTFOUND" => {}
            // Newer ones look themselves whether a key is still good.
            "NOTTRUSTED" if is_signature => return Verdict::Untrusted(id()),
            "NOKEY" => {
                wrong.get_or_insert_with(id);
            }
            _ => return Verdict::Bad((*line).to_owned()),
        }
    }
    match wrong {
        Some(key) => Verdict::WrongKey(key),
        None if whole || (header && payload) => Verdict::Good(signers),
        None if header => Verdict::Unbound,
        None => Verdict::Unsigned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_shared_out_by_size_and_in_order() {
        let split = |list: &[u64], count| parts(list, |size| *size, count).concat();
        let lengths = |list: &[u64], count| {
            parts(list, |size| *size, count).iter().map(|p| p.len()).collect::<Vec<_>>()
        };
        assert_eq!(split(&[5, 1, 1, 1, 1, 9], 2), [5, 1, 1, 1, 1, 9]);
        assert_eq!(lengths(&[5, 1, 1, 1, 1, 9], 2), [5, 1]);
        assert_eq!(lengths(&[1, 1, 1], 2), [2, 1]);
        assert_eq!(lengths(&[9, 1, 1], 8), [1, 2]);
        assert_eq!(lengths(&[0, 0], 2), [2]);
        assert_eq!(lengths(&[], 2), [0; 0]);
    }

    #[test]
    fn each_kind_of_package_is_told_apart() {
        let text = "\
/p/good:
    Header V4 RSA/SHA256 Signature, key ID 24c6a8a7f4a80eb5: OK
    Header SHA256 digest: OK
    Payload SHA256 digest: OK
    MD5 digest: OK
/p/old:
    Header V3 RSA/SHA256 Signature, key ID 24c6a8a7f4a80eb5: OK
    Header SHA1 digest: OK
    V3 RSA/SHA256 Signature, key ID 24c6a8a7f4a80eb5: OK
    MD5 digest: OK
/p/header-only:
    Header V4 RSA/SHA256 Signature, key ID 24c6a8a7f4a80eb5: OK
    Header SHA256 digest: OK
    MD5 digest: OK
/p/unsigned:
    Header SHA256 digest: OK
    RSA signature: NOTFOUND
/p/foreign:
    Header V4 RSA/SHA256 Signature, key ID 0123456789abcdef: NOKEY
    Header SHA256 digest: OK
/p/lapsed:
    Header V4 RSA/SHA256 Signature, key ID 0123456789abcdef: NOTTRUSTED
    Header SHA256 digest: OK
/p/changed:
    Header V4 RSA/SHA256 Signature, key ID 24c6a8a7f4a80eb5: OK
    Payload SHA256 digest: BAD (Expected 1 != 2)
";
        let verdicts: Vec<Verdict> = verdicts(text).into_iter().map(|(_, verdict)| verdict).collect();
        let bad = "Payload SHA256 digest: BAD (Expected 1 != 2)".to_owned();
        let (key, lapsed) =
            ("0123456789abcdef".to_owned(), Verdict::Untrusted("0123456789abcdef".to_owned()));
        let good = Verdict::Good(vec!["24c6a8a7f4a80eb5".to_owned()]);
        let unbound = Verdict::Unbound;
        let expected = [
            good.clone(),
            good,
            unbound,
            Verdict::Unsigned,
            Verdict::WrongKey(key),
            lapsed,
            Verdict::Bad(bad),
        ];
        assert_eq!(verdicts, expected);
    }
}
