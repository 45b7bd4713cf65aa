"""The code inside AnsiballZ payloads, compiled once. Python 2.7 and 3.5 or later."""

import base64
import gc
import hashlib
import io
import os
import re
import sys
import types
import zipfile
import zipimport

PY3 = sys.version_info[0] >= 3
if PY3:
    import importlib.util

# The zip as a string literal in the wrapper: base64 of anything that begins like a zip file.
_ZIP = re.compile(br"""(['"])(UEsD[A-Za-z0-9+/]{200,}={0,2})\1""")
_MARK = b"_ANSIBALLZ_WRAPPER"

# The same where Ansible keeps it: alone (ansible-core 2.16), or in a pickle (2.19).
_KEPT_ZIP = re.compile(br"UEsD[A-Za-z0-9+/]{200,}={0,2}")

# Imported once, before forking, if a payload has them: nearly every module needs them.
_PRELOAD = ("ansible.module_utils.basic", "ansible.module_utils._internal._ansiballz._loader")
_KEPT = 200


def wrapper(source):
    """A payload's wrapper as (its source without the zip, the zip's text under the name that stands for it there).
    Most of the time that compiling a wrapper takes goes into that one literal."""
    match = _ZIP.search(source)
    if match is None:
        return source, {}
    text = match.group(2)
    name = "_rootbuild_zip"
    rest = source[: match.start()] + name.encode("ascii") + source[match.end() :]
    return rest, {name: text.decode("ascii") if PY3 else text}


class Store(object):
    """Compiled code by module name and source digest, and the importer that serves it."""

    def __init__(self):
        self._code = {}  # (module, digest of its source) -> code
        self._zips = {}  # digest of the base64 text -> index
        self._preloaded = None  # module -> digest, or None for one that no source has
        self.finder = Finder(self._code)
        sys.meta_path.insert(0, self.finder)
        if not PY3:
            sys.path_hooks.insert(0, self.finder.path_hook)

    def index(self, source):
        """What a payload holds: module -> (whether it is a package, digest, name in the zip); None
        if it is no AnsiballZ payload."""
        match = _ZIP.search(source) if _MARK in source[:8192] else None
        return self._index(match.group(2)) if match else None

    def learn(self, kept):
        """Compiles and imports in advance what a payload brings that Ansible has kept."""
        match = _KEPT_ZIP.search(kept)
        index = self._index(match.group(0)) if match else None
        if index is not None:
            self.preload(index)

    def _index(self, text):
        key = hashlib.sha1(text).digest()
        found = self._zips.get(key)
        if found is None:
            try:
                found = self._compile(base64.b64decode(text))
            except (ValueError, TypeError, zipfile.BadZipfile):
                return None
            if len(self._zips) >= _KEPT:
                self._zips.clear()
            self._zips[key] = found
        return found

    def _compile(self, data):
        index = {}
        archive = zipfile.ZipFile(io.BytesIO(data))
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            module, package = name[:-3].replace("/", "."), False
            if module.endswith(".__init__"):
                module, package = module[: -len(".__init__")], True
            source = archive.read(name)
            digest = hashlib.sha1(source).digest()
            if (module, digest) not in self._code:
                try:
                    self._code[module, digest] = compile(source, name, "exec", 0, True)
                except (SyntaxError, ValueError, TypeError):
                    # Not for this Python. If it is ever imported, zipimport reports that properly.
                    continue
            index[module] = (package, digest, name)
        return index

    def preload(self, index):
        """Imports the common part of module_utils, once."""
        if self._preloaded is not None:
            return
        self._preloaded = {}
        self.finder.use(index)
        stdout, sys.stdout = sys.stdout, open(os.devnull, "w")
        try:
            for name in _PRELOAD:
                if name in index:
                    __import__(name)
        except BaseException:
            # A library too new for this Python, say: it calls sys.exit. The module will show it.
            self._unload()
        finally:
            sys.stdout.close()
            sys.stdout = stdout
            self.finder.use({})
        for name in _ours():
            self._preloaded[name] = index[name][1] if name in index else None
        if hasattr(gc, "freeze"):
            gc.collect()
            gc.freeze()

    def fit(self, index):
        """In a fork: makes the imports fit this payload. What was preloaded stays only if this
        payload brings the very same source of all of it."""
        for name, digest in self._preloaded.items():
            if digest is not None and (name not in index or index[name][1] != digest):
                self._unload()
                break
        self.finder.use(index)

    @staticmethod
    def _unload():
        for name in _ours():
            del sys.modules[name]


def _ours():
    return [n for n in list(sys.modules) if n.split(".", 1)[0] in ("ansible", "ansible_collections")]


class Finder(object):
    """Serves the current payload's modules, as if zipimport had found them in the zip."""

    def __init__(self, code):
        self._code = code
        self._index = {}
        self._base = None

    def use(self, index):
        """From now on serves this payload's modules."""
        self._index = index
        self._base = None

    def _zip(self):
        """Where the wrapper has put the zip. Modules that were preloaded learn it too, so that
        what this importer does not know is looked for there."""
        if self._base is None:
            for entry in sys.path:
                if entry.endswith("_payload.zip"):
                    self._base = entry
                    self._move_preloaded()
                    break
            else:
                return "/nonexistent/payload.zip"
        return self._base

    def _move_preloaded(self):
        for name in _ours():
            entry, module = self._index.get(name), sys.modules[name]
            if entry is not None and module is not None:
                module.__file__ = self._base + "/" + entry[2]
                if entry[0]:
                    module.__path__ = [os.path.dirname(module.__file__)]

    def get_filename(self, name):
        return self._zip() + "/" + self._index[name][2]

    def is_package(self, name):
        return self._index[name][0]

    def get_code(self, name):
        package, digest, _ = self._index[name]
        return self._code[name, digest]

    def get_source(self, name):
        return zipimport.zipimporter(self._zip()).get_source(name.replace(".", "/"))

    def get_data(self, path):
        return zipimport.zipimporter(self._zip()).get_data(path)

    # Python 3.

    def find_spec(self, name, path=None, target=None):
        entry = self._index.get(name)
        if entry is None:
            return None
        where = self.get_filename(name)
        spec = importlib.util.spec_from_loader(name, self, origin=where, is_package=entry[0])
        spec.has_location = True
        if entry[0]:
            spec.submodule_search_locations = [os.path.dirname(where)]
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)

    # Python 2.

    def find_module(self, name, path=None):
        return self if name in self._index else None

    def load_module(self, name):
        if name in sys.modules:
            return sys.modules[name]
        module = types.ModuleType(name)
        module.__file__ = self.get_filename(name)
        module.__loader__ = self
        if self.is_package(name):
            module.__path__ = [os.path.dirname(module.__file__)]
            module.__package__ = name
        else:
            module.__package__ = name.rpartition(".")[0]
        sys.modules[name] = module
        try:
            exec(self.get_code(name), module.__dict__)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return sys.modules[name]

    def path_hook(self, path):
        """runpy of Python 2.7 asks for the importer of a path, not sys.meta_path."""
        if self._base is None or not path.startswith(self._base + "/"):
            raise ImportError(path)
        return _Entry(self, zipimport.zipimporter(path))


class _Entry(object):
    """A path below the zip: what was compiled before, else what zipimport finds."""

    def __init__(self, finder, fallback):
        self._finder = finder
        self._fallback = fallback

    def find_module(self, name, path=None):
        return self._finder.find_module(name) or self._fallback.find_module(name, path)
