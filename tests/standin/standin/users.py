"""Data: users and groups with EL7's numbers, those of `setup` and those that packages make."""
from dataclasses import dataclass

# name, uid, gid, comment, home, shell
SETUP_USERS = [
    ("root", 0, 0, "root", "/root", "/bin/bash"),
    ("bin", 1, 1, "bin", "/bin", "/sbin/nologin"),
    ("daemon", 2, 2, "daemon", "/sbin", "/sbin/nologin"),
    ("adm", 3, 4, "adm", "/var/adm", "/sbin/nologin"),
    ("lp", 4, 7, "lp", "/var/spool/lpd", "/sbin/nologin"),
    ("sync", 5, 0, "sync", "/sbin", "/bin/sync"),
    ("shutdown", 6, 0, "shutdown", "/sbin", "/sbin/shutdown"),
    ("halt", 7, 0, "halt", "/sbin", "/sbin/halt"),
    ("mail", 8, 12, "mail", "/var/spool/mail", "/sbin/nologin"),
    ("operator", 11, 0, "operator", "/root", "/sbin/nologin"),
    ("games", 12, 100, "games", "/usr/games", "/sbin/nologin"),
    ("ftp", 14, 50, "FTP User", "/var/ftp", "/sbin/nologin"),
    ("nobody", 99, 99, "Nobody", "/", "/sbin/nologin"),
]
SETUP_GROUPS = [
    ("root", 0), ("bin", 1), ("daemon", 2), ("sys", 3), ("adm", 4), ("tty", 5), ("disk", 6), ("lp", 7), ("mem", 8),
    ("kmem", 9), ("wheel", 10), ("cdrom", 11), ("mail", 12), ("man", 15), ("dialout", 18), ("floppy", 19),
    ("games", 20), ("utmp", 22), ("tape", 33), ("utempter", 35), ("kvm", 36), ("video", 39), ("ftp", 50),
    ("lock", 54), ("audio", 63), ("nobody", 99), ("users", 100),
]


@dataclass(frozen=True)
class User:
    """A system user that a package's %pre makes, with a group of the same name. `uid` None: the next free one."""

    name: str
    uid: int | None
    home: str
    comment: str
    shell: str = "/sbin/nologin"


# package -> users
USERS = {
    "dbus": [User("dbus", 81, "/", "System message bus")],
    "haproxy": [User("haproxy", 188, "/var/lib/haproxy", "haproxy")],
    "httpd": [User("apache", 48, "/usr/share/httpd", "Apache")],
    "memcached": [User("memcached", None, "/run/memcached", "Memcached daemon")],
    "openldap-servers": [User("ldap", 55, "/var/lib/ldap", "OpenLDAP server")],
    "openssh-server": [User("sshd", 74, "/var/empty/sshd", "Privilege-separated SSH")],
    "systemd": [User("systemd-network", 192, "/", "systemd Network Management")],
}
# package -> groups without a user: (name, gid or None)
GROUPS = {
    "openssh": [("ssh_keys", None)],
    "systemd": [("systemd-journal", 190), ("input", None), ("render", None)],
}
