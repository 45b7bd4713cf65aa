//! Every dialect and compression, against what GNU tar makes of it.

use super::*;

/// A tree with one of everything that tar can keep.
const TREE: &str = r#"
    umask 022; mkdir -p t/usr/bin t/etc/deep/er t/opt/empty; cd t
    echo x > usr/bin/x; chown 12:34 usr/bin/x; chmod 6755 usr/bin/x; ln usr/bin/x usr/bin/y; ln usr/bin/x etc/z
    chmod 1777 opt; chown 5:6 opt/empty; ln -s ../../outside etc/link; ln -s /etc/passwd etc/absolute; ln -P etc/link etc/link2
    mkfifo -m 640 opt/pipe; mknod opt/node c 1 7; mknod -m 600 opt/block b 7 200
    long=$(printf 'n%.0s' $(seq 120)); mkdir -p "$long/$long"; echo long > "$long/$long/file"; ln -s "$long/$long/file" long
    ln "$long/$long/file" "$long/hard"
    printf 'latin' > "$(printf 'caf\351')"; printf nl > "$(printf 'a\nb')"; : > empty
    truncate -s 3M opt/sparse; printf end >> opt/sparse; printf mid | dd of=opt/sparse bs=1 seek=1000000 conv=notrunc status=none
    truncate -s 2M opt/hole; for i in $(seq 60); do printf x | dd of=opt/many bs=1 seek=$((i * 20000)) conv=notrunc status=none; done
    touch -d '2001-02-03 04:05:06.789012345' usr/bin/x; touch -h -d '1969-12-31 23:59:58.5' etc/link; touch -d 1960-01-01 empty
"#;
const ATTRIBUTES: &str = r"
    setfattr -n user.color -v blue etc; setfattr -n user.bin -v 0x0a3d000a25 usr/bin/x; setcap cap_net_raw=ep usr/bin/x
    setfacl -m u:1000:rx usr/bin/x; setfacl -d -m g:1001:rwx opt; setfattr -h -n trusted.t -v 1 etc/link
";

/// Packs `t` with GNU tar's `options`, unpacks it twice, and compares.
fn compare(place: &Place, options: &str) {
    place.again();
    let acls = if options.contains("--acls") { "--acls" } else { "" };
    place.sh(&format!(
        "rm -rf theirs; mkdir theirs; tar -C t {options} --numeric-owner -cf a.tar .
         tar -C theirs --xattrs --xattrs-include='*' {acls} --numeric-owner --same-owner -pxf a.tar"
    ));
    let base = ArchiveBase { devices: true, ..place.base("a.tar") };
    let facts = place.build(&base).unwrap_or_else(|error| panic!("{options}: {error}"));
    assert!(facts["entries"].as_u64() > Some(15), "{facts}");
    let (mine, theirs) = (place.tree("root"), place.tree("theirs"));
    for (mine, theirs) in mine.entries().iter().zip(theirs.entries()) {
        assert_eq!(mine, theirs, "{options}");
    }
    assert_eq!(mine.entries().len(), theirs.entries().len(), "{options}");
    let holes =
        "for f in sparse hole many; do test $(stat -c %b root/opt/$f) -le $(stat -c %b t/opt/$f); done";
    if options.contains("sparse") {
        place.sh(holes);
    }
}

#[test]
fn every_dialect_of_gnu_tar_unpacks_as_gnu_tar_does_it() {
    if !privileged("every_dialect_of_gnu_tar_unpacks_as_gnu_tar_does_it") {
        return;
    }
    let place = Place::new();
    place.sh(TREE);
    place.sh("cd t; touch -d 1970-01-02 empty; touch -h -d 1970-01-02 etc/link");
    for options in [
        "--format=gnu",
        "--format=oldgnu --sparse",
        "--format=gnu --sparse",
        "--format=posix",
        "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=1.0",
        "--format=posix --sparse --hole-detection=raw",
        "--format=posix --pax-option=comment=x,globexthdr.name=g,mtime:=12345.5",
        "--format=gnu --label=volume",
        "--format=ustar --exclude=nnn* --exclude=long",
        "--format=v7 --exclude=nnn* --exclude=long --exclude=node --exclude=block --exclude=pipe",
    ] {
        compare(&place, options);
    }
}

#[test]
fn attributes_and_old_times_unpack_as_gnu_tar_does_it() {
    if !privileged("attributes_and_old_times_unpack_as_gnu_tar_does_it") {
        return;
    }
    let place = Place::new();
    place.sh(TREE);
    place.sh(&format!("cd t; {ATTRIBUTES}"));
    compare(&place, "--format=posix --xattrs --xattrs-include=*");
    compare(&place, "--format=posix --xattrs --xattrs-include=* --acls --sparse");
    compare(&place, "--format=gnu --sparse");
}

