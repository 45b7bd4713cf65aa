use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rootbuild_cache::Store;
use tempfile::TempDir;

use super::super::header::tests::header;
use super::super::payload::tests::archive;
use super::*;

/// A member of a payload: name, mode, inode, links, content.
type Given<'a> = (&'a str, u32, u64, u64, &'a [u8]);

const FILE: u32 = 0o100_644;
const DIR: u32 = 0o40_755;
const LINK: u32 = 0o120_777;

struct Try {
    dir: TempDir,
    packages: Vec<(String, PathBuf)>,
}

impl Try {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["into", "store", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, packages: Vec::new() }
    }

    /// Adds a package; its list of files is that of the payload.
    fn package(mut self, members: &[Given<'_>]) -> Self {
        let (mut names, mut dirs, mut indexes, mut modes, mut targets) =
            (vec![], vec![], vec![], vec![], vec![]);
        for (index, (name, mode, _, _, content)) in members.iter().enumerate() {
            let path = name.strip_prefix('.').unwrap_or(name).as_bytes();
            let (dir, base) = split(path);
            names.extend([base, b"\0"].concat());
            dirs.extend([dir, b"/\0"].concat());
            indexes.extend(u32::try_from(index).unwrap().to_be_bytes());
            modes.extend(u16::try_from(*mode).unwrap().to_be_bytes());
            targets.extend([if *mode == LINK { *content } else { b"" }, b"\0"].concat());
        }
        let count = u32::try_from(members.len()).unwrap();
        let list = header(&[
            (BASENAMES, 8, count, &names),
            (DIRNAMES, 8, count, &dirs),
            (DIRINDEXES, 4, count, &indexes),
            (FILEMODES, 3, count, &modes),
            (FILELINKTOS, 8, count, &targets),
        ]);
        let mut bytes = [&[0xed, 0xab, 0xee, 0xdb][..], &[0; 92], &header(&[])].concat();
        bytes.extend(list);
        bytes.extend(archive(members));
        let file = self.dir.path().join(format!("{}.rpm", self.packages.len()));
        fs::write(&file, bytes).unwrap();
        self.packages.push((format!("package-{}", self.packages.len()), file));
        self
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("into").join(path)
    }

    fn unpack(&self) -> Result<(), String> {
        let store = Store::open(&self.dir.path().join("store")).unwrap();
        let (cancel, scratch) = (Cancel::new(), self.dir.path().to_owned());
        let context = BaseContext {
            store: &store,
            cancel: &cancel,
            sink: &|_| (),
            scratch: &scratch,
            offline: true,
            mirror: None,
        };
        let done = unpack(context, &self.packages, &self.at(""));
        assert_eq!(fs::read_dir(self.dir.path().join("outside")).unwrap().count(), 0, "nothing got out");
        done.map_err(|error| error.to_string())
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

#[test]
fn a_file_goes_where_a_link_of_another_package_leads_whichever_comes_first() {
    let tried = Try::new()
        .package(&[("./lib64/libc.so", FILE, 1, 1, b"c"), ("./var/lock/subsys", DIR, 2, 2, b"")])
        .package(&[
            ("./lib64", LINK, 1, 1, b"usr/lib64"),
            ("./var/lock", LINK, 2, 1, b"../run/lock"),
            ("./usr/lib64", DIR, 3, 2, b""),
            ("./usr/lib64/libm.so", 0o100_755, 4, 1, b"m"),
        ]);
    tried.unpack().unwrap();
    assert_eq!(tried.text("usr/lib64/libc.so") + &tried.text("lib64/libm.so"), "cm");
    assert!(tried.at("run/lock/subsys").is_dir() && tried.at("lib64").is_symlink());
    assert_eq!(tried.at("usr/lib64/libm.so").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let outside = |tried: &Try| tried.dir.path().join("outside").to_str().unwrap().to_owned();
    let tried = Try::new();
    let target = outside(&tried);
    // An absolute link means a place inside, and so does one with more `..` than there are directories.
    let tried = tried.package(&[
        ("./a", LINK, 1, 1, target.as_bytes()),
        ("./a/file", FILE, 2, 1, b"x"),
        ("./b", LINK, 3, 1, b"../../../../../../../b2"),
        ("./b/file", FILE, 4, 1, b"y"),
        ("./c", LINK, 5, 1, format!("{target}/c").as_bytes()),
        ("./c", FILE, 6, 1, b"z"),
    ]);
    tried.unpack().unwrap();
    assert_eq!(tried.text(&format!(".{target}/file")) + &tried.text("b2/file") + &tried.text("c"), "xyz");
    for name in ["../outside/x", "./d/../../outside/x", "/../outside/x"] {
        let error = Try::new().package(&[(name, FILE, 1, 1, b"x")]).unpack().unwrap_err();
        assert!(error.contains("package-0") && error.contains("leads out"), "{error}");
    }
    let error = Try::new().package(&[("./l", LINK, 1, 1, b"l"), ("./l/x", FILE, 2, 1, b"")]).unpack();
    assert!(error.unwrap_err().contains("package-0"));
}

#[test]
fn names_of_one_file_are_one_file_and_setuid_and_devices_are_not_made() {
    let tried = Try::new().package(&[
        ("./bin/a", 0o104_755, 1, 3, b""),
        ("./bin/b", 0o104_755, 1, 3, b""),
        ("./bin/c", 0o104_755, 1, 3, b"content"),
        ("./empty1", FILE, 2, 2, b""),
        ("./empty2", FILE, 2, 2, b""),
        ("./dev/sda", 0o060_600, 3, 1, b""),
        ("./pipe", 0o010_600, 4, 1, b""),
    ]);
    tried.unpack().unwrap();
    let [a, b, c] = ["bin/a", "bin/b", "bin/c"].map(|name| tried.at(name).metadata().unwrap());
    assert!(a.ino() == c.ino() && b.ino() == c.ino() && c.nlink() == 3);
    assert_eq!((c.mode() & 0o7777, c.size()), (0o755, 7));
    assert_eq!(tried.at("empty1").metadata().unwrap().ino(), tried.at("empty2").metadata().unwrap().ino());
    assert!(!tried.at("dev/sda").exists() && !tried.at("pipe").exists());
}

#[test]
fn mount_points_are_directories_whatever_packages_say() {
    let tried = Try::new().package(&[
        ("./proc", LINK, 1, 1, b"/etc"),
        ("./run", LINK, 2, 1, b"/etc"),
        ("./dev", 0o40_000, 3, 2, b""),
    ]);
    tried.unpack().unwrap();
    for name in MOUNT_POINTS {
        assert!(tried.at(name).symlink_metadata().unwrap().is_dir(), "{name}");
    }
    let error = Try::new().package(&[("./sys", FILE, 1, 1, b"x")]).unpack().unwrap_err();
    assert!(error.contains("`./sys`"), "{error}");
}

#[test]
fn what_is_no_package_or_cut_off_is_refused_by_name() {
    let tried = Try::new().package(&[("./file", FILE, 1, 1, b"content")]);
    let bytes = fs::read(&tried.packages[0].1).unwrap();
    for end in [0, 50, 100, 140, 200, bytes.len() - 200] {
        fs::write(&tried.packages[0].1, &bytes[..end]).unwrap();
        fs::remove_dir_all(tried.at("")).unwrap();
        fs::create_dir(tried.at("")).unwrap();
        let error = tried.unpack().unwrap_err();
        assert!(error.starts_with("can't unpack the package package-0: "), "{error}");
    }
    fs::write(&tried.packages[0].1, "<html>not found</html>".repeat(9)).unwrap();
    assert!(tried.unpack().is_err());
}
