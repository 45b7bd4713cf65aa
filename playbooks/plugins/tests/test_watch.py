"""What the agent tells of processes and of state that dies with the sandbox. In namespaces of its own: needs root."""

import functools
import os
import time
import unittest

from . import support
from .support import Agent

import wire
from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.client import AgentError, Client, connect

# As nspawn makes them: process, mount, network, IPC and UTS namespaces, an own /proc, tmpfs on /run and /dev/shm.
PREPARE = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs tmpfs /run && mkdir -p /run/rootbuild /run/before && echo first > /run/before/file && chmod 600 /run/before/file
mount -t tmpfs tmpfs /dev/shm
mount -t proc proc /proc && hostname web0 && ip link set lo up 2>/dev/null
PATH=/nowhere exec "$@"
"""
SANDBOX = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts", "/bin/sh", "-c", PREPARE, "sh"]


class Watched(Client):
    """A client that asks for more than the connection plugin does."""

    def __init__(self, path):
        self._reader = wire.Reader()
        self._socket = connect(path)
        self._send(wire.message(wire.HELLO, {"protocol": wire.PROTOCOL, "watch": True}))
        self.agent = wire.parse(self._next()[1])

    def run(self, command):
        """(strays, volatile) after a command, which must succeed."""
        self._send(wire.message(wire.EXEC, {"command": command, "input": False}))
        body = self.last()
        if body["code"]:
            raise AssertionError(body)
        return body["strays"], body["volatile"]

    def last(self):
        """The body of the STATUS that ends an answer, and what is noted after it."""
        self.output = b""
        while True:
            kind, payload = self._next()
            if kind in (wire.OUT, wire.ERR):
                self.output += payload
                continue
            self._send(wire.frame(wire.LOOK))
            look = self._next()
            if look[0] != wire.LOOK:
                raise AssertionError(look)
            return dict(self._status(kind, payload), **wire.parse(look[1]))

    def save(self):
        """(image, digest)"""
        self._send(wire.frame(wire.SAVE))
        body = self.last()
        return self.output, body["digest"]

    def restore(self, image):
        """Puts an image back."""
        pieces = [wire.frame(wire.DATA, piece) for piece in wire.split(image)]
        self._send(b"".join([wire.frame(wire.RESTORE)] + pieces + [wire.frame(wire.END)]))
        return self.last()


def with_each(test):
    """Runs a test with each interpreter; the test gets a function that starts a sandbox."""

    @functools.wraps(test)
    def run(self):
        if os.geteuid() != 0:
            print("skipped: %s needs root privileges" % test.__name__)
            return
        for python in support.interpreters():
            agents, clients = [], []

            def start():
                agents.append(Agent(python, within=SANDBOX))
                clients.append(Watched(agents[-1].socket))
                clients[-1].plain = agents[-1].client
                return clients[-1]

            with self.subTest(python=python):
                try:
                    test(self, start)
                finally:
                    for client in clients:
                        client.close()
                    for agent in agents:
                        agent.stop()

    return run


class Watching(unittest.TestCase):
    @with_each
    def test_an_untouched_sandbox_looks_the_same_in_every_run(self, start):
        first, second = start(), start()
        self.assertEqual(first.run("true"), (0, first.agent["volatile"]))
        self.assertEqual(second.run("ls / >/dev/null; (exit 3) || true"), first.run("true"))
        self.assertEqual(first.save()[1], second.save()[1])

    @with_each
    def test_processes_that_are_left_behind_are_counted(self, start):
        client = start()
        self.assertEqual(client.run("sleep 60 & sleep 61 & true")[0], 2)
        with self.assertRaisesRegex(AgentError, "a process still runs"):
            client.save()
        client.run("kill $(ls /proc | grep '^[0-9]*$' | xargs -I{} sh -c 'grep -qs ^sleep /proc/{}/comm && echo {}')")
        _wait_for(lambda: client.run("true")[0] == 0)

    @with_each
    def test_whatever_changes_is_seen_and_what_is_put_back_is_not(self, start):
        client = start()
        seen = {client.agent["volatile"]}
        for command in (
            "echo x > /run/new",
            "echo y > /run/new",
            "chmod 700 /run/before",
            "rm /run/before/file",
            "mkdir /dev/shm/deep && ln -s x /dev/shm/deep/link",
            "mkfifo /run/fifo",
            "sysctl -qw net.ipv4.ip_forward=1 || echo 1 > /proc/sys/net/ipv4/ip_forward",
            "ip link add dummy0 type dummy 2>/dev/null || ip addr add 127.0.0.9/8 dev lo",
            "mount -t tmpfs tmpfs /mnt",
            "hostname other",
        ):
            volatile = client.run(command)[1]
            self.assertNotIn(volatile, seen, command)
            self.assertEqual(client.run("true")[1], volatile, command)
            seen.add(volatile)
        other = start()
        self.assertEqual(other.run("hostname x; echo > /run/x; hostname web0; rm /run/x")[1], other.agent["volatile"])

    @with_each
    def test_files_that_are_put_are_seen_wherever_they_lead(self, start):
        client = start()
        seen = {client.run("mkdir -p /run/ansible-tmp-1.2-3-4 && ln -sfn /proc/sys/net/ipv4/ip_forward /run/link")[1]}
        for path, data in (("/run/ansible-tmp-1.2-3-4/f", b"x"), ("/run/new", b"x"), ("/run/link", b"1"), ("/run/link", b"0")):
            client._send(wire.message(wire.PUT, {"path": path}) + wire.frame(wire.DATA, data) + wire.frame(wire.END))
            volatile = client.last()["volatile"]
            if data != b"0":
                self.assertNotIn(volatile, seen, path)
            self.assertEqual(client.run("true")[1], volatile, path)
            seen.add(volatile)

    @with_each
    def test_what_was_saved_is_put_back_into_a_new_sandbox(self, start):
        make = """set -e; cd /run; mkdir -m 711 a; printf 1234 > a/f; ln a/f a/same; chown 12:34 a/f; chmod 4750 a/f
            ln -s gone a/link; chown -h 5:6 a/link; mkfifo -m 640 a/fifo; touch -d '2001-02-03 04:05:06' a/f; rm before/file
            mknod a/null c 1 3; printf '\\377' > "$(printf 'a/\\377')"; hostname saved; head -c 3000000 /dev/zero > /dev/shm/zeros"""
        look = "cd /run; find before a /dev/shm -printf '%p %M %U:%G %l %n %t\\n' | sort; hostname; cat a/f; cksum /dev/shm/zeros; stat -c %t,%T a/null"
        client = start()
        client.run(make)
        image, digest = client.save()
        wanted = client.plain().execute(look.encode())
        self.assertEqual(wanted.code, 0)
        fresh = start()
        fresh.run("echo extra > /run/extra")
        fresh.restore(image)
        self.assertEqual(fresh.run("test ! -e /run/extra")[0], 0)
        got = fresh.plain().execute(look.encode())
        # Times of directories are not kept; nor are a second's parts on Python 2.
        self.assertEqual(_without_times(got.stdout), _without_times(wanted.stdout))
        self.assertIn(b"2001-02-03 04:05:06" if b"2001-02-03" in wanted.stdout else b"Feb  3 04:05:06", got.stdout)
        again, same = fresh.save()
        self.assertEqual(same, digest)

    @with_each
    def test_what_is_in_no_file_can_not_be_saved(self, start):
        for command, why in (
            ("echo 1 > /proc/sys/net/ipv4/ip_forward", "network"),
            ("mount -t tmpfs tmpfs /mnt", "mounts"),
            ("head -c 9000000 /dev/zero > /run/large", "more than"),
        ):
            client = start()
            client.run(command)
            with self.assertRaisesRegex(AgentError, why):
                client.save()
            self.assertEqual(client.run("true")[0], 0)

    @with_each
    def test_what_is_no_image_ends_the_connection_and_nothing_else(self, start):
        client = start()
        bad = b'{"format": 1, "hostname": null, "gone": ["/etc/passwd"], "entries": []}'
        for image in (b"", b"x" * 100, (len(bad)).to_bytes(8, "big") + bad):
            other = Watched(client.plain().socket_path)
            with self.assertRaises(AgentError):
                other.restore(image)
            other.close()
        self.assertTrue(os.path.exists("/etc/passwd"))
        self.assertEqual(client.run("true")[0], 0)

    @with_each
    def test_who_does_not_ask_is_not_told(self, start):
        plain = start().plain()
        plain._send(wire.message(wire.EXEC, {"command": "true"}))
        self.assertEqual(sorted(plain._status(*plain._next())), ["code", "how"])
        plain._send(wire.frame(wire.SAVE))
        with self.assertRaises(AgentError):
            plain._next()


def _without_times(listing):
    lines = listing.splitlines()
    return [line.split(b" ")[:5] for line in lines]


def _wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.02)
