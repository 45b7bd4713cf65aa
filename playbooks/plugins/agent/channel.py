"""Frames over a non-blocking socket, with back-pressure both ways. Python 2.7 and 3.5 or later."""

import collections
import errno

import wire
from loop import READ, WRITE, again, close_on_exec

# More than this waiting for the other side, and sources are to stop.
HIGH = 1 << 20


class Channel(object):
    """One conversation. The owner has on_frame(kind, payload), on_drain() and on_close(error)."""

    def __init__(self, loop, sock, owner):
        self._loop = loop
        self._sock = sock
        self._owner = owner
        self._reader = wire.Reader()
        self._out = collections.deque()
        self._waiting = 0
        self._paused = False
        self._held = False
        self.closed = False
        sock.setblocking(False)
        close_on_exec(sock.fileno())
        self._watch()

    def send(self, data):
        """Sends bytes, now or as soon as the other side takes them."""
        if self.closed:
            return
        self._out.append(data)
        self._waiting += len(data)
        if len(self._out) == 1:
            self._flush()

    def full(self):
        """Whether so much waits to be sent that no more should be made. Whoever was told so is
        called by on_drain() once that has changed."""
        self._held = self._held or self._waiting > HIGH
        return self._held

    def pause(self):
        """Takes no more frames until resume()."""
        if not self._paused:
            self._paused = True
            self._watch()

    def resume(self):
        """Takes frames again."""
        if self._paused and not self.closed:
            self._paused = False
            # Frames that came with earlier ones need no new bytes to be seen. Not from here: the
            # caller may be in the middle of something.
            self._loop.soon(self._frames)
            self._watch()

    def finish_sending(self):
        """Tells the other side that no more frames come."""
        try:
            self._sock.shutdown(1)
        except (OSError, IOError):
            pass

    def close(self, error=None):
        """Ends the conversation."""
        if self.closed:
            return
        self.closed = True
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._out.clear()
        self._waiting = 0
        self._owner.on_close(error)

    def _watch(self):
        if not self.closed:
            events = (0 if self._paused else READ) | (WRITE if self._out else 0)
            self._loop.watch(self._sock.fileno(), events, self._ready)

    def _ready(self):
        if self._out:
            self._flush()
            if self.closed or self._paused:
                return
        elif self._paused:
            # Nothing was asked for, so this is a hang-up; what is left unread has no reader.
            self.close()
            return
        try:
            data = self._sock.recv(wire.CHUNK + wire.HEADER_SIZE)
        except (OSError, IOError) as error:
            if not again(error):
                self.close(error)
            return
        if not data:
            self.close()
            return
        self._reader.feed(data)
        self._frames()

    def _frames(self):
        try:
            while not self.closed and not self._paused:
                item = self._reader.next()
                if item is None:
                    return
                self._owner.on_frame(*item)
        except wire.ProtocolError as error:
            self.close(error)

    def _flush(self):
        while self._out:
            data = self._out[0]
            try:
                sent = self._sock.send(data)
            except (OSError, IOError) as error:
                if error.errno == errno.EINTR:
                    continue
                if not again(error):
                    self.close(error)
                    return
                break
            self._waiting -= sent
            if sent < len(data):
                self._out[0] = memoryview(data)[sent:]
            else:
                self._out.popleft()
        self._watch()
        if self._held and self._waiting <= HIGH // 2:
            self._held = False
            self._loop.soon(self._owner.on_drain)
