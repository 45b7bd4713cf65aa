"""What packages do when they are installed and removed, written as EL7's do it."""
from .users import GROUPS, USERS

# The units of a package, by EL7's presets and %post macros.
UNITS = {
    "cronie": ["crond.service"],
    "dbus": ["dbus.socket"],
    "haproxy": ["haproxy.service"],
    "httpd": ["httpd.service"],
    "memcached": ["memcached.service"],
    "openldap-servers": ["slapd.service"],
    "openssh-server": ["sshd.service"],
    "rsync": ["rsyncd.service"],
    "rsyslog": ["rsyslog.service"],
}
# Scriptlets of their own: package -> {section: body}. A section that starts with `-p` names the interpreter first.
FILESYSTEM = """-p <lua>
for _, d in ipairs({'/usr', '/usr/bin', '/usr/sbin', '/usr/lib', '/usr/lib64', '/run', '/proc', '/sys'}) do posix.mkdir(d) end
for _, l in ipairs({'bin', 'sbin', 'lib', 'lib64'}) do posix.symlink('usr/' .. l, '/' .. l) end
posix.chmod('/proc', 0555); posix.chmod('/sys', 0555)"""
SLAPD = """if [ ! -f /etc/openldap/slapd.d/cn=config.ldif ] && [ ! -f /etc/openldap/slapd.conf ]; then
    mkdir -p /etc/openldap/slapd.d
    if /usr/sbin/slapadd -F /etc/openldap/slapd.d -n 0 -l /usr/share/openldap-servers/slapd.ldif >/dev/null 2>&1; then
        chown -R ldap:ldap /etc/openldap/slapd.d
        chmod -R u=rwX,g=,o= /etc/openldap/slapd.d/*
    fi
fi"""
OWN = {
    "filesystem": {"pretrans": FILESYSTEM},
    "setup": {"post": "-p <lua>\nfor _, n in ipairs({'passwd', 'shadow', 'group', 'gshadow'}) do os.remove('/etc/' .. n .. '.rpmnew') end"},
    "glibc": {"post": "-p /usr/sbin/ldconfig", "postun": "-p /usr/sbin/ldconfig"},
    "initscripts": {"post": "touch /var/log/wtmp /var/log/btmp\nchown root:utmp /var/log/wtmp /var/log/btmp\n"
                            "chmod 664 /var/log/wtmp\nchmod 600 /var/log/btmp"},
    "openldap-servers": {"post": SLAPD},
    "systemd": {"post": "systemd-machine-id-setup >/dev/null 2>&1 || :\n"
                        "systemctl preset getty@tty1.service remote-fs.target >/dev/null 2>&1 || :"},
}
# Packages that glibc itself needs: they come before ldconfig.
BEFORE_LDCONFIG = {"glibc", "libgcc", "filesystem", "setup", "basesystem"}


def scriptlets(package):
    """The package's scriptlets: {section: body}."""
    sections = {"pre": [], "post": [], "preun": [], "postun": []}
    for name, gid in GROUPS.get(package.name, []):
        number = f"-g {gid} " if gid is not None else ""
        sections["pre"].append(f"getent group {name} >/dev/null || groupadd -r {number}{name} || :")
    for user in USERS.get(package.name, []):
        sections["pre"].append(_make_user(user))
    for unit in UNITS.get(package.name, []):
        sections["post"].append(f"if [ $1 -eq 1 ]; then systemctl preset {unit} >/dev/null 2>&1 || :; fi")
        sections["preun"].append(f"if [ $1 -eq 0 ]; then systemctl --no-reload disable {unit} >/dev/null 2>&1 || :; "
                                 f"systemctl stop {unit} >/dev/null 2>&1 || :; fi")
        sections["postun"].append("systemctl daemon-reload >/dev/null 2>&1 || :")
    if not any(sections.values()) and package.name not in OWN and _has_library(package):
        return {"post": "-p /usr/sbin/ldconfig", "postun": "-p /usr/sbin/ldconfig"}
    for section, body in OWN.get(package.name, {}).items():
        sections.setdefault(section, []).append(body)
    return {section: "\n".join(parts) for section, parts in sections.items() if parts}


def _make_user(user):
    gid = f"-g {user.uid} " if user.uid is not None else ""
    uid = f"-u {user.uid} " if user.uid is not None else ""
    return (f"getent group {user.name} >/dev/null || groupadd -r {gid}{user.name} || :\n"
            f"getent passwd {user.name} >/dev/null || useradd -r {uid}-g {user.name} -d {user.home} -M "
            f"-s {user.shell} -c '{user.comment}' {user.name} >/dev/null 2>&1 || :")


def _has_library(package):
    """Whether the loader's cache changes with the package."""
    if package.name in BEFORE_LDCONFIG:
        return False
    library = "usr/lib/x86_64-linux-gnu/"
    return any(path.startswith(library) and "/" not in path[len(library):] and ".so." in path
               for path in package.entries)
