#!/usr/bin/env python3
"""What an edit costs: rootbuild against the ways to cache Ansible that others have.

One project of 60 tasks in 6 roles (tests/bench/project), on one base, by one ansible-core:
  rootbuild   `rootbuild provision`, playbooks unmodified
  single      `buildah bud`, the project copied and one `RUN ansible-playbook`
  roles       `buildah bud`, one COPY and one RUN per role, which needs a playbook written for it
  chroot      plain ansible-playbook over a pipelined chroot connection, on the root as it is
Each case starts from the same state: the project as it is, built. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import unchanged
from peers import Buildah, Chroot, base, project
from shared import WORK, Cost, needs, rootbuild, run, say


class Case(NamedTuple):
    """An edit, and where each subject has the file that it is made in."""

    title: str
    edit: Callable[[str], str] | None
    path: str = ""
    # The playbook of the one RUN per role is another one.
    roles_path: str = ""


def appended(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}{line.replace('@', str(time.time_ns()))}\n"


CASES = {
    "nothing": Case("no change", None),
    "comment": Case("comment in the playbook", appended("# @"), "ansible/site.yml", "ansible/role.yml"),
    "last": Case("template of the last role", appended("edited=@"), "ansible/roles/monitoring/templates/inventory.j2"),
    "first": Case(
        "task of the first role",
        lambda text: re.sub(r'content: "\{\{ inventory_hostname', f'content: "m{time.time_ns()}.{{{{ inventory_hostname', text, count=1),
        "ansible/roles/system/tasks/main.yml",
    ),
    "unused": Case("role that nothing uses", appended("# @"), "ansible/roles/unused/tasks/main.yml"),
}


class Rootbuild:
    """rootbuild, and what its events tell."""

    name = "rootbuild"

    def __init__(self, copy: Path) -> None:
        self._project, self.store = copy, WORK / "replay-store"
        self.results: list[dict] = []
        self.events: list[tuple[float, dict]] = []
        self.layers: list[dict] = []
        self.predicted: list[dict] = []
        # The base and ansible-core are there before anything is measured.
        rootbuild(copy, "provision", "--jobs", "1", "bench-base", store=self.store)
        self._provision("bench")

    def _provision(self, root: str) -> Cost:
        plan, _ = rootbuild(self._project, "plan", root, store=self.store)
        self.predicted = plan["roots"][0]["layers"]
        fifo = WORK / "events"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        self.events = []

        def listen() -> None:
            with open(fifo, encoding="utf-8") as lines:
                self.events.extend((time.monotonic(), json.loads(line)) for line in lines)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        result, cost = rootbuild(self._project, "provision", "--jobs", "1", "--events", str(fifo), root, store=self.store)
        listener.join()
        self.layers = result["roots"][0]["layers"]
        return cost

    def cold(self) -> Cost:
        """Nothing of the playbook cached, and no root there: another variable than ever before, and no journal is left."""
        definition = self._project / "rootbuild.toml"
        text = re.sub(r'round = "\d+"', f'round = "{time.time_ns()}"', definition.read_text())
        first = text.index("[root.bench]")
        same = text[first : text.index("[", text.index("vars =", first))]
        # A name that no root had: what is published is written whole, as at the first time.
        name = f"cold-{time.time_ns()}"
        definition.write_text(text + "\n" + same.replace("[root.bench]", f"[root.{name}]"))
        run(["rm", "-rf", self.store / "replays"])
        cost = self._provision(name)
        layers, predicted, events = self.layers, self.predicted, self.events
        definition.write_text(text)
        # Where all other cases start.
        self._provision("bench")
        self.layers, self.predicted, self.events = layers, predicted, events
        return cost

    def build(self) -> Cost:
        return self._provision("bench")

    def again(self) -> Cost:
        definition = self._project / "rootbuild.toml"
        definition.write_text(re.sub(r'round = "again\d*"', f'round = "again{time.time_ns()}"', definition.read_text()))
        return self._provision("bench-again")

    def mispredicted(self) -> int:
        """Layers of which `plan` said something else than what came."""
        pairs = zip(self.predicted, self.layers, strict=True)
        return sum((plan["status"] == "cached") != (layer["status"] == "cached") for plan, layer in pairs)

    def outcome(self) -> str:
        layer = self.layers[-1]
        return f"{layer['status']}, {layer['tasks_run']} run, {layer['tasks_replayed']} replayed"

    def per_task(self, replayed: bool) -> float | None:
        """Seconds per task that was replayed (or wasn't), begin to begin; None if there were none."""
        begun, took = None, []
        for when, event in self.events:
            if event["event"] == "task":
                begun = when if begun is None else begun
            elif event["event"] == "task-ended" and begun is not None:
                if event.get("replayed", False) == replayed and event["status"] != "skipped":
                    took.append(when - begun)
                begun = when
        return statistics.median(took) if took else None

    @contextlib.contextmanager
    def root(self) -> Iterator[Path]:
        yield (self.store / "roots/bench").resolve()


def listing(root: Path) -> dict[str, str]:
    """What the playbook's places hold: every path with its type, mode, owner and content."""
    found = {}
    for top in ("etc", "srv", "home", "var/lib/logs", "var/lib/monitor"):
        for where, directories, files in os.walk(root / top):
            for name in directories + files:
                path = Path(where) / name
                # What the sandboxes bring along, and useradd's lock files and backups.
                if name.endswith((".lock", "-")) or name in ("resolv.conf", "hosts", "hostname", "machine-id", "ld.so.cache"):
                    continue
                state = path.lstat()
                content = "" if path.is_dir() and not path.is_symlink() else os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
                # The day on which an account was made isn't what is compared.
                if name == "shadow":
                    content = re.sub(r":\d{5}:", ":day:", path.read_text())
                found[str(path.relative_to(root))] = f"{state.st_mode:o} {state.st_uid}:{state.st_gid} {content}"
    return found


def compare(subjects: list) -> None:
    """All have made the same, or nothing is worth measuring."""
    with contextlib.ExitStack() as stack:
        first, *others = [(subject.name, listing(stack.enter_context(subject.root()))) for subject in subjects]
        for name, found in others:
            differing = sorted(path for path in first[1].keys() | found.keys() if first[1].get(path) != found.get(path))
            if differing:
                sys.exit(f"{name} made something else than {first[0]}: {', '.join(differing[:10])}")


@contextlib.contextmanager
def edited(copy: Path, path: str, edit: Callable[[str], str]) -> Iterator[None]:
    """The project with one edit; as it was afterwards, dates too."""
    file = copy / path
    text, state = file.read_text(), file.stat()
    file.write_text(edit(text))
    try:
        yield
    finally:
        file.write_text(text)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu for cost in costs))


