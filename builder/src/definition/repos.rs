//! Which repositories a root with `network = "repos"` sees: those of its base, and those it declares itself.

use std::path::Path;

use rootbuild_roots::base::repos;
use rootbuild_roots::sandbox::Network;

use super::model::{Base, BaseKind, Root};
use crate::engine::base;

/// Adds the repositories of their bases to those that roots declare, and puts them in order.
pub(super) fn complete(roots: &mut [Root], bases: &[Base], definition: &Path) {
    let names: Vec<(String, String)> =
        roots.iter().map(|root| (root.name.clone(), root.base.value.clone())).collect();
    for root in roots.iter_mut().filter(|root| root.network == Network::Repos) {
        let mut name = root.base.value.clone();
        // References are known to lead somewhere, and not in a circle.
        while let Some(base) = bases.iter().find(|base| base.name == name) {
            let of_base = match &base.kind {
                // A file that is wrong is told of when the base is looked at, which is before any playbook.
                BaseKind::Rpm(rpm) => base::rpm(base, rpm, definition).urls().unwrap_or_default(),
                BaseKind::Debian(debian) => {
                    debian.mirror.iter().filter_map(|mirror| repos::directory(mirror)).collect()
                }
                BaseKind::Archive(_) | BaseKind::Tree(_) => Vec::new(),
                BaseKind::Root(below) => {
                    match names.iter().find(|(root, _)| *root == below.value) {
                        Some((_, base)) => name.clone_from(base),
                        None => break,
                    }
                    continue;
                }
            };
            root.repos.extend(of_base);
            break;
        }
        root.repos.sort_unstable();
        root.repos.dedup();
    }
}
