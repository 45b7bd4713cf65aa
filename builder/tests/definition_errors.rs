//! What people read when their `rootbuild.toml` is wrong: one snapshot per kind of mistake, with the
//! file and what is said about it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rootbuild::definition::Definition;
use rootbuild::exit;
use rootbuild::render::Report;
use tempfile::TempDir;

/// A project with everything in it that the definitions below name rightly.
fn project() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["ansible/roles", "bases", "ansible/inventory"] {
        fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    for file in
        ["ansible/common.yml", "ansible/hgweb.yml", "ansible/hosts", "bases/centos7.repo", "rootfs.tar.zst"]
    {
        fs::write(dir.path().join(file), "").unwrap();
    }
    dir
}

/// What is said about a definition, as on a terminal without colours, with the directory's name taken out.
fn said(dir: &Path, error: impl Into<Report>) -> String {
    let report: Report = error.into();
    assert_eq!(report.exit_code(), exit::USAGE);
    let text = anstream::adapter::strip_str(&report.render(Some(dir))).to_string();
    text.replace(&dir.display().to_string(), "[DIR]")
}

/// Each definition, and what is said about it.
fn about(definitions: &[&str]) -> String {
    let dir = project();
    let mut text = String::new();
    for definition in definitions {
        fs::write(dir.path().join("rootbuild.toml"), definition).unwrap();
        let error = Definition::load(None, dir.path()).expect_err(definition);
        for diagnostic in &error.diagnostics {
            assert!(diagnostic.line.is_some() && diagnostic.column.is_some(), "no place: {diagnostic:?}");
        }
        for line in definition.trim_end().lines() {
            writeln!(text, "  {}", line.trim_end()).unwrap();
        }
        writeln!(text, "{}\n", said(dir.path(), error)).unwrap();
    }
    text
}

/// A sound base and a sound `[ansible]`, to be followed by what is wrong.
macro_rules! after {
    ($rest:literal) => {
        concat!(
            "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[ansible]\ncore = \"2.16.19\"\n",
            $rest
        )
    };
}

