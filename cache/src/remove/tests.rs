use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, IFlags};

use super::*;

#[test]
fn a_tree_goes_with_all_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    for name in [&b"\xff\xfe"[..], b"new\nline", b" ", b"-rf", b"*", &[b'x'; 255]] {
        fs::write(top.join("a/b").join(OsString::from_vec(name.to_vec())), "x").unwrap();
    }
    rustix::fs::mkfifoat(CWD, top.join("a/fifo"), Mode::RUSR).unwrap();
    std::os::unix::net::UnixListener::bind(top.join("a/socket")).unwrap();
    for number in 0..3000 {
        fs::write(top.join(format!("{number}")), "").unwrap();
    }
    remove_tree(&top).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    remove_tree(&top).unwrap();
    remove_tree(&top.join("below/nothing")).unwrap();
}

#[test]
fn links_are_removed_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    fs::create_dir(&top).unwrap();
    symlink(&outside, top.join("directory")).unwrap();
    symlink(outside.join("precious"), top.join("file")).unwrap();
    symlink("nowhere", top.join("dangling")).unwrap();
    fs::hard_link(outside.join("precious"), top.join("hard")).unwrap();
    remove_tree(&top).unwrap();
    symlink(&outside, &top).unwrap();
    remove_tree(&top).unwrap();
    assert!(!top.exists() && top.symlink_metadata().is_err());
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"x");
}

#[test]
fn depth_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    // 3,000 levels of 100 bytes: no path of them fits any system call.
    let name = CString::new(vec![b'd'; 100]).unwrap();
    let mut at = rustix::fs::open(&top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..3000 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        if level % 100 == 0 {
            let file = rustix::fs::openat(&at, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
            drop(file.unwrap());
        }
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn modes_do_not_matter_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir_all(top.join("closed/inner")).unwrap();
    fs::write(top.join("closed/inner/file"), "x").unwrap();
    for (path, mode) in [("closed/inner/file", 0), ("closed/inner", 0), ("closed", 0o555), ("", 0)] {
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn what_cannot_be_removed_is_named_and_the_rest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    for file in ["a/b/stays", "a/b/goes", "goes"] {
        fs::write(top.join(file), "x").unwrap();
    }
    let stays = fs::File::open(top.join("a/b/stays")).unwrap();
    if let Err(error) = rustix::fs::ioctl_setflags(&stays, IFlags::IMMUTABLE) {
        println!("skipped: what_cannot_be_removed_is_named_and_the_rest_goes: no immutable files: {error}");
        return;
    }
    let error = remove_tree(&top).unwrap_err();
    rustix::fs::ioctl_setflags(&stays, IFlags::empty()).unwrap();
    let Error::Io { action: "remove", path, source } = error else { panic!("{error}") };
    assert_eq!((path, source.kind()), (top.join("a/b/stays"), io::ErrorKind::PermissionDenied));
    assert!(!top.join("goes").exists() && !top.join("a/b/goes").exists());
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn mount_points_are_read_as_the_kernel_writes_them() {
    assert_eq!(unescape(b"/a\\040b\\134c\\012"), Path::new("/a b\\c\n"));
    assert_eq!(unescape(b"/plain\\"), Path::new("/plain\\"));
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    assert!(mount_below(root.as_fd()).is_some());
}
