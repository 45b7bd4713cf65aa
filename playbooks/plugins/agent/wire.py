"""Frames on a stream socket: one type byte, a big-endian length, the payload. See PROTOCOL.md.

Shared by both ends: by the agent (Python 2.7 and 3.5 or later) and by the connection plugin.
"""

import json
import struct

PROTOCOL = 1

# Nobody sends a longer payload; a longer one ends the conversation. Data is cut into CHUNK bytes.
LIMIT = 1 << 20
CHUNK = 1 << 16

HELLO = b"H"  # JSON, both ways, once
EXEC = b"X"  # JSON: run a command
PUT = b"P"  # JSON: write a file
GET = b"G"  # JSON: read a file
DATA = b"D"  # bytes: standard input, or the file that is put
END = b"E"  # empty: no more DATA
OUT = b"O"  # bytes: standard output, or the file that is got
ERR = b"R"  # bytes: standard error
STATUS = b"S"  # JSON: the request was carried out, and how it ended
FAILURE = b"F"  # JSON: the request could not be carried out
SAVE = b"V"  # empty: send the state that dies with the sandbox
RESTORE = b"U"  # empty: put back such state, which follows in DATA frames
LOOK = b"N"  # empty: what have requests left in the root? JSON: that
RUN = b"W"  # JSON, agent to fork server: run the module that follows in DATA frames

KINDS = frozenset((HELLO, EXEC, PUT, GET, DATA, END, OUT, ERR, STATUS, FAILURE, SAVE, RESTORE, LOOK, RUN))

_HEADER = struct.Struct(">cI")
HEADER_SIZE = _HEADER.size


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


def frame(kind, payload=b""):
    """The bytes of one frame."""
    if len(payload) > LIMIT:
        raise ProtocolError("a frame of %d bytes is longer than %d" % (len(payload), LIMIT))
    return _HEADER.pack(kind, len(payload)) + payload


def message(kind, body):
    """The bytes of one frame whose payload is a JSON object."""
    return frame(kind, json.dumps(body).encode("utf-8"))


def parse(payload):
    """The JSON object in a frame's payload."""
    try:
        body = json.loads(payload.decode("utf-8"))
    except ValueError as error:
        raise ProtocolError("a frame holds no JSON: %s" % error)
    if not isinstance(body, dict):
        raise ProtocolError("a frame holds no JSON object")
    return body


def split(data):
    """Cuts data into pieces that fit a frame."""
    return (data[i : i + CHUNK] for i in range(0, len(data), CHUNK))


class Reader(object):
    """Turns received bytes into frames. Never holds more than one frame and what came with it."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Adds received bytes."""
        self._buffer += data

    def next(self):
        """The next frame as (kind, payload), or None until more bytes have come."""
        if len(self._buffer) < HEADER_SIZE:
            return None
        kind, length = _HEADER.unpack(bytes(self._buffer[:HEADER_SIZE]))
        if kind not in KINDS:
            raise ProtocolError("unknown frame type %r" % (kind,))
        if length > LIMIT:
            raise ProtocolError("a frame of %d bytes is longer than %d" % (length, LIMIT))
        if len(self._buffer) < HEADER_SIZE + length:
            return None
        payload = bytes(self._buffer[HEADER_SIZE : HEADER_SIZE + length])
        del self._buffer[: HEADER_SIZE + length]
        return kind, payload

    def empty(self):
        """Whether no bytes of an unfinished frame are held."""
        return not self._buffer