#[test]
fn every_compression_is_recognised_by_what_it_is() {
    if !privileged("every_compression_is_recognised_by_what_it_is") {
        return;
    }
    let place = Place::new();
    place.sh(
        "head -c 300000 /dev/urandom > f; tar -cf a.tar f; gzip -k a.tar; xz -k a.tar; zstd -q a.tar; mv a.tar.zst a.zst
         head -c 100000 a.tar | gzip > many.gz; tail -c +100001 a.tar | gzip >> many.gz; head -c 512 /dev/zero >> many.gz
         head -c 100000 a.tar | xz > many.xz; tail -c +100001 a.tar | xz >> many.xz
         head -c 100000 a.tar | zstd -q > many.zst; tail -c +100001 a.tar | zstd -q >> many.zst",
    );
    let names = ["a.tar", "a.tar.gz", "a.tar.xz", "a.zst", "many.gz", "many.xz", "many.zst"];
    for (name, compression) in names.into_iter().zip(["none", "gzip", "xz", "zstd", "gzip", "xz", "zstd"]) {
        place.again();
        let facts = place.build(&place.base(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(facts["compression"], compression, "{name}");
        place.sh("cmp f root/f");
    }
    for name in ["a.tar.gz", "a.tar.xz", "a.zst"] {
        place.again();
        place.sh(&format!(
            "head -c 100000 {name} > cut; cp {name} garbage; echo more >> garbage; cp {name} bad"
        ));
        place.sh("printf XXXX | dd of=bad bs=1 seek=150000 conv=notrunc status=none");
        for name in ["cut", "garbage", "bad"] {
            let error = place.build(&place.base(name)).unwrap_err();
            let BaseError::Archive(archive) = &error else { panic!("{error}") };
            assert!(matches!(archive.problem, Problem::Damaged { .. }), "{name}: {error}");
            assert!(error.hint().is_some());
            place.again();
        }
    }
    place.sh("bzip2 -k a.tar || printf 'BZh91AY' > a.tar.bz2; printf 'PK\\003\\004' > a.zip; head -c 3000 /dev/zero >> a.zip");
    let says = |name: &str| place.build(&place.base(name)).unwrap_err().to_string();
    assert!(says("a.tar.bz2").ends_with("compressed with bzip2, which isn't supported"));
    assert!(says("a.zip").ends_with("it is no tar archive, but a zip file"));
}

#[test]
fn components_are_stripped_as_gnu_tar_does_it() {
    if !privileged("components_are_stripped_as_gnu_tar_does_it") {
        return;
    }
    let place = Place::new();
    place.sh(
        "mkdir -p t/rootfs/usr/bin t/rootfs/etc; cd t/rootfs; echo x > usr/bin/x; ln usr/bin/x etc/y; ln -s ../usr/bin/x etc/z
         echo top > ../top; echo f > f",
    );
    for (members, strip) in
        [("rootfs top", 1), ("rootfs", 2), (".", 1), (".", 2), ("./rootfs", 1), ("rootfs", 9)]
    {
        place.again();
        place.sh(&format!(
            "rm -rf theirs; mkdir -m 755 theirs; chmod 755 root; touch -d @0 root theirs; tar -C t -cf a.tar {members}
             tar -C theirs --same-owner -pxf a.tar --strip-components={strip}"
        ));
        let base = ArchiveBase { strip_components: strip, ..place.base("a.tar") };
        place.build(&base).unwrap_or_else(|error| panic!("{members} {strip}: {error}"));
        let names = |name: &str| {
            let tree = place.tree(name);
            tree.into_entries().into_iter().map(|entry| (entry.path, entry.kind)).collect::<Vec<_>>()
        };
        assert_eq!(names("root"), names("theirs"), "{members} {strip}");
    }
}

#[test]
fn incremental_and_multi_volume_archives_are_refused() {
    if !privileged("incremental_and_multi_volume_archives_are_refused") {
        return;
    }
    let place = Place::new();
    place.sh("mkdir t; head -c 100000 /dev/urandom > t/f");
    for format in ["gnu", "posix"] {
        place.again();
        place.sh(&format!(
            "tar --format={format} -C t --listed-incremental=\"$PWD/snapshot-{format}\" -cf a.tar ."
        ));
        let error = place.build(&place.base("a.tar")).unwrap_err();
        assert!(error.to_string().contains("incremental dump"), "{error}");
        place.again();
        place.sh(&format!(
            "rm -f v1 v2; tar --format={format} -C t -L 60 -cf v1 -f \"$PWD/v2\" f -F 'true' < /dev/null || true; test -s v2"
        ));
        let error = place.build(&place.base("v2")).unwrap_err();
        assert!(error.to_string().contains("another volume"), "{error}");
    }
}
