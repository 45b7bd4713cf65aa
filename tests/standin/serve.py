#!/usr/bin/python3
"""Serves a directory over HTTP on 127.0.0.1, for tests: `serve.py DIR [--port N] [what is wrong with it]`.

The first line on stdout is `{"port":N,"url":"http://127.0.0.1:N"}`; the server is listening by then.
It ends when its stdin reaches the end, so it dies with the test that holds the pipe.

A mirror can be bad in several ways; all but --no-ranges and --log hold for `*.rpm` files alone, so that metadata is
as it should be.
"""
import argparse
import functools
import json
import os
import re
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


class Handler(SimpleHTTPRequestHandler):
    """Keeps connections open, knows ranges, and is quiet."""

    protocol_version = "HTTP/1.1"
    # Headers and body go out in separate writes: without this the second waits for the peer's delayed ACK.
    disable_nagle_algorithm = True

    def __init__(self, *args, how, **kwargs):
        self.how = how
        super().__init__(*args, **kwargs)

    def log_message(self, format, *args):
        """Tests read stdout; nobody reads a log."""

    def do_GET(self):
        path = self.translate_path(self.path)
        wanted = self.headers.get("Range")
        self.how.tell({"path": self.path, "range": wanted})
        bad = self.how if path.endswith(".rpm") else Fine()
        if bad.status:
            self.send_error(bad.status)
            return
        if not os.path.isfile(path):
            super().do_GET()
            return
        with open(path, "rb") as file:
            content = file.read()
        if bad.tamper:
            content = content[:-1] + bytes([content[-1] ^ 1])
        content += b"x" * bad.longer
        start = 0 if self.how.no_ranges else self.start_of(wanted)
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if bad.longer:
            # Without a length the end of the connection is the end.
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.send(content[start:], bad)

    def start_of(self, wanted):
        """Where a range starts; 0 without one."""
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        return int(match[1]) if match else 0

    def send(self, content, bad):
        """The body: whole, slowly, or not to its end."""
        end = int(len(content) * bad.truncate) if bad.truncate else len(content)
        if bad.once and not self.how.first_time(self.path):
            end = len(content)
        for at in range(0, end, PIECE):
            piece = content[at:min(at + PIECE, end)]
            self.wfile.write(piece)
            if bad.rate:
                self.wfile.flush()
                time.sleep(len(piece) / bad.rate)
        if end < len(content):
            self.wfile.flush()
            if bad.stall:
                time.sleep(bad.stall)
            self.close_connection = True


class Fine:
    """Nothing is wrong."""

    status = tamper = longer = truncate = rate = stall = once = 0


class How(Fine):
    """What is wrong with this mirror, and its log."""

    def __init__(self, args):
        vars(self).update(vars(args))
        self.lock = threading.Lock()
        self.seen = set()

    def tell(self, said):
        if self.log:
            with self.lock, open(self.log, "a") as log:
                log.write(json.dumps(said) + "\n")

    def first_time(self, path):
        with self.lock:
            return path not in self.seen and not self.seen.add(path)


class Server(ThreadingHTTPServer):
    """A peer that hangs up early is no event."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir")
    parser.add_argument("--port", type=int, default=0, help="0: any free port (default)")
    parser.add_argument("--log", metavar="FILE", help="append each request to FILE: a line of JSON with `path` and `range`")
    parser.add_argument("--no-ranges", action="store_true", help="send whole files, whatever part is asked for")
    parser.add_argument("--truncate", type=float, metavar="PART", default=0, help="hang up after this part of a body")
    parser.add_argument("--once", action="store_true", help="... only the first time that a file is asked for")
    parser.add_argument("--stall", type=float, metavar="SECONDS", default=0, help="... and before that send nothing for so long")
    parser.add_argument("--tamper", action="store_true", help="change the last byte of each file")
    parser.add_argument("--longer", type=int, metavar="N", default=0, help="send N bytes too many, and no length")
    parser.add_argument("--rate", type=float, metavar="BYTES", default=0, help="send so many bytes a second")
    parser.add_argument("--status", type=int, metavar="CODE", default=0, help="refuse with this code")
    args = parser.parse_args()
    if not os.path.isdir(args.dir):
        parser.error(f"`{args.dir}` is no directory")
    server = Server(("127.0.0.1", args.port), functools.partial(Handler, directory=args.dir, how=How(args)))
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": port, "url": f"http://127.0.0.1:{port}"}, separators=(",", ":")), flush=True)
    while os.read(0, 65536):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
