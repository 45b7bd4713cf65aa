//! What the running kernel offers.

use std::fs;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2, statfs};

use super::{Check, Needs, TMPFS, magic};

/// The magic number of version 2 control groups, of linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;

pub(super) fn all(needs: &Needs) -> Vec<Check> {
    let mut checks = vec![version(), seccomp(), cgroups(needs), run()];
    checks.extend(vsyscall(needs));
    checks
}

/// The kernel's release, and a call that every path inside a root is opened with.
fn version() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(_) => Check::ok("kernel", format!("Linux {release}")),
        Err(error) => Check::missing(
            "kernel",
            format!("Linux {release} without openat2: {}", crate::definition::plain(&error.into())),
            "run Linux 5.6 or newer; in a container, its seccomp profile must let openat2 through",
        ),
    }
}

fn seccomp() -> Check {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => {
            Check::ok("seccomp", actions.trim().to_owned())
        }
        _ => Check::warning(
            "seccomp",
            "the kernel has no system-call filters",
            "run a kernel with CONFIG_SECCOMP_FILTER: without it a sandbox keeps less from the host",
        ),
    }
}

/// How control groups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Only the new hierarchy.
    Unified,
    /// Both, and systemd's own in the old form.
    Hybrid,
    /// Only the old ones.
    Legacy,
    /// None mounted.
    None,
}

fn layout(unified_at_top: bool, mounts: &str) -> Layout {
    // "… - cgroup cgroup rw,xattr,name=systemd": after the dash come type, source and options.
    let of_type = |wanted: &str| {
        mounts
            .lines()
            .filter_map(|line| line.split_once(" - ")?.1.split_once(' '))
            .any(|(kind, _)| kind == wanted)
    };
    match (unified_at_top, of_type("cgroup"), of_type("cgroup2")) {
        (true, false, _) => Layout::Unified,
        (_, true, true) => Layout::Hybrid,
        (_, true, false) => Layout::Legacy,
        _ => Layout::None,
    }
}

fn cgroups(needs: &Needs) -> Check {
    let name = "control groups";
    let unified = statfs("/sys/fs/cgroup").is_ok_and(|stat| magic(&stat) == CGROUP2);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match layout(unified, &mounts) {
        Layout::Unified if needs.boot && needs.rpm => Check::warning(
            name,
            "version 2 only",
            "systemd 219 (EL7) can't boot here: leave `boot = false` in its roots, or boot the host with `systemd.unified_cgroup_hierarchy=0`",
        ),
        Layout::Unified => Check::ok(name, "version 2"),
        Layout::Hybrid => Check::ok(name, "versions 1 and 2"),
        Layout::Legacy => Check::ok(name, "version 1"),
        Layout::None => Check::missing(
            name,
            "none mounted at `/sys/fs/cgroup`",
            "run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`",
        ),
    }
}

fn run() -> Check {
    match statfs("/run") {
        Ok(stat) if magic(&stat) == TMPFS => Check::ok("/run", "tmpfs"),
        Ok(_) => Check::ok("/run", "not a tmpfs; sandboxes see one of their own"),
        Err(error) => Check::missing(
            "/run",
            crate::definition::plain(&error.into()),
            "run `mkdir /run && mount -t tmpfs -o mode=0755 tmpfs /run`",
        ),
    }
}

/// Programs of EL6 and some of EL7 call into a page at a fixed address; only x86-64 has it.
fn vsyscall(needs: &Needs) -> Option<Check> {
    if std::env::consts::ARCH != "x86_64" {
        return None;
    }
    let hint = "boot the host with `vsyscall=emulate`, or programs built for EL6 end with SIGSEGV";
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    Some(match maps.lines().find(|line| line.ends_with("[vsyscall]")) {
        Some(line) => {
            let permissions = line.split_whitespace().nth(1).unwrap_or("?");
            Check::ok("vsyscall", format!("mapped, {permissions}"))
        }
        None if needs.rpm => Check::warning("vsyscall", "not mapped", hint),
        None => Check::ok("vsyscall", "not mapped; only old rpm systems need it"),
    })
}

#[cfg(test)]
mod tests {
    use super::{Layout, layout};

    #[test]
    fn the_layout_of_control_groups_is_read_from_the_mounts() {
        let one = "31 25 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd";
        let two = "30 25 0:26 / /sys/fs/cgroup/unified rw shared:8 - cgroup2 cgroup2 rw";
        assert_eq!(layout(true, two), Layout::Unified);
        assert_eq!(layout(false, &format!("{one}\n{two}")), Layout::Hybrid);
        assert_eq!(layout(false, one), Layout::Legacy);
        assert_eq!(layout(false, "1 2 0:1 / / rw - ext4 /dev/cgroup rw"), Layout::None);
    }
}