/// A snapshot without the expression, which would be the definitions once more.
macro_rules! snapshot {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn what_is_not_toml_is_told_line_by_line() {
    snapshot!(about(&[
        "[root.a\nbase = \"b\"\n",
        "[root.a]\nbase = \"b\nhost = [1, 2\n",
        "[root.a]\nbase = b\nboot = yes\n",
        "[root.a]\nbase = \"b\"\nbase = \"c\"\n",
        "[root.a]\nbase = \"b\"\n[root.a]\nbase = \"c\"\n",
        "root.a.base: b\n",
        "[root.\u{1}]\n",
        "x = \"\u{1b}[31m\"\n",
        "[root.a]\nbase = \"b\"\n[root.a]\nbase = \"c\"\n[root.b]\nhost = \"x\"\nhost = \"x\"\n",
    ]));
}

#[test]
fn an_empty_definition_is_told_what_belongs_into_it() {
    snapshot!(about(&["", "# nothing yet\n", "[base.b]\nsource = \"root\"\nroot = \"a\"\n"]));
}

#[test]
fn unknown_keys_come_with_the_nearest_right_one() {
    snapshot!(about(&[
        after!(
            "[root.a]\nbase = \"b\"\nplaybook = [\"ansible/common.yml\"]\nhostname = \"h\"\ntimezone = \"UTC\"\n"
        ),
        after!("proyect = \"ansible\"\n[root.a]\nbase = \"b\"\n"),
        "[base.b]\nsource = \"rpm\"\nrepo = [\"bases/centos7.repo\"]\npackages = [\"@core\"]\nsuite = \"x\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsorce = \"rpm\"\nrepos = [\"bases/centos7.repo\"]\npackages = [\"@core\"]\n[root.a]\nbase = \"b\"\n",
        "[bases.b]\nsource = \"rpm\"\n[root.a]\nbase = \"b\"\nplaybooks = [\"ansible/common.yml\"]\n[ansibel]\n",
        "[bases.b]\nsource = \"rpm\"\n[roots.a]\nbase = \"b\"\n[store]\ndir = \"x\"\n",
        after!("[root.a]\nbase = \"b\"\n\"\\u001b[31m\" = 1\n"),
    ]));
}

#[test]
fn missing_keys_come_with_an_example() {
    snapshot!(about(&[
        "[base.b]\n[ansible]\n[root.a]\n",
        "[base.b]\nsuite = \"bookworm\"\n[root.a]\nbase = \"b\"\n",
        "[base.r]\nsource = \"rpm\"\n[base.d]\nsource = \"debian\"\n[base.f]\nsource = \"archive\"\n[base.t]\nsource = \"root\"\n[root.a]\nbase = \"r\"\n",
        "[base.r]\nsource = \"rpm\"\nrepos = []\npackages = []\n[root.a]\nbase = \"r\"\n",
    ]));
}

#[test]
fn wrong_types_are_told_with_what_was_expected() {
    snapshot!(about(&[
        "base = 1\nroot = \"a\"\nansible = \"2.16.19\"\n",
        "[[root]]\nbase = \"b\"\n",
        "[root]\nbase = \"b\"\nplaybooks = []\n",
        after!(
            "[root.a]\nbase = [\"b\"]\nhost = 7\nplaybooks = \"ansible/common.yml\"\nvars = \"x=1\"\nnetwork = true\nboot = \"yes\"\nservices = {}\n"
        ),
        after!("[root.a]\nbase = \"b\"\nplaybooks = [\"ansible/common.yml\", 7]\nboot = 1\n"),
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nstrip_components = \"1\"\ndevices = \"false\"\nsha256 = 5\n[base.c]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\nstrip_components = -1\n[base.d]\nsource = \"rpm\"\nrepos = [\"bases/centos7.repo\"]\npackages = [\"@core\"]\nreleasever = 7\n[root.a]\nbase = \"b\"\n",
    ]));
}

#[test]
fn names_are_plain_words() {
    snapshot!(about(&[
        after!(
            "[root.\"a b\"]\nbase = \"b\"\n[root.\"\"]\nbase = \"b\"\n[root.-a]\nbase = \"b\"\n[root.\".\"]\nbase = \"b\"\n[root.\"a/../b\"]\nbase = \"b\"\n[root.\"wébsite\"]\nbase = \"b\"\n[root.\"\\u0000\"]\nbase = \"b\"\n"
        ),
        after!("[root.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\nbase = \"b\"\n"),
        "[root.www.example.com]\nbase = \"b\"\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n",
        "[base.centos.7]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"centos.7\"\n",
    ]));
}

#[test]
fn values_that_can_not_be_right_are_refused() {
    snapshot!(about(&[
        "[base.b]\nsource = \"yum\"\n[base.c]\nsource = \"docker\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"rpm\"\nrepos = [\"bases/centos7.repo\"]\npackages = [\"@core python\", \"--root=/\", \"\"]\nreleasever = \"../7\"\narch = \"x86 64\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"debian\"\nsuite = \"book worm\"\npackages = [\"python3,systemd\"]\nmirror = \"deb.mirror.lan\"\ncomponents = [\"main contrib\"]\nvariant = \"minibase\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nsha256 = \"abc\"\n[base.c]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nsha256 = \"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"\n[root.a]\nbase = \"b\"\n",
        after!("[root.a]\nbase = \"b\"\nhost = \"web*,!db\"\nnetwork = \"hots\"\nservices = \"ignore\"\n"),
        after!("[root.a]\nbase = \"b\"\nhost = \"a\\nb\"\nplaybooks = [\"a\\u0000.yml\"]\n"),
    ]));
}

#[test]
fn ansible_core_is_one_exact_pinned_version() {
    snapshot!(about(&[
        "[ansible]\ncore = \"2.16\"\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
        "[ansible]\ncore = \">=2.19\"\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
        "[ansible]\ncore = \"latest\"\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
        "[ansible]\ncore = 2.16\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
        "[ansible]\ncore = \"2.17.1\"\n[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"b\"\nplaybooks = [\"ansible/common.yml\"]\n",
    ]));
}

#[test]
fn vars_hold_what_json_can_say() {
    snapshot!(about(&[
        after!(
            "[root.a]\nbase = \"b\"\n[root.a.vars]\nday = 2024-01-01\nwhen = { at = [07:30:00] }\nratio = inf\nhuge = 99999999999999999999\n"
        ),
        after!(
            "[root.a]\nbase = \"b\"\nvars = { ansible_connection = \"local\", \"is-testing\" = true, \"9lives\" = 9 }\n"
        ),
    ]));
}

#[test]
fn bases_and_roots_that_are_named_must_exist() {
    snapshot!(about(&[
        after!("[root.a]\nbase = \"c\"\n"),
        "[base.centos7]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[base.bookworm]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.a]\nbase = \"centso7\"\n[root.b]\nbase = \"a\"\n",
        "[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"root\"\nroot = \"common\"\n[base.c]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\n[root.comon]\nbase = \"c\"\n",
    ]));
}

#[test]
fn a_root_that_stands_on_itself_is_told_as_a_chain() {
    snapshot!(about(&[
        "[base.b]\nsource = \"root\"\nroot = \"a\"\n[root.a]\nbase = \"b\"\n",
        "[base.x]\nsource = \"root\"\nroot = \"c\"\n[base.y]\nsource = \"root\"\nroot = \"a\"\n[base.z]\nsource = \"root\"\nroot = \"b\"\n[root.a]\nbase = \"x\"\n[root.b]\nbase = \"y\"\n[root.c]\nbase = \"z\"\n[root.d]\nbase = \"x\"\n",
    ]));
}

#[test]
fn files_that_are_named_must_exist_and_be_what_they_are_used_as() {
    snapshot!(about(&[
        after!(
            "[root.a]\nbase = \"b\"\nplaybooks = [\"ansible/comon.yml\", \"ansible\", \"~/x.yml\", \"elsewhere/x.yml\", \"/dev/null\", \"ansible/common.yml/x\"]\n"
        ),
        after!("project = \"ansible\"\n[root.a]\nbase = \"b\"\nplaybooks = [\"hgweb.yml\"]\n"),
        after!(
            "project = \"anisble\"\ninventory = \"ansible/hots\"\nrequirements = \"req.txt\"\nvault_password_file = \"ansible\"\n[root.a]\nbase = \"b\"\n"
        ),
        "[base.b]\nsource = \"rpm\"\nrepos = [\"bases/centos8.repo\", \"bases\"]\npackages = [\"@core\"]\nlock = \"bases\"\n[base.c]\nsource = \"archive\"\nfile = \"rootfs.tar\"\nunverified = true\n[base.d]\nsource = \"debian\"\nsuite = \"bookworm\"\nkeyring = \"keys.gpg\"\n[root.a]\nbase = \"b\"\n",
    ]));
}

#[test]
fn long_and_odd_lines_are_shown_around_the_place_that_is_meant() {
    let long = format!("[root.a]\nbase = \"b\"\nplaybooks = [{} 7]\n", "\"ansible/common.yml\", ".repeat(40));
    snapshot!(about(&[&long, "[root.a]\r\nbase = \"b\"\r\n\tunknwn = { \"größe\" = \"日本\" } # é\r\n",]));
}

#[test]
fn a_file_that_can_not_be_read_says_why() {
    let dir = project();
    let path = dir.path().join("rootbuild.toml");
    let mut text = String::new();
    let mut tell = |what: &str, named: Option<&Path>, cwd: &Path| {
        let error = Definition::load(named, cwd).expect_err(what);
        writeln!(text, "({what})\n{}\n", said(dir.path(), error)).unwrap();
    };
    tell("a directory without one", Some(Path::new("ansible")), dir.path());
    tell("a name that isn't there", Some(Path::new("other.toml")), dir.path());
    tell("below a file", Some(Path::new("ansible/hosts/rootbuild.toml")), dir.path());
    fs::write(&path, b"[root.a]\nbase = \"caf\xe9\"\n").unwrap();
    tell("Latin-1", None, dir.path());
    fs::write(&path, b"\xff\xfe[\0r\0o\0o\0t\0]\0\n\0").unwrap();
    tell("UTF-16", None, dir.path());
    fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
    tell("far too large", None, dir.path());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    tell("a directory of that name", None, dir.path());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    tell("a link to nothing", None, dir.path());
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    tell("a FIFO", None, dir.path());
    snapshot!(text);
}

#[test]
fn no_definition_anywhere_above_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let error = Definition::load(None, dir.path()).unwrap_err();
    insta::assert_snapshot!(said(dir.path(), error), @r"
    error: there is no `rootbuild.toml` in `[DIR]` or any directory above it
    hint: run rootbuild inside a project, or name its definition with `--file`
    ");
}

#[test]
fn an_error_as_json_has_its_place_and_all_the_others() {
    let dir = project();
    fs::write(dir.path().join("rootbuild.toml"), "[base.b]\nsource = \"rmp\"\n[root.a]\nbase = \"c\"\n")
        .unwrap();
    let report = Report::from(Definition::load(None, dir.path()).unwrap_err());
    let json = serde_json::to_string_pretty(&report.to_json()).unwrap();
    snapshot!(json.replace(&dir.path().display().to_string(), "[DIR]"));
}

#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = project();
    let bad = dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("rootbuild.toml"), "").unwrap();
    let error = Definition::load(None, &bad).expect_err("a path that is no text");
    let text = said(dir.path(), error);
    assert!(text.contains("isn't UTF-8"), "{text}");
}

