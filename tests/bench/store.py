#!/usr/bin/env python3
"""The store's file work, against what else does it: checkout, update and capture of a root of 45,000 entries and more.

Each file system is a loop image made for the run and removed after it. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shared import SOURCE, TARGET, run, say

FILES = TARGET / "release/examples/files"
SPEED = TARGET / "release/examples/speed"
ARCHIVE = TARGET / "bench-tree.tar"
MIRROR, SUITE = "http://deb.debian.org/debian", "bookworm"
PACKAGES = (
    "build-essential,git,python3-dev,perl-doc,libboost-dev,golang-go,vim,systemd,openssh-server,linux-headers-amd64,"
    "manpages-dev,openjdk-17-jre-headless,cmake,gdb"
)
KINDS = ("ext4", "xfs", "btrfs")
# What is left to be written by the one before must not be charged to the next.
SETTLE = 0.3
MEMORY = 128
# So many roots of a part of the tree (some 3,000 entries) are collected.
ROOTS, PART = 100, "usr/share/cmake-3.25"


class Took(NamedTuple):
    """What one run of a command took: wall clock in seconds, peak memory in MiB, what it printed."""

    seconds: float
    memory: float
    output: str


class Row(NamedTuple):
    """One subject's figures in one case on one file system."""

    case: str
    kind: str
    subject: str
    seconds: float
    memory: float
    # What it is: "ours", "peer", or "bare" for the system calls alone.
    side: str


def timed(argv: list) -> Took:
    """Runs a command to its end. The figure for memory is the kernel's, of that process and what it waited for."""
    begin = time.monotonic()
    child = subprocess.Popen([str(part) for part in argv], stdout=subprocess.PIPE, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"failed: {' '.join(str(part) for part in argv)}")
    return Took(seconds, usage.ru_maxrss / 1024, output.strip())


class Bed:
    """A mounted file system of its own, with the tree as a directory and in a store."""

    def __init__(self, kind: str, at: Path) -> None:
        self.kind, self.dir = kind, at
        self.source, self.store = at / "source", at / "store"
        self.reflinks = kind != "ext4"
        self.source.mkdir()
        run(["tar", "-C", self.source, "--xattrs", "--xattrs-include=*", "-xpf", ARCHIVE])
        # ostree takes no devices, and nobody needs them here.
        run(["find", self.source, "(", "-type", "b", "-o", "-type", "c", "-o", "-type", "p", ")", "-delete"])
        self.tree = self.files("capture", self.store, self.source).output

    def files(self, *arguments) -> Took:
        return timed([FILES, *arguments])

    def path(self, name: str) -> Path:
        return self.dir / name

    def settle(self) -> None:
        run(["sync", "-f", self.dir])
        time.sleep(SETTLE)

    def forget(self, path: Path) -> None:
        run(["rm", "-rf", path])

    def median(self, rounds: int, once: Callable[[Path], Took]) -> tuple[float, float]:
        """Seconds and MiB: medians of so many rounds, each into a place where nothing is."""
        took = []
        for number in range(rounds):
            target = self.path(f"target-{number}")
            self.settle()
            took.append(once(target))
            if target.exists():
                self.forget(target)
        return statistics.median(it.seconds for it in took), max(it.memory for it in took)

    def ostree(self) -> Path:
        """An ostree repository with the tree as `root`."""
        repository = self.path("ostree")
        if not repository.exists():
            run(["ostree", f"--repo={repository}", "init", "--mode=bare"])
            # What it makes is for this run only.
            run(["ostree", f"--repo={repository}", "config", "set", "core.fsync", "false"])
            self.commit("root", self.source)
        return repository

    def commit(self, branch: str, directory: Path) -> None:
        run(["ostree", f"--repo={self.path('ostree')}", "commit", f"--branch={branch}", f"--tree=dir={directory}"])


@contextlib.contextmanager
def bed(kind: str) -> Iterator[Bed]:
    """Makes the file system, and removes it afterwards."""
    image, at = TARGET / f"bench-{kind}.img", TARGET / f"bench-{kind}"
    at.mkdir(parents=True, exist_ok=True)
    image.unlink(missing_ok=True)
    run(["truncate", "--size", "24G", image])
    # ext4 has its journal, as on a host, and writes its tables now and not beside the measuring.
    options = {"ext4": ["-E", "lazy_itable_init=0,lazy_journal_init=0"]}.get(kind, [])
    run([f"mkfs.{kind}", "-q", *options, image])
    run(["mount", "-o", "loop", image, at])
    try:
        yield Bed(kind, at)
    finally:
        run(["umount", at])
        at.rmdir()
        image.unlink()


