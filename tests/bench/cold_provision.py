#!/usr/bin/env python3
"""The example's cold provision against plain Ansible, as ratios.

Peers run the same playbooks, by the same ansible-core, over private copies of the same base root:
  rootbuild   `rootbuild provision ROOT`: base and ansible-core there already, no playbook layer cached
  nspawn      ansible-playbook, one systemd-nspawn per command (connection_plugins/nspawn_each.py)
  chroot      ansible-playbook over community.general's chroot connection
Each is run --rounds times, in turn, and medians are compared: only the ratios mean something.
What rootbuild's figure holds beyond the peers': capture, the checkout of the finished root, its durability.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
WORK = SOURCE / "target/bench"
STANDIN = SOURCE / "target/standin"
ROOTBUILD = SOURCE / "target/release/rootbuild"
# The newest `ansible` whose ansible-core is 2.16: it brings community.general.
PEER_REQUIREMENTS = ["ansible-core==2.16.19", "ansible==9.13.0"]
# What a peer must be slower by, at least.
FLOORS = {"nspawn": 5.0, "chroot": 3.0}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(argv, **keywords) -> subprocess.CompletedProcess:
    keywords = {"check": True, "stdout": subprocess.PIPE, "text": True, **keywords}
    return subprocess.run([str(part) for part in argv], **keywords)


def peer_ansible() -> Path:
    venv = WORK / "ansible"
    done = venv / "done"
    if not done.exists():
        say("installing the peers' Ansible")
        shutil.rmtree(venv, ignore_errors=True)
        run(["/usr/bin/python3", "-m", "venv", venv])
        run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PEER_REQUIREMENTS])
        done.touch()
    return venv / "bin/ansible-playbook"


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


def rootbuild(copy: Path, *arguments: str) -> dict:
    environment = {**os.environ, "ROOTBUILD_STORE": str(WORK / "store")}
    done = run([ROOTBUILD, "provision", "--json", "--quiet", "--jobs", "1", *arguments], cwd=copy, env=environment)
    return json.loads(done.stdout)


def playbooks(copy: Path, root: str) -> tuple[str, list[str], dict]:
    """The host, playbooks and vars of a root, from the definition."""
    import tomllib

    definition = tomllib.loads((copy / "rootbuild.toml").read_text())["root"][root]
    return definition.get("host", root), definition["playbooks"], definition.get("vars", {})


def measure_rootbuild(copy: Path, root: str, number: int) -> tuple[float, int]:
    # Nothing of the root's playbooks is cached: each round changes a variable that is in every key.
    definition = copy / "rootbuild.toml"
    text = definition.read_text()
    marked = text.replace("building_root = true", f"building_root = true, bench_round = {number}")
    definition.write_text(marked)
    try:
        begin = time.monotonic()
        result = rootbuild(copy, root)
        seconds = time.monotonic() - begin
    finally:
        definition.write_text(text)
    layers = result["roots"][0]["layers"]
    assert [layer["status"] for layer in layers[1:]] == ["built"] * (len(layers) - 1), layers
    assert layers[0]["status"] == "cached", layers
    return seconds, sum(layer["tasks_run"] for layer in layers)


def measure_peer(ansible: Path, connection: str, copy: Path, root: str, base: Path) -> float:
    private = WORK / "root"
    run(["rm", "-rf", private])
    run(["cp", "-a", base, private])
    host, books, extra = playbooks(copy, root)
    # A second inventory, so that a task delegated to localhost stays there (extra vars would hold for it too).
    inventory = WORK / "peer.json"
    variables = {"ansible_connection": connection, "ansible_host": str(private)}
    inventory.write_text(json.dumps({"all": {"hosts": {host: variables}}}))
    # The sandbox that rootbuild gives: a shell as process 1 (Ansible looks at its name), device nodes, /proc, systemd told that it is offline.
    mounts = (
        'mount -t tmpfs -o mode=755 tmpfs /run; if [ "$1" != nspawn_each ]; then mount -t proc proc "$2/proc"; '
        'mount --rbind /dev "$2/dev"; mount -t sysfs -o ro sysfs "$2/sys"; mount -t tmpfs tmpfs "$2/run"; mkdir -p "$2/run/systemd/system"; '
        'cp /etc/resolv.conf "$2/etc/resolv.conf" 2>/dev/null || :; fi; shift 2; "$@"'
    )
    log = open(WORK / f"{connection}.log", "w")
    seconds = 0.0
    for book in books:
        argv = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", mounts, "sh", connection, private]
        argv += [ansible, "-i", "hosts", "-i", inventory, "--limit", host, "-e", json.dumps(extra), copy / book]
        environment = {
            **os.environ,
            "SYSTEMD_OFFLINE": "1",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_CONNECTION_PLUGINS": str(SOURCE / "tests/bench/connection_plugins"),
        }
        begin = time.monotonic()
        done = run(argv, cwd=copy / "ansible", env=environment, stdout=log, stderr=log, check=False)
        seconds += time.monotonic() - begin
        if done.returncode:
            sys.exit(f"{connection}: {book} failed, see {log.name}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="ldap", help="the root to provision (default: ldap; hgssh has an async job, which one nspawn per command kills)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("--port", type=int, default=8918, help="where the stand-in is served")
    options = parser.parse_args()
    ansible = peer_ansible()
    server = subprocess.Popen(
        ["/usr/bin/python3", SOURCE / "tests/standin/serve.py", STANDIN, "--port", str(options.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    server.stdout.readline()
    copy = project(f"http://127.0.0.1:{options.port}")
    say("building the base")
    rootbuild(copy, "bench-warm", "bench-base")
    base = (WORK / "store/roots/bench-base").resolve()
    figures: dict[str, list[float]] = {"rootbuild": [], "nspawn": [], "chroot": []}
    tasks = 0
    for number in range(options.rounds):
        seconds, tasks = measure_rootbuild(copy, options.root, time.time_ns())
        figures["rootbuild"].append(seconds)
        say(f"round {number + 1}: rootbuild {seconds:.1f} s")
        for name, connection in (("chroot", "community.general.chroot"), ("nspawn", "nspawn_each")):
            seconds = measure_peer(ansible, connection, copy, options.root, base)
            figures[name].append(seconds)
            say(f"round {number + 1}: {name} {seconds:.1f} s")
    run(["rm", "-rf", WORK / "root"])
    ours = statistics.median(figures["rootbuild"])
    print(f"{options.root}: {tasks} task results, rootbuild {ours:.1f} s (median of {options.rounds})")
    slow = []
    for name, floor in FLOORS.items():
        ratio = statistics.median(figures[name]) / ours
        print(f"  {name:7} {statistics.median(figures[name]):7.1f} s  {ratio:5.1f} x  (at least {floor:.0f} x)")
        if ratio < floor:
            slow.append(name)
    if slow:
        sys.exit(f"less than promised against: {', '.join(slow)}")


if __name__ == "__main__":
    main()
