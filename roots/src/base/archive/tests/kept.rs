//! What is kept of a member, and what the builder is told.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    if !privileged("owners_modes_times_and_attributes_are_kept") {
        return;
    }
    let place = Place::new();
    let mut set = header(b'0', b"x", b"", 4);
    set.set_mode(0o6755);
    set.set_uid(0o7777777);
    set.set_gid(70_000_000);
    set.set_cksum();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let acl = b"user::rw-\nuser:1000:r--\ngroup::r-x\nmask::r-x\nother::r-x\n";
    let archive = Tar::default()
        .pax(
            b'x',
            &[
                ("mtime", b"1350244992.023960108"),
                ("SCHILY.xattr.user.a%3Db", b"line\nline\0"),
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0\0"),
                ("SCHILY.acl.access", acl),
            ],
        )
        .raw(&set, b"data")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.sh("stat -c '%a %u %g %.9Y' root/x"), "6755 2097151 70000000 1350244992.023960108\n");
    assert_eq!(place.sh("getcap root/x"), "root/x cap_net_raw=ep\n");
    assert!(place.sh("getfacl -cn root/x").contains("user:1000:r--"));
    assert_eq!(place.sh("getfattr --only-values -n user.a=b root/x"), "line\nline\0");
    assert!(!place.sh("getfattr -d -m - root/x").contains("selinux"));
}

#[test]
fn directories_get_their_own_metadata_last_and_the_top_too() {
    if !privileged("directories_get_their_own_metadata_last_and_the_top_too") {
        return;
    }
    let place = Place::new();
    let dir = |name: &str, mode, uid| {
        let mut header = header(b'5', name.as_bytes(), b"", 0);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_cksum();
        header
    };
    let archive = Tar::default()
        .raw(&dir("./", 0o1711, 7), b"")
        .raw(&dir("./closed", 0o000, 1), b"")
        .file("closed/x", "x")
        .raw(&dir("./closed/", 0o2500, 2), b"")
        .file("made/for/it", "x")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(
        place.sh("stat -c '%n %a %u %Y' root root/closed root/made root/made/for"),
        "root 1711 7 1000000000\nroot/closed 2500 2 1000000000\nroot/made 755 0 0\nroot/made/for 755 0 0\n"
    );
}

#[test]
fn long_runs_of_zeros_become_holes() {
    let place = Place::new();
    let mut data = vec![0; 3 << 20];
    data[2 << 20] = 1;
    place.unpack(&Tar::default().member(b'0', b"x", b"", &data).end()).expect("unpacked");
    let file = File::open(place.root("x")).expect("there");
    let mut found = vec![9; data.len()];
    file.read_exact_at(&mut found, 0).expect("as long");
    assert!(found == data);
    assert_eq!(place.sh("test $(stat -c %b root/x) -lt 400; stat -c %s root/x"), "3145728\n");
}

#[test]
fn the_key_is_the_content_and_the_settings_but_not_the_name() {
    let place = Place::new();
    fs::write(place.path("a.tar"), Tar::default().file("x", "1").end()).expect("writable");
    fs::copy(place.path("a.tar"), place.path("b.tar")).expect("copied");
    let key = |base: ArchiveBase| base.key().expect("a key");
    let first = key(place.base("a.tar"));
    assert_eq!(key(place.base("b.tar")), first);
    let sum = place.sh("sha256sum a.tar | cut -c1-64 | tr a-f A-F | tr -d '\\n'");
    assert_eq!(key(ArchiveBase { sha256: Some(sum), ..place.base("a.tar") }), first);
    assert_ne!(key(ArchiveBase { devices: true, ..place.base("a.tar") }), first);
    assert_ne!(key(ArchiveBase { strip_components: 1, ..place.base("a.tar") }), first);
    fs::write(place.path("a.tar"), Tar::default().file("x", "2").end()).expect("writable");
    assert_ne!(key(place.base("a.tar")), first);
}

