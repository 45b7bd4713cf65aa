#!/usr/bin/env python3
"""From `up` to everything being ready: 8 services that tell when they are, each after 100 ms, some after others; and one of them
swapped for a newer one. Against podman, one container after the other, asked from outside whether it is ready.

Both run in the same booted test host, over the same files. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from peers import MIRROR, SUITE, sha256
from shared import ROOTBUILD, SOURCE, TARGET, WORK, clean_environment, needs, rootbuild, run, say

HOST = TARGET / "release/test-host"
DIR = WORK / "start"
# What a root comes after: the example's cluster, with a database and a cache.
CLUSTER = {
    "ldap": [],
    "db": [],
    "cache": [],
    "queue": ["db"],
    "hgssh": ["ldap", "queue"],
    "hgweb0": ["ldap", "cache"],
    "hgweb1": ["ldap", "cache"],
    "lb": ["hgweb0", "hgweb1"],
}
SWAPPED = "hgweb0"
PORT, STARTS, LIMIT = 8000, 0.1, 60
POLLS = {"1 s": 1.0, "0.2 s": 0.2, "10 ms": 0.01}
GOALS = {"1 s": 10, "0.2 s": 4}
SWAP_GOAL = 1.0

SERVICE = "[Service]\nType=notify\nExecStart=/usr/bin/python3 -E -S /srv/app.py\n"
APP = f"""import os, signal, socket, sys, time
# As process 1 of a container it would not be ended by it else.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep({STARTS})
server = socket.create_server(("", {PORT}))
if "NOTIFY_SOCKET" in os.environ:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
word = open("/srv/word", "rb").read()
while True:
    client, _ = server.accept()
    client.sendall(word)
    client.close()
"""


def archives() -> None:
    """`one.tar` and `two.tar`: a Debian with the service, which says one thing or another; and what's in them as directories."""
    recipe = DIR / "recipe"
    wanted = json.dumps([SUITE, MIRROR, SERVICE, APP])
    if recipe.exists() and recipe.read_text() == wanted:
        return
    say("making the roots")
    shutil.rmtree(DIR, ignore_errors=True)
    DIR.mkdir(parents=True)
    run(["mmdebstrap", "--mode=root", "--quiet", "--variant=minbase", "--include=python3,systemd", SUITE, DIR / "one", MIRROR])
    files = {"usr/lib/systemd/system/app.service": SERVICE, "srv/app.py": APP}
    for name, text in files.items():
        (DIR / "one" / name).write_text(text)
    wants = DIR / "one/etc/systemd/system/multi-user.target.wants"
    for other in wants.iterdir():
        other.unlink()
    (wants / "app.service").symlink_to("/usr/lib/systemd/system/app.service")
    run(["cp", "-a", DIR / "one", DIR / "two"])
    for name in ("one", "two"):
        (DIR / name / "srv/word").write_text(name)
        run(["tar", "-C", DIR / name, "--sort=name", "--xattrs", "-cf", DIR / f"{name}.tar", "."])
    recipe.write_text(wanted)


def definition(word: str) -> Path:
    """The project whose swapped root has this word."""
    project = DIR / "project"
    project.mkdir(exist_ok=True)
    text = ['[ansible]\ncore = "2.19.14"\n[cluster]\nnetwork = "10.99.0.0/24"\n']
    for name in ("one", "two"):
        archive = DIR / f"{name}.tar"
        text.append(f'[base.{name}]\nsource = "archive"\nfile = "{archive}"\nsha256 = "{sha256(archive)}"\n')
    for root, after in CLUSTER.items():
        base = word if root == SWAPPED else "one"
        text.append(f'[root.{root}]\nbase = "{base}"\nplaybooks = []\n[root.{root}.run]\nafter = {json.dumps(after)}\n')
        text.append(f'address = "{ours(root)}"\n')
    (project / "rootbuild.toml").write_text("".join(text))
    return project


def ours(root: str) -> str:
    return f"10.99.0.{100 + list(CLUSTER).index(root)}"


def theirs(root: str) -> str:
    return f"10.88.0.{100 + list(CLUSTER).index(root)}"


def hardware(root: str) -> str:
    """The same for a container and the one that follows it: else nobody would find that under the old address for half a minute."""
    return f"02:00:00:00:00:{list(CLUSTER).index(root):02x}"


