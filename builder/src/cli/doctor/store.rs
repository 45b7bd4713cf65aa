//! The store's file system: what it keeps of a file, what it can share, how much it holds.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use rootbuild_cache::Store;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, Timespec, Timestamps, XattrFlags, flock, ioctl_ficlone,
    makedev, mknodat, setxattr, statfs, statvfs, utimensat,
};
use tempfile::TempDir;

use super::Check;
use super::tools::ask;

/// Below this not even a base may fit.
const LEAST: u64 = 2 << 30;
/// Below this a few roots may not fit.
const COMFORTABLE: u64 = 10 << 30;
/// Below this many free inodes a few roots may not fit.
const COMFORTABLE_INODES: u64 = 300_000;

/// The checks of a store's directory, and a directory to try more things in where one can be made.
pub(super) fn all(store: &Path) -> (Vec<Check>, Option<TempDir>) {
    let stop = |checks| (checks, None);
    let exists = match Store::open_read_only(store) {
        Ok(found) => found.is_some(),
        Err(error) => {
            let report = crate::render::Report::from(error);
            let hint = report.first_hint().unwrap_or("name another store with `--store`");
            return stop(vec![Check::missing("store", report.message(), hint)]);
        }
    };
    let Some(existing) = store.ancestors().find(|dir| dir.is_dir()) else {
        let detail = format!("`{}` can't be reached", store.display());
        return stop(vec![Check::missing("store", detail, "name another store with `--store`")]);
    };
    // Tried out in a directory of its own, where a store expects strangers or where it will be.
    let parent = if exists { store.join("staging") } else { existing.to_owned() };
    let scratch = match tempfile::Builder::new().prefix(".rootbuild-doctor-").tempdir_in(&parent) {
        Ok(scratch) => scratch,
        Err(error) => {
            let why = crate::definition::plain(&error);
            let detail = format!("`{}` can't be written: {why}", parent.display());
            let hint = if rustix::process::geteuid().is_root() {
                "name a store that can be written with `--store`"
            } else {
                "run it with `sudo`, or name a store of your own with `--store`"
            };
            return stop(vec![Check::missing("store", detail, hint), space(existing)]);
        }
    };
    let state = if exists { "" } else { " (not there yet)" };
    let detail = format!("{}{state}, on {}", store.display(), kind(existing));
    let checks = vec![
        Check::ok("store", detail),
        space(existing),
        files(scratch.path()),
        attributes(scratch.path()),
        sharing(scratch.path()),
        overlay(scratch.path()),
    ];
    (checks, Some(scratch))
}

/// The name of the file system a directory is on; magic numbers of linux/magic.h and statfs(2).
fn kind(dir: &Path) -> &'static str {
    match statfs(dir).map(|stat| super::magic(&stat)) {
        Ok(0xef53) => "ext4",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0xca45_1a4e) => "bcachefs",
        Ok(0x2fc1_2fc1) => "zfs",
        Ok(0xf2f5_2010) => "f2fs",
        Ok(super::TMPFS) => "tmpfs",
        Ok(0x794c_7630) => "overlayfs",
        Ok(0x6969) => "nfs",
        Ok(0xff53_4d42 | 0xfe53_4d42) => "cifs",
        Ok(0x6573_5546) => "fuse",
        Ok(0x0102_1997) => "9p",
        _ => "another file system",
    }
}

