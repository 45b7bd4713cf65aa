"""The agent's side of its fork servers: one warm interpreter per interpreter path."""

import itertools
import os
import socket
import subprocess

import wire
from channel import Channel
from loop import close_on_exec

# A root has one interpreter, maybe two; more are served by a shell.
MOST = 4
_HERE = os.path.dirname(os.path.abspath(__file__))


class ForkServer(object):
    """One warm interpreter. It accepts each request, and tells process id and end, or says why not."""

    _ids = itertools.count(1)

    def __init__(self, loop, path, env, lessons, gone, log):
        self.path = path
        self._gone = gone
        self._log = log
        self._requests = {}  # id -> (job, refused, write ends): not answered yet
        self._running = {}  # id -> job
        self._retired = False
        self.useful = False  # whether it has said anything sensible yet
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        close_on_exec(ours.fileno())
        close_on_exec(theirs.fileno())
        # A fixed seed, taken out again before any module runs, makes sets come in the same order
        # in every build.
        env = dict(env, PYTHONHASHSEED="0")
        try:
            argv = [path, os.path.join(_HERE, "zygote.py")] + lessons
            process = subprocess.Popen(argv, stdin=theirs.fileno(), env=env, close_fds=False)
        finally:
            theirs.close()
        process.returncode = 0
        loop.child(process.pid, lambda status: self._channel.close())
        self._channel = Channel(loop, ours, self)

    def run(self, python, env, payload, job, refused):
        """Runs a module as job. refused(reason) instead, if this interpreter must not."""
        number = next(self._ids)
        ends = job.prepare()
        self._requests[number] = (job, refused, ends)
        body = {"id": number, "python": python, "env": env}
        body["out"], body["err"] = ("/proc/%d/fd/%d" % (os.getpid(), fd) for fd in ends)
        self._send(body, payload)

    def warm_up(self, payload):
        """Has the code of a module compiled without running it."""
        self._send({"id": 0}, payload)

    def retire(self):
        """Ends it once its last module has ended."""
        if not self._retired:
            self._retired = True
            self._channel.finish_sending()

    def _send(self, body, payload):
        self._channel.send(wire.message(wire.RUN, body))
        for piece in wire.split(payload):
            self._channel.send(wire.frame(wire.DATA, piece))
        self._channel.send(wire.frame(wire.END))

    def on_frame(self, kind, payload):
        self.useful = True
        body = wire.parse(payload)
        number = body.get("id")
        if "status" in body:
            job = self._running.pop(number, None)
            if job is not None:
                job.ended(body["status"])
        elif "pid" in body:
            self._running[number].started(body["pid"])
        elif number in self._requests:
            job, refused, ends = self._requests.pop(number)
            for fd in ends:
                os.close(fd)
            if "accepted" in body:
                self._running[number] = job
            else:
                if body.get("stale"):
                    self._gone(self)
                refused(body.get("refused", "refused"))
        elif "log" in body:
            self._log("%s: %s" % (self.path, body["log"]))

    def on_drain(self):
        pass

    def on_close(self, error):
        if not self._retired:
            self._gone(self)
        requests, self._requests = self._requests, {}
        running, self._running = self._running, {}
        for job, refused, ends in requests.values():
            for fd in ends:
                os.close(fd)
            refused("died")
        for job in running.values():
            job.fail(255, b"rootbuild: the interpreter that ran this module has died\n")


def _is_program(path):
    """Whether the path is a native program: a script in an interpreter's place may do anything."""
    try:
        with open(path, "rb") as program:
            return program.read(4) == b"\x7fELF"
    except (OSError, IOError):
        return False


class Pool(object):
    """All fork servers. One is started when its interpreter is asked for; one that sees that the
    root's Python has changed is replaced."""

    def __init__(self, loop, env, log):
        self._loop = loop
        self._env = env
        self._log = log
        self._servers = {}  # path -> ForkServer
        self._hopeless = {}  # path -> identity of the file that could not serve

    def serves(self, path):
        """Whether there is or can be a fork server for the interpreter."""
        if path in self._servers:
            return True
        if len(self._servers) >= MOST or self._hopeless.get(path, 0) == _identity(path):
            return False
        return _is_program(path)

    def start(self, path, lessons=()):
        """Makes sure that a fork server for the interpreter is there; None if that fails. lessons:
        directories with payloads to be learnt before any comes."""
        server = self._servers.get(path)
        if server is None:
            try:
                server = ForkServer(self._loop, path, self._env, list(lessons), self._gone, self._log)
            except (OSError, IOError) as error:
                self._log("can't start %r: %s" % (path, error))
                self._hopeless[path] = _identity(path)
                return None
            self._servers[path] = server
        return server

    def run(self, plan, payload, job, refused):
        """Runs a module on the plan's interpreter; refused(reason) if that has to be a fresh one."""
        path, env = plan
        server = self.start(path)
        if server is None:
            refused("none")
            return

        def no(reason):
            # One that was replaced: let the new one compile while a fresh interpreter runs this.
            replacement = self._servers.get(path) or (self.start(path) if reason == "stale" else None)
            if replacement is not None and replacement is not server:
                replacement.warm_up(payload)
            refused(reason)

        text = dict((name.decode("latin-1"), value.decode("latin-1")) for name, value in env.items())
        server.run(path.decode("latin-1"), text, payload, job, no)

    def _gone(self, server):
        if self._servers.get(server.path) is server:
            del self._servers[server.path]
            if not server.useful:
                self._hopeless[server.path] = _identity(server.path)
        server.retire()


def _identity(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime, status.st_size
