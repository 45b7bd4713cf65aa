"""Files that die with the sandbox, on its tmpfs (/run, /dev, /dev/shm): looked at, saved and put back.
Python 2.7 and 3.5 or later."""

import errno
import hashlib
import json
import os
import stat
import struct

import wire

PY3 = hasattr(os, "fsencode")

# Ours, and those of the container's manager.
NOT_OURS = (b"/run/rootbuild", b"/run/host", b"/sys", b"/proc")

# A saved image is kept in memory and sent as a whole.
MOST = 8 << 20

_FORMAT = 1
_LENGTH = struct.Struct(">Q")


class Unsaveable(Exception):
    """There is state that no image can hold."""


def text(path):
    """A byte string as JSON can hold it: a character for each byte."""
    return path.decode("latin-1")


class Mounts(object):
    """The sandbox's mounts; `scopes` are the directories of those that hold volatile files."""

    def __init__(self):
        self.scopes = []
        for line in self.table().splitlines():
            fields, _, rest = line.partition(b" - ")
            fields, kind = fields.split(b" "), rest.split(b" ")[0]
            path = _unescape(fields[4])
            # Read-only ones can't change; a part of a file system is somebody else's.
            if kind == b"tmpfs" and fields[3] == b"/" and b"rw" in fields[5].split(b",") and not _is_left_out(path):
                self.scopes.append(path)

    @staticmethod
    def table():
        """The mount table as it is now."""
        with open("/proc/self/mountinfo", "rb") as mounts:
            return mounts.read()


def _unescape(path):
    for number in (b"040", b"011", b"012", b"134"):
        path = path.replace(b"\\" + number, struct.pack("B", int(number, 8)))
    return path


def _is_left_out(path):
    return any(path == name or path.startswith(name + b"/") for name in NOT_OURS)


def scan(scopes):
    """path -> identity, for everything on the tmpfs that isn't ours. Directories have no times and
    sizes: what changes them shows in what they hold."""
    found = {}
    for scope in scopes:
        try:
            device = os.lstat(scope).st_dev
        except OSError:
            continue
        todo = [scope]
        while todo:
            directory = todo.pop()
            for name in _listed(directory):
                path = os.path.join(directory, name)
                if _is_left_out(path):
                    continue
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if status.st_dev != device:
                    continue
                found[path] = _identity(status)
                if stat.S_ISDIR(status.st_mode):
                    todo.append(path)
    return found