#[test]
fn an_archive_that_changed_after_its_key_was_made_is_not_unpacked() {
    if !privileged("an_archive_that_changed_after_its_key_was_made_is_not_unpacked") {
        return;
    }
    let place = Place::new();
    // In place, of one size and at once: as like the file before as can be.
    let write =
        |text| fs::write(place.path("a.tar"), Tar::default().file("x", text).end()).expect("writable");
    write("1");
    let base = place.base("a.tar");
    let (inputs, key) = (base.inputs_key().expect("a key"), base.key().expect("a key"));
    write("2");
    assert_ne!(base.inputs_key().expect("a key"), inputs);
    let error = place.build(&base).unwrap_err();
    assert!(error.to_string().ends_with("it changed while it was read"), "{error}");
    assert!(!place.root("x").exists());
    assert_ne!(base.key().expect("a key"), key);
    place.build(&base).expect("the one that its key is for");
}

#[test]
fn an_archive_with_another_sha256_is_not_unpacked() {
    if !privileged("an_archive_with_another_sha256_is_not_unpacked") {
        return;
    }
    let place = Place::new();
    fs::write(place.path("a.tar"), Tar::default().file("x", "1").end()).expect("writable");
    let base = ArchiveBase { sha256: Some("0".repeat(64)), ..place.base("a.tar") };
    let error = place.build(&base).unwrap_err();
    let found = place.sh("sha256sum a.tar | cut -c1-64").trim().to_owned();
    assert!(error.to_string().contains(&found) && error.to_string().contains(&"0".repeat(64)), "{error}");
    assert!(!place.root("x").exists());
    let facts = place.build(&ArchiveBase { sha256: Some(found.clone()), ..base }).expect("the right one");
    assert_eq!(facts["sha256"], found);
    assert_eq!(facts["file"], "a.tar");
    assert_eq!((facts["entries"].as_u64(), facts["bytes"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn progress_is_told_and_cancelling_ends_it() {
    if !privileged("progress_is_told_and_cancelling_ends_it") {
        return;
    }
    let place = Place::new();
    place.sh("head -c 20000000 /dev/urandom > f; tar -cf a.tar f");
    let told = Mutex::new(Vec::new());
    place
        .build_with(&place.base("a.tar"), &Cancel::new(), &|event| told.lock().expect("kept").push(event))
        .expect("built");
    let told = told.into_inner().expect("kept");
    assert!(told.contains(&StepEvent::Phase("unpacking a.tar".to_owned())));
    let last = told.iter().rev().find_map(|event| match event {
        StepEvent::Progress { done, total, bytes: true } => Some((*done, *total)),
        _ => None,
    });
    let size = fs::metadata(place.path("a.tar")).expect("there").len();
    assert_eq!(last, Some((size, size)));

    place.again();
    let (cancel, unpacks) = (Cancel::new(), AtomicBool::new(false));
    let error = place.build_with(&place.base("a.tar"), &cancel, &|event| match event {
        StepEvent::Phase(phase) => unpacks.store(phase.starts_with("unpacking"), Ordering::Relaxed),
        StepEvent::Progress { .. } if unpacks.load(Ordering::Relaxed) => cancel.cancel(),
        _ => {}
    });
    assert!(error.unwrap_err().is_cancelled());
    assert!(fs::metadata(place.root("f")).is_ok_and(|file| file.len() < 20_000_000));
}

#[test]
fn an_archive_that_changes_under_the_reader_is_not_taken() {
    if !privileged("an_archive_that_changes_under_the_reader_is_not_taken") {
        return;
    }
    let place = Place::new();
    let archive = |text: &str| Tar::default().file("x", text).end();
    fs::write(place.path("a.tar"), archive("1")).expect("writable");
    let error = place.build_with(&place.base("a.tar"), &Cancel::new(), &|event| {
        if matches!(event, StepEvent::Phase(phase) if phase.starts_with("unpacking")) {
            fs::write(place.path("a.tar"), archive("2")).expect("writable");
        }
    });
    assert!(error.unwrap_err().to_string().ends_with("it changed while it was read"));
}

#[test]
fn a_source_hashes_what_it_reads_and_what_is_left() {
    let place = Place::new();
    fs::write(place.path("f"), "abc").expect("writable");
    let (file, cancel) = (File::open(place.path("f")).expect("there"), Cancel::new());
    let mut source = Source::new(&file, &cancel, &|_| ()).expect("readable");
    std::io::Read::read(&mut source, &mut [0; 1]).expect("read");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(source.digest().expect("read"), abc);
}
