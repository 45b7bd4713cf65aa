//! A project that is provisioned within a moment: an archive with a bit of everything.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rootbuild_tests::{Project, Ran};

/// What the archives are made of; `$1` tells one from the other.
const MAKE: &str = r#"
    rm -rf t; mkdir -p t/etc/deep/er t/usr/bin t/usr/share t/var/empty; cd t
    for n in 1 2 3 4 5 6; do echo "$n" > etc/$n; echo "$1 $n" > etc/deep/$n; done
    echo '#!/bin/sh' > usr/bin/tool; chmod 6755 usr/bin/tool; chown 12:34 usr/bin/tool
    ln usr/bin/tool usr/bin/name; ln usr/bin/tool etc/deep/tool
    ln -s ../bin/tool usr/share/link; ln -s "$1" etc/changes; mkfifo etc/pipe
    head -c 300000 /dev/zero | tr '\0' "$1" > usr/share/middling
    truncate -s 6M usr/share/sparse; echo "$1" >> usr/share/sparse
    setfattr -n user.color -v "$1" etc/deep; chmod 1777 var/empty; chmod 700 etc/deep/er
    echo only > "etc/deep/er/only-$1"
    cd ..; tar -C t --xattrs --xattrs-include='*' --sparse -cf "$1.tar" .; rm -rf t"#;

/// The archives `a.tar` and `b.tar`, made once.
fn archives() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("there is room");
        for which in ["a", "b"] {
            let mut sh = Command::new("sh");
            let made =
                sh.args(["-euc", MAKE, "sh", which]).current_dir(dir.path()).output().expect("sh runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        dir
    });
    made.path()
}

/// A project with two archives; its root `r` is made of one of them.
pub(crate) struct Small {
    pub(crate) project: Project,
}

impl Small {
    /// With a store of its own, which isn't there yet.
    pub(crate) fn new() -> Self {
        Self::on(Project::with_own_store())
    }

    pub(crate) fn on(project: Project) -> Self {
        let small = Self { project };
        for archive in ["a.tar", "b.tar"] {
            std::fs::copy(archives().join(archive), small.project.dir().join(archive))
                .expect("there is room");
        }
        small.define("a");
        small
    }

    /// Makes the root one of this archive.
    pub(crate) fn define(&self, which: &str) {
        self.project.write("rootbuild.toml", &definition(which, "r"));
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.project.store().to_owned()
    }

    /// The digest of the tree of a provision that must succeed.
    #[track_caller]
    pub(crate) fn provision(&self) -> String {
        tree(&self.project.rootbuild(PROVISION).expect(0))
    }
}

/// The command that provisions.
pub(crate) const PROVISION: &[&str] = &["provision", "--json"];

/// A definition of the root `root` from the archive `which`.
pub(crate) fn definition(which: &str, root: &str) -> String {
    format!(
        "[base.{which}]\nsource = \"archive\"\nfile = \"{which}.tar\"\nunverified = true\n[root.{root}]\nbase = \"{which}\"\n"
    )
}

/// The tree that a provision gave.
#[track_caller]
pub(crate) fn tree(ran: &Ran) -> String {
    ran.json()["roots"][0]["tree"].as_str().expect("a tree").to_owned()
}
