//! A small base for real playbooks: Python and a few programs of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::standin::source;

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

/// The archive, made once and kept between runs.
///
/// # Panics
/// It can't be made.
pub fn machine_archive() -> &'static Path {
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
        archive
    })
}
