//! What is refused.

use super::*;

/// Unpacks in a place of its own, where nothing outside may change.
#[track_caller]
fn refused(archive: impl AsRef<[u8]>) -> (String, Refusal) {
    refusal(unpacked(archive.as_ref()))
}

#[track_caller]
fn unpacked(archive: &[u8]) -> Result<(), Problem> {
    let place = Place::new();
    let before = place.outside();
    let result = place.unpack(archive);
    assert_eq!(place.outside(), before);
    result
}

#[test]
fn names_that_lead_out_of_the_root_are_refused() {
    for (name, expected) in [
        ("/abs", Refusal::Absolute),
        ("../escaped", Refusal::Parent),
        ("a/../../escaped", Refusal::Parent),
        ("..", Refusal::Parent),
        ("", Refusal::NoName),
    ] {
        for kind in *b"0123456" {
            let refused = refused(Tar::default().member(kind, name.as_bytes(), b"victim", b"").end());
            assert_eq!(refused, (name.to_owned(), expected.clone()), "{}", char::from(kind));
        }
        if !name.is_empty() {
            let long = Tar::default().member(b'L', b"long", b"", name.as_bytes()).file("x", "").end();
            assert_eq!(refused(long).1, expected);
            let pax = Tar::default().pax(b'x', &[("path", name.as_bytes())]).file("x", "").end();
            assert_eq!(refused(pax).1, expected);
        }
    }
    let nul = Tar::default().pax(b'x', &[("path", b"a\0b")]).file("x", "").end();
    assert_eq!(refused(nul), ("a\\u{0}b".to_owned(), Refusal::Nul));
    let prefix = {
        let mut header = tar::Header::new_ustar();
        header.set_path("x").expect("short");
        header.as_ustar_mut().expect("ustar").prefix[..2].copy_from_slice(b"..");
        header.set_size(0);
        header.set_cksum();
        Tar::default().raw(&header, b"").end()
    };
    assert_eq!(refused(prefix).1, Refusal::Parent);
}

