"""One client's conversation: requests come in, commands and files are dealt with, one at a time."""

import errno
import os
import sys

import wire
from channel import Channel
from command import python_on_stdin, shell_argument
from files import Download, Upload
from job import Job
from routine import answer, is_temporary
from volatile import MOST, Unsaveable

# A module with its whole library is below 2 MiB; a longer text on an interpreter's standard input
# is no module, and is not collected in memory.
MODULE_LIMIT = 32 << 20


def byte_string(body, key):
    """A byte string of a request: JSON cannot hold bytes, so each character stands for one."""
    value = body.get(key)
    if not isinstance(value, type(u"")) or not value:
        raise wire.ProtocolError("a request lacks `%s`" % key)
    try:
        value = value.encode("latin-1")
    except UnicodeError:
        raise wire.ProtocolError("`%s` is no byte string" % key)
    if b"\0" in value:
        raise wire.ProtocolError("`%s` holds a NUL" % key)
    return value


class Session(object):
    """Frames of one connection, in order: HELLO, then requests. Another request may only follow
    when the one before was answered and its DATA, if any, has ended."""

    def __init__(self, loop, sock, agent):
        self._loop = loop
        self._agent = agent
        self._greeted = False
        self._watch = None
        self._unseen = True  # whether a program has run since the last look
        self._reset()
        self._channel = Channel(loop, sock, self)

    def _reset(self):
        self._request = None  # what is under way: EXEC, PUT or GET
        self._input_open = False  # whether DATA or END are still to come
        self._job = None
        self._file = None
        self._collected = None  # an interpreter's standard input, until all of it is there
        self._size = 0
        self._plan = None
        self._image = bytearray()
        self._ran = True  # whether a program has run for the request, or something else that reaches the kernel

    def close(self):
        """Ends the conversation."""
        self._channel.close()

    # What the channel tells.

    def on_frame(self, kind, payload):
        if not self._greeted:
            self._hello(kind, payload)
        elif kind in (wire.DATA, wire.END) and self._input_open:
            self._on_input(kind, payload)
        elif self._request is not None or self._input_open:
            raise wire.ProtocolError("frame %r in the middle of a request" % kind)
        elif kind == wire.EXEC:
            self._exec(wire.parse(payload))
        elif kind in (wire.SAVE, wire.RESTORE) and self._watch is not None:
            self._request = kind
            self._input_open = kind == wire.RESTORE
            if kind == wire.SAVE:
                self._save()
        elif kind == wire.LOOK and self._watch is not None:
            self._channel.send(wire.message(wire.LOOK, self._facts(self._unseen)))
            self._unseen = False
        elif kind in (wire.PUT, wire.GET):
            self._request = kind
            self._transfer(kind, byte_string(wire.parse(payload), "path"))
        else:
            raise wire.ProtocolError("frame %r is no request" % kind)

    def on_drain(self):
        if self._job is not None:
            self._job.resume()
        elif self._request == wire.GET:
            self._download()

    def on_close(self, error):
        if error is not None:
            self._agent.log("a connection was dropped: %s" % error)
        if self._job is not None:
            self._job.abort()
        if isinstance(self._file, Upload):
            self._file.abort()
        elif self._file is not None:
            self._file.close()
        self._reset()
        self._agent.session_over(self)

    def _hello(self, kind, payload):
        body = wire.parse(payload) if kind == wire.HELLO else {}
        if body.get("protocol") != wire.PROTOCOL:
            self._fail("protocol", "this agent speaks protocol %d" % wire.PROTOCOL)
            raise wire.ProtocolError("a client speaks protocol %r" % (body.get("protocol"),))
        self._greeted = True
        version = "%d.%d.%d" % sys.version_info[:3]
        answer = {"protocol": wire.PROTOCOL, "python": version, "executable": sys.executable, "pid": os.getpid()}
        if body.get("watch") is True:
            self._watch = self._agent.watch()
            answer["volatile"] = self._facts(True)["volatile"]
        self._channel.send(wire.message(wire.HELLO, answer))

    # Commands.

    def _exec(self, body):
        argument = shell_argument(byte_string(body, "command"))
        self._request = wire.EXEC
        self._input_open = bool(body.get("input"))
        output = None if self._input_open else answer(argument)
        if output is not None:
            self._ran = False
            self.on_output(wire.OUT, output)
            self.on_exit(0, "agent")
            return
        plan = python_on_stdin(argument) if self._input_open else None
        if plan and self._agent.serves(plan[0]):
            self._plan = plan
            self._collected = []
        self._argument = argument
        if self._collected is None:
            self._shell("shell")

    def _shell(self, how):
        job = Job(self._loop, self, how)
        try:
            job.start_shell(self._argument, self._agent.env, self._input_open or self._collected is not None)
        except (OSError, IOError) as error:
            self._collected = None
            self._fail("start", "can't start /bin/sh: %s" % error.strerror, error.errno)
            return
        self._job = job
        collected, self._collected = self._collected, None
        for data in collected or ():
            job.write(data)
        if not self._input_open:
            job.end_input()

    def _on_input(self, kind, payload):
        if kind == wire.END:
            self._input_open = False
        if self._collected is not None:
            self._collect(kind, payload)
        elif self._job is not None:
            if kind == wire.END:
                self._job.end_input()
            else:
                self._job.write(payload)
                if self._job.input_full():
                    self._channel.pause()
        elif self._request == wire.PUT:
            self._upload(kind, payload)
        elif self._request == wire.RESTORE:
            self._restore(kind, payload)
        # Otherwise the request was answered before its data ended: the rest is dropped.

    def _collect(self, kind, payload):
        if kind == wire.DATA:
            self._size += len(payload)
            self._collected.append(payload)
            if self._size > MODULE_LIMIT:
                self._shell("large")
            return
        job = Job(self._loop, self, "warm")
        self._job = job
        self._agent.run_module(self._plan, b"".join(self._collected), job, self._refused)

    def _refused(self, reason):
        """The fork server would not: a real interpreter does it."""
        if self._channel.closed:
            return
        self._job.forget()
        self._job = None
        self._shell(reason)

    def on_input_taken(self):
        if self._job is not None and not self._job.input_full():
            self._channel.resume()

    def on_output(self, kind, data):
        for piece in wire.split(data):
            self._channel.send(wire.frame(kind, piece))

    def output_full(self):
        return self._channel.full()

    def on_exit(self, code, how):
        self._done({"code": code, "how": how})

    # Files.

    def _transfer(self, kind, path):
        # Written to, some files are more than files; a link may lead to them.
        self._ran = kind == wire.PUT and not is_temporary(path)
        self._input_open = kind == wire.PUT
        try:
            self._file = Upload(path) if kind == wire.PUT else Download(path)
        except (OSError, IOError) as error:
            self._fail_file(error)
            return
        if kind == wire.GET:
            self._download()

    def _upload(self, kind, payload):
        try:
            if kind == wire.DATA:
                self._file.write(payload)
            else:
                self._file.finish()
                self._done({})
        except (OSError, IOError) as error:
            self._file.abort()
            self._fail_file(error)

    def _download(self):
        try:
            while not self._channel.full() and not self._channel.closed:
                data = self._file.read()
                if not data:
                    self._file.close()
                    self._done({})
                    return
                self._channel.send(wire.frame(wire.OUT, data))
        except (OSError, IOError) as error:
            self._file.close()
            self._fail_file(error)

    def _fail_file(self, error):
        self._fail("file", os.strerror(error.errno) if error.errno else str(error), error.errno)

    # State that dies with the sandbox.

    def _save(self):
        try:
            image, digest = self._watch.save()
        except Unsaveable as error:
            self._fail("volatile", str(error))
        except (OSError, IOError) as error:
            self._fail_file(error)
        else:
            self.on_output(wire.OUT, image)
            self._done({"digest": digest})

    def _restore(self, kind, payload):
        if kind == wire.DATA:
            self._image += payload
            # Names and the like come on top of the contents.
            if len(self._image) > 2 * MOST:
                raise wire.ProtocolError("an image of volatile state is longer than %d bytes" % (2 * MOST))
            return
        try:
            self._watch.restore(bytes(self._image))
        except (OSError, IOError) as error:
            self._fail_file(error)
        else:
            self._done({})

    def _facts(self, ran):
        try:
            return self._watch.facts(ran)
        except (OSError, IOError) as error:
            # A task may have taken /proc away: nothing is known then.
            self._agent.log("can't watch the sandbox: %s" % error)
            return {"strays": None, "volatile": None}

    # Answers.

    def _done(self, body):
        self._answer(wire.STATUS, body)

    def _fail(self, kind, text, number=None):
        name = errno.errorcode.get(number) if number else None
        self._answer(wire.FAILURE, {"kind": kind, "message": text, "errno": name})

    def _answer(self, kind, body):
        # DATA that is still under way belongs to this request: it is awaited, and dropped.
        still_open = self._input_open
        self._unseen = self._unseen or self._ran
        self._reset()
        self._input_open = still_open
        self._channel.send(wire.message(kind, body))
        self._channel.resume()
