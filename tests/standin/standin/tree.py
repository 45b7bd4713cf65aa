"""The files of all packages: one build root on disk, and per package the list of what is its own.

Names, modes and owners are kept here and not read back from the disk, so the generator needs no privileges.
Paths are relative to the root, without a leading slash.
"""
import fnmatch
import os
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from .run import StandinError

# Modification times are never later than this (7.9.2009's time): builds repeat, and byte code stays valid.
EPOCH = 1604001600


@dataclass
class Entry:
    """One path of a package."""

    kind: str               # "file" | "dir" | "link"
    mode: int = 0o755       # permission bits with setuid, setgid, sticky
    user: str = "root"
    group: str = "root"
    caps: str = ""          # file capabilities, in cap_from_text's syntax
    ghost: bool = False     # owned, not shipped
    config: bool = None     # %config(noreplace); None: as the path says
    noverify: bool = False  # `rpm -V` is not to compare content, size and times


class Package:
    """A package's own view of the build root."""

    def __init__(self, tree, name):
        self.tree = tree
        self.name = name
        self.entries = {}
        self.debs = []          # (deb, version)
        self.requires = set()   # EL7 names, from Debian's Depends

    def _own(self, path, entry):
        path = path.strip("/")
        self.tree.claim(path, self.name, entry.kind)
        self.entries[path] = entry
        return self.tree.root / path

    def mkdir(self, path, mode=0o755, user="root", group="root"):
        """A directory; several packages may own one and the same."""
        disk = self._own(path, Entry("dir", mode, user, group))
        disk.mkdir(parents=True, exist_ok=True)

    def write(self, path, content, mode=0o644, user="root", group="root", **flags):
        """A regular file, replacing what this package had there."""
        disk = self._own(path, Entry("file", mode, user, group, **flags))
        disk.parent.mkdir(parents=True, exist_ok=True)
        disk.unlink(missing_ok=True)
        disk.write_bytes(content.encode() if isinstance(content, str) else content)
        os.chmod(disk, stat.S_IMODE(mode) | stat.S_IRUSR)
        os.utime(disk, (EPOCH, EPOCH))

    def link(self, path, target):
        """A symbolic link, replacing what this package had there."""
        disk = self._own(path, Entry("link", 0o777))
        disk.parent.mkdir(parents=True, exist_ok=True)
        disk.unlink(missing_ok=True)
        disk.symlink_to(target)

    def add_file(self, path, source, mode, user, group, mtime):
        """A regular file read from the open file `source`."""
        disk = self._own(path, Entry("file", mode, user, group))
        disk.parent.mkdir(parents=True, exist_ok=True)
        with open(disk, "xb") as out:
            shutil.copyfileobj(source, out, 1 << 18)
        os.chmod(disk, stat.S_IMODE(mode) | stat.S_IRUSR)
        mtime = min(mtime, EPOCH)
        os.utime(disk, (mtime, mtime))

    def add_hardlink(self, path, other):
        """A further name of a file of this package."""
        disk = self._own(path, Entry(**vars(self.entries[other])))
        disk.parent.mkdir(parents=True, exist_ok=True)
        os.link(self.tree.root / other, disk)

    def read(self, path):
        """A file's text."""
        return (self.tree.root / path).read_text()

    def has(self, path):
        """Whether this package owns the path."""
        return path in self.entries

    def match(self, *patterns):
        """Own paths that match a glob, directories not included; `*` matches `/` too."""
        return [p for p, e in self.entries.items()
                if e.kind != "dir" and any(fnmatch.fnmatchcase(p, pattern) for pattern in patterns)]

    def set(self, path, **changes):
        """Changes attributes of an own path; a path that isn't there is an error."""
        if path not in self.entries:
            raise StandinError(f"package `{self.name}` has no `/{path}`")
        for key, value in changes.items():
            setattr(self.entries[path], key, value)

    def remove(self, *patterns):
        """Removes files and links that match, and whole directories given by name."""
        for pattern in patterns:
            below = [p for p in self.entries if p == pattern or p.startswith(pattern + "/")]
            for path in sorted(set(below + self.match(pattern)), reverse=True):
                entry = self.entries.pop(path)
                self.tree.disown(path, self.name)
                if entry.kind == "dir":
                    self.tree.prune(path)
                else:
                    (self.tree.root / path).unlink()

    def rename(self, old, new):
        """Moves an own file, link, or directory with all that is in it."""
        moved = [p for p in self.entries if p == old or p.startswith(old + "/")]
        if not moved:
            raise StandinError(f"package `{self.name}` has no `/{old}`")
        for path in sorted(moved):
            to = new + path[len(old):]
            entry = self.entries.pop(path)
            self.tree.disown(path, self.name)
            disk = self._own(to, entry)
            if entry.kind == "dir":
                disk.mkdir(parents=True, exist_ok=True)
            else:
                disk.parent.mkdir(parents=True, exist_ok=True)
                (self.tree.root / path).rename(disk)
        for path in sorted(moved, reverse=True):
            self.tree.prune(path)

    def give(self, to, *patterns):
        """Hands own files over to another package; each pattern must match something."""
        other = self.tree.package(to)
        for pattern in patterns:
            paths = self.match(pattern)
            if not paths:
                raise StandinError(f"package `{self.name}` has no `/{pattern}` to give to `{to}`")
            for path in paths:
                entry = self.entries.pop(path)
                self.tree.disown(path, self.name)
                other._own(path, entry)


class Tree:
    """The build root and the packages in it."""

    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir()
        self.packages = {}
        self._owner = {}        # path of a file or link -> package
        self._lock = threading.Lock()

    def package(self, name):
        """The package of that name, made when it is new."""
        with self._lock:
            return self.packages.setdefault(name, Package(self, name))

    def claim(self, path, package, kind):
        """Notes the owner of a path; two packages with one file would overwrite each other."""
        if kind == "dir":
            return
        with self._lock:
            owner = self._owner.setdefault(path, package)
        if owner != package:
            raise StandinError(f"`/{path}` is in package `{package}` and in `{owner}`",
                               "drop or rename one of them in standin/shape/ or standin/unpack.py")

    def disown(self, path, package):
        """Takes back what `claim` noted."""
        with self._lock:
            if self._owner.get(path) == package:
                del self._owner[path]

    def prune(self, path):
        """Removes a directory from the disk if it is empty; one that a package still owns is made again at the end."""
        disk = self.root / path
        if disk.is_dir() and not disk.is_symlink() and not any(disk.iterdir()):
            disk.rmdir()

    def make_directories(self):
        """Makes every directory that a package owns."""
        for package in self.packages.values():
            for path, entry in package.entries.items():
                if entry.kind == "dir":
                    (self.root / path).mkdir(parents=True, exist_ok=True)
