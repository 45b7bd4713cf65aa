"""The controller's end of the agent's socket. Knows nothing of Ansible."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import typing as t

from . import wire


# More output of one command than fits a result in any sensible way.
MOST_OUTPUT = 1 << 30


class AgentError(Exception):
    """A request could not be carried out."""


class AgentGone(AgentError):
    """There is nobody at the other end of the socket (any more)."""


class Ended(t.NamedTuple):
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: bytes
    how: str


class Client:
    """One connection to an agent. One request at a time."""

    def __init__(self, path: str) -> None:
        self._reader = wire.Reader()
        self._socket = connect(path)
        try:
            self._send(wire.message(wire.HELLO, {"protocol": wire.PROTOCOL}))
            kind, payload = self._next()
        except BaseException:
            self._socket.close()
            raise
        if kind == wire.FAILURE:
            self._socket.close()
            raise AgentError(wire.parse(payload).get("message", "refused"))
        self.agent = wire.parse(payload)

    def close(self) -> None:
        """Ends the connection; a command that still runs is ended too."""
        self._socket.close()

    def execute(self, command: bytes, data: bytes | None = None) -> Ended:
        """Runs a shell command in the root. Output and input flow at the same time, whatever
        their sizes."""
        body = {"command": command.decode("latin-1"), "input": data is not None}
        pending = [wire.message(wire.EXEC, body)]
        if data is not None:
            pending += [wire.frame(wire.DATA, piece) for piece in wire.split(data)]
            pending.append(wire.frame(wire.END))
        return self._converse(b"".join(pending))

    def _converse(self, pending: bytes) -> Ended:
        output: dict[bytes, list[bytes]] = {wire.OUT: [], wire.ERR: []}
        unsent = memoryview(pending)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        answer: tuple[bytes, bytes] | None = None
        size = 0
        while True:
            if unsent:
                unsent = unsent[self._send_some(unsent) :]
            if answer is not None and not unsent:
                break
            poll.modify(self._socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            if poll.poll()[0][1] & ~select.POLLOUT:
                self._receive()
            while (item := self._reader.next()) is not None:
                kind, payload = item
                if kind in output:
                    size += len(payload)
                    if size > MOST_OUTPUT:
                        raise AgentGone(f"a command printed more than {MOST_OUTPUT} bytes")
                    output[kind].append(payload)
                else:
                    answer = item
        body = self._status(*answer)
        out, err = (b"".join(output[kind]) for kind in (wire.OUT, wire.ERR))
        return Ended(body["code"], out, err, body.get("how", ""))

    def put(self, source: t.BinaryIO, path: bytes) -> None:
        """Writes a file in the root; a new one gets mode 0600."""
        self._send(wire.message(wire.PUT, {"path": path.decode("latin-1")}))
        while piece := source.read(wire.CHUNK):
            self._send(wire.frame(wire.DATA, piece))
        self._send(wire.frame(wire.END))
        self._status(*self._next())

    def get(self, path: bytes, target: t.BinaryIO) -> None:
        """Reads a file in the root."""
        self._send(wire.message(wire.GET, {"path": path.decode("latin-1")}))
        while True:
            kind, payload = self._next()
            if kind != wire.OUT:
                break
            target.write(payload)
        self._status(kind, payload)

    def _status(self, kind: bytes, payload: bytes) -> dict[str, t.Any]:
        body = wire.parse(payload)
        if kind == wire.STATUS:
            return body
        raise AgentError(body.get("message", "the agent refused"))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise AgentGone(f"the agent is gone: {error.strerror}") from error

    def _send_some(self, data: memoryview) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise AgentGone(f"the agent is gone: {error.strerror}") from error

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            raise AgentGone(f"the agent is gone: {error.strerror}") from error
        if not data:
            raise AgentGone("the agent is gone: it closed the connection")
        self._reader.feed(data)

    def _next(self) -> tuple[bytes, bytes]:
        while (item := self._reader.next()) is None:
            self._receive()
        return item


def connect(path: str) -> socket.socket:
    """Connects to a path of any length (the kernel takes 107 bytes), and to nothing but a socket:
    whoever may write to its directory could lead us elsewhere by a link."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            if not stat.S_ISSOCK(status.st_mode):
                raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
            if status.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "it is somebody else's")
            sock.connect(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except OSError as error:
        sock.close()
        raise AgentGone(f"nobody serves {path!r}: {error.strerror}") from error
    return sock
