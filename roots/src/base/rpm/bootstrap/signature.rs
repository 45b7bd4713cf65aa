//! Signatures without the host's rpm: a package's own bytes, checked by gpg against the keys of its repository.
//!
//! A package may be signed as a whole, or by its header alone, which then has to hold a digest of the payload.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::super::super::{BaseContext, BaseError};
use super::super::RpmError;
use super::super::keys::{Key, all_fingerprints, private_dir, signer};
use super::super::repo_file::Repo;
use super::super::resolve::Package;
use super::header::PackageFile;
use crate::process::{self, Output};

/// Signatures of header and payload together (RSA or DSA), and of the header alone.
const WHOLE: [u32; 2] = [1002, 1005];
const OF_HEADER: [u32; 2] = [268, 267];
/// In the header: the digest of the compressed payload, and its algorithm.
const PAYLOAD_DIGEST: u32 = 5092;
const PAYLOAD_DIGEST_ALGORITHM: u32 = 5093;
const SHA256: u32 = 8;

/// Checks the packages of one repository, given with their files.
pub(in super::super) fn check(
    context: BaseContext<'_>,
    repo: &Repo,
    keys: &[Key],
    packages: &[(&Package, PathBuf)],
) -> Result<(), BaseError> {
    // A key ring of this repository alone: another repository's key must not do.
    let home = context.scratch.join(format!("gpg-{}", repo.id.replace([':', '/'], "_")));
    private_dir(&home)?;
    let mut import = gpg(&home);
    import.arg("--import").args(keys.iter().map(|key| &key.file));
    process::run(import, context.cancel, &|_| ())?;
    let checker = Checker { context, repo, keys, home: &home };
    packages.par_iter().enumerate().try_for_each(|(number, (package, file))| {
        context.cancel.check()?;
        let whole = checker.package(number, package, file)?;
        if whole { Ok(()) } else { Err(checker.error(package, Problem::Unsigned).into()) }
    })
}

fn gpg(home: &Path) -> std::process::Command {
    let mut command = process::tool("gpg");
    command.arg("--homedir").arg(home);
    command.args(["--batch", "--no-options", "--no-autostart", "--trust-model", "always", "--quiet"]);
    command
}

struct Checker<'a> {
    context: BaseContext<'a>,
    repo: &'a Repo,
    keys: &'a [Key],
    home: &'a Path,
}

impl Checker<'_> {
    /// Whether all of a package is signed; an error for every signature that isn't good.
    fn package(&self, number: usize, package: &Package, file: &Path) -> Result<bool, BaseError> {
        let read = |error: io::Error| RpmError::Tampered {
            package: package.nevra(),
            repo: self.repo.named(),
            problem: error.to_string(),
        };
        let mut opened = PackageFile::open(file).map_err(read)?;
        let (mut of_header, mut of_all) = (false, false);
        let kinds = OF_HEADER.map(|tag| (false, tag)).into_iter().chain(WHOLE.map(|tag| (true, tag)));
        for (whole, tag) in kinds {
            let Some(signature) = opened.signatures.binary(tag) else { continue };
            let name = self.home.join(format!("{number}-{tag}.sig"));
            fs::write(&name, signature).map_err(BaseError::io("write", &name))?;
            let mut signed = opened.header.bytes().to_vec();
            if whole {
                opened.rewound().and_then(|payload| payload.read_to_end(&mut signed)).map_err(read)?;
            }
            let mut verify = gpg(self.home);
            verify.args(["--status-fd", "1", "--verify"]).arg(&name).arg("-");
            let output = process::capture(verify, &signed, self.context.cancel, &|_| ())?;
            match judge(&output) {
                // It was good when this package was locked.
                Err(Problem::Expired(key))
                    if signer(self.keys, &key).is_some_and(|it| it.problem.is_none()) => {}
                judged => judged.map_err(|problem| self.error(package, problem))?,
            }
            *(if whole { &mut of_all } else { &mut of_header }) = true;
        }
        if of_header && !of_all {
            match bound(&mut opened).map_err(read)? {
                Some(true) => of_all = true,
                Some(false) => return Err(self.error(package, Problem::Payload).into()),
                None => return Err(self.error(package, Problem::Unbound).into()),
            }
        }
        Ok(of_all)
    }

    fn error(&self, package: &Package, problem: Problem) -> RpmError {
        let (package, repo) = (package.nevra(), self.repo.named());
        let problem = match problem {
            Problem::Unsigned => return RpmError::Unsigned { package, repo },
            Problem::WrongKey(key) => {
                return RpmError::WrongKey { package, repo, key, known: all_fingerprints(self.keys) };
            }
            Problem::Expired(key) | Problem::Revoked(key) => {
                match signer(self.keys, &key).and_then(|signer| signer.problem.clone()) {
                    Some(problem) => return RpmError::SignerNotGood { package, repo, key, problem },
                    None => format!("the key {key} that signed it isn't good any more"),
                }
            }
            Problem::Payload => "its payload isn't the signed one".to_owned(),
            Problem::Unbound => "its signature doesn't cover its content".to_owned(),
            Problem::Bad(what) => what,
        };
        RpmError::Tampered { package, repo, problem }
    }
}