def checkout(it: Bed, rounds: int) -> list[Row]:
    """The whole root, from nothing."""
    rows: list[Row] = []

    def add(case: str, subject: str, side: str, figures: tuple[float, float]) -> None:
        rows.append(Row(case, it.kind, subject, *figures, side))
        say(f"{it.kind:6} {case:18} {subject:22} {figures[0] * 1000:9.1f} ms {figures[1]:7.1f} MiB")

    def ours(how: str) -> Callable[[Path], Took]:
        return lambda target: it.files("checkout", it.store, it.tree, target, how)

    def bare(how: str, threads: int) -> Callable[[Path], Took]:
        def once(target: Path) -> Took:
            took = it.files("bare", how, it.source, target, threads)
            return took._replace(seconds=float(took.output) / 1000)

        return once

    linked = "checkout, shared"
    add("first, shared", "rootbuild", "ours", it.median(1, ours("linked")))
    add(linked, "rootbuild", "ours", it.median(rounds, ours("linked")))
    add(linked, "ostree checkout -H", "peer", it.median(rounds, lambda to: timed(["ostree", f"--repo={it.ostree()}", "checkout", "-H", "--fsync=false", "root", to])))
    add(linked, "cp -al", "peer", it.median(rounds, lambda to: timed(["cp", "-al", it.source, to])))
    for threads in (1, 2):
        add(linked, f"system calls, {threads} thr.", "bare", it.median(rounds, bare("links", threads)))

    def into(argv: list) -> Callable[[Path], Took]:
        def once(target: Path) -> Took:
            target.mkdir()
            return timed([target if part is None else part for part in argv])

        return once

    private = "checkout, private"
    add(private, "rootbuild", "ours", it.median(rounds, ours("private")))
    copy = ["--reflink=always"] if it.reflinks else ["--reflink=never"]
    add(private, f"cp -a {copy[0]}", "peer", it.median(rounds, lambda to: timed(["cp", "-a", *copy, it.source, to])))
    add(private, "tar x", "peer", it.median(rounds, into(["tar", "-C", None, "--xattrs", "-xpf", ARCHIVE])))
    add(private, "rsync -aHX", "peer", it.median(rounds, into(["rsync", "-aHX", "--whole-file", f"{it.source}/", None])))
    for threads in (1, 2):
        bare_how = "clones" if it.reflinks else "copies"
        add(private, f"system calls, {threads} thr.", "bare", it.median(rounds, bare(bare_how, threads)))
    return rows


def update(it: Bed, rounds: int) -> list[Row]:
    """50 files of a root that stands: what a provision waits for after its last step, and all the work at once."""
    case = "update of 50 files"
    trees = [it.tree]
    for salt in range(2 * rounds + 2):
        trees.append(it.files("change", it.store, it.tree, 50, f"salt {salt}").output)
    took: dict[str, list[Took]] = {
        subject: [] for subject in ("rootbuild", "rootbuild, preparing", "rootbuild, all at once", "rsync -aHX", "ostree checkout -H")
    }
    # Two generations, of which the older one becomes the next.
    for tree in trees[:3]:
        it.files("publish", it.store, "updated", tree)
    for tree in trees[3::2]:
        it.settle()
        both = it.files("prepared", it.store, "updated", tree)
        for subject, milliseconds in zip(("rootbuild", "rootbuild, preparing"), both.output.split(), strict=True):
            took[subject].append(both._replace(seconds=float(milliseconds) / 1000))
    for tree in trees[4::2]:
        it.settle()
        took["rootbuild, all at once"].append(it.files("publish", it.store, "updated", tree))
    standing, changed = it.path("standing"), it.path("changed")
    run(["cp", "-a", it.source, standing])
    for number in range(rounds):
        it.files("checkout", it.store, trees[1 + number], changed, "private")
        it.settle()
        took["rsync -aHX"].append(timed(["rsync", "-aHX", "--delete", f"{changed}/", standing]))
        it.ostree()
        it.commit("changed", changed)
        it.settle()
        target = it.path("target")
        argv = ["ostree", f"--repo={it.ostree()}", "checkout", "-H", "--fsync=false", "changed", target]
        took["ostree checkout -H"].append(timed(argv))
        it.forget(target)
        it.forget(changed)
    rows = []
    sides_of = {"rootbuild": "ours", "rootbuild, preparing": "information", "rootbuild, all at once": "information"}
    for subject, all_of_it in took.items():
        seconds, memory = statistics.median(one.seconds for one in all_of_it), max(one.memory for one in all_of_it)
        rows.append(Row(case, it.kind, subject, seconds, memory, sides_of.get(subject, "peer")))
        say(f"{it.kind:6} {case:18} {subject:22} {seconds * 1000:9.1f} ms {memory:7.1f} MiB")
    return rows