#[test]
fn a_name_never_leads_through_a_link_that_was_made_before() {
    let place = Place::new();
    let victim = place.path("victim").to_string_lossy().into_owned();
    for target in [victim.as_str(), "../victim", ".", "dir"] {
        let start = || Tar::default().dir("dir").symlink("link", target);
        for archive in [
            start().file("link/x", "x").end(),
            start().dir("link/x").end(),
            start().file("link/deeper/x", "x").end(),
            start().symlink("link/x", "y").end(),
            start().member(b'6', b"link/x", b"", b"").end(),
            start().file("f", "f").hardlink("link/x", "f").end(),
            start().dir("link/").dir("link").symlink("link", target).file("link/x", "x").end(),
        ] {
            let result = place.unpack(&archive);
            let (member, refusal) = refusal(result);
            assert!(member.starts_with("link/"), "{member}");
            assert_eq!(refusal, Refusal::ThroughLink("link".to_owned()));
            assert_eq!(fs::read_dir(place.path("victim")).expect("readable").count(), 1);
            place.again();
        }
        let read = start().hardlink("stolen", "link/file").end();
        let (link, target) = ("link".to_owned(), "link/file".to_owned());
        assert_eq!(refusal(place.unpack(&read)).1, Refusal::LinkThroughLink { target, link });
        place.again();
    }
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_followed() {
    let place = Place::new();
    let archive = Tar::default()
        .symlink("file", "../victim/file")
        .file("file", "mine")
        .symlink("dir", "../victim")
        .dir("dir")
        .file("dir/file", "mine")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(fs::read(place.path("victim/file")).expect("there"), b"untouched");
    assert_eq!(fs::read(place.root("file")).expect("there"), b"mine");
    assert_eq!(fs::read(place.root("dir/file")).expect("there"), b"mine");
}

#[test]
fn hard_links_only_lead_to_what_the_archive_has_made() {
    let to = |target: &str| refused(Tar::default().file("d/f", "").dir("d").hardlink("x", target).end());
    let same = |target: &str| target.to_owned();
    assert_eq!(to("../victim/file").1, Refusal::LinkLeaves(same("../victim/file")));
    assert_eq!(to("/etc/passwd").1, Refusal::LinkLeaves(same("/etc/passwd")));
    assert_eq!(to("").1, Refusal::LinkLeaves(same("")));
    assert_eq!(to("missing").1, Refusal::LinkMissing(same("missing")));
    assert_eq!(to("d/f/below").1, Refusal::LinkMissing(same("d/f/below")));
    assert_eq!(to("d").1, Refusal::LinkDirectory(same("d")));
    assert_eq!(to("./").1, Refusal::LinkDirectory(same("./")));
    assert_eq!(to("x").1, Refusal::LinkMissing(same("x")));
    assert_eq!(to("d/f/below").0, "x");
}

#[test]
fn a_hard_link_to_a_link_is_one_to_the_link_itself() {
    let place = Place::new();
    let archive = Tar::default().symlink("s", "../victim/file").hardlink("t", "s").hardlink("t", "t").end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(fs::read_link(place.root("t")).expect("a link"), Path::new("../victim/file"));
    // Written through, it would be the victim that changes.
    let archive = Tar::default().symlink("s", "../victim/file").hardlink("t", "s").file("t", "mine").end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(fs::read(place.path("victim/file")).expect("there"), b"untouched");
}

#[test]
fn a_later_member_replaces_an_earlier_one_but_not_what_lies_in_it() {
    let place = Place::new();
    let archive = Tar::default()
        .file("a", "one")
        .hardlink("b", "a")
        .file("a", "two")
        .dir("d")
        .file("d", "file")
        .dir("d")
        .file("d/x", "x")
        .dir("d")
        .end();
    place.unpack(&archive).expect("unpacked");
    let text = |name: &str| fs::read_to_string(place.root(name)).expect("there");
    assert_eq!([text("a"), text("b"), text("d/x")], ["two", "one", "x"]);
    assert_eq!(refused(Tar::default().file("d/x", "").file("d", "").end()).1, Refusal::ReplacesDirectory);
    assert_eq!(refused(Tar::default().file("d/x", "").symlink("d", "/").end()).1, Refusal::ReplacesDirectory);
    assert_eq!(
        refused(Tar::default().file("d", "").file("d/x", "").end()).1,
        Refusal::ThroughFile("d".to_owned())
    );
    assert_eq!(refused(Tar::default().symlink("./", "/").end()).1, Refusal::Top);
    assert_eq!(refused(Tar::default().file(".", "").end()).1, Refusal::Top);
}

#[test]
fn device_nodes_are_refused_unless_they_are_wanted() {
    if !privileged("device_nodes_are_refused_unless_they_are_wanted") {
        return;
    }
    let node = |kind: u8, name: &str, major| {
        let mut header = header(kind, name.as_bytes(), b"", 0);
        header.set_device_major(major).expect("gnu");
        header.set_device_minor(if major == 0 { 0 } else { 3 }).expect("gnu");
        header.set_cksum();
        Tar::default().raw(&header, b"")
    };
    assert_eq!(refused(node(b'3', "node", 1).end()), ("node".to_owned(), Refusal::Device("character")));
    assert_eq!(refused(node(b'4', "node", 8).end()).1, Refusal::Device("block"));
    let place = Place::new();
    let base = ArchiveBase { devices: true, ..place.base("a.tar") };
    place.unpack_as(&base, &node(b'3', "opt/node", 1).end()).expect("wanted");
    assert_eq!(place.sh("stat -c '%F %t:%T' root/opt/node"), "character special file 1:3\n");
    assert_eq!(refusal(place.unpack_as(&base, &node(b'3', "x", 0).end())).1, Refusal::Whiteout);
    place.again();
    let dev = node(b'3', "./dev/null", 1).hardlink("dev/zero", "./dev/null").end();
    place.unpack(&dev).expect("passed over");
    assert!(!place.root("dev/null").exists() && !place.root("dev/zero").exists());
}

#[test]
fn members_that_lie_about_what_they_are_are_refused() {
    for (kind, what) in [(b'5', "directory"), (b'1', "hard link"), (b'2', "symbolic link"), (b'6', "FIFO")] {
        let archive = Tar::default().file("f", "").member(kind, b"x", b"f", b"data").end();
        assert_eq!(refused(archive).1, Refusal::Content(what));
    }
    assert_eq!(
        refused(Tar::default().member(b'0', b"x/", b"", b"data").end()).1,
        Refusal::Content("directory")
    );
    assert_eq!(refused(Tar::default().member(b'M', b"x", b"", b"").end()).1, Refusal::Volume);
    assert_eq!(refused(Tar::default().member(b'D', b"x", b"", b"").end()).1, Refusal::Incremental);
    assert_eq!(refused(Tar::default().member(b'Z', b"x", b"", b"").end()).1, Refusal::Type(b'Z'));
    assert_eq!(refused(Tar::default().symlink("x", "").end()).1, Refusal::LinkTarget("is empty"));
    let sizes = Tar::default().pax(b'x', &[("size", b"1024")]).file("x", "data").end();
    assert_eq!(refused(sizes).1, Refusal::Sizes { header: 4, extended: 1024 });
    for (key, what) in [("uid", "owner"), ("gid", "group")] {
        for value in ["4294967295", "4294967296", "-1", "x"] {
            let archive = Tar::default().pax(b'x', &[(key, value.as_bytes())]).file("x", "").end();
            assert_eq!(refused(archive).1, Refusal::Number(what), "{value}");
        }
    }
    let mut nobody = header(b'0', b"x", b"", 0);
    nobody.set_uid(u64::from(u32::MAX));
    nobody.set_cksum();
    assert_eq!(refused(Tar::default().raw(&nobody, b"").end()).1, Refusal::Number("owner"));
    let mut huge = header(b'0', b"x", b"", u64::MAX);
    huge.set_cksum();
    assert_eq!(refused(Tar::default().raw(&huge, b"").end()).1, Refusal::Number("size"));
}

#[test]
fn archives_that_are_cut_off_or_damaged_are_refused() {
    let whole = Tar::default().file("one", "data").file("two", &"x".repeat(2000)).end();
    for length in 0..whole.len() - 512 {
        let Err(problem) = unpacked(&whole[..length]) else { panic!("{length} bytes are taken for whole") };
        let right = matches!(problem, Problem::Truncated { .. } | Problem::NotTar { .. });
        assert!(right, "{length}: {problem:?}");
    }
    unpacked(&whole).expect("whole");
    let message = unpacked(&whole[..1300]).unwrap_err().to_string();
    assert_eq!(message, "it is truncated: it ends in a header after the member `one`");
    let mut trailing = whole.clone();
    trailing.extend(b"more");
    assert!(matches!(unpacked(&trailing), Err(Problem::Trailing)));
    let mut flipped = whole.clone();
    flipped[1024] ^= 1;
    assert_eq!(
        unpacked(&flipped).unwrap_err().to_string(),
        "it is damaged after the member `one`: a header's checksum is wrong"
    );
    let orphan = Tar::default().file("x", "").pax(b'x', &[("path", b"y")]).end();
    assert!(matches!(unpacked(&orphan), Err(Problem::Corrupt { .. })));
    let twice = Tar::default().pax(b'x', &[("path", b"y")]).pax(b'x', &[("path", b"z")]).file("x", "").end();
    assert!(matches!(unpacked(&twice), Err(Problem::Corrupt { .. })));
    let global = Tar::default().pax(b'g', &[("path", b"y")]).file("x", "").end();
    assert!(matches!(unpacked(&global), Err(Problem::Corrupt { .. })));
    assert!(matches!(unpacked(&[0; 10240]), Err(Problem::Empty)));
    assert!(matches!(unpacked(&[]), Err(Problem::NotTar { .. })));
    assert!(matches!(unpacked(&[b'x'; 3000]), Err(Problem::NotTar { .. })));
}

#[test]
fn an_archive_can_not_hold_more_than_is_allowed() {
    let place = Place::new();
    let limits = Limits { entries: 3, bytes: 2000, depth: 2, ..Limits::default() };
    let base = ArchiveBase { limits: Some(limits), ..place.base("a.tar") };
    let many = Tar::default().file("a", "").file("b", "").file("c", "").file("d", "").end();
    let problem = place.unpack_as(&base, &many).unwrap_err();
    assert_eq!(problem.to_string(), "it has more than 3 members after the member `c`");
    let large = Tar::default().file("a", &"x".repeat(1500)).file("b", &"x".repeat(600)).end();
    assert!(matches!(place.unpack_as(&base, &large), Err(Problem::Limit { what: "bytes", limit: 2000, .. })));
    let mut zeros = Tar::default().file("a", "").end();
    zeros.resize(1 << 20, 0);
    assert!(matches!(place.unpack_as(&base, &zeros), Err(Problem::Limit { what: "bytes", .. })));
    let deep = Tar::default().file("1/2/3", "").end();
    assert_eq!(refusal(place.unpack_as(&base, &deep)), ("1/2/3".to_owned(), Refusal::Depth(2)));
    let hole = Tar::default()
        .pax(b'x', &[("GNU.sparse.size", b"999999999999999"), ("GNU.sparse.map", b"0,4")])
        .file("x", "data")
        .end();
    assert!(matches!(place.unpack_as(&base, &hole), Err(Problem::Exceeded(_))));
    let long = Tar::default().raw(&header(b'L', b"x", b"", 1 << 33), b"").end();
    assert!(matches!(unpacked(&long), Err(Problem::Corrupt { .. })));
    let long = Tar::default().raw(&header(b'x', b"x", b"", 1 << 33), b"").end();
    assert!(matches!(unpacked(&long), Err(Problem::Corrupt { .. })));
}

#[test]
fn a_container_image_is_told_from_a_root() {
    for marker in ["oci-layout", "index.json", "./manifest.json"] {
        let image = Tar::default().dir("blobs").file(marker, "{}").end();
        assert!(matches!(unpacked(&image), Err(Problem::Image { .. })), "{marker}");
    }
    unpacked(&Tar::default().dir("usr").file("manifest.json", "{}").end()).expect("a root");
}

#[test]
fn errors_name_the_archive_and_say_what_to_do() {
    let place = Place::new();
    fs::write(place.path("b.tar"), Tar::default().file("../escaped", "").end()).expect("writable");
    if privileged("errors_name_the_archive_and_say_what_to_do") {
        let error = place.build(&place.base("b.tar")).unwrap_err();
        assert!(
            error.to_string().ends_with("b.tar`: the member `../escaped` has `..` in its name"),
            "{error}"
        );
        assert!(error.hint().expect("a hint").contains("tar -C ROOT"));
        assert!(!error.is_definition_error());
    }
    for name in ["missing.tar", "victim"] {
        let error = place.base(name).key().unwrap_err();
        assert!(error.is_definition_error(), "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("the base `a`"), "{error}");
    }
    place.sh("mkfifo pipe");
    assert!(place.base("pipe").key().unwrap_err().to_string().contains("isn't a regular file"));
}
