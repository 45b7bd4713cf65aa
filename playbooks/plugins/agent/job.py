"""A running command: its pipes, its process group, its end. Python 2.7 and 3.5 or later."""

import collections
import fcntl
import os
import signal
import struct
import subprocess
import sys

import wire
from environment import enter_home
from loop import READ, WRITE, again, close_on_exec, exit_code, nonblocking, pipe

FIONREAD = 0x541B
# How long a command whose caller has gone may take to end by itself, in seconds.
GRACE = 2

if sys.version_info[0] >= 3:
    # There descriptors are not inherited unless asked for, and nothing runs between fork and exec.
    _POPEN = {"close_fds": False, "start_new_session": True}
else:

    def _session():
        os.setsid()
        # Python ignores these, and Python 2 hands that down.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)

    _POPEN = {"close_fds": False, "preexec_fn": _session}


class Job(object):
    """Relays one command's output to owner.on_output(kind, data) and its end to
    owner.on_exit(code, how). The owner's output_full() holds the output back."""

    def __init__(self, loop, owner, how):
        self._loop = loop
        self._owner = owner
        self._pid = None
        self._sources = {}  # descriptor -> frame kind
        self._left = None  # descriptor -> bytes still to be read, once the command has ended
        self._code = None
        self._stdin = None
        self._input = collections.deque()
        self._input_ends = False
        self._input_waiting = 0
        self.how = how
        self.aborted = False
        self.over = False

    # How it starts.

    def start_shell(self, argument, env, with_input):
        """Runs text by a shell, in a session of its own."""
        out_r, out_w = pipe()
        err_r, err_w = pipe()
        in_r, in_w = pipe() if with_input else (os.open(os.devnull, os.O_RDONLY), None)
        close_on_exec(in_r)
        try:
            enter_home()
            process = subprocess.Popen(
                [b"/bin/sh", b"-c", argument], stdin=in_r, stdout=out_w, stderr=err_w, env=env, **_POPEN
            )
        except (OSError, IOError, ValueError):
            for fd in (out_r, err_r, in_w):
                if fd is not None:
                    os.close(fd)
            raise
        finally:
            for fd in (out_w, err_w, in_r):
                os.close(fd)
        self._pid = process.pid
        # The process object must not reap: the loop does.
        process.returncode = 0
        self._listen(out_r, err_r)
        if in_w is not None:
            nonblocking(in_w)
            self._stdin = in_w
        self._loop.child(process.pid, self.ended)

    def prepare(self):
        """Makes the pipes for a process that the fork server starts; returns their write ends."""
        out_r, out_w = pipe()
        err_r, err_w = pipe()
        self._listen(out_r, err_r)
        return out_w, err_w

    def forget(self):
        """Gives up what prepare() made: the fork server refused."""
        self.over = True
        for fd in list(self._sources):
            self._drop(fd)

    def started(self, pid):
        """The fork server has started it."""
        self._pid = pid
        if self.aborted:
            self._terminate()

    def _listen(self, out_r, err_r):
        for fd, kind in ((out_r, wire.OUT), (err_r, wire.ERR)):
            nonblocking(fd)
            self._sources[fd] = kind
        self.resume()

    # What goes in.

    def write(self, data):
        """Hands data to the command's standard input; a command that has closed it loses it."""
        if self._stdin is not None:
            self._input.append(data)
            self._input_waiting += len(data)
            if len(self._input) == 1:
                self._feed()

    def end_input(self):
        """No more data comes."""
        self._input_ends = True
        self._feed()

    def input_full(self):
        """Whether so much input waits that no more should be taken."""
        return self._input_waiting > wire.LIMIT

    def _feed(self):
        while self._stdin is not None and self._input:
            data = self._input[0]
            try:
                sent = os.write(self._stdin, data)
            except OSError as error:
                if not again(error):
                    self._close_stdin()
                    break
                self._loop.watch(self._stdin, WRITE, self._feed)
                return
            self._input_waiting -= sent
            if sent < len(data):
                self._input[0] = memoryview(data)[sent:]
            else:
                self._input.popleft()
        if self._stdin is not None:
            self._loop.unwatch(self._stdin)
            if self._input_ends:
                self._close_stdin()
        self._owner.on_input_taken()

    def _close_stdin(self):
        if self._stdin is not None:
            self._loop.unwatch(self._stdin)
            os.close(self._stdin)
            self._stdin = None
        self._input.clear()
        self._input_waiting = 0

    # What comes out.

    def pause(self):
        """Takes no more output until resume()."""
        for fd in self._sources:
            self._loop.unwatch(fd)

    def resume(self):
        """Takes output (again)."""
        for fd in list(self._sources):
            self._loop.watch(fd, READ, lambda fd=fd: self._read(fd))

    def _read(self, fd):
        size = wire.CHUNK if self._left is None else min(wire.CHUNK, self._left[fd])
        try:
            data = os.read(fd, size)
        except OSError as error:
            if again(error):
                return
            data = b""
        if not data:
            self._drop(fd)
        else:
            self._owner.on_output(self._sources[fd], data)
            if self._left is not None:
                self._left[fd] -= len(data)
                if not self._left[fd]:
                    self._drop(fd)
            if self._owner.output_full():
                self.pause()
        self._finish()

    def _drop(self, fd):
        self._loop.unwatch(fd)
        os.close(fd)
        del self._sources[fd]

    # How it ends.

    def ended(self, status):
        """The command itself has ended. What it wrote is still in the pipes; what processes it left
        behind write from now on is nobody's output, and they must not keep the caller waiting."""
        self._code = exit_code(status)
        self._left = {}
        for fd in self._sources:
            count = fcntl.ioctl(fd, FIONREAD, struct.pack("i", 0))
            self._left[fd] = struct.unpack("i", count)[0]
        self._close_stdin()
        for fd in list(self._sources):
            if not self._left[fd]:
                self._drop(fd)
        self._finish()

    def fail(self, code, text):
        """It is lost: the fork server died under it."""
        if not self.over:
            self._owner.on_output(wire.ERR, text)
            self.ended(code << 8)

    def _finish(self):
        if self._code is not None and not self._sources and not self.over:
            self.over = True
            if not self.aborted:
                self._owner.on_exit(self._code, self.how)

    def abort(self):
        """The caller has gone: ends the command."""
        if self.over or self.aborted:
            return
        self.aborted = True
        for fd in list(self._sources):
            self._drop(fd)
        self._close_stdin()
        if self._pid is not None:
            self._terminate()

    def _terminate(self):
        self._signal(signal.SIGTERM)
        self._loop.after(GRACE, lambda: self._signal(signal.SIGKILL))

    def _signal(self, number):
        # Until its end has been seen the number cannot belong to another process.
        if self._code is None:
            try:
                os.killpg(self._pid, number)
            except OSError:
                pass
