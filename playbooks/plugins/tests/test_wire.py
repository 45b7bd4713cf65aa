"""Framing."""

import random
import struct
import unittest

from . import support  # noqa: F401  (sets sys.path)

import wire


class Framing(unittest.TestCase):
    def test_frames_come_out_as_they_went_in_however_they_are_cut(self):
        frames = [(wire.EXEC, b"{}"), (wire.DATA, b""), (wire.DATA, bytes(range(256)) * 300), (wire.END, b"")]
        stream = b"".join(wire.frame(*item) for item in frames)
        for seed in range(20):
            cut, reader, seen, at = random.Random(seed), wire.Reader(), [], 0
            while at < len(stream):
                size = cut.choice((1, 3, 5, 1000, 70000))
                reader.feed(stream[at : at + size])
                at += size
                while (item := reader.next()) is not None:
                    seen.append(item)
            self.assertEqual(seen, frames)

    def test_nothing_longer_than_the_limit_is_taken_or_made(self):
        reader = wire.Reader()
        reader.feed(struct.pack(">cI", b"D", wire.LIMIT + 1))
        self.assertRaises(wire.ProtocolError, reader.next)
        self.assertRaises(wire.ProtocolError, wire.frame, wire.DATA, bytes(wire.LIMIT + 1))

    def test_what_is_no_frame_is_refused(self):
        reader = wire.Reader()
        reader.feed(b"GET / HTTP/1.1\r\n")
        self.assertRaises(wire.ProtocolError, reader.next)
        for text in (b"[]", b"\xff", b"", b"{"):
            self.assertRaises(wire.ProtocolError, wire.parse, text)
