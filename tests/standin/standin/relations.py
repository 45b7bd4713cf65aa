"""Data: relations between packages that neither Debian's Depends nor the linker know."""

# Further Requires.
REQUIRES = {
    "basesystem": ["setup", "filesystem"],
    "bash": ["glibc", "ncurses-libs", "filesystem"],
    "centos-release": ["setup", "filesystem"],
    "cronie": ["bash", "pam"],
    "dnf": ["rpm", "python3-dnf", "dnf-data", "centos-release"],
    "filesystem": ["setup"],
    "glibc": ["basesystem", "libgcc"],
    "httpd": ["coreutils"],
    "initscripts": ["bash", "systemd", "coreutils"],
    "ncurses-libs": ["ncurses-base"],
    "openldap-servers": ["openldap", "coreutils"],
    "openssh-server": ["pam"],
    "pam": ["coreutils"],
    "python": ["python-libs"],
    "python3": ["python3-libs"],
    "python3-dnf": ["rpm-python3", "python3-hawkey", "python3-libdnf", "python3-libcomps", "python3-gpg"],
    "rpm": ["gnupg2", "coreutils", "rpm-libs"],
    "shadow-utils": ["setup", "audit-libs", "libselinux"],
    "standin-hello": ["bash"],
    "systemd": ["centos-release", "shadow-utils", "coreutils", "bash"],
}
# Debian's Depends that would pull what is not wanted, or tie a knot at the bottom of the system.
NOT_REQUIRED = {
    "basesystem": {"*"}, "filesystem": {"*"}, "glibc": {"*"}, "libgcc": {"*"}, "ncurses-base": {"*"},
    "setup": {"*"}, "tzdata": {"*"}, "centos-release": {"*"},
    "cronie": {"setup"},
    "libdnf": {"python3"},
    "python3-libs": {"python3"},
    "python-libs": {"python"},
    "shadow-utils": {"bash"},
    "systemd-libs": {"systemd"},
    "vim-minimal": {"vim-common"},
}
PROVIDES = {
    "bash": ["/bin/sh", "/bin/bash", "/usr/bin/sh"],
    "centos-release": ["centos-release = 7-9.2009.1.el7.centos", "redhat-release = 7.9-1", "system-release = 7.9-1",
                       "system-release(releasever) = 7"],
    "coreutils": ["/bin/cat", "/bin/chmod", "/bin/chown", "/bin/touch"],
    "gawk": ["/bin/awk"],
    "glibc": ["/sbin/ldconfig", "/usr/sbin/ldconfig", "rtld(GNU_HASH)"],
    "httpd": ["webserver", "httpd-mmn = 20120211x8664"],
    "nmap-ncat": ["nc"],
    # The linker finds it by a link's name, which is no soname.
    "openldap": ["libldap-2.4.so.2()(64bit)", "libldap-2.4.so.2(OPENLDAP_2.4_2)(64bit)"],
    "openldap-servers": ["ldapserver"],
    "python": ["python2", "python(abi) = 2.7"],
    "python3": ["python(abi) = 3.9"],
    "shadow-utils": ["/usr/sbin/useradd", "/usr/sbin/groupadd"],
}
# Sonames that the ELF files name and no package of the set has: parts of programs that are not used.
UNPROVIDED = ["libatm", "libcryptsetup", "libodbc", "libperl"]


def requires(package):
    """All Requires of a package except those that rpm finds in its ELF files."""
    drop = NOT_REQUIRED.get(package.name, set())
    debian = set() if "*" in drop else package.requires - drop
    return sorted((debian | set(REQUIRES.get(package.name, []))) - {package.name})


def scriptlet_requires(sections, makes_users):
    """Requires(pre), (post)… that order the installation."""
    found = []
    if makes_users:
        found.append(("pre", "shadow-utils"))
    for section in ("post", "preun", "postun"):
        if "systemctl" in sections.get(section, ""):
            found.append((section, "systemd"))
    if "chown" in sections.get("post", ""):
        found.append(("post", "coreutils"))
    return found
