//! Which units of a root mean something on a host, and which of the host's units a root's may name: all in
//! tables.

/// Units that are enabled in a root and get none on the host, with the reason. `*` is anything.
const NOT_LIFTED: &[(&[&str], &str)] = &[
    (
        &[
            "systemd-*",
            "syslog.socket",
            "user@*",
            "user-runtime-dir@*",
            "quotaon.service",
            "ldconfig.service",
        ],
        "the host's systemd does that",
    ),
    (
        &["dbus.service", "dbus.socket", "dbus-broker.*", "dbus-daemon.*", "dbus-org.freedesktop.*"],
        "the host's D-Bus is used",
    ),
    (
        &["getty@*", "serial-getty@*", "console-getty.*", "container-getty@*", "autovt@*", "getty-static.*"],
        "consoles are the machine's",
    ),
    (
        &[
            "kmod*",
            "modprobe@*",
            "udev*",
            "apparmor.*",
            "lvm2-*",
            "dm-event.*",
            "blk-availability.*",
            "multipathd.*",
            "mdmonitor*",
            "mdcheck*",
            "mdadm*",
            "smartd.*",
            "smartmontools.*",
            "cryptdisks*",
            "keyboard-setup.*",
            "console-setup.*",
            "plymouth*",
            "fstrim.*",
            "e2scrub*",
            "irqbalance.*",
            "thermald.*",
            "acpid.*",
            "iscsi*",
            "open-iscsi.*",
            "microcode.*",
            "kdump.*",
            "auditd.*",
            "tuned.*",
            "import-state.*",
            "loadmodules.*",
            "rhel-*",
            "dracut-*",
            "initrd-*",
            "x11-common.*",
            "procps.*",
            "selinux-autorelabel*",
            "rdisc.*",
            "lm-sensors.*",
            "sysstat*",
            "cpupower.*",
            "mcelog.*",
        ],
        "hardware and kernel are the machine's",
    ),
    (
        &[
            "networking.*",
            "ifup@*",
            "ifupdown*",
            "NetworkManager*",
            "network.service",
            "wpa_supplicant*",
            "dhcpcd*",
            "netplan*",
            "nis-domainname.*",
            "firewalld.*",
            "nftables.*",
            "iptables.*",
            "ip6tables.*",
            "ufw.*",
            "netfilter-persistent.*",
            "resolvconf*",
        ],
        "network and firewall are the host's",
    ),
    (&["hwclock*", "chrony*", "ntp.*", "ntpd.*", "ntpsec*", "ntpdate.*"], "the clock is the machine's"),
    (
        &[
            "apt-daily*",
            "dpkg-db-backup.*",
            "unattended-upgrades.*",
            "dnf-*",
            "yum-*",
            "packagekit*",
            "man-db.*",
            "cloud-*",
            "brandbot.*",
            "rpmdb-*",
        ],
        "what is installed is decided by the definition",
    ),
    (
        &[
            "rescue*",
            "emergency*",
            "debug-shell.*",
            "halt.*",
            "halt-local.*",
            "kexec.*",
            "initial-setup*",
            "rc.*",
            "rcS.*",
        ],
        "booting and halting are the machine's",
    ),
];

/// Targets that stand for a state of a booting or halting machine: what they want is looked at where
/// [`STARTS`] says so, and they themselves are never lifted.
const SYSTEM_TARGETS: &[&str] = &[
    "basic",
    "bluetooth",
    "boot-complete",
    "cryptsetup",
    "cryptsetup-pre",
    "ctrl-alt-del",
    "default",
    "emergency",
    "exit",
    "factory-reset",
    "final",
    "first-boot-complete",
    "getty",
    "getty-pre",
    "graphical",
    "halt",
    "hibernate",
    "hybrid-sleep",
    "initrd",
    "integritysetup",
    "kexec",
    "local-fs",
    "local-fs-pre",
    "machines",
    "multi-user",
    "network",
    "network-online",
    "network-pre",
    "nss-lookup",
    "nss-user-lookup",
    "paths",
    "poweroff",
    "printer",
    "reboot",
    "remote-cryptsetup",
    "remote-fs",
    "remote-fs-pre",
    "remote-veritysetup",
    "rescue",
    "rpcbind",
    "runlevel0",
    "runlevel1",
    "runlevel2",
    "runlevel3",
    "runlevel4",
    "runlevel5",
    "runlevel6",
    "shutdown",
    "sigpwr",
    "sleep",
    "slices",
    "smartcard",
    "sockets",
    "sound",
    "suspend",
    "suspend-then-hibernate",
    "swap",
    "sysinit",
    "system-update",
    "system-update-pre",
    "time-set",
    "time-sync",
    "timers",
    "umount",
    "usb-gadget",
    "veritysetup",
    "veritysetup-pre",
];

