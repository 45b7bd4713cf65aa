"""An agent that runs as an ordinary process, and modules for it."""

import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PLUGINS = Path(__file__).resolve().parent.parent
AGENT = PLUGINS / "agent"
sys.path.insert(0, str(PLUGINS))
sys.path.insert(0, str(AGENT))
sys.dont_write_bytecode = True

from ansible_collections.rootbuild.sandbox.plugins.plugin_utils.client import Client  # noqa: E402

WRAPPER = """#!/usr/bin/python
# -*- coding: utf-8 -*-
_ANSIBALLZ_WRAPPER = True
def _main():
    import os, sys, base64, runpy, shutil, tempfile, __main__
    scriptdir = os.path.dirname(os.path.realpath(getattr(__main__, '__file__', 'x')))
    sys.path = [p for p in sys.path if p not in ('', '.', scriptdir)]
    ZIPDATA = '%(zip)s'
    temp = tempfile.mkdtemp(prefix='ansible_probe_payload_')
    try:
        path = os.path.join(temp, 'ansible_probe_payload.zip')
        with open(path, 'wb') as out:
            out.write(base64.b64decode(ZIPDATA))
        sys.path.insert(0, path)
        from ansible.module_utils import basic
        basic.ARGS = '%(args)s'
        runpy.run_module('ansible.modules.probe', {'_modlib_path': path}, '__main__', True)
    finally:
        shutil.rmtree(temp)
_main()
"""


def payload(module, args="", basic="ARGS = None\n", **utilities):
    """A payload like those that Ansible makes, with a module of one's own."""
    files = {"ansible/__init__.py": "", "ansible/modules/__init__.py": "", "ansible/module_utils/__init__.py": ""}
    files["ansible/module_utils/basic.py"] = basic
    files["ansible/modules/probe.py"] = module
    files.update(("ansible/module_utils/%s.py" % name, text) for name, text in utilities.items())
    # Enough for it to look like a real one.
    files["ansible/module_utils/filler.py"] = "# %s\n" % base64.b64encode(os.urandom(400)).decode()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return (WRAPPER % {"zip": base64.b64encode(data.getvalue()).decode(), "args": args}).encode("utf-8")


def interpreters():
    """The interpreters that the agent is tested with."""
    named = os.environ.get("AGENT_PYTHONS")
    paths = named.split(":") if named else [shutil.which("python2.7"), "/usr/bin/python3", sys.executable]
    found = {}
    for path in paths:
        if path and os.path.exists(path) and _is_program(path):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _is_program(path):
    with open(path, "rb") as program:
        return program.read(4) == b"\x7fELF"


class Agent:
    """pid1.py with an agent, as a context."""

    def __init__(self, python, warm=True, lessons="/nonexistent", within=()):
        self.python = python
        self._dir = tempfile.mkdtemp(prefix="agent-test-")
        self._clients = []
        self._ended = None
        self.socket = os.path.join(self._dir, "agent.sock")
        argv = list(within) + [python, str(AGENT / "pid1.py"), self.socket, lessons] + ([python] if warm else [])
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": "/nowhere"}
        )
        ready = self.process.stdout.readline()
        if ready != b"READY\n":
            raise AssertionError("not ready: %r %r" % (ready, self.process.stderr.read()))

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.stop()

    def stop(self):
        """Ends it; its exit code and what it has said on standard error."""
        if self._ended is not None:
            return self._ended
        for client in self._clients:
            client.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(20)
        said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        shutil.rmtree(self._dir, ignore_errors=True)
        self._ended = code, said
        return self._ended

    def client(self):
        """A connection."""
        self._clients.append(Client(self.socket))
        self._clients[-1].socket_path = self.socket
        return self._clients[-1]

    def module(self, source, env="", client=None):
        """Runs a payload as Ansible does with pipelining."""
        command = "/bin/sh -c '%s%s && sleep 0'" % (env, self.python)
        return (client or self.client()).execute(command.encode(), source)

    def cold(self, source):
        """Runs a payload by an interpreter of its own."""
        return self.client().execute(("true; exec %s" % self.python).encode(), source)
