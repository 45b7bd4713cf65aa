"""The agent: runs commands and moves files inside a root for Ansible. Python 2.7 and 3.5 or later.

Started by pid1.py with a listening socket. Not a line of it is written into the root.
"""

import os
import signal
import socket
import sys

sys.dont_write_bytecode = True

from forkserver import Pool  # noqa: E402
from loop import READ, Loop, again, close_on_exec  # noqa: E402
from session import Session  # noqa: E402
from watch import Watch  # noqa: E402


class Agent(object):
    """Accepts connections, and owns what they share."""

    def __init__(self, listener, env, lessons, warm):
        self.env = env
        self._loop = Loop()
        self._listener = listener
        self._sessions = set()
        self._watch = None
        self._pool = Pool(self._loop, env, self.log)
        listener.setblocking(False)
        close_on_exec(listener.fileno())
        self._loop.watch(listener.fileno(), READ, self._accept)
        for path in warm:
            if self._pool.serves(path):
                self._pool.start(path, [lessons])

    def serve(self):
        """Works until the process is killed."""
        while True:
            self._loop.step()

    def log(self, text):
        """Says something to whoever reads the sandbox's standard error."""
        sys.stderr.write("rootbuild agent: %s\n" % text)
        sys.stderr.flush()

    def serves(self, interpreter):
        """Whether a warm interpreter can stand for this one."""
        return self._pool.serves(interpreter)

    def run_module(self, plan, payload, job, refused):
        """Has a warm interpreter run a module, or calls refused(reason)."""
        self._pool.run(plan, payload, job, refused)

    def watch(self):
        """The watch over this sandbox, which begins when it is first asked for."""
        if self._watch is None:
            self._watch = Watch()
        return self._watch

    def session_over(self, session):
        """A connection has ended."""
        self._sessions.discard(session)

    def _accept(self):
        try:
            sock, _ = self._listener.accept()
        except (OSError, IOError) as error:
            if not again(error):
                raise
            return
        self._sessions.add(Session(self._loop, sock, self))


def main(arguments):
    """agent.py LISTENING-FD READY-FD PAYLOADS [INTERPRETER...]: the environment is handed down to
    commands."""
    listening, ready = int(arguments[0]), int(arguments[1])
    warm = [name.encode("utf-8") for name in arguments[3:]]
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    listener = socket.fromfd(listening, socket.AF_UNIX, socket.SOCK_STREAM)
    os.close(listening)
    agent = Agent(listener, dict(os.environ), arguments[2], warm)
    os.write(ready, b"\n")
    os.close(ready)
    agent.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
