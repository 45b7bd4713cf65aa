"""Files put into the root and got out of it, in pieces. Python 2.7 and 3.5 or later."""

import errno
import os
import stat

import wire
from loop import close_on_exec

# Opening must not wait for a FIFO's other end.
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY


class Upload(object):
    """A file being written. A new one is 0600 and disappears again unless it gets complete; an
    existing one keeps its mode and owner."""

    def __init__(self, path):
        self._path = path
        self._new = True
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            self._new = False
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        close_on_exec(self._fd)

    def write(self, data):
        """Adds data."""
        view = memoryview(data)
        while len(view):
            view = view[os.write(self._fd, view) :]

    def finish(self):
        """All data is there."""
        fd, self._fd = self._fd, None
        try:
            os.close(fd)
        except OSError:
            self._remove()
            raise

    def abort(self):
        """No more data will come."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._remove()

    def _remove(self):
        if self._new:
            try:
                os.unlink(self._path)
            except OSError:
                pass


class Download(object):
    """A file being read."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDONLY | _FLAGS)
        close_on_exec(self._fd)
        mode = os.fstat(self._fd).st_mode
        if not stat.S_ISREG(mode):
            self.close()
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, "not a regular file")

    def read(self):
        """The next piece; empty at the end."""
        return os.read(self._fd, wire.CHUNK)

    def close(self):
        """Gives the descriptor back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
