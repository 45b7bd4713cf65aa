//! A root of nothing but what a test writes.

use std::fs;
use std::path::Path;

use super::tree::Tree;
use super::{Cluster, Host, Lifted, Request, Run, lift};

/// A cluster of nobody.
pub(super) fn cluster() -> Cluster {
    Cluster::of(Path::new("/project/rootbuild.toml"))
}

pub(super) struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    pub(super) fn new() -> Self {
        let root = Self { dir: tempfile::tempdir().unwrap() };
        for directory in ["usr/lib", "etc", "run", "tmp", "var"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        root.link("lib", "usr/lib");
        root.link("var/run", "/run");
        root.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        root.write("etc/group", "root:x:0:\n");
        root
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Writes a unit and enables it for `target`.
    pub(super) fn enable(&self, unit: &str, target: &str, text: &str) {
        self.write(&format!("usr/lib/systemd/system/{unit}"), text);
        let target = format!("etc/systemd/system/{target}.wants/{unit}");
        self.link(&target, &format!("/usr/lib/systemd/system/{unit}"));
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::open(self.path(), None).unwrap()
    }

    pub(super) fn lift_on(&self, host: Host) -> Lifted {
        let store = Path::new("/var/lib/rootbuild/roots/web");
        let (run, cluster) = (Run::new("web"), cluster());
        let request = Request { name: "web", link: store, host, private: None, run: &run, cluster: &cluster };
        lift(self.path(), None, &request).unwrap()
    }

    pub(super) fn lift(&self) -> Lifted {
        self.lift_on(Host { systemd: 252, nss_systemd: true })
    }
}

impl Lifted {
    /// The text of a file, by its name without the root's.
    pub(super) fn text(&self, name: &str) -> &str {
        let name = format!("rootbuild-web-{name}");
        let found = self.files.iter().find(|file| file.name == name);
        &found.unwrap_or_else(|| panic!("no {name} in {:#?}", self.files)).text
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == format!("rootbuild-web-{name}"))
    }

    pub(super) fn told(&self) -> String {
        let each = self.reports.iter().map(|it| format!("{}: {it}\n", it.level.name()));
        each.collect()
    }
}
