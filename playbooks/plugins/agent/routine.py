"""Ansible's own housekeeping: its temporary directories, which it makes, marks and removes by shell commands several
times per task. Done here without any process. Python 2.7 and 3.5 or later.

Only exactly these texts, as Ansible's shell plugin `sh` writes them, and only names that mean the same to every shell. Whatever
is not as expected, or goes wrong, is left to a shell, which then does and says what is right: nothing that was done before
hinders it.
"""

import errno
import os
import re
import stat

_NAME = br"ansible-tmp-[0-9.]+-[0-9]+-[0-9]+"
_PATH = br"/(?:[A-Za-z0-9_.+-]+/)*"

_HOME = re.compile(br"\Aecho ~([a-z_][a-z0-9_-]*) && sleep 0\Z")
_MAKE = re.compile(
    br"\A\( umask 77 && mkdir -p \"` echo (%s[A-Za-z0-9_.+-]+) `\"&& mkdir \"` echo (\1/(%s)) `\" && echo \3=\"` echo \2 `\" \) && sleep 0\Z"
    % (_PATH, _NAME)
)
_REMOVE = re.compile(br"\Arm -f -r (%s%s)/ > /dev/null 2>&1 && sleep 0\Z" % (_PATH, _NAME))
_MARK = re.compile(br"\Achmod u\+(x|rwx) (%s%s/)((?: \2[A-Za-z0-9_.+-]+)*) && sleep 0\Z" % (_PATH, _NAME))


def answer(argument):
    """What the shell text prints, if it has been carried out; else None."""
    for pattern, act in _ROUTINES:
        match = pattern.match(argument)
        if match:
            try:
                return act(*match.groups())
            except (OSError, IOError):
                return None
    return None


def _home(user):
    """By /etc/passwd alone; whoever isn't in there is somebody else's to find."""
    with open("/etc/passwd", "rb") as lines:
        for line in lines:
            fields = line.rstrip(b"\n").split(b":")
            if fields[0] == user:
                if len(fields) == 7 and re.match(br"\A/[A-Za-z0-9_./+-]*\Z", fields[5]):
                    return fields[5] + b"\n"
                return None
    return None


def _make(parent, path, name):
    _make_parents(parent)
    os.mkdir(path, 0o700)
    return name + b"=" + path + b"\n"


def _make_parents(path):
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        if error.errno == errno.ENOENT:
            _make_parents(os.path.dirname(path))
            os.mkdir(path, 0o700)
        elif error.errno != errno.EEXIST or not os.path.isdir(path):
            raise


def _remove(path):
    status = os.lstat(path)
    # Somebody else's could change under us, and so could a deeper one.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 2:
        return None
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)
    return b""


def _mark(bits, directory, files):
    added = 0o100 if bits == b"x" else 0o700
    for path in [directory] + files.split():
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return None
        os.chmod(path, stat.S_IMODE(mode) | added)
    return b""


def is_temporary(path):
    """Whether the path is that of a file right in one of Ansible's temporary directories, in our own hands."""
    directory = os.path.dirname(path)
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return (
        re.match(_NAME + br"\Z", os.path.basename(directory)) is not None
        and stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
    )


_ROUTINES = ((_HOME, _home), (_MAKE, _make), (_REMOVE, _remove), (_MARK, _mark))
