"""Fingerprints, the lock, and finished outputs that appear at once or not at all."""
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

from . import FORMAT
from .run import StandinError


def sources_digest(options):
    """What decides the output besides the debs: the generator's own files and the options that matter."""
    digest = hashlib.sha256(json.dumps([FORMAT, options], sort_keys=True).encode())
    here = Path(__file__).resolve().parent
    for path in sorted(here.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(here)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def fingerprint(sources, debs):
    """The name of an output; `debs` is a list of [file name, sha256]."""
    return hashlib.sha256(json.dumps([sources, sorted(map(list, debs))]).encode()).hexdigest()


def is_current(out, sources, debs=None):
    """Whether `out` is a finished, undamaged output of these sources (and, where given, of these debs)."""
    try:
        said = (out / "fingerprint").read_text().strip()
        manifest = json.loads((out / "standin.json").read_text())
        if debs is not None and sorted(map(list, debs)) != sorted(manifest["debs"]):
            return False
        if said != fingerprint(sources, manifest["debs"]):
            return False
        return all((out / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def inventory(out):
    """All files below `out` with their sizes: {relative path: bytes}."""
    return {str(p.relative_to(out)): p.stat().st_size for p in sorted(out.rglob("*")) if p.is_file()}


@contextlib.contextmanager
def locked(path, waiting=lambda: None):
    """Holds the kernel lock of `path`; it dies with the process. `waiting` is called before a wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refuse_foreign(out):
    """Refuses to replace what this generator has not made."""
    if out.exists() and not (out.is_dir() and ((out / "fingerprint").exists() or not any(out.iterdir()))):
        raise StandinError(f"`{out}` exists and is no output of this generator", "name another directory or remove it")


class Staging:
    """A work directory beside the output; on success its `result` takes the output's place by rename."""

    def __init__(self, out, keep=False):
        self.out = out
        self.keep = keep
        self.work = out.with_name(out.name + ".work")
        self.old = out.with_name(out.name + ".old")
        self.result = self.work / "result"

    def __enter__(self):
        # What a killed run left; nobody else is here, the lock is held.
        for leftover in (self.work, self.old):
            shutil.rmtree(leftover, ignore_errors=True)
        refuse_foreign(self.out)
        self.result.mkdir(parents=True)
        return self

    def publish(self):
        """The fingerprint must already be in `result`. What a power cut tears, `is_current` finds by its size."""
        if self.out.exists():
            self.out.rename(self.old)
        self.result.rename(self.out)
        shutil.rmtree(self.old, ignore_errors=True)

    def __exit__(self, *_):
        if not self.keep:
            shutil.rmtree(self.work, ignore_errors=True)