fn space(dir: &Path) -> Check {
    let name = "free space";
    let stat = match statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => {
            let why = crate::definition::plain(&error.into());
            return Check::warning(name, why, "see `df` for the store's file system");
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let detail = indicatif::HumanBytes(free).to_string();
    let hint = "free some space, or name a store on a larger file system with `--store`";
    // Some file systems make inodes as they need them and count none.
    if stat.f_files > 0 && stat.f_favail < COMFORTABLE_INODES {
        let detail = format!("{detail}, but only {} inodes", stat.f_favail);
        return Check::warning(
            name,
            detail,
            "a root has 30,000 files and more: name another store with `--store`",
        );
    }
    match free {
        ..LEAST => Check::missing(name, detail, hint),
        LEAST..COMFORTABLE => Check::warning(name, detail, hint),
        COMFORTABLE.. => Check::ok(name, detail),
    }
}

/// Tries several things and words what failed; a success gives nothing.
fn failures(tries: Vec<(&str, io::Result<()>)>) -> Vec<String> {
    tries
        .into_iter()
        .filter_map(|(what, result)| Some(format!("{what} ({})", crate::definition::plain(&result.err()?))))
        .collect()
}

/// Whether something that was done without an error was done.
fn check(held: bool) -> io::Result<()> {
    if held { Ok(()) } else { Err(io::Error::other("not kept")) }
}

/// What every root needs of a file system: a store without it would lose something.
fn files(dir: &Path) -> Check {
    let name = "files";
    let root = rustix::process::geteuid().is_root();
    let path = |name: &str| dir.join(name);
    let plain = || File::create(path("plain")).map(drop);
    let links = || {
        fs::hard_link(path("plain"), path("linked"))?;
        check(fs::metadata(path("linked"))?.nlink() == 2)
    };
    let names = || {
        let name = OsStr::from_bytes(b"caf\xe9 \n");
        File::create(dir.join(name))?;
        let listed = fs::read_dir(dir)?.filter_map(Result::ok).any(|entry| entry.file_name() == name);
        check(listed && File::open(path("PLAIN")).is_err())
    };
    let times = || {
        let mtime = Timespec { tv_sec: 1_234_567_890, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: mtime, last_modification: mtime };
        utimensat(CWD, path("plain"), &times, AtFlags::empty())?;
        check(fs::metadata(path("plain"))?.mtime_nsec() == 123_456_789)
    };
    let locks = || Ok(flock(File::open(path("plain"))?, FlockOperation::NonBlockingLockExclusive)?);
    let fifos = || {
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0)?;
        check(fs::symlink_metadata(path("fifo"))?.file_type().is_fifo())
    };
    let owners = || {
        File::create(path("owned"))?;
        chown(path("owned"), Some(12_345), Some(54_321))?;
        fs::set_permissions(path("owned"), Permissions::from_mode(0o6755))?;
        let metadata = fs::metadata(path("owned"))?;
        check((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777) == (12_345, 54_321, 0o6755))
    };
    let devices = || {
        mknodat(CWD, path("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3))?;
        check(fs::symlink_metadata(path("null"))?.rdev() == makedev(1, 3))
    };
    let mut tries = vec![
        ("files", plain()),
        ("hard links", links()),
        ("arbitrary names", names()),
        ("times to the nanosecond", times()),
        ("locks", locks()),
        ("FIFOs", fifos()),
    ];
    if root {
        tries.extend([("owners and modes", owners()), ("devices", devices())]);
    }
    let lost = failures(tries);
    if !lost.is_empty() {
        let hint = "put the store on a local ext4, XFS or btrfs, and not into an unprivileged container";
        return Check::missing(name, format!("lost here: {}", lost.join(", ")), hint);
    }
    if root {
        Check::ok(name, "owners, modes, times, devices, FIFOs, hard links, names")
    } else {
        Check::warning(name, "owners and devices weren't tried", "run it with `sudo`")
    }
}

/// Extended attributes: capabilities have to be kept, the others may be missed.
fn attributes(dir: &Path) -> Check {
    let name = "extended attributes";
    if !rustix::process::geteuid().is_root() {
        return Check::warning(name, "not tried", "run it with `sudo`");
    }
    let hint = "put the store on ext4, XFS or btrfs";
    let path = dir.join("attributes");
    if let Err(error) = File::create(&path) {
        return Check::missing(name, crate::definition::plain(&error), hint);
    }
    let set = |name: &str, value: &[u8]| Ok(setxattr(&path, name, value, XattrFlags::empty())?);
    // cap_net_raw+ep, as revision 2 of struct vfs_cap_data.
    let mut capability = [0_u8; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    let lost = failures(vec![("capabilities", set("security.capability", &capability))]);
    if !lost.is_empty() {
        return Check::missing(name, format!("lost here: {}", lost.join(", ")), hint);
    }
    let lost = failures(vec![
        ("ACLs", set("system.posix_acl_access", &acl())),
        ("`trusted.*`", set("trusted.rootbuild", b"1")),
        ("`user.*`", set("user.rootbuild", b"1")),
    ]);
    if lost.is_empty() {
        Check::ok(name, "capabilities, ACLs, trusted, user")
    } else {
        Check::warning(name, format!("lost here: {}", lost.join(", ")), hint)
    }
}

/// An ACL that its file's mode can't tell: version 2, then tag, permissions and id of each entry.
fn acl() -> Vec<u8> {
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, none), (2, 4, 12_345), (4, 4, none), (16, 4, none), (32, 0, none)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn sharing(dir: &Path) -> Check {
    let name = "reflinks";
    let clone = || -> io::Result<()> {
        fs::write(dir.join("source"), vec![7; 65_536])?;
        let (source, target) = (File::open(dir.join("source"))?, File::create(dir.join("target"))?);
        ioctl_ficlone(target, source)?;
        check(fs::read(dir.join("target"))?.len() == 65_536)
    };
    match clone() {
        Ok(()) => Check::ok(name, "files are copied without copying their data"),
        // Nothing to mend: roots share by hard links then.
        Err(_) => Check::ok(name, "none here: roots share by hard links (XFS and btrfs have them)"),
    }
}

/// Whether a step can work on an overlay whose upper side is on the store's file system.
fn overlay(dir: &Path) -> Check {
    let name = "overlay";
    if !rustix::process::geteuid().is_root() {
        return Check::warning(name, "not tried", "run it with `sudo`");
    }
    let hint = "put the store on ext4, XFS or btrfs and load the module `overlay`; until then every step copies its root";
    let options =
        "lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,metacopy=off,index=off,xino=auto";
    let script = r#"
        cd "$1"; mkdir lower upper work merged lower/dir; echo old > lower/changed; echo old > lower/dir/gone
        mount -t overlay -o "$2" doctor merged
        echo new > merged/changed; rm merged/dir/gone; mv merged/dir merged/moved; umount merged
        test "$(cat upper/changed lower/changed | tr '\n' ' ')" = 'new old '
        test -c upper/dir && test -d upper/moved"#;
    let dir = dir.to_string_lossy();
    let arguments =
        ["--mount", "--propagation", "private", "sh", "-eu", "-c", script, "doctor", &dir, options];
    match ask("unshare", &arguments) {
        Ok(_) => Check::ok(name, "changes are kept apart and can be captured"),
        Err(why) => Check::warning(name, format!("can't be used: {why}"), hint),
    }
}
