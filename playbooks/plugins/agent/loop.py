"""One thread's event loop: poll, child processes, timers. Python 2.7 and 3.5 or later."""

import errno
import fcntl
import os
import select
import signal
import time

READ = select.POLLIN
WRITE = select.POLLOUT
_ALWAYS = select.POLLHUP | select.POLLERR | select.POLLNVAL


def again(error):
    """Whether a system call only asks to be tried later."""
    return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def nonblocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


def close_on_exec(fd):
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def pipe():
    """A pipe that commands do not inherit (Python 2 would let them)."""
    ends = os.pipe()
    for fd in ends:
        close_on_exec(fd)
    return ends


class Loop(object):
    """Calls back when a descriptor is ready, a child has ended or a time has come."""

    def __init__(self):
        self._poll = select.poll()
        self._handlers = {}
        self._children = {}
        self._timers = []
        self._soon = []
        self._wake_r, self._wake_w = pipe()
        nonblocking(self._wake_r)
        nonblocking(self._wake_w)
        signal.set_wakeup_fd(self._wake_w)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        self.watch(self._wake_r, READ, self._woken)

    def watch(self, fd, events, handler):
        """Calls handler() whenever fd is ready for events (0: only for a hang-up) or has an error."""
        if fd in self._handlers:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._handlers[fd] = events, handler

    def unwatch(self, fd):
        """Forgets fd; to be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def child(self, pid, handler):
        """Calls handler(status) once the child has ended."""
        self._children[pid] = handler

    def after(self, seconds, handler):
        """Calls handler() once, after that many seconds."""
        self._timers.append((time.time() + seconds, handler))

    def soon(self, handler):
        """Calls handler() once, when whatever runs now has returned."""
        self._soon.append(handler)

    def after_fork(self):
        """In a forked child: gives signals back to whatever comes next."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def step(self):
        """Waits for something to happen, and handles it."""
        soon, self._soon = self._soon, []
        for handler in soon:
            handler()
        timeout = None
        if self._soon:
            timeout = 0
        elif self._timers:
            timeout = max(0, int(1000 * (min(t for t, _ in self._timers) - time.time())) + 1)
        try:
            ready = self._poll.poll(timeout)
        except (select.error, OSError) as error:
            if error.args[0] != errno.EINTR:
                raise
            ready = []
        for fd, event in ready:
            # A handler that ran before may have forgotten this one, or want other events now.
            events, handler = self._handlers.get(fd, (0, None))
            if handler is not None and event & (events | _ALWAYS):
                handler()
        now = time.time()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, handler in due:
            handler()

    def _woken(self):
        try:
            while os.read(self._wake_r, 4096):
                pass
        except OSError as error:
            if not again(error):
                raise
        for pid in list(self._children):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except OSError as error:
                if error.errno != errno.ECHILD:
                    raise
                done, status = pid, 255 << 8
            if done:
                self._children.pop(pid)(status)


def exit_code(status):
    """A wait status as a shell gives it: the exit code, or 128 + signal."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return 128 + os.WTERMSIG(status)
