//! Whether the host's rpm can install these packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::super::{BaseContext, BaseError};
use super::super::install::Layout;
use super::super::keys::{Key, private_dir};
use super::super::repo_file::Repo;
use super::super::resolve::Package;
use super::header::PackageFile;
use crate::process::{self, ProcessError};

/// Tags of what a package needs.
const REQUIRENAME: u32 = 1049;

/// Why the host's rpm can't install the packages; `None` where it can.
pub(super) fn why_not(
    context: BaseContext<'_>,
    trusted: &[(Repo, Vec<Key>)],
    packages: &[Package],
    layout: &Layout,
) -> Result<Option<String>, BaseError> {
    for program in ["rpm", "rpmkeys"] {
        if !process::is_installed(program) {
            return Ok(Some(format!("`{program}` isn't installed on this host")));
        }
    }
    let features = features(context)?;
    for package in packages {
        // Damaged ones are told by who checks signatures.
        let needed = PackageFile::open(&layout.package(package)).and_then(|file| {
            Ok(file.header.strings(REQUIRENAME)?.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
        });
        let lacks = needed.unwrap_or_default().into_iter().find_map(|name| {
            let name = String::from_utf8(name).ok().filter(|name| name.starts_with("rpmlib("))?;
            (!features.contains(&name)).then_some(name)
        });
        if let Some(lacks) = lacks {
            let package = package.nevra();
            return Ok(Some(format!("the host's rpm lacks `{lacks}`, which {package} needs")));
        }
    }
    refuses(context, trusted, packages, layout)
}

/// What this rpm says that it knows: `rpmlib(PayloadIsXz)` and the like.
fn features(context: BaseContext<'_>) -> Result<Vec<String>, BaseError> {
    let mut command = process::tool("rpm");
    command.arg("--showrc");
    let output = process::capture(command, b"", context.cancel, &|_| ())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(words.filter(|word| word.starts_with("rpmlib(")).map(str::to_owned).collect())
}

fn rpmkeys(home: &Path) -> Command {
    let mut command = process::tool("rpmkeys");
    command.env("HOME", home).arg("--define").arg(format!("_dbpath {}", home.display()));
    command
}

/// Whether it refuses a package that is right: newer ones won't have old keys and digests. Only the smallest
/// signed package is tried; all of them are checked later in any case.
fn refuses(
    context: BaseContext<'_>,
    trusted: &[(Repo, Vec<Key>)],
    packages: &[Package],
    layout: &Layout,
) -> Result<Option<String>, BaseError> {
    let known = |id: &str| trusted.iter().find(|(repo, _)| repo.gpgcheck && repo.id == id);
    let smallest = packages.iter().filter(|package| known(&package.repo).is_some()).min_by_key(|p| p.size);
    let Some((package, (repo, keys))) = smallest.and_then(|p| Some((p, known(&p.repo)?))) else {
        return Ok(None);
    };
    let file: PathBuf = layout.package(package);
    let home = context.scratch.join("try-rpmkeys");
    private_dir(&home)?;
    let mut import = rpmkeys(&home);
    import.arg("--import").args(keys.iter().map(|key| &key.file));
    let mut check = rpmkeys(&home);
    check.args(["--define", "_pkgverify_level all", "--checksig"]).arg(&file);
    for (command, what) in [(import, "won't have the keys"), (check, "refuses the packages")] {
        let tail = match process::run(command, context.cancel, &|_| ()) {
            Ok(()) => continue,
            Err(ProcessError::Failed { tail, .. }) => tail,
            Err(other) => return Err(other.into()),
        };
        // It may well be right; then what is wrong is told as always.
        if super::signature::check(context, repo, keys, &[(package, file)]).is_err() {
            context.cancel.check()?;
            return Ok(None);
        }
        let last = tail.lines().last().unwrap_or_default().trim().to_owned();
        return Ok(Some(format!("the host's rpm {what} of the repository `{}` ({last})", repo.id)));
    }
    Ok(None)
}
