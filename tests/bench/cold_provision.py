#!/usr/bin/env python3
"""The example's cold provision against plain Ansible, as ratios.

Peers run the same playbooks, by the same ansible-core, over private copies of the same base root:
  rootbuild   `rootbuild provision ROOT`: base and ansible-core there already, no playbook layer cached
  nspawn      ansible-playbook, one systemd-nspawn per command (connection_plugins/nspawn_each.py)
  chroot      ansible-playbook over community.general's chroot connection
Peers run as Ansible comes (no pipelining: modules are copied, then started), which is what must be beaten by a
factor, and pipelined, for information. Each is run --rounds times, in turn, and medians are compared: only the
ratios mean something. What rootbuild's figure holds beyond the peers': capture, the checkout of the finished
root, its durability.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

from shared import SOURCE, STANDIN, WORK, Cost, ansible, around, clean_environment, measured, needs, rootbuild, run, say, standin

# The newest `ansible` whose ansible-core is 2.16: it brings community.general.
REQUIREMENTS = ["ansible-core==2.16.19", "ansible==9.13.0"]


class Peer(NamedTuple):
    """A way to run the playbooks, and what it must be slower by (None: for information)."""

    connection: str
    pipelining: bool
    floor: float | None


PEERS = {
    "chroot": Peer("community.general.chroot", False, 3.0),
    "chroot-pipelined": Peer("community.general.chroot", True, None),
    "nspawn": Peer("nspawn_each", False, 5.0),
    "nspawn-pipelined": Peer("nspawn_each", True, None),
}


def project(url: str) -> Path:
    copy = WORK / "vcs-cluster"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SOURCE / "playbooks/examples/vcs-cluster", copy, symlinks=True)
    run([SOURCE / "tools/point-at-standin", copy, STANDIN, url])
    # A root that is only the base, and one that has ansible-core installed: neither is to be measured.
    definition = copy / "rootbuild.toml"
    (copy / "ansible/warm.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n")
    definition.write_text(
        definition.read_text()
        + '\n[root.bench-warm]\nbase = "centos7"\nhost = "hgssh0"\nplaybooks = ["ansible/warm.yml"]\n'
        + '\n[root.bench-base]\nbase = "centos7"\n'
    )
    return copy


def playbooks(copy: Path, root: str) -> tuple[str, list[str], dict]:
    """The host, playbooks and vars of a root, from the definition."""
    definition = tomllib.loads((copy / "rootbuild.toml").read_text())["root"][root]
    return definition.get("host", root), definition["playbooks"], definition.get("vars", {})


def measure_rootbuild(copy: Path, root: str) -> tuple[Cost, int]:
    # Nothing of the root's playbooks is cached: each round changes a variable that is in every key, and no journal is left.
    run(["rm", "-rf", WORK / "store/replays"])
    definition = copy / "rootbuild.toml"
    text = definition.read_text()
    definition.write_text(text.replace("building_root = true", f"building_root = true, bench_round = {time.time_ns()}"))
    try:
        result, cost = rootbuild(copy, "provision", "--jobs", "1", root)
    finally:
        definition.write_text(text)
    base, *layers = result["roots"][0]["layers"]
    assert base["status"] == "cached" and all(layer["status"] == "built" for layer in layers), result
    return cost, sum(layer["tasks_run"] for layer in layers)


def measure_peer(program: Path, name: str, peer: Peer, copy: Path, root: str, base: Path) -> Cost:
    private = WORK / "root"
    run(["rm", "-rf", private])
    run(["cp", "-a", base, private])
    host, books, extra = playbooks(copy, root)
    # A second inventory, so that a task delegated to localhost stays there (extra vars would hold for it too).
    inventory = WORK / "peer.json"
    variables = {"ansible_connection": peer.connection, "ansible_host": str(private)}
    inventory.write_text(json.dumps({"all": {"hosts": {host: variables}}}))
    environment = clean_environment(
        SYSTEMD_OFFLINE="1",
        ANSIBLE_PIPELINING="true" if peer.pipelining else "false",
        ANSIBLE_CONNECTION_PLUGINS=str(SOURCE / "tests/bench/connection_plugins"),
    )
    # nspawn mounts for itself what is needed, but for a /run that it can write to.
    run_only = ["unshare", "--mount", "sh", "-euc", 'mount -t tmpfs -o mode=755 tmpfs /run; exec "$@"', "sh"]
    total = Cost(0.0, 0.0)
    with open(WORK / f"{name}.log", "w", encoding="utf-8") as log:
        for book in books:
            argv = [program, "-i", "hosts", "-i", inventory, "--limit", host, "-e", json.dumps(extra), copy / book]
            argv = [*run_only, *argv] if peer.connection == "nspawn_each" else around(private, argv)
            done, cost = measured(argv, cwd=copy / "ansible", env=environment, stdout=log, stderr=log, check=False)
            if done.returncode:
                sys.exit(f"{name}: {book} failed, see {log.name}")
            total = Cost(total.seconds + cost.seconds, total.cpu + cost.cpu)
    return total


def report(root: str, tasks: int, figures: dict[str, list[Cost]]) -> list[str]:
    """Prints the medians as ratios; gives the peers that are too fast."""
    ours, rounds = statistics.median(cost.seconds for cost in figures["rootbuild"]), len(figures["rootbuild"])
    our_cpu = statistics.median(cost.cpu for cost in figures["rootbuild"])
    print(f"cold provision of {root}, {tasks} task results, median of {rounds}: rootbuild {Cost(ours, our_cpu)}")
    slow = []
    for name, costs in figures.items():
        if name == "rootbuild":
            continue
        theirs = Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu for cost in costs))
        ratio, floor = theirs.seconds / ours, PEERS[name].floor
        wanted = "for information" if floor is None else f"at least {floor:.0f}"
        print(f"  {name:16} {theirs}  {ratio:5.1f} x, by CPU {theirs.cpu / our_cpu:5.1f} x  ({wanted})")
        if floor is not None and ratio < floor:
            slow.append(name)
    return slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="ldap", help="the root to provision (default: ldap; hgssh has an async job, which one nspawn per command kills)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="only these peers")
    parser.add_argument("--port", type=int, default=8918, help="where the stand-in is served (default: 8918)")
    options = parser.parse_args()
    needs("systemd-nspawn")
    program = ansible("ansible-2.16", REQUIREMENTS) / "bin/ansible-playbook"
    with standin(options.port) as url:
        copy = project(url)
        say("building the base")
        rootbuild(copy, "provision", "--jobs", "1", "bench-warm", "bench-base")
        base = (WORK / "store/roots/bench-base").resolve()
        figures: dict[str, list[Cost]] = {name: [] for name in ("rootbuild", *options.peers)}
        tasks = 0
        for number in range(1, options.rounds + 1):
            cost, tasks = measure_rootbuild(copy, options.root)
            figures["rootbuild"].append(cost)
            say(f"round {number}: rootbuild {cost}")
            for name in options.peers:
                cost = measure_peer(program, name, PEERS[name], copy, options.root, base)
                figures[name].append(cost)
                say(f"round {number}: {name} {cost}")
    run(["rm", "-rf", WORK / "root"])
    slow = report(options.root, tasks, figures)
    if slow:
        sys.exit(f"less than promised against: {', '.join(slow)}")


if __name__ == "__main__":
    main()
