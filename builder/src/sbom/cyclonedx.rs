//! The CycloneDX 1.6 document. The layer that brought a package is a property of it.

use std::collections::HashSet;

use rootbuild_roots::packages::Package;
use serde_cyclonedx::cyclonedx::v_1_6::{
    Component, ComponentBuilder, CycloneDx, CycloneDxBuilder, Dependency, ExternalReferenceBuilder,
    LicenseBuilder, LicenseChoiceUrl, LicenseChoiceUrlVariant0ItemUrlBuilder, MetadataBuilder, MetadataTools,
    MetadataToolsVariant0Builder, OrganizationalEntityBuilder, Property, PropertyBuilder,
};

use super::purl::purl;
use super::spdx::is_url;
use super::{Bill, TOOL, VERSION, uuid};

/// The root's name in the document.
const ROOT: &str = "root";

/// Why building can't fail.
const SET: &str = "every field that is needed is set";

/// The document as JSON text. `seconds` since the epoch is the time that it bears, if any.
#[must_use]
pub fn cyclonedx(bill: &Bill, seconds: Option<i64>) -> String {
    let mut document = document(bill, seconds);
    document.serial_number = Some(format!("urn:uuid:{}", uuid(&text(&document))));
    text(&document)
}

fn text(document: &CycloneDx) -> String {
    format!("{}\n", serde_json::to_string_pretty(document).expect("it is plain data"))
}

fn document(bill: &Bill, seconds: Option<i64>) -> CycloneDx {
    let tool = ComponentBuilder::default().type_("application").name(TOOL).version(VERSION).build();
    let tools = MetadataToolsVariant0Builder::default().components(vec![tool.expect(SET)]).build();
    let mut metadata = MetadataBuilder::default()
        .tools(MetadataTools::Variant0(tools.expect(SET)))
        .component(root(bill))
        .build()
        .expect(SET);
    metadata.timestamp =
        seconds.and_then(|seconds| Some(jiff::Timestamp::from_second(seconds).ok()?.to_string()));
    let mut names = HashSet::new();
    let components: Vec<Component> =
        bill.packages.iter().map(|found| component(bill, &found.package, found.layer, &mut names)).collect();
    let depends_on = components.iter().filter_map(|component| component.bom_ref.clone()).collect();
    CycloneDxBuilder::default()
        .bom_format("CycloneDX")
        .spec_version("1.6")
        .version(1)
        .metadata(metadata)
        .components(components)
        .dependencies(vec![Dependency {
            ref_: ROOT.to_owned(),
            depends_on: Some(depends_on),
            provides: None,
        }])
        .build()
        .expect(SET)
}

/// The root itself; its layers are numbered from the base up.
fn root(bill: &Bill) -> Component {
    let layers = bill.layers.iter().enumerate().flat_map(|(index, layer)| {
        let name = format!("rootbuild:layer:{}", index + 1);
        let tree = format!("b3:{}", layer.tree.hex());
        [property(&name, &layer.step), property(&format!("{name}:tree"), &tree)]
    });
    let mut properties: Vec<Property> = layers.collect();
    if let Some(distribution) = &bill.distribution {
        let version = distribution.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        properties.push(property("rootbuild:distribution", &format!("{}{version}", distribution.id)));
    }
    ComponentBuilder::default()
        .type_("operating-system")
        .bom_ref(ROOT)
        .name(bill.root.as_str())
        .version(format!("b3:{}", bill.tree.hex()))
        .properties(properties)
        .build()
        .expect(SET)
}

fn component(bill: &Bill, package: &Package, layer: Option<usize>, names: &mut HashSet<String>) -> Component {
    let purl = purl(package, bill.distribution.as_ref());
    let mut name = purl.clone();
    // Nothing keeps a database from having the same package twice.
    for number in 2.. {
        if names.insert(name.clone()) {
            break;
        }
        name = format!("{purl}#{number}");
    }
    let mut component = ComponentBuilder::default()
        .type_("library")
        .bom_ref(name)
        .name(package.name.as_str())
        .version(package.full_version())
        .purl(purl)
        .build()
        .expect(SET);
    component.supplier = package
        .vendor
        .as_ref()
        .map(|vendor| OrganizationalEntityBuilder::default().name(vendor.as_str()).build().expect(SET));
    component.licenses = package.license.as_ref().map(|license| {
        let license = LicenseBuilder::default().name(license.as_str()).build().expect(SET);
        let license = LicenseChoiceUrlVariant0ItemUrlBuilder::default().license(license).build();
        LicenseChoiceUrl::Variant0(vec![license.expect(SET)])
    });
    component.external_references = package.homepage.as_ref().filter(|page| is_url(page)).map(|page| {
        vec![ExternalReferenceBuilder::default().type_("website").url(page.as_str()).build().expect(SET)]
    });
    let layer = layer.and_then(|layer| bill.layers.get(layer));
    let brought = layer.map(|layer| property("rootbuild:layer", &layer.step));
    let source = package.source.as_ref().map(|source| property("rootbuild:source", source));
    let properties: Vec<Property> = brought.into_iter().chain(source).collect();
    component.properties = Some(properties).filter(|properties| !properties.is_empty());
    component
}

fn property(name: &str, value: &str) -> Property {
    PropertyBuilder::default().name(name).value(value).build().expect(SET)
}

#[cfg(test)]
mod tests {
    use super::super::tests::bill;
    use super::*;

    #[test]
    fn a_document_names_root_layers_and_packages_and_follows_from_the_bill() {
        let mut bill = bill();
        let text = cyclonedx(&bill, None);
        assert_eq!(text, cyclonedx(&bill, None));
        assert_ne!(text, cyclonedx(&bill, Some(1)));
        insta::assert_snapshot!(text);
        bill.packages.push(bill.packages[2].clone());
        let document = document(&bill, None);
        let names: HashSet<_> = document.components.iter().flatten().map(|it| it.bom_ref.clone()).collect();
        assert_eq!(names.len(), 4);
    }
}
