"""Byte code, compiled by the packages' own interpreters and packaged beside the sources, as EL7 does.

Without it every first import in a root would write new files into it.
"""
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from .run import StandinError, clean_env
from .tree import EPOCH, Entry

# Runs on 2.7 and 3: compiles "file on disk TAB file in the root" lines; what doesn't compile stays source.
COMPILE = """
import py_compile, sys
for line in open(sys.argv[1]):
    disk, final = line.rstrip("\\n").split("\\t")
    try:
        py_compile.compile(disk, dfile=final, doraise=True)
    except Exception:
        pass
"""
# A constant, however many run at once: byte code depends on what its process compiled before.
SHARES = 4
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def _pyc2(path):
    return path + "c"


def _pyc3(path):
    p = PurePosixPath(path)
    return str(p.parent / "__pycache__" / f"{p.stem}.cpython-39.pyc")


# interpreter, where its modules lie, the name of the byte code file
INTERPRETERS = [
    ("usr/bin/python2.7", ("usr/lib/python2.7/",), _pyc2),
    ("usr/bin/python3.9", ("usr/lib/python3.9/", "usr/lib/python3/"), _pyc3),
]


def compile_all(tree, work, jobs):
    """Compiles every module of the tree; gives the number of byte code files."""
    count = 0
    for interpreter, places, pyc_of in INTERPRETERS:
        sources = sorted((path, package) for package in tree.packages.values() for path, entry in package.entries.items()
                         if entry.kind == "file" and path.endswith(".py") and path.startswith(places))
        with ThreadPoolExecutor(jobs) as pool:
            shares = [[path for path, _ in sources[n::SHARES]] for n in range(SHARES)]
            list(pool.map(lambda n: _compile(tree.root, work / f"py{n}-{interpreter[-3:]}", interpreter, shares[n]),
                          range(SHARES)))
        for path, package in sources:
            pyc = pyc_of(path)
            if (tree.root / pyc).is_file():
                tree.claim(pyc, package.name, "file")
                package.entries[pyc] = Entry("file", 0o644)
                os.chmod(tree.root / pyc, 0o644)
                os.utime(tree.root / pyc, (EPOCH, EPOCH))
                count += 1
    if not count:
        raise StandinError("no Python module could be compiled", "the host must be able to run amd64 programs")
    return count


def _compile(root, listing, interpreter, paths):
    listing.write_text("".join(f"{root / path}\t/{path}\n" for path in paths))
    libraries = root / LIBRARIES
    loader = next(libraries.glob("ld-2.*.so"))
    # -B: what the compiler itself imports must not be written with this machine's paths in it.
    argv = [loader, "--library-path", libraries, root / interpreter, "-B", "-S", "-s", "-c", COMPILE, listing]
    done = subprocess.run([str(a) for a in argv], env=clean_env(PYTHONHOME=str(root / "usr"), PYTHONHASHSEED="0"),
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise StandinError(f"`{interpreter}` of the packages can't be run\n{done.stderr[-2000:]}",
                           "the host must be able to run amd64 programs")