#[test]
fn an_archive_has_a_digest_or_is_signed_off() {
    let said = about(&[
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = false\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"not-there.tar\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = true\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n[root.a]\nbase = \"b\"\n",
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\nunverified = \"yes\"\n[root.a]\nbase = \"b\"\n",
    ]);
    // The line to add is the one that makes it right.
    let added = "sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";
    assert!(said.contains(&format!("add `{added}`")), "{said}");
    let dir = project();
    let definition = format!(
        "[base.b]\nsource = \"archive\"\nfile = \"rootfs.tar.zst\"\n{added}\n[root.a]\nbase = \"b\"\n"
    );
    fs::write(dir.path().join("rootbuild.toml"), definition).unwrap();
    assert!(Definition::load(None, dir.path()).is_ok());
    insta::assert_snapshot!(said);
}

#[test]
fn limits_are_known_by_name_and_have_a_most() {
    let said = about(&[after!(
        "[limits]\nfile_size = \"lots\"\nentries = 99999999\nentires = 1\ndepth = true\narchive_ratio = \"1K\"\n"
    )]);
    for part in [
        "`file_size` in `[limits]` must be a whole number from 1 to 4194304T, or one with `K`, `M`, `G` or `T`, not `lots`",
        "`entries` in `[limits]` must be a whole number from 1 to 16777216, not `99999999`",
        "unknown key `entires` in `[limits]`",
        "did you mean `entries`?",
        "`depth` in `[limits]` must be a whole number from 1 to 4096, not a boolean",
        "`archive_ratio` in `[limits]` must be a whole number",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn roots_that_can_not_run_together_are_told() {
    snapshot!(about(&[
        after!(
            "[cluster]\nnetwork = \"10.0.0.1/24\"\ndomain = \"a..b\"\nsubnet = \"x\"\n[root.a]\nbase = \"b\"\nmemory = \"1G\"\n"
        ),
        after!(
            "[root.a]\nbase = \"b\"\n[root.a.run]\nafter = [\"c\"]\nrequires = [\"bb\"]\n[root.bb]\nbase = \"b\"\n[root.bb.run]\nafter = [\"a\"]\n"
        ),
        after!(
            "[cluster]\nnetwork = \"10.9.0.0/24\"\n[root.a]\nbase = \"b\"\n[root.a.run]\naddress = \"10.9.0.5\"\nports = [\"80:80\"]\n[root.c]\nbase = \"b\"\n[root.c.run]\naddress = \"10.9.0.5\"\nports = [\"127.0.0.1:80:8080\", \"80\"]\n[root.d]\nbase = \"b\"\n[root.d.run]\naddress = \"10.8.0.5\"\nhostname = \"a\"\n[root.A]\nbase = \"b\"\n"
        ),
        after!(
            "[root.a]\nbase = \"b\"\n[root.a.run]\nmemory = \"lots\"\ncpu_weight = 0\ntasks = -1\nstate = [\"/run/x\", \"var\", \"/\", \"/var/lib\", \"/var/lib/x\"]\nready_timeout = \"soon\"\nwritable = \"yes\"\nhostname = \"a_b\"\nsoften = { \"x\" = [\"PrivateDevice\"] }\n"
        ),
        after!(
            "[cluster]\nnetwork = \"10.9.0.0/29\"\n[root.a]\nbase = \"b\"\nrun.network = \"host\"\nrun.ports = [\"1:1\"]\n[root.c]\nbase = \"b\"\n[root.d]\nbase = \"b\"\n[root.e]\nbase = \"b\"\n[root.f]\nbase = \"b\"\n[root.g]\nbase = \"b\"\n[root.h]\nbase = \"b\"\nrun = 1\n"
        ),
    ]));
}
