"""The ways to have Ansible fill a root that rootbuild is measured against in replay.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from shared import SOURCE, WORK, Cost, ansible, around, clean_environment, measured, run, say

# The newest `ansible` whose ansible-core is 2.16: it brings community.general.
REQUIREMENTS = ["ansible-core==2.16.19", "ansible==9.13.0"]
# What goes into the base, for those who run Ansible in the container itself.
INSIDE = ["ansible-core==2.16.19"]
SUITE, PACKAGES, MIRROR = "bookworm", ["python3"], "http://deb.debian.org/debian"


def base() -> Path:
    """The base of all subjects, as an archive: a small Debian with Python, and ansible-core in /opt/ansible. Made once."""
    archive, recipe = WORK / "base.tar", WORK / "base.recipe"
    wanted = json.dumps([SUITE, PACKAGES, MIRROR, INSIDE, sys.version])
    if archive.exists() and recipe.exists() and recipe.read_text() == wanted:
        return archive
    say("making the base")
    WORK.mkdir(parents=True, exist_ok=True)
    root = WORK / "base"
    run(["rm", "-rf", root, recipe])
    run(["mmdebstrap", "--mode=root", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, MIRROR])
    # This machine's Python is the base's: both are Debian 12's.
    venv = ansible("pip", ["pip"])
    run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--target", root / "opt/ansible", *INSIDE])
    program = root / "opt/ansible/bin/ansible-playbook"
    _, rest = program.read_text().split("\n", 1)
    program.write_text(f"#!/usr/bin/python3\n{rest}")
    run(["tar", "-C", root, "--sort=name", "--xattrs", "-cf", f"{archive}.new", "."])
    os.rename(f"{archive}.new", archive)
    run(["rm", "-rf", root])
    recipe.write_text(wanted)
    return archive


class Buildah:
    """`buildah bud`, layers cached; `containerfile` says how the project is split."""

    def __init__(self, containerfile: str, project: Path) -> None:
        self.name = containerfile
        self._project = project
        self._image = f"localhost/rootbuild-bench-{containerfile}"
        # Images of its own, all of which `cold` may forget.
        self._store = WORK / f"containers-{containerfile}"

    def _buildah(self, *arguments: str | Path, cost: bool = False, log: Path | None = None):
        where = ["--root", self._store, "--runroot", f"/run/rootbuild-bench-{self.name}", "--storage-driver", "overlay"]
        with open(log or os.devnull, "a", encoding="utf-8") as file:
            done, spent = measured(["buildah", *where, *arguments], env=clean_environment(), stderr=file, check=log is None)
        if done.returncode:
            sys.exit(f"buildah failed, see {log}")
        return spent if cost else done.stdout.strip()

    def bring(self, archive: Path) -> None:
        """Makes the base image, unless it is there for this very archive."""
        stamp = WORK / f"{self._store.name}.base"
        identity = f"{archive.stat().st_ino} {archive.stat().st_mtime_ns}"
        if stamp.exists() and stamp.read_text() == identity:
            return
        say(f"making the base image for `{self.name}`")
        run(["rm", "-rf", self._store, stamp])
        container = self._buildah("from", "scratch")
        mounted = self._buildah("mount", container)
        run(["tar", "-C", mounted, "--xattrs", "-xpf", archive])
        self._buildah("commit", "--quiet", container, "localhost/rootbuild-bench")
        self._buildah("rm", container)
        stamp.write_text(identity)

    def cold(self) -> Cost:
        """Builds with nothing cached but the base."""
        base = self._buildah("images", "--quiet", "--no-trunc", "localhost/rootbuild-bench")
        every = self._buildah("images", "--all", "--quiet", "--no-trunc").split()
        others = sorted(set(every) - set(base.split()))
        if others:
            self._buildah("rmi", "--force", *others)
        return self.build()

    def build(self) -> Cost:
        """Builds what isn't cached."""
        file = self._project / f"Containerfile.{self.name}"
        options = ["--layers", "--isolation", "chroot", "--quiet", "--tag", self._image, "--file", file]
        return self._buildah("bud", *options, self._project, cost=True, log=WORK / f"buildah-{self.name}.log")

    def again(self) -> Cost:
        """The playbook once more, over what it has made."""
        context = WORK / "again"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        # The image of one layer per role has another playbook.
        shutil.copy(self._project / "ansible/site.yml", context)
        (context / "Containerfile").write_text(
            f"FROM {self._image}\nCOPY site.yml /project/\nRUN cd /project && PYTHONPATH=/opt/ansible "
            "/opt/ansible/bin/ansible-playbook --connection local site.yml\n"
        )
        options = ["--layers", "--no-cache", "--isolation", "chroot", "--quiet"]
        return self._buildah("bud", *options, context, cost=True, log=WORK / f"buildah-{self.name}.log")

    @contextlib.contextmanager
    def root(self) -> Iterator[Path]:
        """What was built last."""
        container = self._buildah("from", self._image)
        yield Path(self._buildah("mount", container))
        self._buildah("rm", container)


class Chroot:
    """ansible-playbook over community.general's chroot connection, pipelined. It knows one way: run all of it again."""

    name = "chroot"

    def __init__(self, project: Path) -> None:
        self._archive, self._project = Path(), project
        self._program = ansible("ansible-2.16", REQUIREMENTS) / "bin/ansible-playbook"
        self._root = WORK / "root"

    def bring(self, archive: Path) -> None:
        """Nothing to make: each cold run unpacks the archive."""
        self._archive = archive

    def cold(self) -> Cost:
        """Over a fresh base (unpacking it isn't counted)."""
        run(["rm", "-rf", self._root])
        self._root.mkdir()
        run(["tar", "-C", self._root, "--xattrs", "-xpf", self._archive])
        return self.build()

    def build(self) -> Cost:
        """Over what is there."""
        extra = {"ansible_connection": "community.general.chroot", "ansible_host": str(self._root)}
        argv = around(self._root, [self._program, "--extra-vars", json.dumps(extra), "site.yml"])
        environment = clean_environment(ANSIBLE_PIPELINING="true", SYSTEMD_OFFLINE="1")
        log = WORK / "chroot.log"
        with open(log, "w", encoding="utf-8") as file:
            done, cost = measured(argv, cwd=self._project / "ansible", env=environment, stdout=file, stderr=file, check=False)
        if done.returncode:
            sys.exit(f"chroot: the playbook failed, see {log}")
        return cost

    again = build

    @contextlib.contextmanager
    def root(self) -> Iterator[Path]:
        """What was built last."""
        yield self._root


def project(archive: Path) -> Path:
    """A private copy of the project, on the base."""
    copy = WORK / "project"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SOURCE / "tests/bench/project", copy, symlinks=True)
    definition = copy / "rootbuild.toml"
    definition.write_text(definition.read_text().replace("@BASE@", str(archive)).replace("@SHA256@", sha256(archive)))
    return copy


def sha256(archive: Path) -> str:
    """What the archive hashes to: named in the definition, rootbuild needs to hash it only when it unpacks it."""
    return run(["sha256sum", archive]).stdout.split()[0]
