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

    /// Lifts it as it is said; of the cluster of nobody.
    pub(super) fn lift_with(&self, name: &str, host: Host, run: &Run) -> Lifted {
        let link = Path::new("/var/lib/rootbuild/roots").join(name);
        let mut cluster = cluster();
        let address = run.address.unwrap_or(cluster.subnet.host());
        cluster.members =
            vec![super::Member { root: name.to_owned(), address, names: vec![name.to_owned()] }];
        let request = Request { name, link: &link, host, private: None, run, cluster: &cluster };
        lift(self.path(), None, &request).unwrap()
    }

    pub(super) fn lift_as(&self, name: &str) -> Lifted {
        self.lift_with(name, Host::with(252, true), &Run::new(name))
    }

    pub(super) fn lift_on(&self, host: Host) -> Lifted {
        self.lift_with("web", host, &Run::new("web"))
    }

    pub(super) fn lift(&self) -> Lifted {
        self.lift_as("web")
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
