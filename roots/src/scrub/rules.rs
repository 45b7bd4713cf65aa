//! The table of what is dropped, and why.

use std::fmt;

/// What is done with what a [`Rule`] matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The directory stays, what is in it goes; its time becomes the epoch, so that nothing takes
    /// it for fresh.
    EmptyDirectory,
    /// It goes, whatever it is.
    Remove,
    /// The directory goes if nothing is in it.
    RemoveIfEmpty,
    /// The regular file is made empty, and made where there is none and the root has systemd.
    EmptyFile,
}

/// One thing that is dropped from a root before it is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Where, absolute as seen in the root; `*` stands for any part of one component. Symbolic
    /// links are never followed.
    pub path: &'static str,
    /// What is done there.
    pub action: Action,
    /// Why, for people.
    pub reason: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, action, reason } = self;
        match action {
            Action::EmptyDirectory => write!(f, "{path}/*: removed ({reason})"),
            Action::Remove => write!(f, "{path}: removed ({reason})"),
            Action::RemoveIfEmpty => write!(f, "{path}: removed where empty ({reason})"),
            Action::EmptyFile => write!(f, "{path}: made empty ({reason})"),
        }
    }
}

const fn contents(path: &'static str, reason: &'static str) -> Rule {
    Rule { path, action: Action::EmptyDirectory, reason }
}

const fn remove(path: &'static str, reason: &'static str) -> Rule {
    Rule { path, action: Action::Remove, reason }
}

const fn if_empty(path: &'static str, reason: &'static str) -> Rule {
    Rule { path, action: Action::RemoveIfEmpty, reason }
}

const KERNEL: &str = "given by the kernel or the service manager at run time";
const SCRATCH: &str = "scratch space of the build";
const CACHE: &str = "a package manager's cache, out of date tomorrow";
const LOG: &str = "a log of the build, different every time";
const MACHINE: &str = "belongs to one machine, not to all that use this root";
const SEED: &str = "randomness that must not be shared";
const ANSIBLE: &str = "Ansible's own scratch space";
const RPM: &str = "Berkeley DB's shared memory, useless after the build and harmful to another host";

/// Everything that is dropped from a root, in one list (shown by `rootbuild show`). Sockets are
/// dropped too, wherever they are. Byte-compiled Python stays: it is valid, since times are kept.
pub const RULES: &[Rule] = &[
    contents("/proc", KERNEL),
    contents("/sys", KERNEL),
    contents("/dev", KERNEL),
    contents("/run", KERNEL),
    contents("/tmp", SCRATCH),
    contents("/var/tmp", SCRATCH),
    remove("/var/lib/rpm/__db.*", RPM),
    remove("/usr/lib/sysimage/rpm/__db.*", RPM),
    contents("/var/cache/yum", CACHE),
    contents("/var/cache/dnf", CACHE),
    contents("/var/cache/libdnf5", CACHE),
    remove("/var/cache/apt/*.bin", CACHE),
    remove("/var/cache/apt/archives/*.deb", CACHE),
    remove("/var/cache/apt/archives/lock", CACHE),
    contents("/var/cache/apt/archives/partial", CACHE),
    contents("/var/lib/apt/lists", CACHE),
    remove("/var/lib/apt/periodic/update-stamp", "says that the dropped lists are fresh"),
    remove("/var/lib/apt/periodic/update-success-stamp", "says that the dropped lists are fresh"),
    remove("/var/cache/ldconfig/aux-cache", "names inodes of the machine that built it"),
    remove("/var/log/dnf*", LOG),
    remove("/var/log/yum*", LOG),
    remove("/var/log/hawkey*", LOG),
    contents("/var/log/apt", LOG),
    remove("/var/log/dpkg.log", LOG),
    remove("/var/log/alternatives.log", LOG),
    remove("/var/log/bootstrap.log", LOG),
    contents("/var/log/journal", LOG),
    Rule { path: "/etc/machine-id", action: Action::EmptyFile, reason: MACHINE },
    remove("/var/lib/dbus/machine-id", MACHINE),
    remove("/etc/resolv.conf", MACHINE),
    remove("/var/lib/systemd/random-seed", SEED),
    remove("/var/lib/systemd/credential.secret", SEED),
    remove("/var/lib/urandom/random-seed", SEED),
    remove("/var/lib/random-seed", SEED),
    remove("/root/.ansible/tmp", ANSIBLE),
    if_empty("/root/.ansible", ANSIBLE),
    remove("/root/.ansible_async", ANSIBLE),
    remove("/home/*/.ansible/tmp", ANSIBLE),
    if_empty("/home/*/.ansible", ANSIBLE),
    remove("/home/*/.ansible_async", ANSIBLE),
    remove("/var/lib/*/.ansible/tmp", ANSIBLE),
    if_empty("/var/lib/*/.ansible", ANSIBLE),
];

impl Rule {
    /// The path's components.
    pub(super) fn components(&self) -> Vec<&'static [u8]> {
        self.path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect()
    }
}

/// Whether a component of a rule's path stands for `name`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == name,
        Some(star) => {
            let (before, after) = (&pattern[..star], &pattern[star + 1..]);
            name.strip_prefix(before)
                .is_some_and(|rest| (0..=rest.len()).any(|skip| matches(after, &rest[skip..])))
        }
    }
}

/// Whether a component stands for more than one name.
pub(super) fn is_pattern(component: &[u8]) -> bool {
    component.contains(&b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part_of_one_component() {
        assert!(matches(b"__db.*", b"__db.001") && matches(b"__db.*", b"__db."));
        assert!(matches(b"*.bin", b"pkgcache.bin") && !matches(b"*.bin", b"pkgcache.bin.old"));
        assert!(matches(b"a*b*c", b"a--b--c") && !matches(b"a*b*c", b"acb"));
        assert!(matches(b"x", b"x") && !matches(b"x", b"xx"));
    }

    #[test]
    fn every_rule_is_absolute_and_names_its_reason() {
        for rule in RULES {
            assert!(rule.path.starts_with('/') && !rule.path.ends_with('/'), "{rule}");
            assert!(!rule.components().iter().any(|part| matches!(*part, b"." | b"..")), "{rule}");
            assert!(!rule.reason.is_empty(), "{rule}");
        }
    }
}
