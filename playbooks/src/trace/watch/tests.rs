use std::os::unix::fs::symlink;

use super::*;

#[test]
fn names_lose_what_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    symlink("a/b", dir.join("link")).unwrap();
    assert_eq!(clean(&dir.join("a//./b/../c/")), dir.join("a/c"));
    // What is above a link isn't what is written before it.
    assert_eq!(clean(&dir.join("link/../c")), dir.join("link/../c"));
    assert_eq!(clean(&dir.join("none/../c")), dir.join("none/../c"));
}

#[test]
fn names_that_lead_out_of_proc_are_followed() {
    let pid = std::process::id();
    let cwd = std::env::current_dir().unwrap();
    let name = out_of_proc(pid, b"/proc/self/cwd/x/y");
    assert_eq!(Path::new(std::ffi::OsStr::from_bytes(&name)), cwd.join("x/y"));
    assert_eq!(out_of_proc(pid, b"/proc/12/root/etc/x"), b"/etc/x");
    assert_eq!(out_of_proc(pid, b"/proc/meminfo"), b"/proc/meminfo");
    assert_eq!(out_of_proc(pid, b"/proc/self/fd/3"), b"/proc/self/fd/3");
}

#[test]
fn destinations_are_told_as_people_write_them() {
    let scope = Scope::default().without("/ours");
    let unix = |path: &[u8]| [&1u16.to_ne_bytes(), path, b"\0"].concat();
    assert_eq!(destination(&unix(b"/run/x"), &scope).unwrap(), "/run/x");
    assert_eq!(destination(&unix(b"/ours/x"), &scope), None);
    assert_eq!(destination(&unix(b"/var/run/nscd/socket"), &scope), None);
    let v4 = [&2u16.to_ne_bytes()[..], &443u16.to_be_bytes(), &[192, 0, 2, 1], &[0; 8]].concat();
    assert_eq!(destination(&v4, &scope).unwrap(), "192.0.2.1:443");
    assert_eq!(destination(&16u16.to_ne_bytes(), &scope), None);
    assert_eq!(destination(b"", &scope), None);
}
