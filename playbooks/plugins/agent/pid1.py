"""The sandbox's first process: starts the agent, reaps orphans, and ends everything when the
builder goes away. Python 2.7 and 3.5 or later.

    pid1.py SOCKET PAYLOADS [INTERPRETER...]

Makes SOCKET, prints "READY" once the agent serves it, and ends when its standard input ends: so the
sandbox cannot outlive the process that holds the other end, however that process dies. INTERPRETERs
are started warm, and learn the payloads in the directory PAYLOADS, if it is there. Ends with 0 when
told to, with 1 when the agent was lost, and with 3 where this Python is too old.
"""

import sys

if sys.version_info < (2, 7):
    sys.stdout.write("NO-PYTHON\n")
    sys.exit(3)

import errno  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402

sys.dont_write_bytecode = True

from environment import login_environment  # noqa: E402
from loop import close_on_exec, nonblocking, pipe  # noqa: E402

# How long processes get to end by themselves, in seconds.
GRACE = 2


def name_myself():
    """Ansible and others read the name of process 1 to tell the service manager: it is to be what
    it would be on a machine that booted from this root."""
    init = os.path.realpath("/sbin/init")
    if not os.path.exists(init):
        init = "/lib/systemd/systemd"
    name = "systemd" if os.path.basename(init) == "systemd" and os.path.exists(init) else "init"
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)


def listen(path):
    """The socket that controllers connect to."""
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(128)
    return sock


def start_agent(listener, warm, env):
    """Starts the agent; returns its process id and a descriptor that says when it serves."""
    ready_r, ready_w = os.pipe()
    close_on_exec(ready_r)
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (listener.fileno(), ready_w):
                _inherit(fd)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
            # Standard output carries READY and nothing else.
            os.dup2(2, 1)
            script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
            argv = [sys.executable, script, str(listener.fileno()), str(ready_w)] + warm
            os.execve(sys.executable, argv, env)
        except Exception as error:
            sys.stderr.write("rootbuild: can't start the agent: %s\n" % error)
            sys.stderr.flush()
        finally:
            os._exit(127)
    os.close(ready_w)
    listener.close()
    return pid, ready_r


def _inherit(fd):
    if hasattr(os, "set_inheritable"):
        os.set_inheritable(fd, True)


class Init(object):
    """Waits for the agent, for orphans, and for the end of standard input."""

    def __init__(self, agent, ready):
        self._agent = agent
        self._ready = ready
        self._wake_r, wake_w = pipe()
        nonblocking(self._wake_r)
        nonblocking(wake_w)
        signal.set_wakeup_fd(wake_w)
        self._told = False
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number, stack):
        self._told = self._told or number != signal.SIGCHLD

    def run(self):
        """Works until it is over; returns the exit code."""
        while not self._told:
            ready = self._wait(None)
            if self._ready in ready:
                if not os.read(self._ready, 1):
                    break
                os.close(self._ready)
                self._ready = None
                os.write(1, b"READY\n")
            if 0 in ready and not self._stdin():
                self._told = True
            if not self._reap():
                break
        self._end()
        if self._told:
            return 0
        sys.stderr.write("rootbuild: the agent has died\n")
        return 1

    def _wait(self, timeout):
        sources = [0, self._wake_r] + ([self._ready] if self._ready is not None else [])
        try:
            ready = select.select(sources, [], [], timeout)[0]
        except (select.error, OSError) as error:
            if error.args[0] != errno.EINTR:
                raise
            return []
        if self._wake_r in ready:
            os.read(self._wake_r, 4096)
        return ready

    @staticmethod
    def _stdin():
        try:
            return os.read(0, 4096)
        except OSError:
            return b""

    def _reap(self):
        """Collects who has ended; whether the agent is still there."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                return False
            if pid == self._agent:
                return False
            if not pid:
                return True

    def _end(self):
        """Ends what runs: politely first. What is left dies with process 1."""
        if os.getpid() != 1:
            try:
                os.kill(self._agent, signal.SIGTERM)
            except OSError:
                pass
            return
        signal.signal(signal.SIGALRM, lambda number, stack: os._exit(0 if self._told else 1))
        signal.alarm(GRACE)
        try:
            os.kill(-1, signal.SIGTERM)
            while True:
                os.waitpid(-1, 0)
        except OSError:
            pass


def main(arguments):
    """Sets everything up and waits."""
    first = os.getpid() == 1
    if first:
        name_myself()
    listener = listen(arguments[0])
    agent, ready = start_agent(listener, arguments[1:], login_environment(offline=first))
    return Init(agent, ready).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
