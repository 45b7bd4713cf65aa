//! A project with a playbook, on a store that has everything else: base, ansible-core.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rootbuild_tests::{Project, source};

use crate::project::{Small, tree};

/// An archive with a shell, some programs and Python, taken from the host.
const MAKE: &str = r#"
    set -o pipefail
    rm -rf t; mkdir -p t/usr/bin t/usr/lib t/usr/lib64 t/etc t/tmp t/var t/root t/run t/proc t/sys t/dev
    for link in bin lib lib64; do ln -s usr/$link t/$link; done
    python=$(readlink -f "$(PATH=/usr/bin command -v python3)")
    version=$(basename "$python")
    programs="/usr/bin/sh /usr/bin/bash /usr/bin/mkdir /usr/bin/chmod /usr/bin/cat /usr/bin/rm /usr/bin/ls /usr/bin/id /usr/bin/env /usr/bin/sleep /usr/bin/stat"
    for program in $programs; do cp -L $program t/usr/bin/; done
    cp -L "$python" t/usr/bin/python3; ln -s python3 "t/usr/bin/$version"
    cp -r --parents "/usr/lib/$version" t; rm -rf "t/usr/lib/$version"/{test,idlelib,ensurepip,lib2to3,tkinter,turtledemo}
    find t/usr/lib -name __pycache__ -prune -exec rm -r {} +
    rm -rf "t/usr/lib/$version/dist-packages"
    ldd $programs "$python" "/usr/lib/$version"/lib-dynload/*.so |
        awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/lib.*[^:]$" { print $1 }' | sort -u |
        while read -r library; do cp -L --parents "/usr${library#/usr}" t; done
    echo 'root:x:0:0:root:/root:/bin/sh' > t/etc/passwd; echo 'root:x:0:' > t/etc/group
    printf 'ID=test\nNAME=test\n' > t/etc/os-release; echo "$1" > t/etc/mark
    tar -C t --sort=name --mtime=@1 -cf "$1.tar" .; rm -rf t"#;

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
        std::fs::create_dir_all(&dir).expect("there is room");
        let archive = dir.join("p.tar");
        if !archive.exists() {
            let scratch = tempfile::tempdir_in(&dir).expect("there is room");
            let mut bash = Command::new("bash");
            let made = bash.args(["-euc", MAKE, "bash", "p"]).current_dir(scratch.path()).output();
            let made = made.expect("bash runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            std::fs::rename(scratch.path().join("p.tar"), &archive).expect("it was made");
        }
        let small = prepared(Project::on_store(dir.join("store")));
        small.project.write("rootbuild.toml", &definition("first"));
        let _ = tree(&small.project.rootbuild(&["provision", "--json"]).expect(0));
        dir
    })
}

fn prepared(project: Project) -> Small {
    let archive = source().join("target/faults/p.tar");
    std::fs::hard_link(archive, project.dir().join("p.tar")).expect("it is there");
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
