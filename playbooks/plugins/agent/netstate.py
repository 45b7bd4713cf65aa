"""Whether a sandbox's own network was changed: addresses, routes, rules, settings. Python 2.7 and 3.5
or later. None of that is in a file, so a change can be seen, but not be put back."""

import errno
import hashlib
import os
import socket
import struct

from loop import close_on_exec

SETTINGS = "/proc/sys/net"
# Of a private network there are some 600; kept open, since opening is what costs.
MOST_SETTINGS = 700

# Links, neighbours, traffic control, addresses, routes and rules, of IPv4 and IPv6.
_GROUPS = 0x1 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
_GET_GENERATION = 10 << 8 | 16
_NEW_GENERATION = 10 << 8 | 15
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")

# Rules of the older kind can't be seen at all: where there are any, every look finds a change.
_OLD_TABLES = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names", "/proc/net/arp_tables_names")


class Network(object):
    """Counts what happens to the network since it was made."""

    def __init__(self):
        self._events = 0
        self._monitor = None
        self._rules = None
        self._has_rules = True
        self._settings = []
        # Only a network of its own can be changed from in here, and only that one's settings are writable.
        if _writable(SETTINGS):
            self._settings = _settings()
            self._monitor = _netlink(NETLINK_ROUTE, _GROUPS)
            self._rules = _netlink(NETLINK_NETFILTER, 0)
        self.first = self.state()

    def state(self):
        """Something that differs from what it was if the network does."""
        if self._monitor is None and not self._settings:
            return []
        self._count()
        return [self._events, self._generation(), self._values()]

    def _count(self):
        """Notes what the kernel has told of since the last time."""
        if any(_content(path) for path in _OLD_TABLES):
            self._events += 1
        while self._monitor is not None:
            try:
                self._monitor.recv(1 << 16)
            except (OSError, IOError) as error:
                if error.errno == errno.ENOBUFS:
                    self._events += 1
                    continue
                return
            self._events += 1

    def _generation(self):
        """The number of nftables' generation; it grows with each change of its rules."""
        # Asking makes the kernel load nftables: so once, and then only if it is there.
        if self._rules is None or not (self._has_rules or b"\nnf_tables " in b"\n" + _content("/proc/modules")):
            return None
        try:
            message = _HEADER.pack(_HEADER.size + 4, _GET_GENERATION, _REQUEST, 0, 0) + struct.pack("=BBH", 0, 0, 0)
            self._rules.send(message)
            answer = self._rules.recv(4096)
        except (OSError, IOError):
            return None
        # Anything else tells an error. The generation's first attribute is its number.
        self._has_rules = _HEADER.unpack(answer[: _HEADER.size])[1] == _NEW_GENERATION
        if not self._has_rules:
            return None
        return struct.unpack(">I", answer[_HEADER.size + 8 : _HEADER.size + 12])[0]

    def _values(self):
        found = hashlib.sha256()
        for fd in self._settings:
            try:
                os.lseek(fd, 0, os.SEEK_SET)
                found.update(os.read(fd, 4096))
            except OSError:
                pass
            found.update(b"\0")
        return found.hexdigest()


def _writable(path):
    """Whether settings below may be changed: where they may not, it is the host's network."""
    return os.access(os.path.join(path, "core"), os.F_OK) and os.access(
        os.path.join(path, "ipv4", "ip_forward"), os.W_OK
    )


def _settings():
    found = []
    for top, directories, names in os.walk(SETTINGS):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(top, name)
            if len(found) == MOST_SETTINGS or not os.access(path, os.R_OK | os.W_OK):
                continue
            try:
                fd = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            close_on_exec(fd)
            found.append(fd)
    return found


def _netlink(family, groups):
    """A netlink socket that never waits; None where there is none to be had."""
    try:
        sock = socket.socket(getattr(socket, "AF_NETLINK", 16), socket.SOCK_RAW, family)
    except (OSError, IOError):
        return None
    try:
        sock.bind((0, groups))
    except (OSError, IOError):
        sock.close()
        return None
    sock.setblocking(False)
    close_on_exec(sock.fileno())
    return sock


def _content(path):
    try:
        with open(path, "rb") as names:
            return names.read()
    except (OSError, IOError):
        return b""
