#!/usr/bin/env python3
"""A locked RPM base without a network, against `dnf --installroot`, as ratios.

Both install the same packages (the lock's) from the same host, all of them there already, signatures checked:
  rootbuild   `rootbuild provision --offline --locked` of a root that is only the base; the store has the packages, and
              nothing else: no layer, no tree, no object
  rebuild     the same with --rebuild base:bench-offline: the store has the files of the tree as well
  dnf         `dnf --installroot` from the stand-in's directories (file://, so nothing is copied), metadata cached
  unchanged   `rootbuild provision --offline --locked` with the base a tree and the root there
Each is run --rounds times, in turn, and medians are compared: only the ratios mean something. What rootbuild's figure
holds beyond dnf's: checking against the lock, the conversion of the package database to the root's own rpm, capture,
the checkout of the finished root, its durability.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tomllib
from pathlib import Path

from shared import STANDIN, WORK, Cost, clean_environment, measured, needs, rootbuild, run, say

OURS = WORK / "offline"
STORE = OURS / "store"
BASE = "bench-offline"
REPOSITORIES = ("os", "updates")
# What must be reached: dnf's time by rootbuild's, and seconds for finding that all is there.
FASTER, AT_ONCE = 2.0, 0.050
# How often the last case is run in each round: one run is too short to tell.
REPEAT = 10

# What scriptlets need around them, as rootbuild gives it to them: dnf by itself mounts nothing.
_AROUND = """
root=$1
shift
mkdir -p "$root/proc" "$root/sys" "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
exec "$@"
"""


def repositories() -> str:
    """The stand-in's repositories, for rootbuild and dnf alike."""
    section = "[{0}]\nname={0}\nbaseurl=file://{1}/{0}\ngpgcheck=1\ngpgkey=file://{1}/RPM-GPG-KEY-standin\n"
    return "\n".join(section.format(name, STANDIN) for name in REPOSITORIES)


def project(packages: list[str]) -> Path:
    """A project whose root is a locked base; its packages are in the store."""
    copy = OURS / "project"
    shutil.rmtree(copy, ignore_errors=True)
    (copy / "bases").mkdir(parents=True)
    (copy / "bases/el7.repo").write_text(repositories())
    (copy / "rootbuild.toml").write_text(
        f'[base.{BASE}]\nsource = "rpm"\nrepos = ["bases/el7.repo"]\npackages = {packages}\nlock = "bases/el7.lock"\n'
        f'[root.{BASE}]\nbase = "{BASE}"\n'
    )
    run(["rm", "-rf", STORE])
    rootbuild(copy, "lock", store=STORE)
    rootbuild(copy, "provision", "--locked", store=STORE)
    return copy


def locked(copy: Path) -> list[str]:
    """Every package in the lock, as dnf and rpm name it."""
    lock = tomllib.loads((copy / "bases/el7.lock").read_text())
    return sorted(f"{package['name']}-{package['evr'].split(':')[-1]}.{package['arch']}" for package in lock["package"])


def only_packages() -> None:
    """Takes all from the store but its packages."""
    for entry in STORE.iterdir():
        if entry.name not in ("format", "packages"):
            run(["rm", "-rf", entry])
    os.sync()


def provision(copy: Path, status: str, *more: str) -> Cost:
    result, cost = rootbuild(copy, "provision", "--offline", "--locked", *more, store=STORE)
    statuses = [layer["status"] for root in result["roots"] for layer in root["layers"]]
    if statuses != [status]:
        sys.exit(f"the base should have been {status}: {result}")
    return cost


def installed(root: Path, home: Path) -> list[str]:
    """What the host's rpm says of a root that it, or dnf, installed."""
    query = ["rpm", "--root", root, "-qa", "--qf", "%{name}-%{version}-%{release}.%{arch}\\n"]
    lines = run(query, env=clean_environment(HOME=str(home))).stdout.split()
    return sorted(line for line in lines if not line.startswith("gpg-pubkey-"))


