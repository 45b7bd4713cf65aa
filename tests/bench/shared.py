"""What the benchmarks share: where things are, running and measuring, the peers' Ansible, the stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[2]
# As cargo has it: a relative CARGO_TARGET_DIR starts where cargo is called, which is here.
TARGET = SOURCE / os.environ.get("CARGO_TARGET_DIR", "target")
WORK = TARGET / "bench"
# `make standin` generates it there, whatever cargo's directory is.
STANDIN = SOURCE / "target/standin"
ROOTBUILD = TARGET / "release/rootbuild"


class Cost(NamedTuple):
    """What a command took: wall clock, and the CPU of it and of all it started."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s ({self.cpu:6.2f} s CPU)"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(argv, **keywords) -> subprocess.CompletedProcess:
    keywords = {"check": True, "stdout": subprocess.PIPE, "text": True, **keywords}
    return subprocess.run([str(part) for part in argv], **keywords)


def measured(argv, **keywords) -> tuple[subprocess.CompletedProcess, Cost]:
    """Runs a command to its end."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = run(argv, **keywords)
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, Cost(seconds, cpu)


def ansible(name: str, requirements: list[str]) -> Path:
    """The directory of a virtual environment with `requirements`, for peers; installed once."""
    venv = WORK / name
    done = venv / "done"
    wanted = "\n".join(requirements)
    if not done.exists() or done.read_text() != wanted:
        say(f"installing {' '.join(requirements)} for the peers")
        shutil.rmtree(venv, ignore_errors=True)
        run(["/usr/bin/python3", "-m", "venv", venv])
        run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        done.write_text(wanted)
    return venv


def rootbuild(project: Path, *arguments: str, store: Path | None = None) -> tuple[dict, Cost]:
    """`rootbuild` in `project`, one step at a time; what `--json` printed."""
    environment = clean_environment(ROOTBUILD_STORE=str(store or WORK / "store"))
    done, cost = measured([ROOTBUILD, *arguments, "--json", "--quiet"], cwd=project, env=environment)
    return json.loads(done.stdout), cost


def needs(*programs: str) -> None:
    """Ends unless this is root and has what is measured."""
    if os.geteuid() != 0:
        sys.exit("benchmarks need root, since they make root file systems")
    for program in (ROOTBUILD, *programs):
        if shutil.which(str(program)) is None:
            sys.exit(f"there is no `{program}`: run `make bench`, which brings it")


@contextlib.contextmanager
def standin(port: int) -> Iterator[str]:
    """Serves the EL7-shaped repository; gives its URL."""
    server = subprocess.Popen(
        ["/usr/bin/python3", SOURCE / "tests/standin/serve.py", STANDIN, "--port", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield json.loads(server.stdout.readline())["url"].rstrip("/")
    finally:
        server.stdin.close()
        server.wait()


# What a root needs around it to be worked in by chroot, in a mount namespace of its own: the sandbox that rootbuild
# gives (a shell as process 1, whose name Ansible looks at; device nodes; /proc; systemd told that it is offline).
_AROUND = """
mount -t tmpfs -o mode=755 tmpfs /run
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1/run/systemd/system"
cp /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null || :
shift
"$@"
"""


def around(root: Path, argv: list) -> list:
    """The command `argv`, with everything mounted in `root` that a chroot into it needs."""
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", _AROUND, "sh", root, *argv]


def clean_environment(**more: str) -> dict[str, str]:
    """The caller's environment without what would speak to Ansible or rootbuild."""
    ours = ("ANSIBLE_", "ROOTBUILD_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more
