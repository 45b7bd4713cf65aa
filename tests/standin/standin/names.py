"""Data: which Debian packages are wanted, what they are called on EL7, how they are grouped."""

# What `@core` of an EL7 minimal install holds, by Debian's names.
CORE_DEBS = """
bash bsdutils coreutils findutils grep sed gawk diffutils tar gzip bzip2 xz-utils util-linux mount procps psmisc less
netbase sysvinit-utils libc-bin ncurses-bin ncurses-base tzdata hostname debianutils file cpio e2fsprogs kmod udev
passwd login libpam-modules libpam-modules-bin libpam-systemd sudo systemd systemd-sysv dbus cron rsyslog logrotate
openssh-server openssh-client openssh-sftp-server ca-certificates curl gnupg openssl
iproute2 iputils-ping net-tools vim-tiny nano acl attr libcap2-bin
rpm dnf python3 python3-dnf python3-selinux python2.7 python2.7-minimal
""".split()

# What playbooks install on top.
EXTRA_DEBS = """
apache2 mercurial slapd ldap-utils memcached haproxy rsync ncat telnet
wget unzip zip patch tree lsof bc
""".split()

WANT = sorted(CORE_DEBS + EXTRA_DEBS)

# Debs whose content has no counterpart on EL7; nothing of them is packaged.
DROP = frozenset("""
adduser apt base-files base-passwd dash debconf dpkg gcc-10-base gnupg-l10n init-system-helpers libodbc1
libperl5.32 lsb-base mailcap mime-support perl perl-base perl-modules-5.32 runit-helper sensible-utils
ucf
""".split())

# deb -> EL7 package, where the source package's name would not do.
BY_DEB = {
    "apache2-utils": "httpd-tools",
    "bzip2": "bzip2",
    "debianutils": "which",
    "debugedit": "debugedit",
    "dmsetup": "device-mapper",
    "dnf-data": "dnf-data",
    "ldap-utils": "openldap-clients",
    "libaprutil1-dbd-sqlite3": "apr-util-sqlite",
    "libaprutil1-ldap": "apr-util-ldap",
    "libacl1": "libacl",
    "libapparmor1": "libapparmor",
    "libattr1": "libattr",
    "libblkid1": "libblkid",
    "libbz2-1.0": "bzip2-libs",
    "libcom-err2": "libcom_err",
    "libcrypt1": "glibc",
    "libcurl3-gnutls": "libcurl-gnutls",
    "libcurl4": "libcurl",
    "libdbus-1-3": "dbus-libs",
    "libdevmapper1.02.1": "device-mapper-libs",
    "libdw1": "elfutils-libs",
    "libelf1": "elfutils-libelf",
    "libext2fs2": "e2fsprogs-libs",
    "libgcc-s1": "libgcc",
    "libgomp1": "libgomp",
    "libgpgme11": "gpgme",
    "libkmod2": "kmod-libs",
    "libldap-2.4-2": "openldap",
    "liblzma5": "xz-libs",
    "libmagic-mgc": "file-libs",
    "libmagic1": "file-libs",
    "libmount1": "libmount",
    "libpython2.7-minimal": "python-libs",
    "libpython2.7-stdlib": "python-libs",
    "libpython3-stdlib": "python3-libs",
    "libpython3.9": "python3-libs",
    "libpython3.9-minimal": "python3-libs",
    "libpython3.9-stdlib": "python3-libs",
    "librpm9": "rpm-libs",
    "librpmbuild9": "rpm-build-libs",
    "librpmio9": "rpm-libs",
    "librpmsign9": "rpm-build-libs",
    "libsmartcols1": "libsmartcols",
    "libss2": "libss",
    "libssl1.1": "openssl-libs",
    "libstdc++6": "libstdc++",
    "libsystemd0": "systemd-libs",
    "libudev1": "systemd-libs",
    "libuuid1": "libuuid",
    "ncurses-base": "ncurses-base",
    "ncurses-bin": "ncurses",
    "openssh-client": "openssh-clients",
    "openssh-server": "openssh-server",
    "openssh-sftp-server": "openssh-server",
    "python3-dbus": "python3-dbus",
    "python3-distutils": "python3-libs",
    "python3-dnf": "python3-dnf",
    "python3-gpg": "python3-gpg",
    "python3-hawkey": "python3-hawkey",
    "python3-lib2to3": "python3-libs",
    "python3-libcomps": "python3-libcomps",
    "python3-libdnf": "python3-libdnf",
    "python3-rpm": "rpm-python3",
    "python3-selinux": "libselinux-python3",
    "slapd": "openldap-servers",
    "vim-common": "vim-common",
    "xxd": "vim-common",
    "xz-utils": "xz",
}

