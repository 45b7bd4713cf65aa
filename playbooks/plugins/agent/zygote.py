"""A warm interpreter: forks once per module. Python 2.7 and 3.5 or later.

Started by the agent with a socket as standard input. The AnsiballZ wrapper runs unmodified in the
fork; only the imports of what is in its zip are served from code that was compiled before. Modules
see what they would see in an interpreter of their own; `stale` says when that would not be so.
"""

import os
import sys

# Taken before anything is imported: what a fresh interpreter would have.
_PATH = list(sys.path[1:])
sys.dont_write_bytecode = True
os.environ.pop("PYTHONHASHSEED", None)

import errno  # noqa: E402
import gc  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402

import payload as ansiballz  # noqa: E402
import wire  # noqa: E402
from loop import close_on_exec, nonblocking, pipe  # noqa: E402
from signature import signature  # noqa: E402
from worker import become  # noqa: E402


def warm_imports():
    """Imports what nearly every module imports."""
    names = """ast atexit base64 codecs collections configparser contextlib copy ctypes dataclasses
        datetime difflib enum fcntl filecmp fnmatch functools glob grp hashlib importlib
        importlib.machinery importlib.util io itertools json locale logging operator pkgutil platform
        pwd random re resource runpy selectors shlex shutil stat string struct subprocess syslog
        tempfile textwrap threading time traceback types typing uuid zipfile zipimport __future__"""
    for name in names.split():
        try:
            __import__(name)
        except ImportError:
            pass


# No more payloads than these are learnt before any has come.
MOST_LESSONS = 40


class Zygote(object):
    """Takes requests from the agent, forks, and tells how the forks ended."""

    def __init__(self, control, lessons):
        self._control = control
        self._reader = wire.Reader()
        self._store = ansiballz.Store()
        self._signature = signature(_PATH)
        self._workers = {}  # pid -> request id
        self._wake_r, self._wake_w = pipe()
        nonblocking(self._wake_r)
        nonblocking(self._wake_w)
        signal.set_wakeup_fd(self._wake_w)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        self._open = True
        self._lessons = lessons  # files with payloads that will most likely come

    def serve(self):
        """Works until the agent hangs up and the last module has ended."""
        self._tell({"id": 0, "ready": True})
        while self._open or self._workers:
            sources = [self._wake_r] + ([self._control.fileno()] if self._open else [])
            try:
                ready = select.select(sources, [], [], 0 if self._lessons else None)[0]
            except (select.error, OSError) as error:
                if error.args[0] != errno.EINTR:
                    raise
                ready = [self._wake_r]
            if self._wake_r in ready:
                self._reap()
            if self._open and self._control.fileno() in ready:
                self._take()
            if self._lessons and not ready:
                self._learn(self._lessons.pop(0))

    def _learn(self, path):
        try:
            with open(path, "rb") as kept:
                self._store.learn(kept.read())
        except (OSError, IOError):
            pass

    def _tell(self, body):
        self._control.sendall(wire.message(wire.STATUS, body))

    def _receive(self):
        try:
            return self._control.recv(1 << 18)
        except (OSError, IOError) as error:
            if error.errno == errno.EINTR:
                return self._receive()
            raise

    def _take(self):
        """Takes what has come; a request may be spread over many pieces."""
        body, data = None, []
        while True:
            item = self._reader.next()
            if item is None:
                received = self._receive()
                if not received:
                    self._open = False
                    return
                self._reader.feed(received)
                continue
            kind, content = item
            if kind == wire.RUN:
                body, data = wire.parse(content), []
            elif kind == wire.DATA:
                data.append(content)
            elif kind == wire.END:
                self._request(body, b"".join(data))
                if self._reader.empty():
                    return

    def _request(self, body, source):
        number = body["id"]
        if signature(_PATH) != self._signature:
            # From here on nothing is sure: the agent starts another one.
            self._tell({"id": number, "refused": "stale", "stale": True})
            return
        index = self._store.index(source)
        if index is None:
            self._tell({"id": number, "refused": "no module"})
            return
        self._store.preload(index)
        if not number:
            return
        try:
            out, err = (os.open(body[key], os.O_WRONLY) for key in ("out", "err"))
        except OSError as error:
            self._tell({"id": number, "refused": os.strerror(error.errno)})
            return
        # Told before it runs: if this process dies now, the module must not be run again.
        self._tell({"id": number, "accepted": True})
        pid = os.fork()
        if pid == 0:
            become(body, source, index, self._store, out, err, _PATH)
        os.close(out)
        os.close(err)
        self._workers[pid] = number
        self._tell({"id": number, "pid": pid})

    def _reap(self):
        try:
            while os.read(self._wake_r, 4096):
                pass
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
        for pid in list(self._workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._tell({"id": self._workers.pop(pid), "status": status})


def lessons(directories):
    """Payloads that earlier runs have left: first those of modules that most playbooks use, then others. Each
    takes some milliseconds that nothing else waits for."""
    found = []
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        names = [name for name in names if name.startswith("ansible.modules.")]
        usual = ("setup", "stat", "copy", "file", "command")
        names.sort(key=lambda name: usual.index(_module(name)) if _module(name) in usual else len(usual))
        found += [os.path.join(directory, name) for name in names[:MOST_LESSONS]]
    return found


def _module(name):
    return name.split(".")[2].split("-")[0]


def main():
    """Takes the socket from standard input, which modules must find empty."""
    control = socket.fromfd(0, socket.AF_UNIX, socket.SOCK_STREAM)
    close_on_exec(control.fileno())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    warm_imports()
    if hasattr(gc, "freeze"):
        gc.collect()
        gc.freeze()
    try:
        Zygote(control, lessons(sys.argv[1:])).serve()
    except (OSError, IOError) as error:
        # The agent is gone, and with it the reason to be here.
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


if __name__ == "__main__":
    main()