def capture(it: Bed, rounds: int) -> list[Row]:
    """200 changed files, from the upper side of an overlay; against all of the root, looked through or committed."""
    case = "capture of 200 files"
    lower, merged, linked = it.path("lower"), it.path("merged"), it.path("linked")
    it.files("checkout", it.store, it.tree, lower, "private")
    it.ostree()
    found = (Path(top, name) for top, _, names in os.walk(lower) for name in sorted(names))
    every = sorted(path for path in found if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1)
    picked = [every[number * len(every) // 200].relative_to(lower) for number in range(200)]
    took: dict[str, list[Took]] = {}

    def measure(subject: str, argv: list) -> None:
        it.settle()
        took.setdefault(subject, []).append(timed(argv))

    def change(top: Path, number: int) -> None:
        for nth, path in enumerate(picked):
            (top / path).unlink()
            (top / path).write_text(f"round {number}, file {nth}\n")

    merged.mkdir()
    for number in range(rounds):
        upper, work = it.path(f"upper-{number}"), it.path(f"work-{number}")
        upper.mkdir()
        work.mkdir()
        sides = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mount = ["mount", "-t", "overlay", "-o", f"{sides},redirect_dir=on,metacopy=off,index=off", "overlay", merged]
        run(mount)
        change(merged, number)
        run(["umount", merged])
        measure("rootbuild", [FILES, "upper", it.store, it.tree, upper])
        run(mount)
        measure("rootbuild, all of it", [FILES, "capture", it.store, merged])
        commit = ["ostree", f"--repo={it.ostree()}", "commit", "--branch=captured"]
        measure("ostree commit", [*commit, f"--tree=dir={merged}"])
        run(["umount", merged])
        # Its fastest: it knows the files of a linked checkout by their inodes.
        run(["ostree", f"--repo={it.ostree()}", "checkout", "-H", "--fsync=false", "root", linked])
        change(linked, number)
        measure("ostree commit, linked", [*commit, "--link-checkout-speedup", f"--tree=dir={linked}"])
        for path in (linked, upper, work):
            it.forget(path)
    sides_of = {"rootbuild": "ours", "rootbuild, all of it": "information"}
    rows = []
    for subject, all_of_it in took.items():
        seconds, memory = statistics.median(one.seconds for one in all_of_it), max(one.memory for one in all_of_it)
        rows.append(Row(case, it.kind, subject, seconds, memory, sides_of.get(subject, "peer")))
        say(f"{it.kind:6} {case:18} {subject:22} {seconds * 1000:9.1f} ms {memory:7.1f} MiB")
    return rows


def collection(it: Bed, rounds: int) -> list[Row]:
    """100 old generations of roots, and what only they need; against their removal by name."""
    case = f"gc of {ROOTS} roots"
    took: dict[str, list[Took]] = {"rootbuild": [], "rm -rf": []}
    for number in range(rounds):
        for subject in took:
            store = it.path(f"collected-{number}")
            older = it.files("capture", store, it.source / PART).output
            newer = it.files("change", store, older, 10, "newer").output
            it.files("stand", store, ROOTS, older, newer)
            old = sorted(store.glob("checkouts/*/1"))
            if len(old) != ROOTS:
                sys.exit(f"{len(old)} old generations, not {ROOTS}")
            it.settle()
            if subject == "rootbuild":
                took[subject].append(it.files("collect", store))
            else:
                took[subject].append(timed(["rm", "-rf", *old]))
            left = [path for path in old if path.exists()]
            if left:
                sys.exit(f"not removed: {left[0]}")
            it.forget(store)
    rows = []
    for subject, all_of_it in took.items():
        seconds, memory = statistics.median(one.seconds for one in all_of_it), max(one.memory for one in all_of_it)
        rows.append(Row(case, it.kind, subject, seconds, memory, "ours" if subject == "rootbuild" else "peer"))
        say(f"{it.kind:6} {case:18} {subject:22} {seconds * 1000:9.1f} ms {memory:7.1f} MiB")
    return rows


def trees(it: Bed, _rounds: int) -> list[Row]:
    """Trees of 50,000 entries: milliseconds by the clock and of a processor, the best of twenty."""
    run(["cargo", "build", "--release", "--quiet", "-p", "rootbuild-cache", "--example", "speed"], cwd=SOURCE)
    for line in timed(["env", f"TMPDIR={it.dir}", SPEED]).output.splitlines():
        say(f"{it.kind:6} trees: {line}")
    return []


# What is measured on each file system, in this order, and how much faster than the best peer it has to be. `None`: for
# information.
CASES: dict[str, Callable[[Bed, int], list[Row]]] = {
    "checkout": checkout,
    "update": update,
    "capture": capture,
    "collection": collection,
    "trees": trees,
}
GOALS = {"checkout, shared": 2.0, "checkout, private": 2.0, "update of 50 files": 20.0, "capture of 200 files": 10.0}
BARE = 1.5


def archive() -> None:
    """A real Debian root, made once."""
    if ARCHIVE.exists():
        return
    say("making the tree")
    ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    new = ARCHIVE.with_suffix(".new")
    options = ["--mode=root", "--quiet", "--variant=minbase", "--format=tar", f"--include={PACKAGES}"]
    run(["mmdebstrap", *options, SUITE, new, MIRROR])
    new.rename(ARCHIVE)


def judge(rows: list[Row]) -> bool:
    """Prints ours beside the best peer and the system calls; whether every goal is reached."""
    reached = True
    print(f"{'file system':12} {'case':20} {'rootbuild':>10} {'best peer':>32} {'ratio':>7} {'of system calls':>16} {'MiB':>6}")
    for ours in (row for row in rows if row.side == "ours"):
        others = [row for row in rows if (row.case, row.kind) == (ours.case, ours.kind)]
        peer = min((row for row in others if row.side == "peer"), key=lambda row: row.seconds, default=None)
        bare = min((row.seconds for row in others if row.side == "bare"), default=None)
        goal = GOALS.get(ours.case)
        ratio = peer.seconds / ours.seconds if peer else None
        times = ours.seconds / bare if bare else None
        missed = [
            goal is not None and ratio is not None and ratio < goal,
            times is not None and times > BARE,
            ours.memory > MEMORY,
        ]
        reached &= not any(missed)
        shown = [
            f"{ours.kind:12} {ours.case:20} {ours.seconds * 1000:7.1f} ms",
            f"{f'{peer.subject} {peer.seconds * 1000:.1f} ms' if peer else '':>32}",
            f"{f'{ratio:.2f}' if ratio else '':>6}{'!' if missed[0] else ' '}",
            f"{f'{times:.2f}' if times else '':>15}{'!' if missed[1] else ' '}",
            f"{ours.memory:5.0f}{'!' if missed[2] else ' '}",
        ]
        print(" ".join(shown))
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are shown")
    parser.add_argument("--kinds", default=",".join(KINDS), help="file systems, with commas")
    parser.add_argument("--cases", default=",".join(CASES), help="cases, with commas")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this benchmark mounts file systems, so it needs root")
    run(["cargo", "build", "--release", "--quiet", "-p", "rootbuild-roots", "--example", "files"], cwd=SOURCE)
    archive()
    rows: list[Row] = []
    for kind in options.kinds.split(","):
        missing = [name for name in (f"mkfs.{kind}", "ostree", "rsync") if shutil.which(name) is None]
        if missing:
            say(f"skipped: {kind}, since there is no {', '.join(missing)}")
            continue
        with bed(kind) as it:
            for case in options.cases.split(","):
                rows += CASES[case](it, options.rounds)
    return 0 if judge(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
