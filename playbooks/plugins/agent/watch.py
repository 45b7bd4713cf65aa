"""What a request may leave in a root besides files: processes, and state that dies with the sandbox.
Python 2.7 and 3.5 or later.

Everything is told relative to what was there when the watch began, so an untouched sandbox looks the
same in every run.
"""

import hashlib
import json
import os

import netstate
import volatile


class Watch(object):
    """Answers two questions after each request: does anything still run, has anything changed that
    no file of the root shows?"""

    def __init__(self):
        self._mounts = volatile.Mounts()
        self._network = netstate.Network()
        self._files = volatile.scan(self._mounts.scopes)
        self._table = self._mounts.table()
        self._names = _names()
        self._kernel = None

    def facts(self, ran=True):
        """What STATUS and FAILURE carry. ran: whether the request has run any program."""
        left = strays()
        if ran or left or self._kernel is None:
            # What no file shows can't have changed otherwise.
            self._kernel = self._others()
        return {"strays": left, "volatile": self._digest()}

    def _others(self):
        parts = [self._odd()]
        for now, first in ((_names(), self._names), (self._network.state(), self._network.first)):
            parts.append(now if now != first else None)
        return parts

    def _digest(self):
        """Changes whenever volatile state does; the same for every sandbox that is as it was at the
        start. Otherwise only comparable within one sandbox: times and inodes are part of it."""
        files = volatile.scan(self._mounts.scopes)
        changed = [[volatile.text(path), what] for path, what in sorted(files.items()) if self._files.get(path) != what]
        gone = [volatile.text(path) for path in sorted(self._files) if path not in files]
        said = json.dumps([changed, gone, self._kernel], sort_keys=True).encode("utf-8")
        return hashlib.sha256(said).hexdigest()[:32]

    def _odd(self):
        """What has changed and can't be put back."""
        found = []
        if self._mounts.table() != self._table:
            found.append(["mounts", hashlib.sha256(self._mounts.table()).hexdigest()])
        return found + [[name, text] for name, text in volatile.shared_memory()]

    def save(self):
        """All of it, as bytes for restore(), and a digest of its content alone. Raises
        volatile.Unsaveable where that is not possible."""
        if strays():
            raise volatile.Unsaveable("a process still runs")
        if self._network.state() != self._network.first:
            raise volatile.Unsaveable("the network's settings have changed")
        odd = self._odd()
        if odd:
            raise volatile.Unsaveable("%s can't be saved" % odd[0][0])
        if _names()[1] != self._names[1]:
            raise volatile.Unsaveable("the domain's name has changed")
        host = _names()[0] if _names()[0] != self._names[0] else None
        return volatile.pack(self._mounts.scopes, self._files, host)

    def restore(self, image):
        """Makes volatile state what it was when it was saved: this sandbox has just begun."""
        volatile.unpack(self._mounts.scopes, self._files, image)


def _names():
    try:
        with open("/proc/sys/kernel/domainname") as name:
            domain = name.read().strip()
    except (OSError, IOError):
        domain = ""
    return [os.uname()[1], domain]


def strays():
    """How many processes there are that aren't ours and haven't ended. Commands and modules get sessions
    of their own, and nothing that they start can come back into ours."""
    ours, count = b"%d" % os.getsid(0), 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as status:
                state, _, _, session = status.read().rpartition(b")")[2].split()[:4]
        except (OSError, IOError, ValueError):
            continue
        count += session != ours and state not in (b"Z", b"X")
    return count