/// What is wrong with a package.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Unsigned,
    /// The id of a key that isn't the repository's.
    WrongKey(String),
    /// The id of a key that expired; the signature is right.
    Expired(String),
    /// The id of a key that was revoked.
    Revoked(String),
    /// The payload's digest isn't what the signed header says.
    Payload,
    /// Nothing that is signed says what the payload has to be.
    Unbound,
    Bad(String),
}

/// Whether the payload is what the header says, `None` where that says nothing.
fn bound(opened: &mut PackageFile) -> io::Result<Option<bool>> {
    let algorithm = opened.header.numbers(PAYLOAD_DIGEST_ALGORITHM)?;
    let Some(expected) = opened.header.string(PAYLOAD_DIGEST).map(str::to_ascii_lowercase) else {
        return Ok(None);
    };
    if algorithm.first() != Some(&SHA256) {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    io::copy(opened.rewound()?, &mut hasher)?;
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(found == expected))
}

/// Reads what `gpg --verify --status-fd` says about one signature.
fn judge(output: &Output) -> Result<(), Problem> {
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut good, mut expired) = (false, None);
    for line in text.lines() {
        let mut words = line.strip_prefix("[GNUPG:] ").unwrap_or_default().split(' ');
        let (word, first) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match word {
            "VALIDSIG" => good = true,
            "NO_PUBKEY" => return Err(Problem::WrongKey(first.to_ascii_lowercase())),
            "EXPKEYSIG" => expired = Some(first.to_ascii_lowercase()),
            "REVKEYSIG" => return Err(Problem::Revoked(first.to_ascii_lowercase())),
            "BADSIG" => return Err(Problem::Bad("its signature is wrong".to_owned())),
            "EXPSIG" => return Err(Problem::Bad(format!("its signature by {first} has expired"))),
            _ => {}
        }
    }
    if good && output.status.success() {
        return expired.map_or(Ok(()), |key| Err(Problem::Expired(key)));
    }
    let last = output.tail.lines().last().unwrap_or("it says nothing");
    Err(Problem::Bad(format!("gpg can't check its signature: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn what_gpg_says_is_told_apart() {
        let said = |status: &str, code: i32| {
            let status = status.replace('+', "[GNUPG:] ").into_bytes();
            let (status, stdout) = (std::process::ExitStatus::from_raw(code << 8), status);
            judge(&Output { status, stdout, tail: "gpg: something".to_owned() })
        };
        let good = "+NEWSIG\n+GOODSIG ABC x\n+VALIDSIG 0123 2014 1 0 4 0 1 8 00 0123\n";
        assert_eq!(said(good, 0), Ok(()));
        let bad = |text: &str| Err(Problem::Bad(text.to_owned()));
        assert_eq!(said(good, 2), bad("gpg can't check its signature: gpg: something"));
        assert_eq!(said("", 0), bad("gpg can't check its signature: gpg: something"));
        let foreign = "+ERRSIG 24C6A8A7F4A80EB5 1 8 00 14 9 -\n+NO_PUBKEY 24C6A8A7F4A80EB5\n";
        assert_eq!(said(foreign, 2), Err(Problem::WrongKey("24c6a8a7f4a80eb5".to_owned())));
        assert_eq!(said("+BADSIG ABC x\n", 1), bad("its signature is wrong"));
        let expired = "+KEYEXPIRED 1\n+EXPKEYSIG ABC x\n+VALIDSIG 0123 2014\n";
        assert_eq!(said(expired, 0), Err(Problem::Expired("abc".to_owned())));
        assert_eq!(said("+EXPKEYSIG ABC x\n", 0), bad("gpg can't check its signature: gpg: something"));
        assert_eq!(said("+REVKEYSIG ABC x\n+VALIDSIG 0\n", 0), Err(Problem::Revoked("abc".to_owned())));
        assert_eq!(said("+EXPSIG ABC x\n+VALIDSIG 0\n", 0), bad("its signature by ABC has expired"));
    }
}