def _listed(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _identity(status):
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        # Nor do terminals, FIFOs and the like: whoever writes to them changes their times.
        return status.st_mode, status.st_uid, status.st_gid, status.st_rdev
    time = status.st_mtime_ns if PY3 else status.st_mtime
    changed = status.st_ctime_ns if PY3 else status.st_ctime
    return status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_size, time, changed


def shared_memory():
    """(kind, text) of System V's and POSIX's shared objects, if there are any."""
    found = []
    for name in ("shm", "msg", "sem"):
        try:
            with open("/proc/sysvipc/" + name, "rb") as table:
                lines = table.read().splitlines()[1:]
        except (OSError, IOError):
            continue
        if lines:
            found.append((name, text(b"\n".join(lines))))
    queues = _listed("/dev/mqueue")
    if queues:
        found.append(("mqueue", repr(sorted(queues))))
    return found


# An image: a length, that many bytes of JSON, then the files' contents one after the other. In the JSON
# `hostname` (null: as it was), `gone` (paths that were there at the start) and `entries`, directories
# before what is in them.


def pack(scopes, first, hostname):
    """(image, digest of what is in it but for times) of all that differs from the start."""
    now = scan(scopes)
    gone = sorted(text(path) for path in first if path not in now)
    entries, contents, seen, size = [], [], {}, 0
    for path in sorted(now):
        if first.get(path) == now[path]:
            continue
        status = os.lstat(path)
        entry = _entry(path, status)
        if stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1 and status.st_ino in seen:
                entry["same"] = seen[status.st_ino]
            else:
                seen[status.st_ino] = text(path)
                data = _read(path)
                size += len(data)
                if size > MOST:
                    raise Unsaveable("there are more than %d bytes of volatile files" % MOST)
                entry["size"] = len(data)
                contents.append(data)
        entries.append(entry)
    body = {"format": _FORMAT, "hostname": hostname, "gone": gone, "entries": entries}
    head = json.dumps(body, sort_keys=True).encode("utf-8")
    timeless = dict(body, entries=[dict((k, v) for k, v in e.items() if k != "time") for e in entries])
    digest = hashlib.sha256(json.dumps(timeless, sort_keys=True).encode("utf-8"))
    for data in contents:
        digest.update(data)
    return _LENGTH.pack(len(head)) + head + b"".join(contents), digest.hexdigest()


def _entry(path, status):
    entry = {"path": text(path), "mode": status.st_mode, "owner": [status.st_uid, status.st_gid]}
    if stat.S_ISLNK(status.st_mode):
        entry["target"] = text(os.readlink(path))
    elif stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if not stat.S_ISDIR(status.st_mode):
        nanoseconds = status.st_mtime_ns if PY3 else int(status.st_mtime * 1000000) * 1000
        entry["time"] = nanoseconds
    return entry


def _read(path):
    with open(path, "rb") as content:
        return content.read(MOST + 1)


def unpack(scopes, first, image):
    """Puts back what an image holds, in a sandbox that has just begun. Raises wire.ProtocolError for
    what is no image, OSError for what can't be done."""
    body, contents = _parse(image)
    entries = body["entries"]
    wanted = set(_bytes(entry["path"]) for entry in entries)
    for path in wanted | set(_bytes(path) for path in body["gone"]):
        if not any(path.startswith(scope + b"/") for scope in scopes) or b"/../" in path + b"/" or _is_left_out(path):
            raise wire.ProtocolError("an image holds the path %r" % path)
    # What isn't in the image is to be as at the start: gone, if it wasn't there.
    extra = [path for path in scan(scopes) if path not in wanted and path not in first]
    for path in sorted(extra + [_bytes(path) for path in body["gone"]], reverse=True):
        _remove(path)
    position = 0
    for entry in entries:
        size = entry.get("size", 0)
        _make(entry, contents[position : position + size])
        position += size
    if body["hostname"] is not None:
        _set_hostname(body["hostname"])


def _parse(image):
    try:
        length = _LENGTH.unpack(image[: _LENGTH.size])[0]
        head, contents = image[_LENGTH.size : _LENGTH.size + length], image[_LENGTH.size + length :]
        body = json.loads(head.decode("utf-8"))
        if body["format"] != _FORMAT or sum(entry.get("size", 0) for entry in body["entries"]) != len(contents):
            raise ValueError("it is of another format, or not whole")
        return body, contents
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise wire.ProtocolError("no image: %s" % error)


def _bytes(path):
    return path.encode("latin-1")


def _remove(path):
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError as error:
        # Ours may be below.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):
            raise


def _make(entry, data):
    path, mode = _bytes(entry["path"]), entry["mode"]
    if stat.S_ISDIR(mode):
        if not os.path.isdir(path) or os.path.islink(path):
            _remove(path)
            os.mkdir(path)
    else:
        _remove(path)
        if "same" in entry:
            os.link(_bytes(entry["same"]), path)
            return
        if stat.S_ISLNK(mode):
            os.symlink(_bytes(entry["target"]), path)
        elif stat.S_ISREG(mode):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as out:
                out.write(data)
        else:
            major, minor = entry.get("device", (0, 0))
            os.mknod(path, mode, os.makedev(major, minor))
    os.lchown(path, *entry["owner"])
    if stat.S_ISLNK(mode):
        return
    os.chmod(path, stat.S_IMODE(mode))
    if "time" in entry:
        if PY3:
            os.utime(path, ns=(entry["time"], entry["time"]))
        else:
            os.utime(path, (entry["time"] / 1e9, entry["time"] / 1e9))


def _set_hostname(name):
    import socket

    if hasattr(socket, "sethostname"):
        socket.sethostname(name)
        return
    import ctypes

    name = name.encode("utf-8")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sethostname(name, len(name)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
