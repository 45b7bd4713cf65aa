//! The SPDX 2.3 document. Root and layers are packages of it too: the root contains its layers, a layer what it
//! brought.

use std::collections::HashSet;

use rootbuild_roots::packages::{Family, Package};
use serde_spdx::spdx::v_2_3::{
    Spdx, SpdxBuilder, SpdxCreationInfoBuilder, SpdxItemPackages, SpdxItemPackagesBuilder,
    SpdxItemPackagesItemExternalRefsBuilder, SpdxItemRelationships, SpdxItemRelationshipsBuilder,
};

use super::purl::purl;
use super::{Bill, TOOL, VERSION, uuid};

/// What SPDX writes where nothing is claimed.
const NO_CLAIM: &str = "NOASSERTION";

/// The document's own name in it, and the root's.
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const ROOT: &str = "SPDXRef-Root";

/// Why building can't fail.
const SET: &str = "every field that is needed is set";

/// The document as JSON text. `seconds` since the epoch is the time that it bears.
#[must_use]
pub fn spdx(bill: &Bill, seconds: i64) -> String {
    let mut document = document(bill, seconds);
    let namespace = uuid(&text(&document));
    document.document_namespace = format!("https://spdx.org/spdxdocs/{}-{namespace}", bill.root);
    text(&document)
}

fn text(document: &Spdx) -> String {
    format!("{}\n", serde_json::to_string_pretty(document).expect("it is plain data"))
}

fn document(bill: &Bill, seconds: i64) -> Spdx {
    let mut packages = vec![operating_system(ROOT, &bill.root, &format!("b3:{}", bill.tree.hex()))];
    let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", ROOT)];
    let mut layers = Vec::new();
    for (index, layer) in bill.layers.iter().enumerate() {
        let id = format!("SPDXRef-Layer-{}", index + 1);
        let mut item = operating_system(&id, &layer.step, &format!("b3:{}", layer.tree.hex()));
        item.primary_package_purpose = Some("OTHER".to_owned());
        packages.push(item);
        relationships.push(relationship(ROOT, "CONTAINS", &id));
        layers.push(id);
    }
    let mut ids = HashSet::new();
    for found in &bill.packages {
        let id = unique(&mut ids, &found.package);
        let owner = found.layer.and_then(|layer| layers.get(layer)).map_or(ROOT, String::as_str);
        relationships.push(relationship(owner, "CONTAINS", &id));
        packages.push(package(bill, &id, &found.package));
    }
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let creation = SpdxCreationInfoBuilder::default()
        .created(time.to_string())
        .creators(vec![format!("Tool: {TOOL}-{VERSION}")])
        .build();
    SpdxBuilder::default()
        .spdxid(DOCUMENT)
        .spdx_version("SPDX-2.3")
        .data_license("CC0-1.0")
        .name(bill.root.as_str())
        .document_namespace("")
        .creation_info(creation.expect(SET))
        .packages(packages)
        .relationships(relationships)
        .build()
        .expect(SET)
}

/// A thing that is a whole file system. It can't be downloaded, and its files aren't listed.
fn operating_system(id: &str, name: &str, version: &str) -> SpdxItemPackages {
    SpdxItemPackagesBuilder::default()
        .spdxid(id)
        .name(name)
        .version_info(version)
        .primary_package_purpose("OPERATING_SYSTEM")
        .download_location(NO_CLAIM)
        .files_analyzed(false)
        .license_concluded(NO_CLAIM)
        .license_declared(NO_CLAIM)
        .copyright_text(NO_CLAIM)
        .build()
        .expect(SET)
}

fn package(bill: &Bill, id: &str, package: &Package) -> SpdxItemPackages {
    let locator = SpdxItemPackagesItemExternalRefsBuilder::default()
        .reference_category("PACKAGE-MANAGER")
        .reference_type("purl")
        .reference_locator(purl(package, bill.distribution.as_ref()))
        .build();
    let mut item = operating_system(id, &package.name, &package.full_version());
    item.primary_package_purpose = None;
    item.external_refs = Some(vec![locator.expect(SET)]);
    item.source_info = package.source.as_ref().map(|source| format!("built from {source}"));
    item.supplier = package.vendor.as_ref().map(|vendor| format!("Organization: {}", supplier(vendor)));
    item.homepage = package.homepage.clone().filter(|page| is_url(page));
    // Packages write licences in their own ways, few of which SPDX knows.
    item.license_comments = package.license.as_ref().map(|license| format!("the package says: {license}"));
    item
}

/// `Name <address>` as SPDX writes it.
fn supplier(vendor: &str) -> String {
    match vendor.strip_suffix('>').and_then(|vendor| vendor.split_once(" <")) {
        Some((name, address)) => format!("{} ({address})", name.trim_matches('"')),
        None => vendor.to_owned(),
    }
}

pub(super) fn is_url(page: &str) -> bool {
    ["http://", "https://", "ftp://"].iter().any(|scheme| page.starts_with(scheme)) && !page.contains(' ')
}

/// A name for a package in the document, of the letters that are allowed there.
fn unique(ids: &mut HashSet<String>, package: &Package) -> String {
    let family = match package.family {
        Family::Debian => "deb",
        Family::Rpm => "rpm",
    };
    let plain: String = format!("{}-{}-{}", package.name, package.full_version(), package.arch)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' })
        .collect();
    let mut id = format!("SPDXRef-{family}-{plain}");
    let mut number = 1;
    while !ids.insert(id.clone()) {
        number += 1;
        id = format!("SPDXRef-{family}-{plain}-{number}");
    }
    id
}

fn relationship(from: &str, kind: &str, to: &str) -> SpdxItemRelationships {
    SpdxItemRelationshipsBuilder::default()
        .spdx_element_id(from)
        .relationship_type(kind)
        .related_spdx_element(to)
        .build()
        .expect(SET)
}

#[cfg(test)]
mod tests {
    use super::super::tests::bill;
    use super::*;

    #[test]
    fn a_document_names_root_layers_and_packages_and_follows_from_the_bill() {
        let bill = bill();
        let text = spdx(&bill, 0);
        assert_eq!(text, spdx(&bill, 0));
        insta::assert_snapshot!(text);
        // Another root's document is another document.
        let other = Bill { root: "other".to_owned(), ..bill };
        let namespace = |text: &str| serde_json::from_str::<Spdx>(text).unwrap().document_namespace;
        let end = |text: &str| {
            namespace(text).rsplit_once("spdxdocs/").unwrap().1.split_once('-').unwrap().1.to_owned()
        };
        assert_ne!(end(&text), end(&spdx(&other, 0)));
    }

    #[test]
    fn names_in_a_document_are_plain_and_unique() {
        let mut ids = HashSet::new();
        let package = &bill().packages[0].package;
        assert_eq!(unique(&mut ids, package), "SPDXRef-deb-libstdc--6-1-12.2-a-3-x86-64");
        assert_eq!(unique(&mut ids, package), "SPDXRef-deb-libstdc--6-1-12.2-a-3-x86-64-2");
    }
}