def goals(table: dict[str, dict[str, Cost]], seen: dict[str, float]) -> Iterator[tuple[str, bool]]:
    """What issue 3 wants, as far as it was measured: words, and whether it is so."""

    def factor(case: str, peer: str, wanted: float) -> Iterator[tuple[str, bool]]:
        if case in table and peer in table[case]:
            ratio = table[case][peer].seconds / table[case]["rootbuild"].seconds
            yield f"{CASES[case].title if case in CASES else case}: {ratio:.1f} x against {peer} (goal: {wanted:.0f} x)", ratio >= wanted

    yield from factor("nothing", "single", 10)
    yield from factor("last", "single", 20)
    yield from factor("last", "roles", 3)
    yield from factor("cold", "chroot", 5)
    if "comment" in table:
        seconds = table["comment"]["rootbuild"].seconds
        yield f"comment in the playbook: {seconds:.2f} s (goal: 2 s), {seen['comment live']:.0f} live tasks (goal: 0)", seconds <= 2 and not seen["comment live"]
    if "first" in table and "cold" in table:
        ratio = table["first"]["rootbuild"].seconds / table["cold"]["rootbuild"].seconds
        yield f"task of the first role: {ratio:.2f} of a cold run (goal: 1 or less)", ratio <= 1.0
    for name, wanted in (("replayed", 25), ("live", 75)):
        if name in seen:
            yield f"one {name} task: {1000 * seen[name]:.0f} ms (goal: {wanted} ms)", seen[name] <= wanted / 1000
    if "unchanged" in seen:
        yield f"8 roots, 500 inputs, unchanged: {1000 * seen['unchanged']:.0f} ms CPU (goal: 20 ms)", seen["unchanged"] < 0.02
    yield f"layers that `plan` predicted wrongly: {seen['mispredicted']:.0f} (goal: 0)", seen["mispredicted"] == 0