# Debian source package -> EL7 package; a source not listed keeps its name.
BY_SOURCE = {
    "apache2": "httpd",
    "argon2": "libargon2",
    "audit": "audit-libs",
    "cron": "cronie",
    "cryptsetup": "cryptsetup-libs",
    "cyrus-sasl2": "cyrus-sasl-lib",
    "db5.3": "libdb",
    "glib2.0": "glib2",
    "gnutls28": "gnutls",
    "gnupg2": "gnupg2",
    "icu": "libicu",
    "iproute2": "iproute",
    "iptables": "iptables-libs",
    "keyutils": "keyutils-libs",
    "krb5": "krb5-libs",
    "libcap2": "libcap",
    "libgcrypt20": "libgcrypt",
    "libtasn1-6": "libtasn1",
    "libtool": "libtool-ltdl",
    "lua5.2": "compat-lua52",
    "lua5.3": "lua",
    "media-types": "mailcap",
    "mpfr4": "mpfr",
    "ncurses": "ncurses-libs",
    "netbase": "setup",
    "netkit-telnet": "telnet",
    "nghttp2": "libnghttp2",
    "nmap": "nmap-ncat",
    "openldap": "openldap",
    "pcre3": "pcre",
    "procps": "procps-ng",
    "python2.7": "python",
    "python3-defaults": "python3",
    "python3.9": "python3",
    "rtmpdump": "librtmp",
    "shadow": "shadow-utils",
    "sqlite3": "sqlite",
    "sysvinit": "sysvinit-tools",
    "tcp-wrappers": "tcp_wrappers-libs",
    "vim": "vim-minimal",
    "xxhash": "xxhash-libs",
}

# The deb that gives a package of several debs its version.
MAIN_DEB = {
    "httpd": "apache2-bin",
    "mercurial": "mercurial",
    "python": "python2.7",
    "python3": "python3.9",
    "rpm": "rpm",
    "vim-minimal": "vim-tiny",
}

# comps: group -> (title, mandatory packages, optional packages), by EL7 names.
MINIMAL = """
setup filesystem basesystem centos-release bash bsdutils coreutils findutils grep sed gawk diffutils tar gzip util-linux
procps-ng shadow-utils passwd which hostname glibc ncurses tzdata systemd initscripts iproute ca-certificates rpm
sudo openssh-server cronie python sysvinit-tools
""".split()
CORE = sorted(set(MINIMAL) | set("""
acl attr audit-libs bzip2 cpio curl dbus dnf e2fsprogs file iputils kmod less libselinux-python3 logrotate
openssh-clients openssl pam python3 rsyslog vim-minimal xz libcap
""".split()))
GROUPS = {
    "core": ("Core", CORE, ["nano", "net-tools", "psmisc"]),
    "py27-minimal": ("Minimal with Python 2.7 as the only Python", MINIMAL, []),
    "web-server": ("Web Server", ["httpd", "httpd-tools"], ["mod_ssl", "mod_ldap"]),
}
# Environment groups: id -> (title, groups).
ENVIRONMENTS = {"minimal": ("Minimal Install", ["core"])}


def el7_name(deb, source):
    """The EL7 package that a deb's files go to; None where they go nowhere."""
    if deb in DROP:
        return None
    return BY_DEB.get(deb) or BY_SOURCE.get(source) or source