/// The targets that a boot reaches, and whether what they want may be of use on a host.
pub(super) const STARTS: &[(&str, bool)] = &[
    ("default.target", true),
    ("graphical.target", true),
    ("multi-user.target", true),
    ("basic.target", true),
    ("sockets.target", true),
    ("timers.target", true),
    ("paths.target", true),
    ("network-online.target", true),
    ("remote-fs.target", true),
    ("getty.target", true),
    ("sysinit.target", false),
    ("local-fs.target", false),
    ("network.target", true),
    ("network-pre.target", true),
    ("nss-lookup.target", true),
    ("nss-user-lookup.target", true),
    ("time-sync.target", true),
];

/// Units of the host that a root's units may name, by setting. None is stopped by it, started that wouldn't be
/// anyhow, or kept waiting: `Before=` of a target of the boot would let a root hold up its host, or make a
/// circle of which systemd leaves out what it likes.
const MAY_NAME: &[(&[&str], &[&str])] = &[
    (&["Before", "Conflicts"], &["shutdown.target", "umount.target"]),
    (
        &["After"],
        &[
            "basic.target",
            "dbus.service",
            "dbus.socket",
            "local-fs-pre.target",
            "local-fs.target",
            "network-online.target",
            "network-pre.target",
            "network.target",
            "nss-lookup.target",
            "nss-user-lookup.target",
            "paths.target",
            "remote-fs-pre.target",
            "remote-fs.target",
            "sockets.target",
            "sysinit.target",
            "systemd-journald.service",
            "systemd-journald.socket",
            "systemd-sysctl.service",
            "systemd-tmpfiles-setup.service",
            "systemd-user-sessions.service",
            "time-set.target",
            "time-sync.target",
            "timers.target",
        ],
    ),
    (
        &["Wants", "Requires", "Requisite"],
        &[
            "basic.target",
            "dbus.service",
            "dbus.socket",
            "local-fs.target",
            "network-online.target",
            "network.target",
            "nss-lookup.target",
            "nss-user-lookup.target",
            "remote-fs.target",
            "sysinit.target",
            "systemd-journald.service",
            "systemd-journald.socket",
            "time-set.target",
            "time-sync.target",
        ],
    ),
];

/// Why a unit that is enabled in a root gets none on the host; `None` where it may.
pub(super) fn not_lifted(unit: &str) -> Option<&'static str> {
    let row = NOT_LIFTED.iter().find(|(patterns, _)| patterns.iter().any(|pattern| matches(pattern, unit)));
    row.map(|(_, reason)| *reason)
}

/// Whether this is a target that every machine has.
pub(super) fn is_system_target(unit: &str) -> bool {
    unit.strip_suffix(".target").is_some_and(|stem| SYSTEM_TARGETS.contains(&stem))
}

/// Whether a root's unit may name this unit of the host in `setting`.
pub(super) fn may_name(setting: &str, unit: &str) -> bool {
    MAY_NAME.iter().any(|(settings, units)| settings.contains(&setting) && units.contains(&unit))
}

fn matches(pattern: &str, unit: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => unit.starts_with(start),
        None => unit == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_business_is_not_lifted() {
        for unit in ["systemd-journald.socket", "getty@tty1.service", "dbus.socket", "rhel-dmesg.service"] {
            assert!(not_lifted(unit).is_some(), "{unit}");
        }
        for unit in ["cron.service", "crond.service", "nginx.service", "logrotate.timer", "rsyslog.service"] {
            assert_eq!(not_lifted(unit), None, "{unit}");
        }
    }

    #[test]
    fn no_unit_of_a_root_stops_or_extends_the_hosts() {
        assert!(may_name("After", "network.target") && may_name("Conflicts", "shutdown.target"));
        for setting in ["Wants", "Requires", "After", "Upholds", "OnSuccess", "BindsTo"] {
            assert!(!may_name(setting, "shutdown.target"), "{setting}");
        }
        assert!(!may_name("Before", "sysinit.target"), "a root doesn't hold up its host");
        assert!(!may_name("Conflicts", "network.target") && !may_name("PartOf", "network.target"));
        assert!(!may_name("OnFailure", "reboot.target") && !may_name("After", "multi-user.target"));
    }
}
