#!/usr/bin/python3
"""Serves a directory over HTTP on 127.0.0.1, for tests: `serve.py DIR [--port N]`.

The first line on stdout is `{"port":N,"url":"http://127.0.0.1:N"}`; the server is listening by then.
It ends when its stdin reaches the end, so it dies with the test that holds the pipe.
"""
import argparse
import functools
import json
import os
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Handler(SimpleHTTPRequestHandler):
    """Keeps connections open, and quiet."""

    protocol_version = "HTTP/1.1"
    # Headers and body go out in separate writes: without this the second waits for the peer's delayed ACK.
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        """Tests read stdout; nobody reads a log."""


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
    args = parser.parse_args()
    if not os.path.isdir(args.dir):
        parser.error(f"`{args.dir}` is no directory")
    server = Server(("127.0.0.1", args.port), functools.partial(Handler, directory=args.dir))
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": port, "url": f"http://127.0.0.1:{port}"}, separators=(",", ":")), flush=True)
    while os.read(0, 65536):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