def measure(subjects: list, copy: Path, names: list[str], rounds: int) -> tuple[dict[str, dict[str, Cost]], dict[str, float]]:
    ours = next(subject for subject in subjects if isinstance(subject, Rootbuild))
    figures: dict[str, dict[str, list[Cost]]] = {}
    seen: dict[str, float] = {"mispredicted": 0}

    def note(case: str, subject, cost: Cost) -> None:
        figures.setdefault(case, {}).setdefault(subject.name, []).append(cost)
        told = f", {subject.outcome()}" if subject is ours else ""
        say(f"  {case:8} {subject.name:10} {cost}{told}")
        if subject is ours:
            seen["mispredicted"] += ours.mispredicted()

    for number in range(1, rounds + 1):
        say(f"round {number}")
        for subject in subjects:
            note("cold", subject, subject.cold())
        seen["live"] = ours.per_task(False) or seen.get("live", 0.0)
        compare(subjects)
        for name in names:
            case = CASES[name]
            for subject in subjects:
                path = case.roles_path if subject.name == "roles" and case.roles_path else case.path
                with edited(copy, path, case.edit) if case.edit else contextlib.nullcontext():
                    note(name, subject, subject.build())
                if subject is ours and name == "comment":
                    seen["comment live"] = sum(layer["tasks_run"] for layer in ours.layers)
                if subject is ours and name == "last" and (took := ours.per_task(True)) is not None:
                    seen["replayed"] = took
                if case.edit:
                    # Back to where all cases start.
                    subject.build()
        for subject in subjects:
            note("again", subject, subject.again())
    return {case: {name: median(costs) for name, costs in row.items()} for case, row in figures.items()}, seen


def report(table: dict[str, dict[str, Cost]], rounds: int) -> None:
    titles = {"cold": "cold", **{name: case.title for name, case in CASES.items()}, "again": "idempotent re-run"}
    print(f"60 tasks in 6 roles, wall clock (CPU), median of {rounds}; how many times slower than rootbuild")
    for case, row in table.items():
        ours = row["rootbuild"]
        print(f"  {titles[case]:26} rootbuild {ours}")
        for name, cost in row.items():
            if name != "rootbuild":
                print(f"  {'':26} {name:9} {cost}  {cost.seconds / ours.seconds:6.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), help="only these edits")
    parser.add_argument("--peers", nargs="*", default=["single", "roles", "chroot"], choices=["single", "roles", "chroot"], help="only these peers")
    options = parser.parse_args()
    needs("buildah", "mmdebstrap", "systemd-nspawn")
    archive = base()
    copy = project(archive)
    peers = [Chroot(copy) if name == "chroot" else Buildah(name, copy) for name in options.peers]
    for peer in peers:
        peer.bring(archive)
    subjects: list = [Rootbuild(copy), *peers]
    table, seen = measure(subjects, copy, options.cases, options.rounds)
    say("8 roots with 500 inputs")
    seen["unchanged"] = unchanged.cpu(archive, subjects[0].store)
    run(["rm", "-rf", WORK / "root"])
    report(table, options.rounds)
    missed = 0
    for words, reached in goals(table, seen):
        print(f"  {'reached' if reached else 'MISSED '}  {words}")
        missed += not reached
    if missed:
        sys.exit(f"{missed} goals missed")


if __name__ == "__main__":
    main()
