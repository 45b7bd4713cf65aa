//! Where the paths of a root are on the host.

use super::specifiers::{is_open, literal};
use super::tree::Tree;

/// Where the roots that run are mounted, each under its name.
const ROOTS: &str = "/run/rootbuild/roots";

/// What the host and all roots share.
const SHARED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The fixed path of a root.
#[must_use]
pub fn fixed(root: &str) -> String {
    format!("{ROOTS}/{root}")
}

/// Where the host finds what `path` (as unit files write it, with specifiers) is in the root. Links are
/// followed now: the host's systemd would follow those of the root to its own files.
pub(super) fn on_host(tree: &Tree, root: &str, path: &str) -> String {
    let inside = inside(tree, path);
    if SHARED.iter().any(|top| is_below(&inside, top)) {
        return inside;
    }
    format!("{}{}", fixed(root), if inside == "/" { "" } else { &inside })
}

/// The same path in the root with links followed, as far as nothing in it is left open.
pub(super) fn inside(tree: &Tree, path: &str) -> String {
    let names: Vec<&str> = path.split('/').collect();
    let known = names.iter().position(|name| is_open(name) || name.contains(['*', '?', '[']));
    let (known, open) = names.split_at(known.unwrap_or(names.len()));
    let mut resolved = literal(&tree.resolve(&known.join("/").replace("%%", "%")));
    if !open.is_empty() {
        resolved = format!("{}/{}", resolved.trim_end_matches('/'), open.join("/"));
    }
    resolved
}

/// Whether `path` is `top` or below it.
pub(super) fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    #[test]
    fn paths_lead_into_the_root_whatever_its_links_say() {
        let root = Root::new();
        root.link("etc/out", "/etc/passwd");
        root.link("etc/50%", "/usr");
        root.link("etc/null", "/dev/null");
        let tree = root.tree();
        let on_host = |path: &str| on_host(&tree, "web", path);
        assert_eq!(on_host("/etc/default/x"), "/run/rootbuild/roots/web/etc/default/x");
        assert_eq!(on_host("/var/run/x.pid"), "/run/rootbuild/roots/web/run/x.pid");
        assert_eq!(on_host("/etc/out"), "/run/rootbuild/roots/web/etc/passwd");
        assert_eq!(on_host("/../../etc"), "/run/rootbuild/roots/web/etc");
        assert_eq!(on_host("/"), "/run/rootbuild/roots/web");
        assert_eq!(on_host("/var/run/%i/*.conf"), "/run/rootbuild/roots/web/run/%i/*.conf");
        assert_eq!(on_host("/etc/50%%/x"), "/run/rootbuild/roots/web/usr/x");
        assert_eq!(on_host("/dev/log"), "/dev/log");
        assert_eq!(on_host("/etc/null"), "/dev/null");
        assert_eq!(on_host("/devices"), "/run/rootbuild/roots/web/devices");
    }
}
