//! Package URLs: how scanners know packages.

use rootbuild_roots::packages::{Distribution, Family, Package};

/// The package URL of a package of a distribution.
pub(super) fn purl(package: &Package, distribution: Option<&Distribution>) -> String {
    let (kind, version) = match package.family {
        Family::Rpm => ("rpm", package.version_release()),
        // With its epoch, as dpkg writes it.
        Family::Debian => ("deb", package.full_version()),
    };
    let mut purl = format!("pkg:{kind}/");
    if let Some(distribution) = distribution {
        purl.push_str(&format!("{}/", encoded(&distribution.id.to_lowercase())));
    }
    purl.push_str(&format!(
        "{}@{}?arch={}",
        encoded(&package.name),
        encoded(&version),
        encoded(&package.arch)
    ));
    if let Some(Distribution { id, version }) = distribution {
        let version = version.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
        purl.push_str(&format!("&distro={}", encoded(&format!("{id}{version}"))));
    }
    if let Some(epoch) = package.epoch.as_ref().filter(|_| package.family == Family::Rpm) {
        purl.push_str(&format!("&epoch={}", encoded(epoch)));
    }
    if let Some(source) = &package.source {
        // "glibc 2.36-9" is `glibc@2.36-9` to who reads these.
        purl.push_str(&format!("&upstream={}", encoded(&source.replace(' ', "@"))));
    }
    purl
}

/// Percent-encoded but for what package URLs want plain.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'.' | b'-' | b'_' | b'~' | b':' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::bill;
    use super::*;

    #[test]
    fn package_urls_say_distribution_epoch_and_source() {
        let bill = bill();
        let purl = |at: usize| purl(&bill.packages[at].package, bill.distribution.as_ref());
        assert_eq!(purl(0), "pkg:deb/centos/libstdc%2B%2B6@1:12.2~a-3?arch=x86_64&distro=centos-7");
        assert_eq!(
            purl(1),
            "pkg:rpm/centos/bash@4.2-1.el7?arch=x86_64&distro=centos-7&upstream=bash-4.2-1.el7.src.rpm"
        );
        let with_epoch =
            Package { epoch: Some("32".to_owned()), source: None, ..bill.packages[1].package.clone() };
        assert_eq!(super::purl(&with_epoch, None), "pkg:rpm/bash@4.2-1.el7?arch=x86_64&epoch=32");
    }
}
