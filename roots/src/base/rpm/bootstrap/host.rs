//! Whether the host's rpm can install these packages.

use rayon::prelude::*;

use super::super::super::{BaseContext, BaseError};
use super::super::install::Layout;
use super::super::resolve::Package;
use super::header::PackageFile;
use crate::process;

/// Tags of what a package needs.
const REQUIRENAME: u32 = 1049;

/// Why the host's rpm can't install the packages, by what it says of itself; `None` where that is nothing. Whether it
/// takes their signatures shows when those are checked.
pub(super) fn why_not(
    context: BaseContext<'_>,
    packages: &[Package],
    layout: &Layout,
) -> Result<Option<String>, BaseError> {
    for program in ["rpm", "rpmkeys"] {
        if !process::is_installed(program) {
            return Ok(Some(format!("`{program}` isn't installed on this host")));
        }
    }
    let features = features(context)?;
    Ok(packages.par_iter().find_map_first(|package| {
        // Damaged ones are told by who checks signatures.
        let file = PackageFile::open(&layout.package(package)).ok()?;
        let lacks = file.header.strings(REQUIRENAME).ok()?.into_iter().find_map(|name| {
            let name = std::str::from_utf8(name).ok().filter(|name| name.starts_with("rpmlib("))?;
            (!features.iter().any(|feature| feature == name)).then_some(name)
        })?;
        Some(format!("the host's rpm lacks `{lacks}`, which {} needs", package.nevra()))
    }))
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
