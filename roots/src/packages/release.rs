//! Which distribution a tree is, by its own os-release.

use rootbuild_cache::{Store, Tree};

use super::{PackagesError, one_line, within};

/// Where it is told, the first that is there counts: what os-release(5) says.
const PLACES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// A file larger than this isn't one.
const MOST: u64 = 1 << 20;

/// A distribution as os-release names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`: "centos", "debian".
    pub id: String,
    /// `VERSION_ID`: "7", "12".
    pub version: Option<String>,
}

pub(super) fn distribution(store: &Store, tree: &Tree) -> Result<Option<Distribution>, PackagesError> {
    for place in PLACES {
        if let Some(text) = within::text(store, tree, place, MOST)? {
            return Ok(parse(&text));
        }
    }
    Ok(None)
}

fn parse(text: &str) -> Option<Distribution> {
    let field = |key: &str| {
        let value = text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        one_line(value.trim().trim_matches(['"', '\'']))
    };
    let plain = |word: &String| word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    Some(Distribution { id: field("ID").filter(plain)?, version: field("VERSION_ID").filter(plain) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_told_by_id_and_version() {
        let of = |id: &str, version: Option<&str>| {
            Some(Distribution { id: id.to_owned(), version: version.map(str::to_owned) })
        };
        assert_eq!(
            parse("NAME=\"CentOS Linux\"\nID=\"centos\"\nID_LIKE=\"rhel\"\nVERSION_ID=\"7\"\n"),
            of("centos", Some("7"))
        );
        assert_eq!(parse("ID=debian\n"), of("debian", None));
        assert_eq!(parse("ID=\"a b\"\nVERSION_ID=1\n"), None);
        assert_eq!(parse("NAME=x\n"), None);
    }
}
