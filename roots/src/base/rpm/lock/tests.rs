use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn package(name: &str, evr: &str) -> LockedPackage {
    LockedPackage {
        name: name.to_owned(),
        evr: evr.to_owned(),
        arch: "x86_64".to_owned(),
        repo: "os".to_owned(),
        location: format!("Packages/{name}.rpm"),
        size: 7,
        sha256: "ab".repeat(32),
        source_rpm: format!("{name}-1-1.src.rpm"),
    }
}

fn lock() -> Lock {
    Lock {
        version: VERSION,
        request: Request {
            releasever: "7".to_owned(),
            arch: "x86_64".to_owned(),
            packages: vec!["@core".to_owned(), "bash".to_owned()],
        },
        repos: vec![LockedRepo {
            id: "os".to_owned(),
            source: vec!["http://x/os".to_owned()],
            urls: vec![],
            options: vec!["excludepkgs=kernel*".to_owned()],
            repomd_sha256: "cd".repeat(32),
            fingerprints: vec!["EF".repeat(20)],
            expired: vec![],
        }],
        packages: vec![package("bash", "4.2.46-34.el7"), package("bind", "32:9.11.4-26.P2.el7")],
    }
}

fn wrong(text: &str) -> String {
    let (line, message) = parse(text).unwrap_err();
    format!("{line}: {message}")
}

#[test]
fn a_lock_is_text_that_people_and_diffs_can_read() {
    insta::assert_snapshot!(lock_file::text(&lock()).unwrap());
}

#[test]
fn what_is_written_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lock");
    assert_eq!(Lock::read(&path).unwrap(), None);
    lock().write(&path).unwrap();
    let (read, bytes) = Lock::read(&path).unwrap().unwrap();
    assert_eq!(read, lock());
    assert_eq!(bytes, lock_file::text(&lock()).unwrap().as_bytes());
    let resolution = read.resolution(&[]);
    assert_eq!(resolution.packages[1].nevra(), "bind-32:9.11.4-26.P2.el7.x86_64");
    assert_eq!((resolution.packages[1].epoch, resolution.packages[0].epoch), (32, 0));
    assert_eq!(resolution.packages.iter().map(LockedPackage::from).collect::<Vec<_>>(), read.packages);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_lock_that_is_a_link_stays_one_and_keeps_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("shared"), dir.path().join("a.lock"));
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o664)).unwrap();
    std::os::unix::fs::symlink("shared", &link).unwrap();
    lock().write(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o664);
    assert_eq!(Lock::read(&target).unwrap().unwrap().0, lock());
}

#[test]
fn a_lock_of_version_1_is_read_for_its_packages() {
    let text = "version = 1\n\n[request]\nreleasever = \"7\"\narch = \"x86_64\"\npackages = [\"bash\"]\n\n[[repo]]\nid = \"os\"\n\
                source = [\"http://x\"]\nurls = [\"http://x\"]\nrepomd_sha256 = \"00\"\nfingerprints = []\n\n[[package]]\n\
                name = \"bash\"\nepoch = 1\nversion = \"4.2\"\nrelease = \"3.el7\"\narch = \"x86_64\"\nrepo = \"os\"\n\
                location = \"b.rpm\"\nsize = 3\nsha256 = \"DIGEST\"\n";
    let lock = parse(&text.replace("DIGEST", &"0a".repeat(32))).unwrap();
    assert_eq!((lock.version, lock.packages[0].evr.as_str()), (1, "1:4.2-3.el7"));
}

#[test]
fn what_is_wrong_with_a_lock_is_told_with_its_line() {
    let good = lock_file::text(&lock()).unwrap();
    let lines = |text: &str| good[..good.find(text).unwrap()].matches('\n').count() + 1;
    let second = good.rfind("[[package]]").unwrap();
    let second = good[..second].matches('\n').count() + 1;
    for (from, to, line, expected) in [
        ("version = 2", "version = 3", lines("version = 2"), "which is newer than this rootbuild"),
        ("version = 2", "<<<<<<< HEAD", lines("version = 2"), "this is no lock file: "),
        ("[request]", "[request]\nnew = 1", lines("[request]") + 1, "unknown field `new`"),
        ("name = \"bind\"", "name = \"../bind\"", second, "`../bind` can't be: its name is `../bind`"),
        ("name = \"bind\"", "name = \"--root=/\"", second, "its name is `--root=/`"),
        ("32:9.11.4-26.P2.el7", "32:9.11.4", second, "`32:9.11.4` is no version"),
        ("32:9.11.4-26.P2.el7", "x:9.11.4-1", second, "`x:9.11.4-1` is no version"),
        ("32:9.11.4-26.P2.el7", "9.11.4-1/2", second, "its release is `1/2`"),
        ("Packages/bind.rpm", "../../etc/shadow", second, "its location is `../../etc/shadow`"),
        ("bind-1-1.src.rpm", "a/b", second, "its source package is `a/b`"),
        ("name = \"bind\"", "name = \"bash\"", 0, ""),
    ] {
        let text = good.replace(from, to);
        if expected.is_empty() {
            assert!(parse(&text).is_ok(), "two versions of one package may be");
            continue;
        }
        let found = wrong(&text);
        assert!(found.starts_with(&format!("{line}: ")) && found.contains(expected), "{to}: {found}");
    }
    let upper = good.replacen(&"ab".repeat(32), &"AB".repeat(32), 1);
    assert!(wrong(&upper).contains("its sha256 is"), "{}", wrong(&upper));
    let twice = good.replace("32:9.11.4-26.P2.el7", "4.2.46-34.el7").replace("\"bind\"", "\"bash\"");
    assert!(wrong(&twice).ends_with("`bash-4.2.46-34.el7.x86_64` is locked twice"), "{}", wrong(&twice));
    let elsewhere = good.replacen("repo = \"os\"", "repo = \"so\"", 1);
    assert!(wrong(&elsewhere).contains("from a repository `so` that isn't there"), "{}", wrong(&elsewhere));
}

#[test]
fn what_repositories_hold_besides_makes_no_other_lock() {
    let mut other = lock();
    other.repos[0].repomd_sha256 = "11".repeat(32);
    assert!(lock().is_as(&other));
    other.packages[0].sha256 = "11".repeat(32);
    assert!(!lock().is_as(&other));
}