class Dnf:
    """`dnf --installroot` with a configuration of its own and its metadata cached."""

    def __init__(self) -> None:
        self.home, self.root = OURS / "dnf", OURS / "root"
        run(["rm", "-rf", self.home])
        self.home.mkdir(parents=True)
        # Debian's rpm keeps its database in the user's home unless told otherwise.
        (self.home / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n%__gpg /usr/bin/gpg\n")
        (self.home / "dnf.conf").write_text(
            f"[main]\nreposdir={self.home}/none\nvarsdir={self.home}/none\npluginpath={self.home}/none\n"
            f"cachedir={self.home}/cache\nlogdir=/var/log\nmetadata_expire=never\ninstall_weak_deps=0\n"
            f"keepcache=1\ngpgcheck=1\n\n{repositories()}"
        )

    def argv(self, *arguments: str) -> list:
        return ["dnf", "--config", self.home / "dnf.conf", "--installroot", self.root, "--releasever=7", "-q", "-y", *arguments]

    def install(self, packages: list[str]) -> Cost:
        run(["rm", "-rf", self.root])
        self.root.mkdir()
        os.sync()
        around = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", _AROUND, "sh", self.root]
        argv = [*around, *self.argv("install", *packages)]
        with open(OURS / "dnf.log", "w", encoding="utf-8") as log:
            environment = clean_environment(HOME=str(self.home), LC_ALL="C.UTF-8")
            done, cost = measured(argv, env=environment, stdout=log, stderr=log, stdin=log, check=False)
        if done.returncode:
            sys.exit(f"dnf failed, see {log.name}")
        if (found := installed(self.root, self.home)) != packages:
            sys.exit(f"dnf installed something else: {sorted(set(found) ^ set(packages))}")
        return cost


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu for cost in costs))


def report(packages: int, figures: dict[str, list[Cost]]) -> list[str]:
    """Prints the medians as ratios; gives what was promised and isn't so."""
    ours, theirs, again = median(figures["rootbuild"]), median(figures["dnf"]), median(figures["rebuild"])
    missed = []

    def line(name: str, cost: Cost, wanted: float | None) -> None:
        ratio = theirs.seconds / cost.seconds
        goal = "for information" if wanted is None else f"at least {wanted:.0f}"
        print(f"  {name:10} {cost}  {ratio:5.1f} x, by CPU {theirs.cpu / cost.cpu:5.1f} x  ({goal})")
        if wanted is not None and ratio < wanted:
            missed.append(name)

    print(f"offline base of {packages} packages, median of {len(figures['dnf'])}: dnf --installroot {theirs}")
    line("rootbuild", ours, FASTER)
    line("rebuild", again, None)
    unchanged = median(figures["unchanged"])
    milliseconds = unchanged.seconds * 1000
    print(f"  unchanged  {milliseconds:7.1f} ms ({unchanged.cpu * 1000:6.1f} ms CPU)  (at most {AT_ONCE * 1000:.0f} ms)")
    if unchanged.seconds > AT_ONCE:
        missed.append("unchanged")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("--packages", nargs="+", default=["@core"], help="what the base asks for (default: @core)")
    options = parser.parse_args()
    needs("dnf", "rpm", "unshare")
    say("locking the base")
    copy = project(options.packages)
    packages = locked(copy)
    dnf = Dnf()
    say("filling dnf's cache")
    dnf.install(packages)
    figures: dict[str, list[Cost]] = {name: [] for name in ("rootbuild", "dnf", "rebuild", "unchanged")}
    for number in range(1, options.rounds + 1):
        only_packages()
        for name, take in (
            ("rootbuild", lambda: [provision(copy, "built")]),
            ("dnf", lambda: [dnf.install(packages)]),
            ("rebuild", lambda: [provision(copy, "built", "--rebuild", f"base:{BASE}")]),
            ("unchanged", lambda: [provision(copy, "cached") for _ in range(REPEAT)]),
        ):
            costs = take()
            figures[name] += costs
            say(f"round {number}: {name} {median(costs)}")
    run(["rm", "-rf", dnf.root])
    missed = report(len(packages), figures)
    if missed:
        sys.exit(f"less than promised: {', '.join(missed)}")


if __name__ == "__main__":
    main()