class Host:
    """The test host, from where all of this is asked."""

    def __init__(self, leader: str) -> None:
        self._leader = leader
        # What connects from here connects from there.
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{leader}/ns/net", encoding="utf-8") as namespace:
            if libc.setns(namespace.fileno(), 0):
                sys.exit(f"can't enter the host's network: {os.strerror(ctypes.get_errno())}")

    def argv(self, argv: list) -> list:
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        return [*enter, "env", "-i", path, "HOME=/root", "LC_ALL=C.UTF-8", f"ROOTBUILD_STORE={DIR / 'store'}", *argv]

    def run(self, *argv, check: bool = True) -> str:
        done = run(self.argv(list(argv)), check=False, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            sys.exit(f"failed: {' '.join(str(part) for part in argv)}\n{done.stdout}")
        return done.stdout


@contextlib.contextmanager
def booted() -> Iterator[Host]:
    """The test host, until it isn't needed any more."""
    process = subprocess.Popen(
        [HOST, "--share", DIR, "--file", ROOTBUILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    try:
        leader = process.stdout.readline().strip()
        if not leader:
            sys.exit("the test host doesn't boot")
        yield Host(leader)
    finally:
        process.stdin.close()
        process.wait()


def ask(address: str) -> str:
    """What a service says; empty where it isn't there."""
    try:
        with socket.create_connection((address, PORT), 0.5) as connection:
            return connection.recv(99).decode()
    except OSError:
        return ""


def wait(address: str, poll: float) -> None:
    """Asks until there is an answer."""
    begin = time.monotonic()
    while not ask(address):
        if time.monotonic() - begin > LIMIT:
            sys.exit(f"{address} doesn't answer")
        time.sleep(poll)


def check(address, swapped: str) -> None:
    for root in CLUSTER:
        said, expected = ask(address(root)), swapped if root == SWAPPED else "one"
        if said != expected:
            sys.exit(f"`{root}` says {said!r} instead of {expected!r}")


class Rootbuild:
    """`rootbuild up`, which returns when all is ready."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def _run(self, *arguments: str) -> None:
        self._host.run("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", DIR / "project", ROOTBUILD, *arguments, "--quiet")

    def round(self) -> tuple[float, float]:
        """Seconds of the start of all, and of the swap of one."""
        self.hand_over("one")
        begin = time.monotonic()
        self._run("up")
        start = time.monotonic() - begin
        check(ours, "one")
        self.hand_over("two")
        begin = time.monotonic()
        self._run("up")
        swap = time.monotonic() - begin
        check(ours, "two")
        self._run("down")
        return start, swap

    @staticmethod
    def hand_over(word: str) -> None:
        rootbuild(definition(word), "provision", store=DIR / "store")


class Podman:
    """One `podman run` after another, each asked every so often whether it is ready. The files are there already: no image
    has to be unpacked or looked up, and none is written to."""

    _BASE = ["podman", f"--root={DIR}/containers", "--runroot=/run/bench", "--storage-driver=overlay", "--cgroup-manager=cgroupfs"]
    _RUN = ["--detach", "--cgroups=disabled", "--network=podman", "--log-driver=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]

    def __init__(self, host: Host, poll: float) -> None:
        self._host, self._poll = host, poll

    def _start(self, root: str, word: str) -> None:
        files = ["--rootfs", f"{DIR / word}:O", "/usr/bin/python3", "-E", "-S", "/srv/app.py"]
        self._host.run(*self._BASE, "run", f"--name={root}", f"--ip={theirs(root)}", f"--mac-address={hardware(root)}", *self._RUN, *files)
        wait(theirs(root), self._poll)

    def _remove(self, *roots: str) -> None:
        self._host.run(*self._BASE, "rm", "--force", "--time=5", *roots)

    def round(self) -> tuple[float, float]:
        """Seconds of the start of all, and of one container made anew."""
        begin = time.monotonic()
        for root in CLUSTER:
            self._start(root, "one")
        start = time.monotonic() - begin
        check(theirs, "one")
        begin = time.monotonic()
        self._remove(SWAPPED)
        self._start(SWAPPED, "two")
        swap = time.monotonic() - begin
        check(theirs, "two")
        self._remove(*CLUSTER)
        return start, swap


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are shown")
    options = parser.parse_args()
    needs("podman", "crun", "mmdebstrap", "nsenter", "systemd-nspawn")
    run(["cargo", "build", "--release", "--quiet", "--package", "rootbuild-tests", "--bin", "test-host"], cwd=SOURCE)
    archives()
    for word in ("two", "one"):
        Rootbuild.hand_over(word)
    took: dict[str, list[tuple[float, float]]] = {}
    with booted() as host:
        # What `iptables` and `ip6tables` lead to, which podman's network needs.
        host.run("sh", "-c", "mkdir -p /etc/alternatives; for name in iptables ip6tables; do ln -s /usr/sbin/$name-nft /etc/alternatives/$name; done")
        subjects = {"rootbuild": Rootbuild(host)} | {poll: Podman(host, seconds) for poll, seconds in POLLS.items()}
        for number in range(options.rounds):
            for name, subject in subjects.items():
                took.setdefault(name, []).append(subject.round())
                say(f"round {number + 1}: {name}: start {took[name][-1][0]:.2f} s, swap {took[name][-1][1]:.2f} s")
    return 0 if judge(took) else 1


def judge(took: dict[str, list[tuple[float, float]]]) -> bool:
    """Prints medians and ratios; whether every goal is reached."""
    median = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in took.items()}
    start, swap = median.pop("rootbuild")
    reached = swap <= SWAP_GOAL
    print(f"{'subject':22} {'start of 8':>12} {'':7} {'swap of one':>12}")
    print(f"{'rootbuild':22} {start:10.2f} s {'':7} {swap:10.2f} s{'' if reached else ' !'}")
    for name, (theirs_start, theirs_swap) in median.items():
        ratio, goal = theirs_start / start, GOALS.get(name, 0)
        reached &= ratio >= goal
        mark = "" if ratio >= goal else "!"
        print(f"{f'podman, every {name}':22} {theirs_start:10.2f} s {f'{ratio:.1f}x{mark}':7} {theirs_swap:10.2f} s {theirs_swap / swap:.1f}x")
    return reached


if __name__ == "__main__":
    sys.exit(main())
