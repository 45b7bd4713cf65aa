//! Archive bases: kept as they are, refused when they are hostile.

use std::process::Command;

use rootbuild_tests::{Project, privileged};

fn tar(project: &Project, script: &str) {
    let made =
        Command::new("sh").args(["-euc", script]).current_dir(project.dir()).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn define(project: &Project, archive: &str, more: &str) {
    project.write(
        "rootbuild.toml",
        &format!(
            "[base.a]\nsource = \"archive\"\nfile = \"{archive}\"\n{more}\n[root.unpacked]\nbase = \"a\"\n"
        ),
    );
}

#[test]
fn what_an_archive_holds_is_in_the_root_whatever_its_compression() {
    if !privileged("what_an_archive_holds_is_in_the_root_whatever_its_compression") {
        return;
    }
    let project = Project::with_own_store();
    tar(
        &project,
        "mkdir -p t/usr/bin t/etc t/opt t/dev; echo x > t/usr/bin/x; chown 12:34 t/usr/bin/x; chmod 6755 t/usr/bin/x
         ln t/usr/bin/x t/usr/bin/y; ln -s ../../outside t/etc/link; mkfifo t/opt/pipe; mknod t/opt/node c 1 7
         setfattr -n user.color -v blue t/etc; setcap cap_net_raw=ep t/usr/bin/x
         truncate -s 1G t/opt/sparse; echo end >> t/opt/sparse
         tar -C t --xattrs --xattrs-include='*' --sparse -cf a.tar .; gzip -k a.tar; xz -kz a.tar; zstd -q a.tar",
    );
    let mut trees = Vec::new();
    for archive in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"] {
        define(&project, archive, "unverified = true\ndevices = true");
        let ran = project.rootbuild(&["provision", "--json"]).expect(0);
        trees.push(ran.json()["roots"][0]["tree"].clone());
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:?}");
    let look = Command::new("sh")
        .args([
            "-euc",
            "cd \"$1\"; stat -c '%a %u:%g %h' usr/bin/x; test usr/bin/x -ef usr/bin/y; readlink etc/link; stat -c '%F' opt/pipe
             stat -c '%t:%T' opt/node; getfattr --only-values -n user.color etc; echo; getcap usr/bin/x | cut -d' ' -f2
             test $(stat -c %b opt/sparse) -lt 1000; tail -c 4 opt/sparse",
            "sh",
        ])
        .arg(std::fs::canonicalize(project.root("unpacked")).expect("the root stands"))
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&look.stdout);
    assert!(look.status.success(), "{text}{}", String::from_utf8_lossy(&look.stderr));
    assert_eq!(text, "6755 12:34 2\n../../outside\nfifo\n1:7\nblue\ncap_net_raw=ep\nend\n");
}

#[test]
fn hostile_archives_are_refused_by_member_and_nothing_gets_out() {
    if !privileged("hostile_archives_are_refused_by_member_and_nothing_gets_out") {
        return;
    }
    let project = Project::with_own_store();
    std::fs::create_dir_all(project.dir().join("victim")).expect("writable");
    for (name, script) in [
        ("../escaped", "echo x > escaped; mkdir -p d; tar -C d -P -cf b.tar ../escaped; rm escaped"),
        ("/abs", "echo x > f; tar -P --transform 's,^f$,/abs,' -cf b.tar f"),
        (
            "link/x",
            "mkdir -p e; ln -sfn \"$PWD/victim\" e/link; tar -C e -cf b.tar link; mkdir -p g/link; echo x > g/link/x; tar -C g -rf b.tar link/x",
        ),
        ("node", "mkdir -p h; rm -f h/node; mknod h/node b 8 0; tar -C h -cf b.tar node"),
        ("b.tar", "head -c 3000 /dev/urandom > b.tar"),
        (
            "b.tar",
            "mkdir -p i; head -c 100000 /dev/urandom > i/f; tar -C i -czf b.tar f; truncate -s 50000 b.tar",
        ),
    ] {
        tar(&project, script);
        define(&project, "b.tar", "unverified = true");
        let _ = project.rootbuild(&["provision"]).expect(1).says(&["b.tar", name]);
        assert!(!project.root("unpacked").exists());
        assert!(!project.dir().join("escaped").exists() && !std::path::Path::new("/abs").exists());
        assert_eq!(std::fs::read_dir(project.dir().join("victim")).expect("readable").count(), 0);
    }
    define(&project, "b.tar", &format!("sha256 = \"{}\"", "0".repeat(64)));
    let ran = project.rootbuild(&["provision"]).says(&["sha256", "b.tar"]);
    assert!(ran.code == 1 || ran.code == 2, "{}", ran.code);
}

#[test]
fn an_archive_that_nobody_vouches_for_is_refused_with_the_line_to_add() {
    let project = Project::with_own_store();
    tar(&project, "mkdir -p t/etc; echo x > t/etc/x; tar -C t -cf c.tar .");
    define(&project, "c.tar", "");
    let refused = project.rootbuild(&["plan"]).expect(2).says(&["rootbuild.toml:3:", "unverified = true"]);
    let line = refused.stderr.split("add `").nth(1).and_then(|rest| rest.split('`').next()).expect("a line");
    define(&project, "c.tar", line);
    let _ = project.rootbuild(&["plan"]).expect(0);
    define(&project, "c.tar", "unverified = true");
    let _ = project.rootbuild(&["plan"]).expect(0);
}
