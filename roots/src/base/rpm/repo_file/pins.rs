//! Whose key signs a well-known repository: pinned where the `.repo` file pins nothing.

use super::Source;

/// The key of CentOS 7's own packages.
const CENTOS_7: &str = "6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5";

/// The repositories of CentOS 7 that are signed with it. (Those of special interest groups have keys of their own.)
const CENTOS_7_REPOSITORIES: [&str; 6] = ["os", "updates", "extras", "centosplus", "fasttrack", "cr"];

/// The fingerprint that the keys of a repository must have, as far as it is known here.
pub(super) fn default(source: &Source) -> Option<&'static str> {
    let Source::Urls(urls) = source else { return None };
    urls.iter().any(|url| is_centos_7(url)).then_some(CENTOS_7)
}

/// Whether this is one of CentOS 7's on its archive: `http://vault.centos.org/7.9.2009/os/x86_64`.
fn is_centos_7(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return false;
    };
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let host = parts.next().unwrap_or_default().to_ascii_lowercase();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    let mut parts = parts.skip_while(|part| *part == "centos");
    let is_7 = parts.next().is_some_and(|version| version == "7" || version.starts_with("7."));
    host == "vault.centos.org"
        && is_7
        && parts.next().is_some_and(|repo| CENTOS_7_REPOSITORIES.contains(&repo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vaults_own_repositories_of_centos_7_are_known() {
        for url in [
            "http://vault.centos.org/7.9.2009/os/x86_64",
            "https://vault.centos.org/centos/7.9.2009/updates/x86_64/",
            "http://VAULT.centos.org:80/7/extras/x86_64",
        ] {
            assert!(is_centos_7(url), "{url}");
        }
        for url in [
            "http://vault.centos.org/7.9.2009/sclo/x86_64/rh",
            "http://vault.centos.org/8.5.2111/BaseOS/x86_64/os",
            "http://vault.centos.org/altarch/7.9.2009/os/aarch64",
            "http://vault.centos.org.evil/7.9.2009/os/x86_64",
            "http://mirror/vault.centos.org/7.9.2009/os/x86_64",
            "file:///vault.centos.org/7/os",
        ] {
            assert!(!is_centos_7(url), "{url}");
        }
    }
}
