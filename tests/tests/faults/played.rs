//! A project with a playbook, on a store that has everything else: base, ansible-core.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rootbuild_tests::{Project, machine_archive, source};

use crate::project::{Small, tree};

const SITE: &str = "- hosts: all\n  gather_facts: false\n  tasks:\n    - copy: {content: '{{ word }}', dest: /etc/word}\n    \
                    - file: {path: /etc/mark, mode: '0600'}\n    - command: rm /etc/group\n";

fn definition(word: &str) -> String {
    format!(
        "[base.p]\nsource = \"archive\"\nfile = \"p.tar\"\nunverified = true\n[ansible]\ncore = \"2.19.14\"\n\
         [root.r]\nbase = \"p\"\nplaybooks = [\"site.yml\"]\nvars = {{ word = \"{word}\" }}\n"
    )
}

/// A store that was provisioned from; kept between runs.
fn template() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = source().join("target/faults");
        let small = prepared(Project::on_store(dir.join("store")));
        small.project.write("rootbuild.toml", &definition("first"));
        let _ = tree(&small.project.rootbuild(&["provision", "--json"]).expect(0));
        dir
    })
}

fn prepared(project: Project) -> Small {
    std::fs::hard_link(machine_archive(), project.dir().join("p.tar")).expect("it is there");
    project.write("site.yml", SITE);
    Small { project }
}

/// A project whose root has another word in it than the last time.
pub(crate) fn project() -> Small {
    let template = template();
    let small = prepared(Project::with_own_store());
    let store = small.store();
    // Nothing of a store is written where it stands.
    let copied = Command::new("cp").arg("-al").arg(template.join("store")).arg(&store).status();
    assert!(copied.expect("cp runs").success());
    let roots = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&store, roots).expect("it is ours");
    small.project.write("rootbuild.toml", &definition("second"));
    small
}
